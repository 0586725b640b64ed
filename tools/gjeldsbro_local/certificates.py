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
            .add_extension(_key_usage(authority=True), critical=True)
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
            .add_extension(_key_usage(authority=False), critical=True)
        )
        return Issued(builder.sign(self.key, hashes.SHA256()), key)

    def issue_client(
        self,
        organisation_number: str | None,
        *,
        named_in: Literal["organizationIdentifier", "serialNumber"] = "organizationIdentifier",
        name: str = "Testbanken AS",
    ) -> Issued:
        """A client certificate that names an organisation, or, with None, does not."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "NO"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
        if organisation_number is not None and named_in == "organizationIdentifier":
            value = f"NTRNO-{organisation_number}"
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_IDENTIFIER, value))
        elif organisation_number is not None:
            attributes.append(x509.NameAttribute(NameOID.SERIAL_NUMBER, organisation_number))
        builder = (
            _unsigned(x509.Name(attributes), self.certificate.subject, key.public_key(), self.key.public_key())
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
        )
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


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
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
