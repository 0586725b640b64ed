"""The SFTP client against a real OpenSSH server, and against a small server in this process for logins and faults."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests.integration.password_server import PasswordServer

from gjeldsbro.adapters import receiver_client
from gjeldsbro.adapters.receiver_client import Address, connect
from gjeldsbro.adapters.secrets import ReceiverSecret
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
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
        monkeypatch.setattr(sftp._client, "posix_rename", unsupported)
        sftp.replace("new", "old")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("old", "new")]


@pytest.mark.parametrize("which", ["none", "the new one"])
def test_a_server_that_does_not_rename_keeps_the_old_file(receiver, secret, folder, monkeypatch, which):
    """What cannot be replaced is not lost, whether the server renames nothing or just not this."""
    (folder / "new").write_text("new")
    (folder / "old").write_text("old")
    with connect(receiver, secret) as sftp:
        rename = sftp._client.rename

        def refuse(source: str, target: str) -> None:
            if which == "none" or source.endswith("/new"):
                unsupported()
            rename(source, target)

        monkeypatch.setattr(sftp._client, "posix_rename", unsupported)
        monkeypatch.setattr(sftp._client, "rename", refuse)
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
