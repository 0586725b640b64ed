"""Who calls is what the client certificate says, and nothing else."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client_certificates import BANK, OTHER_BANK, certificate, request, seid_2

from gjeldsbro.api.identity import CLOCK_SKEW, caller_of, read_certificate
from gjeldsbro.errors import NotAuthenticatedError
from gjeldsbro_local.certificates import key_usage

NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NOT_IN_FORM = "the client certificate's organizationIdentifier is not of the form NTRNO-123456789 (ETSI EN 319 412-1)"
NOTHING = "the client certificate names no organisation (organizationIdentifier NTRNO-...)"
TWO = "the client certificate names more than one organisation"
WRONG = "the organisation number in the client certificate is not valid"
PERSON = "the client certificate is a person's, not an organisation's"
ABROAD = "a client certificate from another country must name its organisation in organizationIdentifier"


def called(pem: str, now: datetime = NOW) -> str:
    """The organisation that a certificate gets in as, or why it does not."""
    try:
        return caller_of(request(pem=pem), now).organisation
    except NotAuthenticatedError as exc:
        return str(exc)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        pytest.param({"identifiers": ["NTRNO-920013015"]}, "NTRNO-920013015", id="SEID 2.0"),
        pytest.param({"serial_numbers": ["920013015"]}, "NTRNO-920013015", id="SEID 1"),
        pytest.param({"serial_numbers": ["920 013 015"]}, "NTRNO-920013015", id="with the blanks of SPEC 8.3"),
        pytest.param({"serial_numbers": ["920013015"], "countries": []}, "NTRNO-920013015", id="no country"),
        pytest.param(
            {"serial_numbers": ["920013015"], "countries": ["no"]}, "NTRNO-920013015", id="country in lower case"
        ),
        pytest.param({"serial_numbers": ["920013015"], "registered_in": ["NO"]}, "NTRNO-920013015", id="Norwegian EV"),
        pytest.param(
            {"identifiers": ["NTRNO-920013015"], "serial_numbers": ["985815534"]},
            "NTRNO-920013015",
            id="the identifier before the serial number",
        ),
        pytest.param(
            {"identifiers": ["NTRNO-920013015"], "countries": ["SE"]}, "NTRNO-920013015", id="a branch abroad"
        ),
        pytest.param(
            {"identifiers": ["PSDNO-FSA-12345"], "serial_numbers": ["920013015"]},
            "NTRNO-920013015",
            id="a Norwegian identifier of another kind beside the number",
        ),
        pytest.param(
            {"identifiers": ["PSDNO-FSA-12345", "NTRNO-920013015"]}, "NTRNO-920013015", id="the register before others"
        ),
        pytest.param({"identifiers": ["PSDNO-FSA-12345"]}, "PSDNO-FSA-12345", id="a Norwegian QWAC without the number"),
        pytest.param(
            {"identifiers": ["NTRSE-5569622441"], "countries": ["SE"]}, "NTRSE-5569622441", id="Swedish register"
        ),
        pytest.param({"identifiers": ["PSDSE-FINA-44059"], "countries": ["SE"]}, "PSDSE-FINA-44059", id="foreign QWAC"),
        pytest.param({"identifiers": ["VATDE-123456789"], "countries": ["DE"]}, "VATDE-123456789", id="VAT number"),
        pytest.param({"identifiers": ["LEIXG-529900T8BM49AURSDO55"]}, "LEIXG-529900T8BM49AURSDO55", id="LEI"),
        pytest.param({"identifiers": ["EI:SE-5567971433"]}, "EI:SE-5567971433", id="a kind of the country's own"),
        pytest.param({"identifiers": ["NTRDE-HRB 86891"]}, "NTRDE-HRB 86891", id="a blank inside"),
        pytest.param({}, NOTHING, id="neither"),
        pytest.param({"identifiers": ["NTRNO-920013014"]}, WRONG, id="wrong check digit"),
        pytest.param({"serial_numbers": ["920013014"]}, WRONG, id="wrong check digit in the serial number"),
        pytest.param(
            {"identifiers": ["NTRNO-920013014"], "serial_numbers": ["985815534"]},
            WRONG,
            id="a wrong identifier is not replaced",
        ),
        pytest.param({"identifiers": ["NTRNO-920013015", "NTRNO-985815534"]}, TWO, id="two identifiers"),
        pytest.param({"identifiers": ["NTRNO-920013015", "NTRSE-5569622441"]}, TWO, id="two countries"),
        pytest.param({"identifiers": ["PSDSE-FINA-44059", "PSDFI-FINFSA-1"]}, TWO, id="two authorisations"),
        pytest.param({"serial_numbers": ["920013015", "985815534"]}, TWO, id="two serial numbers"),
        pytest.param({"identifiers": ["ntrno-920013015"]}, NOT_IN_FORM, id="lower case"),
        pytest.param({"identifiers": ["920013015"]}, NOT_IN_FORM, id="no scheme"),
        pytest.param({"identifiers": ["NTRNO-"]}, NOT_IN_FORM, id="nothing after the scheme"),
        pytest.param({"identifiers": ["NTRNO-\uff19\uff12\uff1000\uff1113015"]}, NOT_IN_FORM, id="wide digits"),
        pytest.param(
            {"identifiers": ["920013015"], "serial_numbers": ["920013015"]}, NOT_IN_FORM, id="who knows from where"
        ),
        pytest.param({"serial_numbers": ["9200130150"]}, WRONG, id="ten digits"),
        pytest.param({"serial_numbers": ["UN:NO-920013015"]}, WRONG, id="something around it"),
        pytest.param(
            {"serial_numbers": ["920013015"], "countries": ["DE"]}, ABROAD, id="a foreign number of nine digits"
        ),
        pytest.param(
            {"serial_numbers": ["920013015"], "registered_in": ["US"]},
            ABROAD,
            id="EV, registered abroad, office in Norway",
        ),
        pytest.param({"serial_numbers": ["920013015"], "countries": ["NO", "SE"]}, ABROAD, id="two addresses"),
        pytest.param(
            {"identifiers": ["VATDE-123456789"], "serial_numbers": ["920013015"], "countries": ["NO"]},
            "VATDE-123456789",
            id="another country's identifier beside a number of nine digits",
        ),
        pytest.param(
            {"identifiers": ["LEIXG-529900T8BM49AURSDO55"], "serial_numbers": ["920013015"]},
            "LEIXG-529900T8BM49AURSDO55",
            id="an identifier of no country beside it",
        ),
        pytest.param(
            {"identifiers": ["PSDNO-FSA-12345"], "serial_numbers": ["920013015"], "countries": ["SE"]},
            "PSDNO-FSA-12345",
            id="a Norwegian identifier does not make a foreign number Norwegian",
        ),
    ],
)
def test_the_organisation_in_a_certificate(subject, expected):
    """OrganizationIdentifier, else a Norwegian serialNumber without blanks; each fault says what it is."""
    assert called(certificate(**{name: tuple(texts) for name, texts in subject.items()})) == expected


@pytest.mark.parametrize("oid", [NameOID.GIVEN_NAME, NameOID.SURNAME, NameOID.PSEUDONYM])
@pytest.mark.parametrize("owner", [{"identifiers": ("NTRNO-920013015",)}, {"serial_numbers": ("920013015",)}, {}])
def test_an_employees_certificate_is_not_the_employers(owner, oid):
    """A natural person's certificate (ETSI EN 319 412-2) may name an organisation that the person is with."""
    assert called(certificate(**owner, person=((oid, "Kari"),))) == PERSON


