"""Who calls: the organisation in the client certificate of the mutual TLS handshake, and nothing else (decision 8).

API Gateway has checked the certificate against the truststore before a function sees it. The organisation number stands
in the subject's organizationIdentifier as ``NTRNO-123456789`` (SEID 2.0), else in its serialNumber (SEID 1, which SPEC
8.3 prints with blanks in it).
"""

from functools import lru_cache
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.identity_numbers import is_organisation_number
from gjeldsbro.errors import NotAuthenticatedError

_SCHEME = "NTRNO-"


def caller_of(event: dict[str, Any]) -> Caller:
    """Whoever sent this API Gateway request (REST API, proxy event).

    Raises NotAuthenticatedError when there is no certificate or it names no Norwegian organisation.
    """
    context = event.get("requestContext") or {}
    certificate = (context.get("identity") or {}).get("clientCert") or {}
    pem = certificate.get("clientCertPem")
    if not isinstance(pem, str) or not pem:
        raise NotAuthenticatedError("no client certificate")
    caller = caller_in(pem)
    if caller is None:
        raise NotAuthenticatedError("the client certificate names no organisation (organizationIdentifier NTRNO-...)")
    return caller


@lru_cache(maxsize=256)
def caller_in(pem: str) -> Caller | None:
    """Who a certificate (PEM) belongs to, or None.

    An organizationIdentifier of the form NTRNO- decides, also when it is wrong: a certificate that says two things
    about its owner is not searched for the one that fits.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        subject = certificate.subject
        identifiers = _texts(subject, NameOID.ORGANIZATION_IDENTIFIER)
        serial_numbers = _texts(subject, NameOID.SERIAL_NUMBER)
    except ValueError:
        return None
    named = {text.removeprefix(_SCHEME) for text in identifiers if text.startswith(_SCHEME)}
    if not named:
        named = {text.replace(" ", "") for text in serial_numbers}
    if len(named) != 1:
        return None
    (organisation,) = named
    if not is_organisation_number(organisation):
        return None
    issuer = sha256(certificate.issuer.public_bytes()).hexdigest()
    return Caller(_SCHEME + organisation, issuer, certificate.serial_number, certificate.not_valid_after_utc)


def _texts(subject: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    values = (attribute.value for attribute in subject.get_attributes_for_oid(oid))
    return [value.strip() for value in values if isinstance(value, str)]
