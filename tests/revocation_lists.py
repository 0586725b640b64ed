"""Revocation lists of the tests' own authorities, good ones and bad ones."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from gjeldsbro_local.certificates import Issued

HOUR = timedelta(hours=1)
SHA256 = hashes.SHA256()


def make_list(
    authority: Issued,
    serials: Iterable[int] = (),
    *,
    this_update: datetime | None = None,
    next_update: datetime | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    issuer: x509.Name | None = None,
    pem: bool = False,
    key: Any = None,
    algorithm: Any = SHA256,
) -> bytes:
    """A list of ``serials`` that ``authority`` signs (or ``key``), by default from an hour ago until in a day."""
    now = datetime.now(UTC).replace(microsecond=0)
    this_update = now - HOUR if this_update is None else this_update
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject if issuer is None else issuer)
        .last_update(this_update)
        .next_update(this_update + 25 * HOUR if next_update is None else next_update)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(this_update)
        for value, critical in entry_extensions:
            entry = entry.add_extension(value, critical)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(authority.key if key is None else key, algorithm)
    return signed.public_bytes(Encoding.PEM if pem else Encoding.DER)
