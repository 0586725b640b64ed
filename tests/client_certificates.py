"""Client certificates as institutions have them, and requests that carry one."""

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

BANK = "920013015"
OTHER_BANK = "985815534"
PUSH_PATH = "/debt-information/v1/loans"


@lru_cache(maxsize=None)
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@lru_cache(maxsize=None)
def certificate(*, identifiers: tuple[str, ...] = (), serial_numbers: tuple[str, ...] = ()) -> str:
    """A certificate (PEM) whose subject has these organizationIdentifiers and serialNumbers."""
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"), x509.NameAttribute(NameOID.COMMON_NAME, "Test")]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, text) for text in identifiers]
    attributes += [x509.NameAttribute(NameOID.SERIAL_NUMBER, text) for text in serial_numbers]
    name = x509.Name(attributes)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2126, 1, 1, tzinfo=UTC))
        .sign(_key(), hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def seid_2(organisation: str) -> str:
    """A certificate of the kind that is issued now."""
    return certificate(identifiers=(f"NTRNO-{organisation}",))


def request(
    body: Any = None,
    *,
    pem: str | None = None,
    method: str = "POST",
    path: str = PUSH_PATH,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A proxy event of API Gateway's REST API; without ``pem`` the caller showed no certificate."""
    identity: dict[str, Any] = {"sourceIp": "192.0.2.1"}
    if pem is not None:
        identity["clientCert"] = {"clientCertPem": pem, "subjectDN": "CN=Test", "serialNumber": "1"}
    return {
        "resource": path if path == PUSH_PATH else "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"} if headers is None else headers,
        "requestContext": {"requestId": "5d0e9f3c-1d57-4b8f-9d2c-6f5a0c9e7b11", "identity": identity},
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
        **more,
    }
