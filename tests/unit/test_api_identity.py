"""Who calls is what the client certificate says, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client_certificates import BANK, OTHER_BANK, certificate, request, seid_2

from gjeldsbro.api.identity import caller_in, caller_of
from gjeldsbro.errors import NotAuthenticatedError


@pytest.mark.parametrize(
    ("identifiers", "serial_numbers", "organisation"),
    [
        pytest.param(("NTRNO-920013015",), (), BANK, id="SEID 2.0"),
        pytest.param((), ("920013015",), BANK, id="SEID 1"),
        pytest.param((), ("920 013 015",), BANK, id="with the blanks of SPEC 8.3"),
        pytest.param(("NTRNO-920013015",), ("985815534",), BANK, id="the identifier before the serial number"),
        pytest.param(("PSDNO-FSA-12345",), ("920013015",), BANK, id="an identifier of another scheme is passed over"),
        pytest.param((), (), None, id="neither"),
        pytest.param(("NTRNO-920013014",), (), None, id="wrong check digit"),
        pytest.param(("NTRNO-920013014",), ("985815534",), None, id="a wrong identifier is not replaced"),
        pytest.param(("NTRNO-920013015", "NTRNO-985815534"), (), None, id="two identifiers"),
        pytest.param((), ("920013015", "985815534"), None, id="two serial numbers"),
        pytest.param(("NTRSE-5569622441",), (), None, id="foreign"),
        pytest.param(("ntrno-920013015",), (), None, id="lower case"),
        pytest.param((), ("9200130150",), None, id="ten digits"),
        pytest.param((), ("UN:NO-920013015",), None, id="something around it"),
    ],
)
def test_the_organisation_in_a_certificate(identifiers, serial_numbers, organisation):
    """OrganizationIdentifier NTRNO-, else serialNumber without blanks, and then the check digit."""
    caller = caller_in(certificate(identifiers=identifiers, serial_numbers=serial_numbers))

    assert (caller and caller.organisation) == (organisation and f"NTRNO-{organisation}")


def test_the_caller_is_the_organisation_in_the_handshakes_certificate():
    """What API Gateway passes on as clientCertPem is the identity."""
    assert caller_of(request(pem=seid_2(OTHER_BANK))).organisation == f"NTRNO-{OTHER_BANK}"


def test_no_header_or_other_field_is_an_identity():
    """Headers, the subject's text and an authorizer's context are not looked at."""
    event = request(
        headers={"X-Client-Cert": seid_2(BANK), "X-Amzn-Mtls-Clientcert": seid_2(BANK), "X-Organisation": BANK},
    )
    event["requestContext"]["identity"]["clientCert"] = {"subjectDN": f"organizationIdentifier=NTRNO-{BANK}"}
    event["requestContext"]["authorizer"] = {"organisation": BANK}

    with pytest.raises(NotAuthenticatedError):
        caller_of(event)


@pytest.mark.parametrize("event", [{}, {"requestContext": None}, {"requestContext": {"identity": None}}, request()])
def test_a_request_without_a_certificate_has_no_caller(event):
    """A missing part anywhere on the way to the certificate is an answer, not a fault."""
    with pytest.raises(NotAuthenticatedError):
        caller_of(event)


@given(st.text() | st.text().map(lambda text: f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
def test_whatever_is_no_certificate_names_nobody(pem):
    """Garbage is refused without an error of another kind."""
    assert caller_in(pem) is None
