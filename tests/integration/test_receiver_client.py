"""The SFTP client against a real OpenSSH server, and against a small server in this process for logins and faults."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from paramiko.packet import Packetizer
from tests.integration.password_server import PasswordServer

from gjeldsbro.adapters import receiver_client, sftp_session
from gjeldsbro.adapters.receiver_client import Address, connect
from gjeldsbro.adapters.secrets import ReceiverSecret
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export import deliver
from gjeldsbro.services.ports import Receiver
from gjeldsbro_local.sftp_server import SftpServer


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SftpServer]:
    """A real server for all tests of this file."""
    with SftpServer(tmp_path_factory.mktemp("sftp")) as running:
        yield running


@pytest.fixture
def folder(server) -> Path:
    """The receiver's folder, empty."""
    for file in server.folder.iterdir():
        file.unlink()
    return server.folder


@pytest.fixture
def receiver(server) -> Receiver:
    """The server's receiver."""
    return Receiver("920013015", "Mottakerbanken", ("920013015",), server.url, (server.host_key,), "secret")


@pytest.fixture
def secret(server) -> ReceiverSecret:
    """The key that the server accepts."""
    return ReceiverSecret(None, server.private_key_file.read_text(), None)


def unsupported(*_: str) -> None:
    """What a server says to a request that it does not know."""
    raise OSError("Operation unsupported")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sftp://nogi@sftp.bank.no:2222/debt/exchange/", Address("sftp.bank.no", 2222, "nogi", "/debt/exchange")),
        ("sftp://no%40gi@sftp.bank.no", Address("sftp.bank.no", 22, "no@gi", "/")),
        ("sftp://nogi@[::1]/a%20b", Address("::1", 22, "nogi", "/a b")),
    ],
)
def test_address_of_a_receiver(url, address):
    """The address says host, port (22 unless stated), user and folder."""
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    "url", ["ssh://a@b/c", "sftp://b/c", "sftp://a:p@b/c", "sftp://a@b:port/c", "sftp://a@/c", "x"]
)
def test_wrong_address_is_a_configuration_error(url):
    """An address that lacks something, or holds a password, is ours to mend."""
    with pytest.raises(ConfigurationError):
        Address.parse(url)


def test_files_of_the_folder_are_listed_without_folders(receiver, secret, folder):
    """Only ordinary files are listed, with their size."""
    (folder / "920013015.txt").write_bytes(b"12345")
    (folder / "old").mkdir()
    try:
        with connect(receiver, secret) as sftp:
            assert [(file.name, file.size) for file in sftp.files()] == [("920013015.txt", 5)]
            assert sftp.file("old") is None
            assert sftp.file("none.txt") is None
    finally:
        (folder / "old").rmdir()


@pytest.mark.parametrize("size", [0, 1, 256 << 10, (9 << 20) + 17])
def test_what_is_written_is_read_back(receiver, secret, folder, size):
    """Every byte arrives, also across the read-ahead and the confirmations, whatever the pieces' sizes."""
    content = os.urandom(size)
    pieces = [content[at : at + 700_001] for at in range(0, size, 700_001)]
    with connect(receiver, secret) as sftp:
        assert sftp.write("package", 0, pieces) == size
        assert (folder / "package").read_bytes() == content
        assert b"".join(sftp.read("package", 0, size)) == content
        middle = size // 2
        assert b"".join(sftp.read("package", middle, size)) == content[middle:]


def test_small_requests_are_sent_at_once(receiver, secret, folder):
    """Each request leaves at once: waiting to fill a packet makes uploads ten times slower."""
    with connect(receiver, secret) as sftp:
        assert sftp._transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Strict(SftpServer):
    """A server whose configuration has these lines as well."""

    lines = ""

    def _configuration(self, extra: str) -> str:
        return f"{self.lines}\n{super()._configuration(extra)}"


def of(server: SftpServer) -> tuple[Receiver, ReceiverSecret]:
    """A server's receiver, and the key that it accepts."""
    receiver = Receiver("920013015", "Bank", ("920013015",), server.url, (server.host_key,), "secret")
    return receiver, ReceiverSecret(None, server.private_key_file.read_text(), None)


