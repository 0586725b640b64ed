"""Certificates for the local stack: authorities, servers, and clients as Norwegian enterprise certificates name them.

Enterprise certificates carry the organisation number in ``organizationIdentifier`` (``NTRNO-920013015``, ETSI
EN 319 412-1) or, older ones, in ``serialNumber``.
"""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 30
_CLOCK_SKEW = timedelta(minutes=5)

type PrivateKey = ec.EllipticCurvePrivateKey


class Files(NamedTuple):
    """Where a certificate and its private key are, both PEM."""

    cert_file: Path
    key_file: Path


class Issued:
    """A certificate with its private key and the authority's certificate."""

    def __init__(self, certificate: x509.Certificate, key: PrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @property
    def certificate_pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key, PKCS#8 without a passphrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def write(self, directory: Path, name: str) -> Files:
        """Write ``name``.pem and ``name``.key; only the user may read the key."""
        directory.mkdir(parents=True, exist_ok=True)
        files = Files(directory / f"{name}.pem", directory / f"{name}.key")
        files.cert_file.write_text(self.certificate_pem)
        files.key_file.touch(mode=0o600)
        files.key_file.write_text(self.key_pem)
        return files


class Authority(Issued):
    """A certificate authority of our own."""

    @classmethod
    def create(cls, name: str) -> Self:
        """Make an authority with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _unsigned(subject, subject, key.public_key(), key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, files: Files) -> Self:
        """Read what ``write`` wrote."""
        key = serialization.load_pem_private_key(files.key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not a key that this module made")
        return cls(x509.load_pem_x509_certificate(files.cert_file.read_bytes()), key)

    def issue_server(self, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Issued:
        """A server certificate for addresses and names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        builder = (
            _unsigned(subject, self.certificate.subject, key.public_key(), self.key.public_key())
            .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage("digital_signature"), critical=True)
        )
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def issue_client(
        self,
        organisation: str | None,
        *,
        named_in: Literal["organizationIdentifier", "serialNumber"] = "organizationIdentifier",
        name: str = "Testbanken AS",
        country: str = "NO",
        valid: tuple[datetime, datetime] | None = None,
        usage: x509.KeyUsage | None = None,
        purposes: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        authority: bool = False,
    ) -> Issued:
        """A client certificate that names an organisation, or, with None, does not.

        ``organisation`` is a Norwegian organisation number, or a whole organizationIdentifier (``PSDSE-FINA-44059``).
        The rest is what an unfit certificate gets wrong: from when until when, what the key is for, for whom.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [
            x509.NameAttribute(NameOID.COUNTRY_NAME, country),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
        if organisation is not None and named_in == "organizationIdentifier":
            value = organisation if "-" in organisation else f"NTRNO-{organisation}"
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, value))
        elif organisation is not None:
            attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, organisation))
        subject = x509.Name(attributes)
        builder = (
            _unsigned(subject, self.certificate.subject, key.public_key(), self.key.public_key(), valid)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage or key_usage("digital_signature"), critical=True)
        )
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


def key_usage(*usages: str) -> x509.KeyUsage:
    """What a key is for, by the names that cryptography has for it."""
    signing = ("digital_signature", "content_commitment", "key_cert_sign", "crl_sign")
    keeping_secret = ("key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in usages for name in (*signing, *keeping_secret)})


def server_context(server: Files, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later for a server; with ``client_ca``, only for clients with a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server.cert_file, server.key_file)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unsigned(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    valid: tuple[datetime, datetime] | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin, end = valid or (now - _CLOCK_SKEW, now + timedelta(days=VALID_DAYS))
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
