"""Who calls: the organisation in the client certificate of the mutual TLS handshake, and nothing else (decision 8).

API Gateway has checked the certificate against the truststore before a function sees it; what a handshake checks of its
dates and its purpose is checked here once more, because it costs nothing (decision record 0013). Who it names:

- the subject's organizationIdentifier (ETSI EN 319 412-1, 5.1.4): ``NTRNO-920013015`` (SEID 2.0), or that of another
  country (``NTRSE-5569622441``, ``PSDSE-FINA-44059``);
- else its serialNumber, when it is a Norwegian organisation's number (SEID 1; SPEC 8.3 prints it with blanks).

A person's certificate may name an employer in the same attributes (ETSI EN 319 412-2): it does not speak for it.

Certificates from other countries carry registration numbers of their own in serialNumber, some of nine digits: such a
number is never read as a Norwegian one.
"""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gjeldsbro.domain.callers import Caller, mark_of
from gjeldsbro.domain.identity_numbers import is_organisation_number
from gjeldsbro.errors import NotAuthenticatedError

CLOCK_SKEW = timedelta(minutes=5)
"""How far an issuer's clock may be ahead of ours."""

# Three letters for the kind, or two and a colon for one of the country's own, then the country. A text of another form
# tells neither what it is nor where it is from.
_IDENTIFIER = re.compile(r"([A-Z]{3}|[A-Z]{2}:)([A-Z]{2})-([!-~](?:[ -~]{0,62}[!-~])?)")
_REGISTER = "NTR"
_NORWAY = "NO"
_OF_A_PERSON = (NameOID.GIVEN_NAME, NameOID.SURNAME, NameOID.PSEUDONYM)
_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


class Certificate(NamedTuple):
    """What a usable client certificate says."""

    caller: Caller
    not_before: datetime


def caller_of(event: dict[str, Any], now: datetime) -> Caller:
    """Whoever sent this API Gateway request (REST API, proxy event).

    Raises NotAuthenticatedError that says what is wrong with the certificate, and never repeats what stands in it.
    """
    context = event.get("requestContext") or {}
    shown = (context.get("identity") or {}).get("clientCert") or {}
    pem = shown.get("clientCertPem")
    if not isinstance(pem, str) or not pem:
        raise NotAuthenticatedError("no client certificate")
    certificate = read_certificate(pem)
    if isinstance(certificate, str):
        raise NotAuthenticatedError(certificate)
    if now < certificate.not_before - CLOCK_SKEW:
        raise NotAuthenticatedError("the client certificate is not valid yet")
    if now > certificate.caller.not_after:
        raise NotAuthenticatedError("the client certificate has expired")
    return certificate.caller


@lru_cache(maxsize=256)
def read_certificate(pem: str) -> Certificate | str:
    """What a certificate (PEM) says, or what makes it none to call with. Its dates are for the reader to compare."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        _check_purpose(certificate.extensions)
        organisation = _organisation(certificate.subject)
        issuer = mark_of(certificate.issuer)
        caller = Caller(organisation, issuer, certificate.serial_number, certificate.not_valid_after_utc)
        return Certificate(caller, certificate.not_valid_before_utc)
    except NotAuthenticatedError as exc:
        return str(exc)
    except Exception:  # noqa: BLE001 - cryptography raises TypeError and more when a malformed part is asked for
        return "the client certificate cannot be read"


def _check_purpose(extensions: x509.Extensions) -> None:
    """Raise when an extension is against the use by a client; one that is not there is against nothing."""
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise NotAuthenticatedError("the client certificate is that of a certificate authority")
            case x509.KeyUsage(digital_signature=False):
                raise NotAuthenticatedError("the client certificate's keyUsage lacks digitalSignature")
            case x509.ExtendedKeyUsage() as purposes if _PURPOSES.isdisjoint(purposes):
                raise NotAuthenticatedError("the client certificate's extendedKeyUsage lacks clientAuth")


def _organisation(subject: x509.Name) -> str:
    """The organizationIdentifier of the certificate's owner, also where the certificate says it in an older way."""
    if any(subject.get_attributes_for_oid(oid) for oid in _OF_A_PERSON):
        raise NotAuthenticatedError("the client certificate is a person's, not an organisation's")
    identifiers = {text: _IDENTIFIER.fullmatch(text) for text in _texts(subject, NameOID.ORGANIZATION_IDENTIFIER)}
    found = {text: match for text, match in identifiers.items() if match is not None}
    if len(found) != len(identifiers):
        raise NotAuthenticatedError(
            "the client certificate's organizationIdentifier is not of the form NTRNO-123456789 (ETSI EN 319 412-1)"
        )
    # The number in the register of organisations is what owners are known by; other kinds may stand beside it.
    named = {text for text, match in found.items() if match[1] == _REGISTER} or found.keys()
    if all(match[1] != _REGISTER and match[2] == _NORWAY for match in found.values()):
        named = _norwegian_serial_numbers(subject) or named
    if not named and _texts(subject, NameOID.SERIAL_NUMBER):
        raise NotAuthenticatedError(
            "a client certificate from another country must name its organisation in organizationIdentifier"
        )
    if not named:
        raise NotAuthenticatedError("the client certificate names no organisation (organizationIdentifier NTRNO-...)")
    if len(named) > 1:
        raise NotAuthenticatedError("the client certificate names more than one organisation")
    (organisation,) = named
    number = organisation.removeprefix(f"{_REGISTER}{_NORWAY}-")
    if number != organisation and not is_organisation_number(number):
        raise NotAuthenticatedError("the organisation number in the client certificate is not valid")
    return organisation


def _norwegian_serial_numbers(subject: x509.Name) -> set[str]:
    """The serialNumbers, as organizationIdentifiers; none of an owner that is at home in another country."""
    countries = _texts(subject, NameOID.COUNTRY_NAME) | _texts(subject, NameOID.JURISDICTION_COUNTRY_NAME)
    if {country.upper() for country in countries} - {_NORWAY}:
        return set()
    numbers = (text.replace(" ", "") for text in _texts(subject, NameOID.SERIAL_NUMBER))
    return {f"{_REGISTER}{_NORWAY}-{number}" for number in numbers}


def _texts(subject: x509.Name, oid: x509.ObjectIdentifier) -> set[str]:
    values = (attribute.value for attribute in subject.get_attributes_for_oid(oid))
    return {value.strip() for value in values if isinstance(value, str)}
