"""Reads an authority's revocation list (RFC 5280, chapter 5), and refuses what does not tell everything about it.

A list comes over plain http as a rule, and is trusted for its signature alone. So nothing is taken from one that is not
signed with the key that the operator gave, nor from one that speaks for a part of the authority's certificates only:
whoever stands in the way could hand us that part instead of the whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from gjeldsbro.domain.callers import mark_of
from gjeldsbro.errors import RevocationListError
from gjeldsbro.services.refresh_revocations import ReadList

CLOCK_SKEW = timedelta(minutes=5)
"""How far an authority's clock may be ahead of ours."""

_WEAK_HASHES = frozenset({"md5", "sha1"})
_KNOWN = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.AUTHORITY_KEY_IDENTIFIER})
_KNOWN_IN_ENTRIES = frozenset({CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE})
_SHOWN_ADDRESSES = 3


def issuer_of(certificate: str) -> str:
    """What stands for an authority in a Caller, by the name that its certificate (PEM) gives it.

    Raises RevocationListError when the certificate is not that of an authority that signs revocation lists.
    """
    authority = _authority(certificate)
    with _unreadable("the name in the issuer's certificate cannot be read"):
        return mark_of(authority.subject)


def read_list(data: bytes, *, certificate: str, url: str, now: datetime) -> ReadList:
    """A list (DER or PEM) that the owner of ``certificate`` (PEM) has signed, and that is in force ``now``.

    ``url`` is where it came from. Raises RevocationListError that says what is wrong.
    """
    authority = _authority(certificate)
    crl = _parsed(data)
    with _unreadable("a part of the list cannot be read"):  # cryptography looks at most parts when they are asked for
        _check_signature(crl, authority)
        # What follows says what its issuer wanted to say.
        next_update = _check_dates(crl, now)
        _check_extensions(crl, url)
        serials = tuple(_revoked(crl))
        digest = sha256(crl.public_bytes(Encoding.DER)).hexdigest()
        return ReadList(crl.last_update_utc, next_update, serials, digest)


@contextmanager
def _unreadable(problem: str) -> Iterator[None]:
    """Whatever cryptography raises inside means ``problem``: it promises no few classes for what others have made."""
    try:
        yield
    except RevocationListError:
        raise
    except Exception:  # noqa: BLE001 - besides ValueError there are TypeError, UnsupportedAlgorithm and its own
        raise RevocationListError(problem) from None


def _authority(certificate: str) -> x509.Certificate:
    with _unreadable("the issuer's certificate is not PEM"):
        found = x509.load_pem_x509_certificates(certificate.encode())
        extensions = {type(extension.value): extension.value for extension in found[0].extensions}
    if len(found) != 1:
        raise RevocationListError("give the one certificate of the issuer, not a chain")
    constraints = extensions.get(x509.BasicConstraints)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        raise RevocationListError("the issuer's certificate is not that of a certificate authority")
    usage = extensions.get(x509.KeyUsage)
    if isinstance(usage, x509.KeyUsage) and not usage.crl_sign:
        raise RevocationListError("the issuer's certificate is not for signing revocation lists (keyUsage cRLSign)")
    return found[0]


def _parsed(data: bytes) -> x509.CertificateRevocationList:
    start = data[:256].lstrip()
    what = "a web page" if start.startswith(b"<") else "something else"
    with _unreadable(f"the answer is no revocation list (DER or PEM) but {what}"):
        load = x509.load_pem_x509_crl if start.startswith(b"-----BEGIN") else x509.load_der_x509_crl
        return load(data)


def _check_signature(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> None:
    if mark_of(crl.issuer) != mark_of(authority.subject):
        raise RevocationListError("the list is another issuer's")
    try:
        algorithm = crl.signature_hash_algorithm
        weak = algorithm is not None and algorithm.name in _WEAK_HASHES
        valid = not weak and crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (UnsupportedAlgorithm, TypeError):
        raise RevocationListError("the list is signed in a way that cannot be checked") from None
    if weak:
        raise RevocationListError("the list is signed with MD5 or SHA-1")
    if not valid:
        raise RevocationListError("the list is not signed with the issuer's key")


def _check_dates(crl: x509.CertificateRevocationList, now: datetime) -> datetime:
    this_update, next_update = crl.last_update_utc, crl.next_update_utc
    if next_update is None:
        raise RevocationListError("the list does not say when the next one comes (nextUpdate)")
    if next_update <= this_update:
        raise RevocationListError("the list ends before it begins (thisUpdate, nextUpdate)")
    if this_update > now + CLOCK_SKEW:
        raise RevocationListError(f"the list is from the future: thisUpdate {this_update:%Y-%m-%dT%H:%M:%SZ}")
    if next_update < now:
        raise RevocationListError(f"the list has ended: nextUpdate {next_update:%Y-%m-%dT%H:%M:%SZ}")
    return next_update


def _check_extensions(crl: x509.CertificateRevocationList, url: str) -> None:
    for extension in crl.extensions:
        match extension.value:
            case x509.DeltaCRLIndicator():
                raise RevocationListError("the list holds changes only (delta CRL)")
            case x509.IssuingDistributionPoint() as point:
                _check_scope(point, url)
        if extension.critical and extension.oid not in _KNOWN:
            oid = extension.oid.dotted_string
            raise RevocationListError(f"the list has a critical extension that is not known here ({oid})")


def _check_scope(point: x509.IssuingDistributionPoint, url: str) -> None:
    if point.indirect_crl:
        raise RevocationListError("the list holds other issuers' certificates too (indirect CRL)")
    if point.only_contains_ca_certs:
        raise RevocationListError("the list holds certificates of authorities only (onlyContainsCACerts)")
    if point.only_contains_attribute_certs:
        raise RevocationListError("the list holds attribute certificates only (onlyContainsAttributeCerts)")
    if point.only_some_reasons:
        raise RevocationListError("the list holds some reasons only (onlySomeReasons)")
    if point.relative_name is not None:
        raise RevocationListError("the list's address is given relative to its issuer, which is not supported")
    if point.full_name is not None:
        # An authority may have split its list over several addresses; then each of them is signed as well as any other.
        addresses = [name.value for name in point.full_name if isinstance(name, x509.UniformResourceIdentifier)]
        if url not in addresses:
            said = ", ".join(addresses[:_SHOWN_ADDRESSES])
            raise RevocationListError(f"the list is not the one for this address, but for {said or 'no web address'}")


def _revoked(crl: x509.CertificateRevocationList) -> Iterator[int]:
    for entry in crl:
        removed = False
        for extension in entry.extensions:
            if extension.critical and extension.oid not in _KNOWN_IN_ENTRIES:
                oid = extension.oid.dotted_string
                raise RevocationListError(f"an entry has a critical extension that is not known here ({oid})")
            value = extension.value
            removed |= isinstance(value, x509.CRLReason) and value.reason is x509.ReasonFlags.remove_from_crl
        if not removed:  # a certificate on hold is on the list, and so is one without a reason
            yield entry.serial_number