def test_the_fastest_cipher_comes_first_and_none_is_left_out(receiver, secret, folder):
    """A server that speaks them agrees on AES-GCM; all others that paramiko knows are still offered."""
    with connect(receiver, secret) as sftp:
        transport = sftp._transport
        assert transport.local_cipher == transport.remote_cipher == "aes128-gcm@openssh.com"
        offered = transport.get_security_options().ciphers
        assert sorted(offered) == sorted(paramiko.Transport._preferred_ciphers)


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "aes256-ctr", "aes128-cbc"])
def test_a_server_with_another_cipher(tmp_path, cipher):
    """A server that does not speak what we like best is served as well as the others."""
    strict = Strict(tmp_path)
    strict.lines = f"Ciphers {cipher}"
    with strict as server, connect(*of(server)) as sftp:
        assert sftp._transport.local_cipher == cipher
        content = os.urandom(1 << 20)
        sftp.write("package", 0, [content])
        assert b"".join(sftp.read("package", 0, len(content))) == content


def test_new_keys_in_the_middle_of_a_file(receiver, secret, folder, monkeypatch):
    """The keys of a connection are changed after some bytes; what is on the way then arrives as well."""
    monkeypatch.setattr(Packetizer, "REKEY_BYTES", 1 << 20)
    content, agreed = os.urandom(12 << 20), []
    real = paramiko.Transport._activate_outbound
    monkeypatch.setattr(paramiko.Transport, "_activate_outbound", lambda self: (agreed.append(self), real(self)))
    with connect(receiver, secret) as sftp:
        sftp.write("package", 0, [content])
        written = len(agreed)
        assert b"".join(sftp.read("package", 0, len(content))) == content
    assert written > 3
    assert len(agreed) > written + 3


@pytest.mark.parametrize("options", ["-P limits", ""])
def test_requests_fit_the_server(tmp_path, monkeypatch, options):
    """Large ones to a server that says that it takes them, and the usual ones to others."""
    with SftpServer(tmp_path, sftp_options=options) as server, connect(*of(server)) as sftp:
        asked, send = set(), sftp._session._send
        monkeypatch.setattr(sftp._session, "_send", lambda *sent: (asked.add(sum(map(len, sent[2:]))), send(*sent)))
        content = os.urandom(700_001)
        sftp.write("package", 0, [content[:300_000], content[300_000:]])
        assert b"".join(sftp.read("package", 0, len(content))) == content
        assert b"".join(sftp.read("package", 1, 2 * len(content))) == content[1:]
        largest = sftp_session.PLAIN_SIZE if options else receiver_client._PIECE
        assert largest < max(asked) < largest + 100
        assert max(map(len, sftp.read("package", 0, len(content)))) == largest


