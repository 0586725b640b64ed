"""A server on loopback whose every byte a test decides, with or without TLS, and the certificates for it."""

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Script = Callable[[socket.socket, str], None]
"""Answers one request, given its head."""


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    certificate: str
    key: str


class Authority:
    """A private CA that issues certificates for loopback servers and clients. It sets few extensions, as many do."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.pem = self._issue(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=None)]).certificate

    def issue(self, *, address: str = "127.0.0.1", days: int = 2) -> Pair:
        """A certificate for ``address`` that is valid for ``days``, counted from now; negative: it has expired."""
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
        return self._issue(name, ec.generate_private_key(ec.SECP256R1()), [names], days)

    def _issue(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list, days: int = 2) -> Pair:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1) + min(dt.timedelta(days=days), dt.timedelta()))
            .not_valid_after(now + dt.timedelta(days=days))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(
            certificate.public_bytes(Encoding.PEM).decode(),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        )


@lru_cache(maxsize=None)
def authority(name: str) -> Authority:
    """One CA a name and test run: keys take a moment to make."""
    return Authority(name)


class RawServer:
    """Listens on loopback until the block ends; ``heads`` are the heads of the requests that came.

    A connection carries one exchange, or with ``keep`` as many as the client likes. ``connections`` counts those on
    which TLS was agreed.
    """

    def __init__(
        self,
        script: Script,
        *,
        pair: Pair | None = None,
        client_ca: str | None = None,
        folder: Path,
        keep: bool = False,
    ) -> None:
        self.script = script
        self.heads: list[str] = []
        self.connections = 0
        self._keep = keep
        self._context = _context(pair, client_ca, folder) if pair else None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """Its base URL."""
        scheme = "https" if self._context else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/debt-information/v1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        # A refused handshake or a client that went away is what some tests are about.
        with suppress(OSError), connection:
            connection.settimeout(10)
            stream = self._context.wrap_socket(connection, server_side=True) if self._context else connection
            self.connections += 1
            with stream:
                more = True
                while more:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        data = stream.recv(4096)
                        if not data:
                            return
                        head += data
                    self.heads.append(head.decode("latin-1"))
                    self.script(stream, self.heads[-1])
                    more = self._keep

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _context(pair: Pair, client_ca: str | None, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    file = folder / "server.pem"
    file.write_text(pair.certificate + pair.key)
    context.load_cert_chain(file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca)
    return context


def answer(
    body: bytes = b"{}",
    *,
    status: str = "200 OK",
    length: int | None = None,
    keep: bool = False,
    **headers: str,
) -> bytes:
    """A response; ``Content_Type=""`` leaves a header out, underscores stand for hyphens; ``keep`` the connection."""
    fields = {"Content_Type": "application/json", **headers}
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value]
    lines += [] if keep else ["Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode() + body
