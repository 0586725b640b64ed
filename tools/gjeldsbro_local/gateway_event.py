"""The event that API Gateway (REST, Lambda proxy integration) makes of a request over mutual TLS."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from cryptography import x509

from gjeldsbro_local.gateway_routes import Route

# What proxies in front of an application use to tell who the client is. A gateway that let a client write them would
# tempt somebody to believe them: they end here.
_IDENTITY_HEADERS = ("x-ssl-", "ssl-", "x-client-", "x-forwarded-client-", "x-amzn-mtls-", "client-cert")


class Request(NamedTuple):
    """A request as it came over the wire."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    certificate: bytes
    """The client's certificate, DER."""

    @property
    def path(self) -> str:
        """The path without the query, percent-decoded."""
        return unquote(self.target.partition("?")[0])


def proxy_event(request: Request, route: Route, request_id: str, now: datetime, *, binary: bool) -> dict[str, Any]:
    """The event for the function behind ``route``; ``binary`` as the API's media types say: then the body is base64."""
    headers = [(name, value) for name, value in request.headers if not is_identity_header(name)]
    headers += [("X-Forwarded-For", request.source_ip), ("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https")]
    query = parse_qsl(request.target.partition("?")[2], keep_blank_values=True)
    host = next((value for name, value in headers if name.lower() == "host"), "127.0.0.1")
    body: str | None = None
    if request.body:
        body = base64.b64encode(request.body).decode() if binary else request.body.decode(errors="replace")
    return {
        "resource": route.resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": dict(headers),
        "multiValueHeaders": _many(headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": _many(query) or None,
        "pathParameters": route.path_parameters,
        "stageVariables": None,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": host.partition(":")[0],
            "domainPrefix": "local",
            "extendedRequestId": request_id,
            "httpMethod": request.method,
            "identity": {
                "sourceIp": request.source_ip,
                "userAgent": next((value for name, value in headers if name.lower() == "user-agent"), None),
                "clientCert": client_cert(request.certificate),
            },
            "path": request.path,
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTime": log_time(now),
            "requestTimeEpoch": int(now.timestamp() * 1000),
            "resourceId": "local",
            "resourcePath": route.resource,
            "stage": "production",
        },
        "body": body,
        "isBase64Encoded": binary and body is not None,
    }


def is_identity_header(name: str) -> bool:
    """Whether a header is of the kind that says who a client is."""
    return name.lower().replace("_", "-").startswith(_IDENTITY_HEADERS)


def client_cert(der: bytes) -> dict[str, Any]:
    """``requestContext.identity.clientCert`` for a certificate."""
    certificate = x509.load_der_x509_certificate(der)
    serial = f"{certificate.serial_number:x}"
    serial = serial.zfill(len(serial) + len(serial) % 2)
    return {
        "clientCertPem": _pem(der),
        "subjectDN": certificate.subject.rfc4514_string(),
        "issuerDN": certificate.issuer.rfc4514_string(),
        "serialNumber": ":".join(serial[at : at + 2] for at in range(0, len(serial), 2)),
        "validity": {
            "notBefore": _openssl_time(certificate.not_valid_before_utc),
            "notAfter": _openssl_time(certificate.not_valid_after_utc),
        },
    }


def log_time(now: datetime) -> str:
    """``$context.requestTime``, the time in the common log format."""
    return now.astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _openssl_time(when: datetime) -> str:
    return when.strftime("%b %e %H:%M:%S %Y GMT")


def _pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def _many(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values
