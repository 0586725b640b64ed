"""HTTP/1.1 connections that are kept between exchanges, and one deadline for each exchange as a whole.

For short exchanges with few servers, many at a time: a connection is opened once, not for each of them, and belongs to
one thread while it is used. Time-outs of sockets count silence, so a server that sends a byte now and then could hold
us for hours: here each single read and write gets what is left until the deadline and no more, from looking the name up
to the last byte of the body. No redirects, no proxies, nothing of the environment. See decision record 0016.
"""

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from io import BufferedReader, RawIOBase
from threading import Lock, Thread
from time import monotonic, time
from typing import Any, NamedTuple

from gjeldsbro.adapters.institution_http import READ_SIZE

IDLE_SECONDS = 50.0
"""How long a connection is kept unused: less than the minute after which most servers and balancers close theirs."""

MOST_KEPT = 128
"""Unused connections that are kept in all. A Lambda function may have 1,024 open files."""

_BROKEN = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a kept connection that the server has closed shows itself, when it does so only after the request was sent."""


class Server(NamedTuple):
    """Whom to connect to; without a context in plain HTTP."""

    host: str
    port: int
    context: ssl.SSLContext | None


class Answer:
    """The head of an answer, and its body as it arrives."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: dict[str, str] = {}
        """By name in lower case; values of a header that came several times are joined."""
        for name, value in response.getheaders():
            before = self.headers.get(name.lower())
            self.headers[name.lower()] = value if before is None else f"{before}, {value}"

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece. Raises IncompleteRead when it breaks off, TimeoutError at the deadline."""
        while chunk := self._response.read1(READ_SIZE):
            yield chunk
        if self._response.length:
            raise IncompleteRead(b"")
        self._response.close()

    @property
    def was_read(self) -> bool:
        """Whether nothing of the body is left, so that the connection can carry another exchange."""
        return self._response.isclosed() and not self._response.will_close

    def close(self) -> None:
        """Do without the rest."""
        self._response.close()


class KeptConnections:
    """Opens connections, and keeps those that can be used again. For all threads."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS, most: int = MOST_KEPT) -> None:
        self._idle_seconds = idle_seconds
        self._most = most
        self._idle: list[_Idle] = []
        self._lock = Lock()

    @contextmanager
    def get(self, server: Server, target: str, headers: Mapping[str, str], deadline: float) -> Iterator[Answer]:
        """Send a GET request and give the answer to the block, until ``deadline`` (``time.monotonic()``).

        A kept connection that proves to have been closed by the server is replaced by a new one at once: that is no
        failure. Raises TimeoutError at the deadline, OSError (which ssl.SSLError is) and HTTPException; ValueError for
        a server or target that cannot be one. Their texts can hold what the server sent.
        """
        connection = self._take(server)
        response = None
        if connection is not None:
            try:
                response = connection.exchange(target, headers, deadline)
            except _BROKEN:
                self.forget(server)
        if connection is None or response is None:
            connection = _Connection(server)
            response = connection.exchange(target, headers, deadline)
        answer = Answer(response)
        try:
            yield answer
        finally:
            if answer.was_read:
                self._keep(server, connection)
            else:
                answer.close()
                connection.close()

    def forget(self, server: Server) -> None:
        """Keep none of the connections to a server: one of them showed that the others cannot be relied on."""
        self._drop(lambda idle: idle.server == server)

    def close(self) -> None:
        """Keep none at all."""
        self._drop(lambda _: True)

    def __del__(self) -> None:
        self.close()

    def _take(self, server: Server) -> "_Connection | None":
        """The connection to a server that was used last, if it is still good."""
        while True:
            with self._lock:
                found = next((at for at in reversed(range(len(self._idle))) if self._idle[at].server == server), None)
                if found is None:
                    return None
                idle = self._idle.pop(found)
            if idle.age < self._idle_seconds and idle.connection.is_quiet:
                return idle.connection
            idle.connection.close()

    def _keep(self, server: Server, connection: "_Connection") -> None:
        with self._lock:
            self._idle.append(_Idle(server, connection, monotonic(), time()))
            # The oldest are in front.
            old = max(0, len(self._idle) - self._most)
            while old < len(self._idle) and self._idle[old].age >= self._idle_seconds:
                old += 1
            dropped = self._idle[:old]
            del self._idle[:old]
        for idle in dropped:
            idle.connection.close()

    def _drop(self, which: "Callable[[_Idle], bool]") -> None:
        with self._lock:
            dropped = [idle for idle in self._idle if which(idle)]
            self._idle = [idle for idle in self._idle if not which(idle)]
        for idle in dropped:
            idle.connection.close()


class _Connection(HTTPConnection):
    """A connection whose every step ends at the deadline of the exchange that it is used for."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.host, server.port)
        self._server = server
        if server.context is not None:
            self.default_port = 443  # which the Host header leaves out

    def exchange(self, target: str, headers: Mapping[str, str], deadline: float) -> HTTPResponse:
        """Send a GET request and read the head of the answer; closes itself when that fails."""
        try:
            if self.sock is None:
                self.sock = _connect(self._server, deadline)
            # http.client makes the response of the socket: this is where the deadline gets into its reads.
            self.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]  # called, no more
            self.sock.settimeout(_left(deadline))
            # A server that closes before it has read the request may have said why, as TLS 1.3 does of a certificate.
            with suppress(ConnectionError):
                self.request("GET", target, headers=headers)
            return self.getresponse()
        except BaseException:
            self.close()
            raise

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come on it: between exchanges that would be the server's good-bye, or not for us."""
        if self.sock is None:
            return False
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False  # read from the socket and decrypted already, with the record of the answer before
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class _Response(HTTPResponse):
    """A response that is read until a deadline."""

    def __init__(self, sock: socket.socket, *, deadline: float, **options: Any) -> None:
        super().__init__(sock, **options)
        self.fp = BufferedReader(_UntilDeadline(self.fp.detach(), sock, deadline))


class _UntilDeadline(RawIOBase):
    """Reads of a socket, each of which gets the time that is left."""

    def __init__(self, raw: RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(server: Server, deadline: float) -> socket.socket:
    """A connection, with TLS agreed on: OpenSSL's handshake as a whole has the socket's time-out."""
    addresses = _addresses(server, deadline)
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            # A share of the time for each address: the first may be one that nothing ever answers at.
            connection.settimeout(_left(deadline) / (len(addresses) - number))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            break
        except OSError:
            connection.close()
            if number == len(addresses) - 1:
                raise
    if server.context is None:
        return connection
    try:
        connection.settimeout(_left(deadline))
        return server.context.wrap_socket(connection, server_hostname=server.host)
    except BaseException:
        connection.close()
        raise


def _addresses(server: Server, deadline: float) -> list[Any]:
    """Look a name up. The resolver knows no time-out of ours, so a thread of its own waits for it."""
    numeric = partial(socket.getaddrinfo, server.host, server.port, type=socket.SOCK_STREAM)
    try:
        return numeric(flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: Future[list[Any]] = Future()

    def look_up() -> None:
        try:
            found.set_result(numeric())
        except Exception as exc:  # noqa: BLE001 - whoever waits for it gets it
            found.set_exception(exc)

    Thread(target=look_up, name="look-up", daemon=True).start()
    return found.result(_left(deadline))


class _Idle(NamedTuple):
    server: Server
    connection: _Connection
    since: float
    since_by_wall: float

    @property
    def age(self) -> float:
        """Seconds, by the clock that says more: while a Lambda function is frozen, one of them may stand still."""
        return max(monotonic() - self.since, abs(time() - self.since_by_wall))
