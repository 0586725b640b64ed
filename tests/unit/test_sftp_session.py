"""The SFTP protocol as servers may speak it: in any order, in any pieces, and not always right."""

import errno
import struct
from collections.abc import Callable

import pytest

from gjeldsbro.adapters.sftp_session import PLAIN_SIZE, READ, EndOfFileError, SftpError, SftpSession

VERSION = struct.pack(">IBI", 5, 2, 3)
STATUS, HANDLE, DATA, NAMES, ATTRIBUTES, EXTENDED = 101, 102, 103, 104, 105, 201


def text(value: bytes) -> bytes:
    """A string field."""
    return struct.pack(">I", len(value)) + value


def packet(kind: int, number: int, *fields: bytes) -> bytes:
    """A server's packet."""
    rest = b"".join(fields)
    return struct.pack(">IBI", len(rest) + 5, kind, number) + rest


def status(number: int, code: int) -> bytes:
    """An answer that says how it went."""
    return packet(STATUS, number, struct.pack(">I", code), text(b"words"), text(b""))


class Server:
    """A channel with prepared answers; ``takes`` is how many bytes it takes at once, ``gives`` how many it gives."""

    def __init__(self, *answers: bytes, takes: int = 1 << 20, gives: int = 1 << 20) -> None:
        self.sent, self._answers, self._takes, self._gives = b"", b"".join(answers), takes, gives

    def send(self, data: bytes, /) -> int:
        """Take a part of it."""
        taken = data[: self._takes]
        self.sent += taken
        return len(taken)

    def recv(self, size: int, /) -> bytes:
        """Give a part of what is left."""
        given = self._answers[: min(size, self._gives)]
        self._answers = self._answers[len(given) :]
        return given


def session(*answers: bytes, version: bytes = VERSION) -> SftpSession:
    """A session with a server that has these answers."""
    return SftpSession(Server(version, *answers))


def test_requests_and_answers_may_come_in_any_pieces() -> None:
    """A packet is whole when all of it is there, and sent when all of it was taken."""
    server = Server(VERSION, packet(HANDLE, 1, text(b"h")), packet(DATA, 2, text(b"abc")), takes=3, gives=2)
    talk = SftpSession(server)
    handle = talk.open("/a/b", READ)
    assert talk.bytes_read(talk.start_reading(handle, 7, 3)) == b"abc"
    opened = packet(3, 1, text(b"/a/b"), struct.pack(">II", 1, 0))
    assert server.sent == struct.pack(">IBI", 5, 1, 3) + opened + packet(5, 2, text(b"h"), struct.pack(">QI", 7, 3))


def test_answers_may_come_in_any_order() -> None:
    """An answer belongs to the request whose number it has."""
    talk = session(packet(DATA, 2, text(b"second")), packet(DATA, 1, text(b"first")))
    first, second = talk.start_reading(b"h", 0, 5), talk.start_reading(b"h", 5, 6)
    assert (talk.bytes_read(first), talk.bytes_read(second)) == (b"first", b"second")


def test_what_is_left_is_not_answered_to_others() -> None:
    """Answers to requests of a file that was left are dropped, whether they were there already or come later."""
    talk = session(packet(DATA, 2, text(b"old")), packet(DATA, 1, text(b"x")), status(3, 0), status(4, 0), status(5, 0))
    one, two, three = (talk.start_reading(b"h", at, 3) for at in range(3))
    assert talk.bytes_read(one) == b"x"
    talk.leave(b"h", [two, three])
    talk.remove("/file")
    assert talk._answers == {}
    assert talk._wanted == set()


def test_an_answer_that_nobody_asked_for_is_ignored() -> None:
    """As OpenSSH's and paramiko's clients do."""
    talk = session(status(9, 4), status(1, 0))
    talk.remove("/file")


@pytest.mark.parametrize(
    ("code", "error", "number"),
    [
        (1, EndOfFileError, None),
        (2, FileNotFoundError, errno.ENOENT),
        (3, PermissionError, errno.EACCES),
        (4, OSError, 0),
        (8, OSError, 0),
    ],
)
def test_what_a_server_says_no_to_is_an_error_without_its_words(code, error, number) -> None:
    """Errors are as those of our own files; what a server says may hold anything."""
    with pytest.raises(error) as refused:
        session(status(1, code)).remove("/file")
    assert refused.value.errno == number
    assert "words" not in str(refused.value)


