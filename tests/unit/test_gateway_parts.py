"""What the local gateway makes of routes, requests and certificates."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.gateway_template import deployed

from gjeldsbro_local.certificates import Authority
from gjeldsbro_local.gateway_event import Request, is_identity_header, proxy_event
from gjeldsbro_local.gateway_routes import DeployedApi, Route, Throttle

NOW = datetime(2026, 11, 5, 5, 4, 3, tzinfo=UTC)
CONTEXT = {"requestTime": "05/Nov/2026:05:04:03 +0000", "requestId": "an-id"}


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    """A client's certificate."""
    return Authority.create("Test").issue_client("920013015").certificate


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/debt-information/v1/loans", Route("/debt-information/v1/loans", None, "PushFunction")),
        ("POST", "/debt-information/v1/loans/", Route("/debt-information/v1/loans", None, "PushFunction")),
        ("GET", "/persons/17", Route("/persons/{id}", {"id": "17"}, "PersonFunction")),
        ("GET", "/a/b", Route("/{proxy+}", {"proxy": "a/b"}, "RestFunction")),
        ("GET", "/debt-information/v1/loans", None),
        ("GET", "/debt-information", None),
        ("POST", "/persons/17", None),
        ("GET", "/", None),
    ],
)
def test_routes_are_found_as_api_gateway_finds_them(method: str, path: str, expected: Route | None) -> None:
    """The most specific resource wins, and there is no way back from one that lacks the method."""
    assert DeployedApi(deployed(), {}).route(method, path) == expected


def test_answers_come_from_the_template() -> None:
    """Status, headers and body of a gateway response, with the request's time and id filled in."""
    status, headers, body = DeployedApi(deployed(), {}).answer("THROTTLED", CONTEXT)
    assert (status, headers["Retry-After"]) == (429, "5")
    assert body == b'{"errorMessage": "later", "timestamp": "05/Nov/2026:05:04:03 +0000", "uuid": "an-id"}'


@pytest.mark.parametrize(
    ("response", "status", "expected"), [("INTEGRATION_TIMEOUT", None, 504), ("DEFAULT_5XX", 502, 502)]
)
def test_what_has_no_answer_of_its_own_gets_the_default(response: str, status: int | None, expected: int) -> None:
    """DEFAULT_5XX shapes the body and the headers, and the status stays."""
    answer = DeployedApi(deployed(), {}).answer(response, CONTEXT, status)
    assert answer.status == expected
    assert b"ours" in answer.body
    assert answer.headers["Retry-After"] == "30"


def test_the_limits_are_the_stack_parameters() -> None:
    """Throttling refers to parameters, whose values the stack knows."""
    api = DeployedApi(deployed(rate={"Ref": "Rate"}, burst={"Ref": "Burst"}), {"Rate": "7", "Burst": "9"})
    assert (api.throttle.rate, api.throttle.burst) == (7, 9)


def test_a_burst_is_let_through_and_then_the_rate_counts() -> None:
    """The token bucket of API Gateway: three at once, then one every half second."""
    throttle = Throttle(rate=2, burst=3)
    assert [throttle.admits(100.0) for _ in range(4)] == [True, True, True, False]
    assert not throttle.admits(100.4)
    assert throttle.admits(100.5)
    assert not throttle.admits(100.6)


def test_the_event_is_api_gateways(certificate: x509.Certificate) -> None:
    """Path, query, headers and the body byte for byte, and who the client is from its certificate."""
    headers = [("Host", "127.0.0.1:1"), ("User-Agent", "fi/1"), ("X-SSL-Client-S-DN", "evil"), ("A", "1"), ("A", "2")]
    der = certificate.public_bytes(Encoding.DER)
    request = Request("POST", "/p%C3%A5/loans?a=1&a=2", headers, b"\xff{}", "127.0.0.9", der)
    event = proxy_event(request, Route("/{proxy+}", {"proxy": "på/loans"}, "F"), "an-id", NOW, binary=True)

    assert (event["path"], event["resource"], event["httpMethod"]) == ("/på/loans", "/{proxy+}", "POST")
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"]}
    assert event["multiValueHeaders"]["A"] == ["1", "2"]
    assert "X-SSL-Client-S-DN" not in event["headers"]
    assert base64.b64decode(event["body"]) == b"\xff{}"
    assert event["isBase64Encoded"] is True
    context = event["requestContext"]
    assert (context["requestId"], context["requestTime"]) == ("an-id", "05/Nov/2026:05:04:03 +0000")
    found = context["identity"]["clientCert"]
    assert x509.load_pem_x509_certificate(found["clientCertPem"].encode()) == certificate
    assert int(found["serialNumber"].replace(":", ""), 16) == certificate.serial_number
    assert found["validity"]["notAfter"].endswith("GMT")


def test_a_request_without_a_body_has_none(certificate: x509.Certificate) -> None:
    """API Gateway gives null, not an empty text."""
    request = Request("GET", "/", [], b"", "127.0.0.1", certificate.public_bytes(Encoding.DER))
    event = proxy_event(request, Route("/{proxy+}", None, "F"), "an-id", NOW, binary=True)
    assert (event["body"], event["isBase64Encoded"], event["queryStringParameters"]) == (None, False, None)


@pytest.mark.parametrize(
    ("name", "ends_here"),
    [
        ("X-SSL-Client-S-DN", True),
        ("x_ssl_client_cert", True),
        ("SSL-Client-Cert", True),
        ("X-Client-Cert", True),
        ("X-Forwarded-Client-Cert", True),
        ("X-Amzn-Mtls-Clientcert-Subject", True),
        ("Client-Cert-Chain", True),
        ("X-Forwarded-For", False),
        ("Content-Type", False),
    ],
)
def test_headers_that_say_who_a_client_is_end_at_the_gateway(name: str, ends_here: bool) -> None:
    """Decision 8: identity comes from the certificate and from nothing else."""
    assert is_identity_header(name) is ends_here


@pytest.mark.parametrize(
    ("named_in", "oid"),
    [
        ("organizationIdentifier", x509.oid.NameOID.ORGANIZATION_IDENTIFIER),
        ("serialNumber", x509.oid.NameOID.SERIAL_NUMBER),
    ],
)
def test_client_certificates_name_the_organisation(named_in, oid) -> None:
    """As Norwegian enterprise certificates do, new ones and older ones."""
    subject = Authority.create("Test").issue_client("920013015", named_in=named_in).certificate.subject
    assert subject.get_attributes_for_oid(oid)[0].value.endswith("920013015")


def test_keys_are_for_their_owner_only(tmp_path) -> None:
    """A private key's file is readable by its user alone, and an authority can be read back."""
    authority = Authority.create("Test")
    files = authority.write(tmp_path / "certificates", "ca")
    assert files.key_file.stat().st_mode & 0o777 == 0o600
    assert Authority.load(files).certificate == authority.certificate