def test_a_server_that_gives_less_than_was_asked_for(receiver, secret, folder, monkeypatch):
    """The rest is asked for again: only nothing means the end of a file."""
    content = os.urandom(500_001)
    (folder / "package").write_bytes(content)
    with connect(receiver, secret) as sftp:
        real = sftp._session.start_reading
        monkeypatch.setattr(sftp._session, "start_reading", lambda h, at, size: real(h, at, max(1, size * 2 // 3)))
        assert b"".join(sftp.read("package", 0, len(content))) == content
        assert b"".join(sftp.read("package", 7, 300_000)) == content[7:300_007]


def test_a_server_that_gives_more_than_was_asked_for(receiver, secret, folder, monkeypatch):
    """Nobody knows where such bytes stand in the file: nothing of them is taken."""
    (folder / "package").write_bytes(os.urandom(500_001))
    with connect(receiver, secret) as sftp:
        real = sftp._session.start_reading
        monkeypatch.setattr(sftp._session, "start_reading", lambda h, at, size: real(h, at, size + 1))
        with pytest.raises(ReceiverUnavailableError, match="SftpError"):
            list(sftp.read("package", 0, 1000))


def test_reading_asks_ahead_and_not_too_far(receiver, secret, folder, monkeypatch):
    """A distant server is never waited for with nothing asked, and memory stays flat."""
    content = os.urandom(5 << 20)
    (folder / "package").write_bytes(content)
    with connect(receiver, secret) as sftp:
        session, under_way, most = sftp._session, set(), 0
        start, read = session.start_reading, session.bytes_read

        def counted_start(handle: bytes, offset: int, size: int) -> int:
            nonlocal most
            under_way.add(number := start(handle, offset, size))
            most = max(most, len(under_way))
            return number

        def counted_read(number: int) -> bytes:
            under_way.remove(number)
            return read(number)

        monkeypatch.setattr(session, "start_reading", counted_start)
        monkeypatch.setattr(session, "bytes_read", counted_read)
        assert b"".join(sftp.read("package", 0, len(content))) == content
    assert most == receiver_client._READ_AHEAD // receiver_client._PIECE


def test_a_file_that_is_left_does_not_disturb_what_follows(receiver, secret, folder):
    """What was asked ahead of a file that nobody reads on is not taken for other answers."""
    content = os.urandom(5 << 20)
    (folder / "package").write_bytes(content)
    with connect(receiver, secret) as sftp:
        for _ in range(3):
            pieces = sftp.read("package", 0, len(content))
            assert content.startswith(next(pieces))
            pieces.close()
        assert [file.size for file in sftp.files()] == [len(content)]
        with pytest.raises(ZeroDivisionError):
            sftp.write("other", 0, (content[: 1 << 20] for number in (1, 0) if 1 / number))
        assert b"".join(sftp.read("package", 0, len(content))) == content


def unconfirmed(session: sftp_session.SftpSession, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were unconfirmed each time that some were sent; filled while ``session`` writes."""
    found, under_way = [], {}
    start, confirm = session.start_writing, session.confirm

    def counted_start(handle: bytes, offset: int, data: bytes) -> int:
        number = start(handle, offset, data)
        under_way[number] = len(data)
        found.append(sum(under_way.values()))
        return number

    def counted_confirm(number: int) -> None:
        confirm(number)
        del under_way[number]

    monkeypatch.setattr(session, "start_writing", counted_start)
    monkeypatch.setattr(session, "confirm", counted_confirm)
    return found


def test_no_more_than_is_sent_again_is_ever_unconfirmed(receiver, secret, folder, monkeypatch):
    """However large a file is: what a delivery sends again after an interruption covers what was not confirmed."""
    with connect(receiver, secret) as sftp:
        found = unconfirmed(sftp._session, monkeypatch)
        sftp.write("package", 0, [os.urandom(24 << 20)])
    assert 1 << 20 < max(found) <= receiver_client._MOST_UNCONFIRMED + receiver_client._PIECE < deliver._REWIND


def test_a_server_that_becomes_slow_gets_less_at_a_time(receiver, secret, folder, monkeypatch):
    """What is under way shrinks again when confirmations take long, so that the last one never takes long."""
    with connect(receiver, secret) as sftp:
        found = unconfirmed(sftp._session, monkeypatch)
        slow_from = 12 << 20
        monkeypatch.setattr(
            receiver_client, "monotonic", lambda: max(0, len(found) * receiver_client._PIECE - slow_from)
        )
        sftp.write("package", 0, [os.urandom(32 << 20)])
    assert max(found) > 1 << 20
    assert max(found[-8:]) <= 2 * receiver_client._PIECE


def test_a_refusal_to_close_what_was_written_is_one_of_the_upload(receiver, secret, folder, monkeypatch):
    """Some servers notice as late as that that their disk is full."""
    with connect(receiver, secret) as sftp:
        monkeypatch.setattr(sftp._session, "close", unsupported)
        with pytest.raises(ReceiverRefusedError) as refused:
            sftp.write("package", 0, [b"content"])
    assert refused.value.code == "WRITE"


def test_large_packets_are_for_servers_that_know_them(receiver, secret, folder, tmp_path):
    """OpenSSH's says who it is; all others get the packets that every server must know."""
    with connect(receiver, secret) as sftp:
        assert sftp._session._channel.in_max_packet_size == 128 << 10
    with PasswordServer(tmp_path, user="nogi", password="correct") as running:
        other = Receiver("920013015", "Bank", ("920013015",), running.url, (running.host_key,), "secret")
        with connect(other, ReceiverSecret("correct", None, None)) as sftp:
            assert sftp._session._channel.in_max_packet_size == 32 << 10


def test_write_resumes_at_a_byte(receiver, secret, folder):
    """Writing from a byte on keeps what stands before it and replaces what stands after."""
    (folder / "package").write_bytes(b"0123456789")
    with connect(receiver, secret) as sftp:
        assert sftp.write("package", 4, [b"abc", b"defgh"]) == 12
    assert (folder / "package").read_bytes() == b"0123abcdefgh"


def test_replace_puts_a_file_in_place_of_another(receiver, secret, folder):
    """A rename over an existing file, which OpenSSH refuses in its plain form, replaces it."""
    (folder / "new").write_text("new")
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp:
        sftp.replace("new", "old")
        assert [file.name for file in sftp.files()] == ["old"]
    assert (folder / "old").read_text() == "new"


def test_replace_without_openssh_extension_puts_the_old_file_aside(receiver, secret, folder, monkeypatch):
    """Where posix-rename is not offered and a plain rename does not replace, the old file first gets another name."""
    (folder / "new").write_text("new")
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp:
        monkeypatch.setattr(sftp._session, "posix_rename", unsupported)
        sftp.replace("new", "old")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("old", "new")]


@pytest.mark.parametrize("which", ["none", "the new one"])
def test_a_server_that_does_not_rename_keeps_the_old_file(receiver, secret, folder, monkeypatch, which):
    """What cannot be replaced is not lost, whether the server renames nothing or just not this."""
    (folder / "new").write_text("new")
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp:
        rename = sftp._session.rename

        def refuse(source: str, target: str) -> None:
            if which == "none" or source.endswith("/new"):
                unsupported()
            rename(source, target)

        monkeypatch.setattr(sftp._session, "posix_rename", unsupported)
        monkeypatch.setattr(sftp._session, "rename", refuse)
        with pytest.raises(ReceiverRefusedError) as refused:
            sftp.replace("new", "old")
    assert refused.value.code == "RENAME"
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"new": "new", "old": "old"}


def test_replace_of_a_missing_file_leaves_the_old_one(receiver, secret, folder):
    """When there is nothing to rename, the file in its place stays."""
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp, pytest.raises(ReceiverRefusedError) as refused:
        sftp.replace("new", "old")
    assert refused.value.code == "RENAME"
    assert (folder / "old").read_text() == "old"


def test_remove_of_a_missing_file_is_no_error(receiver, secret, folder):
    """Removing twice is as good as once."""
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp:
        sftp.remove("old")
        sftp.remove("old")
    assert list(folder.iterdir()) == []


def test_another_host_key_is_refused_before_the_login(receiver, secret, folder):
    """A server with a key that was not pinned is refused; nothing was sent to it but the handshake."""
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    pinned = other.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    with pytest.raises(ReceiverRefusedError) as refused, connect(replace(receiver, host_keys=(pinned,)), secret):
        pass
    assert refused.value.code == "HOST_KEY"


def test_a_second_pinned_key_is_accepted(receiver, secret, folder):
    """Several keys may be pinned, so that a server can change its own."""
    other = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== old"
    with connect(replace(receiver, host_keys=(other, receiver.host_keys[0] + " new")), secret) as sftp:
        assert sftp.files() == []


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not-base64!"])
def test_a_malformed_pinned_key_is_a_configuration_error(receiver, secret, line):
    """A pinned key that is not 'type base64' is ours to mend."""
    with pytest.raises(ConfigurationError), connect(replace(receiver, host_keys=(line,)), secret):
        pass


def test_an_unknown_key_is_refused_at_login(receiver, folder):
    """A server that does not know our key says so: LOGIN."""
    stranger = ed25519.Ed25519PrivateKey.generate()
    text = stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ReceiverRefusedError) as refused, connect(receiver, ReceiverSecret(None, text, None)):
        pass
    assert refused.value.code == "LOGIN"


def test_a_missing_folder_is_refused(receiver, secret):
    """A folder that is not there is the receiver's to mend: FOLDER."""
    with pytest.raises(ReceiverRefusedError) as refused, connect(replace(receiver, url=receiver.url + "/none"), secret):
        pass
    assert refused.value.code == "FOLDER"


def test_a_server_that_is_not_there_is_unavailable(receiver, secret):
    """A connection that nobody accepts is worth another try."""
    url = receiver.url.replace(f":{Address.parse(receiver.url).port}/", ":1/")
    with pytest.raises(ReceiverUnavailableError), connect(replace(receiver, url=url), secret):
        pass


def test_a_connection_lost_while_writing_is_unavailable(receiver, secret, folder):
    """A connection that breaks in the middle of a file is worth another try."""
    with connect(receiver, secret) as sftp:

        def pieces():
            yield b"x" * 1000
            sftp._transport.sock.shutdown(2)
            for _ in range(100):
                yield b"x" * (1 << 20)

        with pytest.raises(ReceiverUnavailableError):
            sftp.write("package", 0, pieces())


def test_errors_never_name_the_receivers_files(receiver, secret, folder):
    """What a server says about a file is not repeated: file names may hold anything."""
    with connect(receiver, secret) as sftp, pytest.raises(ReceiverRefusedError) as refused:
        list(sftp.read("17912099997.txt", 0, 10))
    assert "17912099997" not in str(refused.value)


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
@pytest.mark.parametrize(
    "make",
    [
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "ecdsa", "rsa"],
)
def test_private_keys_in_every_common_form(make, form, passphrase):
    """OpenSSH and PEM, with and without a passphrase, all kinds that SSH uses."""
    key = make()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    text = key.private_bytes(Encoding.PEM, form, encryption).decode()
    loaded = receiver_client._private_key(text, passphrase)
    assert loaded.can_sign()
    if passphrase:
        with pytest.raises(ConfigurationError):
            receiver_client._private_key(text, "wrong")
        with pytest.raises(ConfigurationError):
            receiver_client._private_key(text, None)


def test_login_with_a_password(tmp_path):
    """A receiver may give us a password instead of taking our key."""
    with PasswordServer(tmp_path, user="nogi", password="correct") as running:
        receiver = Receiver("920013015", "Bank", ("920013015",), running.url, (running.host_key,), "secret")
        with connect(receiver, ReceiverSecret("correct", None, None)) as sftp:
            assert sftp.files() == []
        with pytest.raises(ReceiverRefusedError) as refused, connect(receiver, ReceiverSecret("wrong", None, None)):
            pass
    assert refused.value.code == "LOGIN"


def test_a_full_disk_is_refused_and_not_reported_as_written(tmp_path):
    """A server that stops taking data is the receiver's to mend: WRITE."""
    with PasswordServer(tmp_path, user="nogi", password="correct", room=5 << 20) as running:
        receiver = Receiver("920013015", "Bank", ("920013015",), running.url, (running.host_key,), "secret")
        with (
            connect(receiver, ReceiverSecret("correct", None, None)) as sftp,
            pytest.raises(ReceiverRefusedError) as refused,
        ):
            sftp.write("package", 0, [b"x" * (1 << 20)] * 6)
    assert refused.value.code == "WRITE"


def test_a_server_that_says_nothing_is_unavailable(receiver, secret, monkeypatch):
    """A server that accepts the connection and then keeps silent does not hold us up for long."""
    monkeypatch.setattr(receiver_client, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"sftp://nogi@127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(ReceiverUnavailableError), connect(replace(receiver, url=url), secret):
            pass
    assert all(not thread.is_alive() for thread in threading.enumerate() if "paramiko" in thread.name)