def test_the_end_of_a_file_is_an_empty_piece() -> None:
    """Reading from the end on gives nothing."""
    talk = session(status(1, 1))
    assert talk.bytes_read(talk.start_reading(b"h", 100, 5)) == b""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (struct.pack(">I", 0), (None, None, None)),
        (struct.pack(">IQ", 1, 5 << 32), (5 << 32, None, None)),
        (struct.pack(">III", 4, 0o100644, 0)[:8], (None, 0o100644, None)),
        (struct.pack(">IQIIIII", 15, 7, 1, 2, 0o40755, 11, 12), (7, 0o40755, 12)),
        (struct.pack(">III", 0x80000008, 11, 12) + struct.pack(">I", 1) + text(b"a") + text(b"b"), (None, None, 12)),
    ],
)
def test_servers_say_what_they_want_of_a_file(fields, expected) -> None:
    """Whatever a server leaves out or adds is understood as such."""
    assert session(packet(ATTRIBUTES, 1, fields)).stat("/file") == expected


def test_a_folder_is_listed_to_its_end() -> None:
    """Names come in several answers, and those of the folder itself and of the one above are left out."""
    none, size = struct.pack(">II", 0x80000000, 1) + text(b"vendor") + text(b"data"), struct.pack(">IQ", 1, 9)
    talk = session(
        packet(HANDLE, 1, text(b"h")),
        packet(NAMES, 2, struct.pack(">I", 2), text(b"."), text(b""), none, text(b".."), text(b""), none),
        packet(NAMES, 3, struct.pack(">I", 1), text(b"bl\xe5.txt"), text(b"-rw"), size),
        status(4, 1),
        status(5, 0),
    )
    ((name, attributes),) = talk.entries("/folder")
    assert (name.encode(errors="surrogateescape"), attributes.size) == (b"bl\xe5.txt", 9)


def announcing(*limits: int) -> SftpSession:
    """A session with a server that announces limits, and what it answers when it is asked for them."""
    name = b"limits@openssh.com"
    rest = struct.pack(">I", 3) + text(b"other@example") + text(b"2") + text(name) + text(b"1")
    answer = packet(EXTENDED, 1, struct.pack(">QQQQ", *limits)) if limits else status(1, 8)
    return session(answer, version=struct.pack(">IB", len(rest) + 1, 2) + rest)


def test_requests_are_as_large_as_the_server_says() -> None:
    """0 is no limit; a server that says nothing, or takes it back, gets what any server takes."""
    plain = session()
    assert (plain.read_size, plain.write_size) == (PLAIN_SIZE, PLAIN_SIZE)
    refused = announcing()
    assert (refused.read_size, refused.write_size) == (PLAIN_SIZE, PLAIN_SIZE)
    limited = announcing(20_000, 10_000, 9_000, 5)
    assert (limited.read_size, limited.write_size) == (10_000, 9_000)
    free = announcing(0, 0, 0, 0)
    assert min(free.read_size, free.write_size) > 1 << 20


@pytest.mark.parametrize(
    "start",
    [
        lambda: session(version=status(3, 0)),
        lambda: session(version=struct.pack(">IBI", 4, 2, 3)),
        lambda: session(version=b"SSH-2.0 what is this"),
        lambda: session(packet(HANDLE, 1, text(b"h"))).remove("/file"),
        lambda: session(packet(HANDLE, 1, struct.pack(">I", 9), b"short")).open("/file", READ),
        lambda: session(packet(ATTRIBUTES, 1, b"")).stat("/file"),
        lambda: session(status(1, 0)).stat("/file"),
    ],
    ids=[
        "no version",
        "too short",
        "no protocol",
        "another kind",
        "beyond the end",
        "empty",
        "an ok without an answer",
    ],
)
def test_nonsense_is_an_error(start: Callable[[], object]) -> None:
    """A server that does not speak the protocol is found out, whatever it sends."""
    with pytest.raises(SftpError):
        start()


@pytest.mark.parametrize("takes", [0, 1 << 20])
def test_a_channel_that_ends_is_an_error(takes) -> None:
    """Whether it takes no more, or gives no more."""
    talk = session()
    talk._channel = Server(takes=takes)
    with pytest.raises(EOFError):
        talk.remove("/file")
