"""Client certificates through a real TLS handshake: what refuses each unfit one, and with what."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.client_certificates import BANK, OTHER_BANK, PUSH_PATH
from tests.integration.served_api import served_api

from gjeldsbro.services.ports import Institution, Lender, Provider
from gjeldsbro_local.certificates import Authority, key_usage

DAY = timedelta(days=1)
EVENT = json.loads((Path(__file__).parents[2] / "events" / "receive_push.json").read_text(encoding="utf-8"))
MESSAGE = json.loads(EVENT["body"])
SWEDISH = "0007:5569622441"


@pytest.fixture
def api(aws, partners, tmp_path):
    """Testbanken with a Norwegian and a Swedish provider, and a Swedish one that is known by its authorisation."""
    providers = (
        Provider(f"9908:{BANK}", url="https://x"),
        Provider(SWEDISH),
        Provider("0007:5560000001", certificates=("PSDSE-FINA-44059",)),
    )
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=providers))
    with served_api(tmp_path) as api:
        yield api


def push(api, certificate, provider=f"9908:{BANK}"):
    """The status of a push with a certificate, and the message of a refusal."""
    answer = api.call("POST", PUSH_PATH, certificate, json={**MESSAGE, "providerID": provider})
    return answer.status_code, answer.json().get("errorMessage")


@pytest.mark.parametrize(
    ("organisation", "how", "provider"),
    [
        pytest.param(BANK, {}, f"9908:{BANK}", id="SEID 2.0"),
        pytest.param(BANK, {"named_in": "serialNumber"}, f"9908:{BANK}", id="SEID 1"),
        pytest.param("920 013 015", {"named_in": "serialNumber"}, f"9908:{BANK}", id="with the blanks of SPEC 8.3"),
        pytest.param("NTRSE-5569622441", {"country": "SE"}, SWEDISH, id="Swedish register number"),
        pytest.param("PSDSE-FINA-44059", {"country": "SE"}, "0007:5560000001", id="registered authorisation"),
        pytest.param(
            BANK,
            {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)},
            f"9908:{BANK}",
            id="for servers and clients",
        ),
        pytest.param(
            BANK, {"usage": key_usage("digital_signature", "key_encipherment")}, f"9908:{BANK}", id="RSA's key usage"
        ),
    ],
)
def test_certificates_as_they_come(api, organisation, how, provider):
    """Each kind of certificate that institutions have gets its owner's push into the register."""
    assert push(api, api.authority.issue_client(organisation, **how), provider) == (200, None)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"valid": (datetime.now(UTC) - 30 * DAY, datetime.now(UTC) - DAY)}, id="expired"),
        pytest.param({"valid": (datetime.now(UTC) + DAY, datetime.now(UTC) + 30 * DAY)}, id="not valid yet"),
        pytest.param({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, id="for servers"),
        pytest.param({"purposes": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)}, id="for mail"),
        pytest.param(
            {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, id="for anything: OpenSSL wants it said"
        ),
        pytest.param({"usage": key_usage("content_commitment")}, id="for signing documents"),
    ],
)
def test_the_handshake_refuses(api, how):
    """What TLS itself finds wrong ends the connection, before any function is asked."""
    assert api.refuses(api.authority.issue_client(BANK, **how))


def test_the_handshake_refuses_strangers(api):
    """No certificate, one of another authority, and one of an authority that calls itself as ours does."""
    assert api.refuses(None)
    assert api.refuses(Authority.create("Others").issue_client(BANK))
    assert api.refuses(Authority.create("Clients").issue_client(BANK))


