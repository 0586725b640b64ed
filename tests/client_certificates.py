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

from gjeldsbro.domain.callers import Caller

BANK = "920013015"
OTHER_BANK = "985815534"
PUSH_PATH = "/debt-information/v1/loans"


class OpenDoor:
    """A front door that lets everybody in, and remembers whom."""

    def __init__(self) -> None:
        self.admitted: list[Caller] = []

    def admit(self, caller: Caller, now: datetime) -> None:
        """Let the caller in."""
        self.admitted.append(caller)


@lru_cache(maxsize=None)
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@lru_cache(maxsize=None)
def certificate(
    *,
    identifiers: tuple[str, ...] = (),
    serial_numbers: tuple[str, ...] = (),
    countries: tuple[str, ...] = ("NO",),
    registered_in: tuple[str, ...] = (),
    valid: tuple[datetime, datetime] = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2126, 1, 1, tzinfo=UTC)),
    extensions: tuple[x509.ExtensionType, ...] = (),
    person: tuple[tuple[x509.ObjectIdentifier, str], ...] = (),
) -> str:
    """A certificate (PEM) whose subject has these organizationIdentifiers, serialNumbers and countries.

    ``registered_in`` is where an extended validation certificate's owner is registered, ``valid`` from when until when,
    ``person`` what names a natural person.
    """
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, "Test")]
    for oid, texts in (
        (NameOID.COUNTRY_NAME, countries),
        (NameOID.JURISDICTION_COUNTRY_NAME, registered_in),
        (NameOID.ORGANIZATION_IDENTIFIER, identifiers),
        (NameOID.SERIAL_NUMBER, serial_numbers),
    ):
        attributes += [x509.NameAttribute(oid, text) for text in texts]
    attributes += [x509.NameAttribute(oid, text) for oid, text in person]
    name = x509.Name(attributes)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(1)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


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