@settings(deadline=None)
@given(st.text("0123456789 ", min_size=9, max_size=11), st.sampled_from(["SE", "DK", "FI", "DE", "US", "GB"]))
def test_no_foreign_number_is_taken_for_a_norwegian_one(number, country):
    """Whatever stands in a foreign certificate's serialNumber, no Norwegian organisation gets in by it."""
    for where in ({"countries": (country,)}, {"registered_in": (country,)}, {"identifiers": (f"VAT{country}-1",)}):
        assert not called(certificate(serial_numbers=(f"9{number}",), **where)).startswith("NTRNO-")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 5, 1, tzinfo=UTC) - CLOCK_SKEW - SECOND, "the client certificate is not valid yet"),
        (datetime(2026, 5, 1, tzinfo=UTC) - CLOCK_SKEW, "NTRNO-920013015"),
        (datetime(2026, 6, 1, tzinfo=UTC), "NTRNO-920013015"),
        (datetime(2026, 6, 1, tzinfo=UTC) + SECOND, "the client certificate has expired"),
    ],
)
def test_dates_are_compared_at_each_request(now, expected):
    """A certificate that was read when it was valid is refused once it has expired; only its beginning has leeway."""
    pem = certificate(
        identifiers=("NTRNO-920013015",),
        valid=(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)),
    )
    assert called(pem, datetime(2026, 5, 15, tzinfo=UTC)) == "NTRNO-920013015"
    assert called(pem, now) == expected


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        (key_usage("digital_signature"), "NTRNO-920013015"),
        (key_usage("digital_signature", "key_encipherment"), "NTRNO-920013015"),
        (key_usage("key_agreement"), "the client certificate's keyUsage lacks digitalSignature"),
        (key_usage("content_commitment"), "the client certificate's keyUsage lacks digitalSignature"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), "NTRNO-920013015"),
        (
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            "NTRNO-920013015",
        ),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "NTRNO-920013015"),
        (
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            "the client certificate's extendedKeyUsage lacks clientAuth",
        ),
        (x509.BasicConstraints(ca=False, path_length=None), "NTRNO-920013015"),
        (
            x509.BasicConstraints(ca=True, path_length=0),
            "the client certificate is that of a certificate authority",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, x509.ExtensionType) else "",
)
def test_a_certificate_is_for_clients(extension, expected):
    """What a certificate says about its use is held to; one that says nothing is for everything."""
    assert called(certificate(identifiers=("NTRNO-920013015",), extensions=(extension,))) == expected


