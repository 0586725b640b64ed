"""As much of the SFTP protocol (version 3) as we need, on a channel of an SSH connection (decision record 0029).

Requests may be sent ahead of their answers, and answers come in any order. What a server says no to is an OSError, as
for a file of this machine; a connection that ends is an EOFError, one that makes no sense an SftpError.
"""

import errno
import struct
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct
from typing import NamedTuple, Protocol

PLAIN_SIZE = 32_000
"""Bytes of a file that any server takes or gives in one request; with what is around them they fit one SSH packet."""

READ, WRITE, CREATE, TRUNCATE = 0x1, 0x2, 0x8, 0x10
"""How a file is opened."""

_VERSION = 3
_INIT, _OPEN, _CLOSE, _READ, _WRITE = 1, 3, 4, 5, 6
_OPENDIR, _READDIR, _REMOVE, _STAT, _RENAME, _EXTENDED = 11, 12, 13, 17, 18, 200
_VERSION_ANSWER, _STATUS, _HANDLE, _DATA, _NAMES, _ATTRIBUTES, _EXTENDED_ANSWER = 2, 101, 102, 103, 104, 105, 201
_OK, _END = 0, 1
_ERRORS = {2: errno.ENOENT, 3: errno.EACCES}
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES, _HAS_MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000
_LIMITS, _POSIX_RENAME = "limits@openssh.com", "posix-rename@openssh.com"

_NUMBER, _LONG, _HEAD = Struct(">I"), Struct(">Q"), Struct(">IBI")
_LONGEST = 16 << 20
_RECEIVED_AT_ONCE, _SENT_AT_ONCE = 4 << 20, 64 << 10
_BYTES = "surrogateescape"  # names are bytes, mostly UTF-8


class SftpError(Exception):
    """The server does not speak the protocol as it is written."""


class EndOfFileError(OSError):
    """There is no more of a file or a list of files."""


class Channel(Protocol):
    """What we need of a channel: ``send`` may take less than all, ``recv`` gives nothing when the channel is closed."""

    def send(self, s: bytes, /) -> int: ...  # noqa: D102 - said above
    def recv(self, nbytes: int, /) -> bytes: ...  # noqa: D102


