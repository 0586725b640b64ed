"""Private keys and certificates that operators hand over."""

from base64 import b64decode, b64encode
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from gjeldsbro.errors import ConfigurationError


def private_key_fault(text: str, passphrase: str | None) -> str | None:
    """Why an SSH private key (OpenSSH or PEM form) cannot be used, or None. Says nothing of the key itself."""
    data = text.strip().encode() + b"\n"
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    try:
        key = load(data, passphrase.encode() if passphrase else None)
    except TypeError:
        return (
            "is encrypted: give a passphraseFile"
            if passphrase is None
            else "is not encrypted: leave passphraseFile out"
        )
    except Exception:  # noqa: BLE001 - cryptography raises several kinds for a malformed key
        return "is not a private key" if passphrase is None else "is not a private key, or passphraseFile is wrong"
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
        return "is of a kind that is not used here: Ed25519, ECDSA or RSA"
    return None


def public_fingerprint(private_key: str, passphrase: str | None) -> str:
    """The fingerprint of a private key's public half, as ``ssh-keygen -l`` shows it; the key has no fault."""
    data = private_key.strip().encode() + b"\n"
    load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
    public = load(data, passphrase.encode() if passphrase else None).public_key()
    blob = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    return "SHA256:" + b64encode(sha256(b64decode(blob)).digest()).decode().rstrip("=")


class ClientCertificate(NamedTuple):
    """Our certificate chain and private key (PEM), and what an operator may see of them.

    ``not_after`` is when the first certificate of the chain ends.
    """

    certificate: str
    private_key: str
    subject: str
    fingerprint: str
    not_after: datetime


def read_client_certificate(certificate_file: Path, key_file: Path, now: datetime) -> ClientCertificate:
    """Our client certificate from its files.

    Raises ConfigurationError when they are not PEM, do not belong together, or the certificate is not valid now.
    """
    try:
        certificate_text, key_text = (file.read_text(encoding="ascii") for file in (certificate_file, key_file))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{certificate_file} or {key_file} cannot be read ({type(exc).__name__})") from None
    try:
        certificate, *authorities = x509.load_pem_x509_certificates(certificate_text.encode())
    except ValueError:
        raise ConfigurationError(f"{certificate_file}: holds no PEM certificate") from None
    try:
        key = load_pem_private_key(key_text.encode(), None)
    except TypeError:
        raise ConfigurationError(f"{key_file}: is encrypted; hand it over without a passphrase") from None
    except ValueError:
        raise ConfigurationError(f"{key_file}: is not a PEM private key") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigurationError(f"{key_file}: does not belong to the first certificate in {certificate_file}")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ConfigurationError(f"{certificate_file}: is not valid now")
    return ClientCertificate(
        certificate_text,
        key_text,
        certificate.subject.rfc4514_string(),
        certificate.fingerprint(SHA256()).hex(),
        min(one.not_valid_after_utc for one in (certificate, *authorities)),
    )