def test_a_caller_is_the_certificates_owner_and_the_certificate():
    """Two certificates of one owner are two callers of one name, told apart by issuer and number."""
    caller = caller_of(request(pem=seid_2(OTHER_BANK)), NOW)
    parsed = x509.load_pem_x509_certificate(seid_2(OTHER_BANK).encode())

    assert (caller.organisation, caller.serial) == (f"NTRNO-{OTHER_BANK}", parsed.serial_number)
    assert caller.not_after == parsed.not_valid_after_utc
    assert len(caller.issuer) == 64


def test_no_header_or_other_field_is_an_identity():
    """Headers, the subject's text and an authorizer's context are not looked at."""
    event = request(
        headers={"X-Client-Cert": seid_2(BANK), "X-Amzn-Mtls-Clientcert": seid_2(BANK), "X-Organisation": BANK},
    )
    event["requestContext"]["identity"]["clientCert"] = {"subjectDN": f"organizationIdentifier=NTRNO-{BANK}"}
    event["requestContext"]["authorizer"] = {"organisation": BANK}

    with pytest.raises(NotAuthenticatedError):
        caller_of(event, NOW)


@pytest.mark.parametrize("event", [{}, {"requestContext": None}, {"requestContext": {"identity": None}}, request()])
def test_a_request_without_a_certificate_has_no_caller(event):
    """A missing part anywhere on the way to the certificate is an answer, not a fault."""
    with pytest.raises(NotAuthenticatedError, match="no client certificate"):
        caller_of(event, NOW)


def test_a_certificate_with_a_malformed_name_names_nobody():
    """UTF8String -> BIT STRING: cryptography raises TypeError when such a name is asked for."""
    der = x509.load_pem_x509_certificate(seid_2(BANK).encode()).public_bytes(Encoding.DER)
    broken = der.replace(b"\x0c\x04Test", b"\x03\x04\x00est")
    assert broken != der
    pem = f"-----BEGIN CERTIFICATE-----\n{b64encode(broken).decode()}\n-----END CERTIFICATE-----\n"
    assert read_certificate(pem) == "the client certificate cannot be read"


@given(st.text() | st.text().map(lambda text: f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
def test_whatever_is_no_certificate_names_nobody(pem):
    """Garbage is refused without an error of another kind."""
    assert read_certificate(pem) == "the client certificate cannot be read"
