"""Receivers' SFTP servers, through paramiko.

A server is who its pinned host key says, and nobody else is spoken to: known-hosts files, agents and keys of this
machine are never looked at. Everything has a time-out. Errors name the step that failed and never what a receiver
called a file: names may hold anything, and errors are stored and logged.
"""

import errno
import logging
import posixpath
import socket
import stat
from base64 import b64decode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import StringIO
from time import monotonic
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import paramiko
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from gjeldsbro.adapters.secrets import ReceiverSecret, Secrets
from gjeldsbro.adapters.sftp_session import CREATE, READ, TRUNCATE, WRITE, Attributes, SftpError, SftpSession
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export.ports import RemoteFile
from gjeldsbro.services.ports import Receiver

CONNECT_SECONDS = 15
HANDSHAKE_SECONDS = 30
ANSWER_SECONDS = 60
"""How long a server may take to accept a connection, to agree on keys or a login, and to answer a request."""

ASIDE = ".old"
"""Ends the name that a file has while another takes its place, on a server that does not do that in one step."""

_READ_AHEAD = 2 << 20
"""Bytes that are asked for ahead of those that are read: 70 MB a second from a server that is 30 ms away."""

_WINDOW = 2 * _READ_AHEAD
"""Bytes that a server may send ahead of our reading: never what it waits for."""

_PACKET, _LARGE_PACKET = 32 << 10, 128 << 10
"""Bytes that a server may send in one packet; each costs us the same. OpenSSH knows the large ones (RFC 4253, 6.1)."""

_PIECE = 128 << 10
"""Bytes in one request, where the server takes as much."""

_MOST_UNCONFIRMED = 4 << 20
"""Bytes that are written, but for a request, without their confirmations: an unconfirmed end is never longer."""

_CONFIRM_SECONDS = 5
"""A server that takes longer to confirm them gets fewer at a time."""

_FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Asked for before the others, which we speak too: processors do these in one step, and the others in two."""

_RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")
_REASONS = {errno.EACCES: "permission denied", errno.ENOENT: "no such file or folder"}
_FAILURES = {"WRITE": "the server reports a failure: its disk or our share of it may be full"}

# paramiko logs file names and what servers say; our own errors say all that may be stored (design decision 15).
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class Address(NamedTuple):
    """Where a receiver's folder is."""

    host: str
    port: int
    user: str
    path: str

    @classmethod
    def parse(cls, url: str) -> "Address":
        """The parts of ``sftp://user@host[:port]/folder``. Raises ConfigurationError for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port or 22
        except ValueError:
            raise ConfigurationError("the receiver's address is not a URL") from None
        if parts.scheme != "sftp" or not parts.hostname or not parts.username:
            raise ConfigurationError("the receiver's address is not of the form sftp://user@host:port/folder")
        if parts.password is not None or parts.query or parts.fragment:
            raise ConfigurationError("the receiver's address holds more than user, host, port and folder")
        return cls(parts.hostname, port, unquote(parts.username), unquote(parts.path).rstrip("/") or "/")


@contextmanager
def connect_with(secrets: Secrets, receiver: Receiver) -> Iterator["SftpFolder"]:
    """As ``connect``, with the receiver's secret; one that does not let us in is read anew: it may have changed."""
    with ExitStack() as stack:
        secret = secrets.receiver(receiver.secret)
        try:
            folder = stack.enter_context(connect(receiver, secret))
        except (ReceiverRefusedError, ConfigurationError) as exc:
            if isinstance(exc, ReceiverRefusedError) and exc.code != "LOGIN":
                raise
            changed = secrets.receiver(receiver.secret, anew=True)
            if changed == secret:
                raise
            folder = stack.enter_context(connect(receiver, changed))
        yield folder