@pytest.mark.parametrize(
    ("organisation", "how", "message"),
    [
        pytest.param(
            BANK,
            {"usage": key_usage("key_agreement")},
            "the client certificate's keyUsage lacks digitalSignature",
            id="for agreeing on keys only",
        ),
        pytest.param(
            BANK,
            {"authority": True, "usage": key_usage("digital_signature", "key_cert_sign")},
            "the client certificate is that of a certificate authority",
            id="an authority's own",
        ),
        pytest.param(
            None, {}, "the client certificate names no organisation (organizationIdentifier NTRNO-...)", id="nobody's"
        ),
        pytest.param(
            "920013014", {}, "the organisation number in the client certificate is not valid", id="wrong check digit"
        ),
        pytest.param(
            "920013014",
            {"named_in": "serialNumber"},
            "the organisation number in the client certificate is not valid",
            id="wrong check digit in serialNumber",
        ),
        pytest.param(
            "NTRNO-X920013015",
            {},
            "the organisation number in the client certificate is not valid",
            id="no number",
        ),
        pytest.param(
            BANK,
            {"named_in": "serialNumber", "country": "DE"},
            "a client certificate from another country must name its organisation in organizationIdentifier",
            id="a foreign number that could be a Norwegian one",
        ),
    ],
)
def test_the_application_refuses(api, organisation, how, message):
    """What a handshake lets pass, and names nobody or is for something else, is 401 and says what is wrong."""
    assert push(api, api.authority.issue_client(organisation, **how)) == (401, message)


@pytest.mark.parametrize(
    ("organisation", "provider"),
    [
        pytest.param(OTHER_BANK, f"9908:{BANK}", id="another bank"),
        pytest.param("NTRSE-5560000001", SWEDISH, id="another Swedish company"),
        pytest.param("NTRDK-5569622441", SWEDISH, id="the same number in another country"),
        pytest.param("PSDSE-FINA-44059", SWEDISH, id="another provider's authorisation"),
        pytest.param("PSDSE-FINA-1", "0007:5560000001", id="an authorisation that is not registered"),
        pytest.param(f"NTRSE-{BANK}", f"9908:{BANK}", id="a Norwegian number that says it is Swedish"),
    ],
)
def test_a_known_organisation_is_not_another(api, organisation, provider):
    """Who may not report under a providerID gets 403, and the place."""
    status, message = push(api, api.authority.issue_client(organisation), provider)
    assert status == 403
    assert message.startswith("/providerID: ")


def test_a_new_certificate_works_beside_the_old_one(api):
    """A provider changes its certificate without a break: both are its own until the old one expires."""
    old, new = (api.authority.issue_client(BANK) for _ in range(2))
    named_otherwise = api.authority.issue_client(BANK, named_in="serialNumber")
    for certificate in (old, new, named_otherwise, old):
        assert push(api, certificate) == (200, None)


def test_the_log_names_callers_by_organisation(api, log_stream):
    """A line of the log says which organisation, and nothing else of the certificate."""
    certificate = api.authority.issue_client("PSDSE-FINA-44059", country="SE", name="Kari Nordmann Bank AB")
    push(api, certificate, "0007:5560000001")
    lines = [json.loads(line) for line in log_stream.getvalue().splitlines()]

    assert {line["caller"] for line in lines} == {"PSDSE-FINA-44059"}
    assert "Nordmann" not in log_stream.getvalue()


def test_too_many_requests_are_429_for_that_caller_alone(api, partners, monkeypatch):
    """Over its number a caller is told when to come again, whatever it asks for; others go on, and so does it later."""
    monkeypatch.setenv("REQUESTS_PER_CALLER", "3")
    partners.put_lender(Lender(OTHER_BANK, "Annen Bank AS"))
    ours, others = api.authority.issue_client(BANK), api.authority.issue_client(OTHER_BANK)
    answers = [api.call("GET", "/debt-information/v1/connection", ours) for _ in range(20)]
    limited = next(answer for answer in answers if answer.status_code == 429)

    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert limited.json().keys() == {"errorMessage", "timestamp", "uuid"}
    assert 1 <= int(limited.headers["Retry-After"]) <= 10
    assert (
        limited.json()["errorMessage"] == f"too many requests: send again in {limited.headers['Retry-After']} seconds"
    )
    assert api.call("GET", "/debt-information/v1/connection", others).status_code == 200