class Attributes(NamedTuple):
    """What a server says of a file; servers may leave anything out."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None


class SftpSession:
    """A session of SFTP on a channel, which whoever opened it closes."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._last = 0
        self._wanted: set[int] = set()
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._send(_INIT, _VERSION, b"")
        kind, _, rest = self._receive()
        if kind != _VERSION_ANSWER:
            raise SftpError
        self.read_size = self.write_size = PLAIN_SIZE
        """Bytes that the server takes in one request, as far as we know."""
        fields = _Fields(rest)
        announced = set()
        while not fields.at_end:
            announced.add(fields.string())
            fields.string()  # what the server says of it
        if _LIMITS.encode() in announced:
            with suppress(OSError):
                self._ask_for_limits()

    def open(self, path: str, how: int) -> bytes:
        """Open a file; the handle is for ``start_reading``, ``start_writing`` and ``close``."""
        answer = self._answer(self._ask(_OPEN, _text(path), _NUMBER.pack(how), _NUMBER.pack(0)), _HANDLE)
        return _Fields(answer).string()

    def close(self, handle: bytes) -> None:
        """Close a file and wait until that is done: what was written may be refused as late as this."""
        self._answer(self._ask(_CLOSE, _string(handle)), _STATUS)

    def leave(self, handle: bytes, numbers: Iterable[int]) -> None:
        """Close a file without waiting, neither for that nor for the answers to what was asked."""
        for number in (*numbers, self._ask(_CLOSE, _string(handle))):
            self._wanted.discard(number)
            self._answers.pop(number, None)

    def start_reading(self, handle: bytes, offset: int, size: int) -> int:
        """Ask for bytes of a file; ``bytes_read`` with the request's number gives them."""
        return self._ask(_READ, _string(handle), _LONG.pack(offset), _NUMBER.pack(size))

    def bytes_read(self, number: int) -> bytes:
        """What was asked for, or the beginning of it; nothing at the file's end."""
        try:
            return _Fields(self._answer(number, _DATA)).string()
        except EndOfFileError:
            return b""

    def start_writing(self, handle: bytes, offset: int, data: bytes) -> int:
        """Send bytes of a file; ``confirm`` with the request's number waits until they were taken."""
        return self._ask(_WRITE, _string(handle), _LONG.pack(offset), _NUMBER.pack(len(data)), data)

    def confirm(self, number: int) -> None:
        """Wait until what was sent was taken."""
        self._answer(number, _STATUS)

    def stat(self, path: str) -> Attributes:
        """What a path is, links followed."""
        return _Fields(self._answer(self._ask(_STAT, _text(path)), _ATTRIBUTES)).attributes()

    def entries(self, path: str) -> list[tuple[str, Attributes]]:
        """The names in a folder, but for itself and the one above it."""
        handle, found = _Fields(self._answer(self._ask(_OPENDIR, _text(path)), _HANDLE)).string(), []
        with suppress(EndOfFileError):
            while True:
                fields = _Fields(self._answer(self._ask(_READDIR, _string(handle)), _NAMES))
                for _ in range(fields.number()):
                    name, _, attributes = fields.string(), fields.string(), fields.attributes()
                    if name not in {b".", b".."}:
                        found.append((name.decode(errors=_BYTES), attributes))
        self.close(handle)
        return found

    def rename(self, source: str, target: str) -> None:
        """Rename a file; most servers refuse when there is one of the new name."""
        self._answer(self._ask(_RENAME, _text(source), _text(target)), _STATUS)

    def posix_rename(self, source: str, target: str) -> None:
        """Rename a file in place of one that may be there, where the server has OpenSSH's extension for that."""
        self._answer(self._ask(_EXTENDED, _text(_POSIX_RENAME), _text(source), _text(target)), _STATUS)

    def remove(self, path: str) -> None:
        """Remove a file."""
        self._answer(self._ask(_REMOVE, _text(path)), _STATUS)

    def _ask_for_limits(self) -> None:
        fields = _Fields(self._answer(self._ask(_EXTENDED, _text(_LIMITS)), _EXTENDED_ANSWER))
        _, most_read, most_written = fields.long(), fields.long(), fields.long()  # 0 means that there is no limit
        self.read_size, self.write_size = most_read or _LONGEST, most_written or _LONGEST

    def _ask(self, kind: int, *parts: bytes) -> int:
        self._last += 1
        self._wanted.add(self._last)
        self._send(kind, self._last, *parts)
        return self._last

    def _send(self, kind: int, number: int, *parts: bytes) -> None:
        size = sum(map(len, parts)) + _HEAD.size - _NUMBER.size
        packet, at = b"".join((_HEAD.pack(size, kind, number), *parts)), 0
        while at < len(packet):
            sent = self._channel.send(packet[at : at + _SENT_AT_ONCE])
            if not sent:
                raise EOFError
            at += sent

    def _answer(self, number: int, wanted: int) -> bytes:
        """The answer to a request, when it is of the kind that is wanted."""
        while number not in self._answers:
            kind, answered, rest = self._receive()
            if answered in self._wanted:
                self._wanted.remove(answered)
                self._answers[answered] = (kind, rest)
        kind, rest = self._answers.pop(number)
        if kind == _STATUS:
            code = _Fields(rest).number()
            if code != _OK:
                raise EndOfFileError if code == _END else OSError(_ERRORS.get(code, 0), "")
        if kind != wanted:
            raise SftpError
        return rest

    def _receive(self) -> tuple[int, int, bytes]:
        """The next packet: its kind, its number (of the request, or of the protocol's version) and what follows."""
        received = self._received
        self._receive_at_least(_HEAD.size)
        size, kind, number = _HEAD.unpack_from(received)
        end = size + _NUMBER.size
        if not _HEAD.size <= end <= _LONGEST:
            raise SftpError
        self._receive_at_least(end)
        with memoryview(received) as view:
            rest = bytes(view[_HEAD.size : end])
        del received[:end]
        return kind, number, rest

    def _receive_at_least(self, size: int) -> None:
        while len(self._received) < size:
            data = self._channel.recv(_RECEIVED_AT_ONCE)
            if not data:
                raise EOFError
            self._received += data


class _Fields:
    """The fields of a packet, one after the other."""

    def __init__(self, packet: bytes) -> None:
        self._packet, self._at = packet, 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._packet)

    def number(self) -> int:
        return self._unpacked(_NUMBER)

    def long(self) -> int:
        return self._unpacked(_LONG)

    def string(self) -> bytes:
        start = self._at + _NUMBER.size
        self._at = start + self.number()
        if self._at > len(self._packet):
            raise SftpError
        return self._packet[start : self._at]

    def attributes(self) -> Attributes:
        has = self.number()
        size = self.long() if has & _HAS_SIZE else None
        if has & _HAS_OWNER:
            self.long()
        mode = self.number() if has & _HAS_MODE else None
        modified = self.long() & 0xFFFFFFFF if has & _HAS_TIMES else None  # the time of the last access comes first
        for _ in range(self.number() * 2 if has & _HAS_MORE else 0):
            self.string()
        return Attributes(size, mode, modified)

    def _unpacked(self, form: Struct) -> int:
        try:
            (value,) = form.unpack_from(self._packet, self._at)
        except struct.error:
            raise SftpError from None
        self._at += form.size
        return int(value)


def _string(value: bytes) -> bytes:
    return _NUMBER.pack(len(value)) + value


def _text(value: str) -> bytes:
    return _string(value.encode(errors=_BYTES))