@contextmanager
def connect(receiver: Receiver, secret: ReceiverSecret) -> Iterator["SftpFolder"]:
    """A connection to a receiver's folder, closed at the end of the block.

    Raises ReceiverUnavailableError when the server cannot be reached, ReceiverRefusedError with HOST_KEY when it is not
    the one that was pinned, LOGIN when it does not let us in, FOLDER when there is no such folder; ConfigurationError
    when our own record of the receiver does not make sense.
    """
    address = Address.parse(receiver.url)
    pinned = [_host_key(line) for line in receiver.host_keys]
    key = None if secret.private_key is None else _private_key(secret.private_key, secret.passphrase)
    with _reaching("the server cannot be reached", CONNECT_SECONDS):
        connection = socket.create_connection((address.host, address.port), timeout=CONNECT_SECONDS)
        # Without it the last request before a confirmation waits for the server's delayed acknowledgement: measured on
        # loopback, uploads take ten times as long.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        transport = _open_transport(connection)
        try:
            _agree_on_keys(transport, pinned)
            _log_in(transport, address.user, key, secret.password)
            yield _open_folder(transport, address.path)
        finally:
            transport.close()
    finally:
        connection.close()


class SftpFolder:
    """The one folder of a receiver's server (see services.export.ports.Folder)."""

    def __init__(self, transport: paramiko.Transport, session: SftpSession, path: str) -> None:
        self.path = path
        self._transport = transport
        self._session = session

    def files(self) -> list[RemoteFile]:
        """The ordinary files of the folder."""
        with self._asking("FOLDER"):
            entries = self._session.entries(self.path)
        return [_remote_file(name, attributes) for name, attributes in entries if _is_file(attributes)]

    def file(self, name: str) -> RemoteFile | None:
        """One file, or None when there is none (or the server does not show it)."""
        with self._asking("READ"):
            try:
                attributes = self._session.stat(self._at(name))
            except FileNotFoundError:
                return None
        return _remote_file(name, attributes) if _is_file(attributes) else None

    def read(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """``size`` bytes of a file from ``start`` on, in pieces; fewer when the file ends before."""
        session, asked = self._session, deque[tuple[int, int]]()
        with self._asking("READ"):
            handle = session.open(self._at(name), READ)
        try:
            position, next_asked, end = start, start, start + size
            while position < end:
                with self._asking("READ"):
                    while next_asked < min(end, position + _READ_AHEAD):
                        piece = min(session.read_size, _PIECE, end - next_asked)
                        asked.append((session.start_reading(handle, next_asked, piece), piece))
                        next_asked += piece
                    number, wanted = asked[0]
                    data = session.bytes_read(number)
                    if len(data) > wanted:
                        raise SftpError
                    asked.popleft()
                    position += len(data)
                    if 0 < (lacks := wanted - len(data)) < wanted:
                        asked.appendleft((session.start_reading(handle, position, lacks), lacks))
                if not data:
                    break
                yield data
        finally:
            self._leave(handle, [number for number, _ in asked])

    def write(self, name: str, start: int, pieces: Iterable[bytes]) -> int:
        """Write ``pieces`` from byte ``start`` on and return the byte after the last.

        Requests are sent ahead of their confirmations: more and more while these come at once, and few to a server that
        is slow, so that the last ones never take long. When this returns, all were confirmed.
        """
        session, unconfirmed = self._session, deque[tuple[int, int]]()
        with self._asking("WRITE"):
            handle = session.open(self._at(name), WRITE if start else WRITE | CREATE | TRUNCATE)
        try:
            position = confirmed = judged = start
            most, since = _PIECE, monotonic()
            for block in _blocks(pieces, min(session.write_size, _PIECE)):
                with self._asking("WRITE"):
                    unconfirmed.append((session.start_writing(handle, position, block), position + len(block)))
                    position += len(block)
                    while position - confirmed > most:
                        number, upto = unconfirmed[0]
                        session.confirm(number)
                        confirmed, _ = upto, unconfirmed.popleft()
                if confirmed - judged >= most:
                    quick = monotonic() - since < _CONFIRM_SECONDS
                    most = min(2 * most, _MOST_UNCONFIRMED) if quick else max(most // 2, _PIECE)
                    judged, since = confirmed, monotonic()
            with self._asking("WRITE"):
                while unconfirmed:
                    session.confirm(unconfirmed[0][0])
                    unconfirmed.popleft()
        except BaseException:
            self._leave(handle, [number for number, _ in unconfirmed])
            raise
        with self._asking("WRITE"):
            session.close(handle)
        return position

    def replace(self, source: str, target: str) -> None:
        """Rename a file, in place of one that may be there.

        OpenSSH's own rename request does that in one step. Elsewhere the standard one may; where that refuses, the old
        file is first given another name, so that it is still there should the server not rename at all.
        """
        with self._asking("RENAME"):
            one_step = (self._session.posix_rename, self._session.rename)
            if any(self._tried(rename, source, target) for rename in one_step):
                return
            aside = self._at(f"{source}{ASIDE}")
            with suppress(FileNotFoundError):
                self._session.rename(self._at(target), aside)
            try:
                self._session.rename(self._at(source), self._at(target))
            except OSError:
                with suppress(OSError):
                    self._session.rename(aside, self._at(target))
                raise
            with suppress(OSError):  # what stays is removed before the next delivery
                self._session.remove(aside)

    def remove(self, name: str) -> None:
        """Remove a file, whether it is there or not."""
        with self._asking("WRITE"), suppress(FileNotFoundError):
            self._session.remove(self._at(name))

    def _tried(self, rename: Callable[[str, str], object], source: str, target: str) -> bool:
        try:
            rename(self._at(source), self._at(target))
        except (TimeoutError, ConnectionError, FileNotFoundError):
            raise
        except OSError:
            if not self._transport.is_active():
                raise
            return False
        return True

    def _at(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def _leave(self, handle: bytes, numbers: list[int]) -> None:
        """Close a file, and wait for that unless there are answers before it: of a slow server they take minutes."""
        with suppress(OSError, EOFError, paramiko.SSHException, SftpError):
            if numbers:
                self._session.leave(handle, numbers)
            else:
                self._session.close(handle)

    @contextmanager
    def _asking(self, code: str) -> Iterator[None]:
        try:
            yield
        except (TimeoutError, EOFError, ConnectionError, paramiko.SSHException, SftpError) as exc:
            raise ReceiverUnavailableError(f"the connection failed: {_in_words(exc, ANSWER_SECONDS)}") from None
        except OSError as exc:
            if not self._transport.is_active():
                raise ReceiverUnavailableError("the connection was lost") from None
            reason = _REASONS.get(exc.errno or 0, _FAILURES.get(code, "the server reports a failure"))
            raise ReceiverRefusedError(code, reason) from None


def _open_transport(connection: socket.socket) -> paramiko.Transport:
    with _reaching("the server does not speak SSH with us", HANDSHAKE_SECONDS):
        transport = paramiko.Transport(connection)
    transport.banner_timeout = HANDSHAKE_SECONDS
    transport.handshake_timeout = HANDSHAKE_SECONDS
    transport.auth_timeout = HANDSHAKE_SECONDS
    transport.channel_timeout = HANDSHAKE_SECONDS
    transport.set_keepalive(ANSWER_SECONDS // 2)
    return transport


def _agree_on_keys(transport: paramiko.Transport, pinned: list[tuple[str, bytes]]) -> None:
    """Handshake; the pinned kinds of key are asked for first, so that a server with several shows the one we know."""
    options = transport.get_security_options()
    wanted = [kind for name, _ in pinned for kind in (_RSA_SIGNATURES if name == "ssh-rsa" else (name,))]
    known = [kind for kind in options.key_types if kind in wanted]
    options.ciphers = _FAST_CIPHERS + tuple(cipher for cipher in options.ciphers if cipher not in _FAST_CIPHERS)
    options.key_types = tuple(known + [kind for kind in options.key_types if kind not in wanted])
    with _reaching("the server and we found no way to speak SSH", HANDSHAKE_SECONDS):
        transport.start_client(timeout=HANDSHAKE_SECONDS)
        shown = transport.get_remote_server_key().asbytes()
    if shown not in {blob for _, blob in pinned}:
        raise ReceiverRefusedError("HOST_KEY", "the server's host key is not one of those that were agreed on")


def _log_in(transport: paramiko.Transport, user: str, key: paramiko.PKey | None, password: str | None) -> None:
    """Log in with the key, with the password, or with both when the server asks for the second after the first."""
    try:
        if key is not None:
            wanted = transport.auth_publickey(user, key)
            if not wanted:
                return
        if password is not None:
            transport.auth_password(user, password)
    except paramiko.AuthenticationException:
        if not transport.is_active():
            raise ReceiverUnavailableError("the server closed the connection during the login") from None
        raise ReceiverRefusedError("LOGIN", "the server refused the login") from None
    except (paramiko.SSHException, EOFError, OSError) as exc:
        raise ReceiverUnavailableError(f"the login failed: {_in_words(exc, HANDSHAKE_SECONDS)}") from None
    if not transport.is_authenticated():
        raise ReceiverRefusedError("LOGIN", "the server asks for more than we were given")


def _open_folder(transport: paramiko.Transport, path: str) -> SftpFolder:
    try:
        packet = _LARGE_PACKET if "OpenSSH" in transport.remote_version else _PACKET
        channel = transport.open_session(window_size=_WINDOW, max_packet_size=packet)
        channel.settimeout(ANSWER_SECONDS)
        channel.invoke_subsystem("sftp")
        session = SftpSession(channel)
    except paramiko.ChannelException:
        raise ReceiverRefusedError("FOLDER", "the server offers no SFTP to us") from None
    except (paramiko.SSHException, SftpError, EOFError, OSError) as exc:
        raise ReceiverUnavailableError(f"no SFTP session: {_in_words(exc, ANSWER_SECONDS)}") from None
    folder = SftpFolder(transport, session, path)
    with folder._asking("FOLDER"):  # noqa: SLF001 - its own factory
        mode = session.stat(path).mode
    if mode is not None and not stat.S_ISDIR(mode):
        raise ReceiverRefusedError("FOLDER", "the path is not a folder")
    return folder


@contextmanager
def _reaching(what: str, seconds: float) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as exc:
        raise ReceiverUnavailableError(f"{what}: {_in_words(exc, seconds)}") from None


def _in_words(exc: Exception, seconds: float) -> str:
    """What went wrong with a connection, for an operator; never what the server said."""
    match exc:
        case socket.gaierror():
            return "its name is not known"
        case ConnectionRefusedError():
            return "it refuses the connection"
        case TimeoutError():
            return f"no answer in {seconds:g} seconds"
        case ConnectionError() | EOFError():
            return "it closed the connection"
        case OSError() if exc.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}:
            return "there is no way to it in the network"
        case _:
            return type(exc).__name__


def _host_key(line: str) -> tuple[str, bytes]:
    try:
        kind, encoded = line.split()[:2]
        return kind, b64decode(encoded, validate=True)
    except (ValueError, Base64Error):
        raise ConfigurationError("a host key of the receiver is not of the form 'type base64'") from None


def _private_key(text: str, passphrase: str | None) -> paramiko.PKey:
    """A key in OpenSSH's or any PEM form. paramiko reads fewer forms than cryptography, so that one comes first."""
    password = passphrase.encode() if passphrase else None
    data = text.strip().encode() + b"\n"
    try:
        load = load_ssh_private_key if b"BEGIN OPENSSH" in data else load_pem_private_key
        key = load(data, password)
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        match key:
            case Ed25519PrivateKey():
                return paramiko.Ed25519Key.from_private_key(StringIO(plain))
            case EllipticCurvePrivateKey():
                return paramiko.ECDSAKey.from_private_key(StringIO(plain))
            case RSAPrivateKey():
                return paramiko.RSAKey.from_private_key(StringIO(plain))
    except (ValueError, TypeError, paramiko.SSHException):
        raise ConfigurationError(
            "the private key for the receiver cannot be read, or its passphrase is wrong"
        ) from None
    raise ConfigurationError("the private key for the receiver is of a kind that SSH does not use")


def _blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), size):
            yield piece[at : at + size]


def _remote_file(name: str, attributes: Attributes) -> RemoteFile:
    return RemoteFile(name, attributes.size or 0, attributes.modified or 0)


def _is_file(attributes: Attributes) -> bool:
    """Whether an entry may be read as a file; a link may, and some servers do not say what an entry is."""
    return attributes.mode is None or not stat.S_IFMT(attributes.mode) or not stat.S_ISDIR(attributes.mode)
