"""400 MB to a receiver's server and back, against OpenSSH's own client; the server is OpenSSH's, on loopback.

Both clients log in with the same key, read or write a file of this machine, and speak what they prefer.
"""

import atexit
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Row, Work, speed

from gjeldsbro.adapters.receiver_client import connect
from gjeldsbro.adapters.secrets import ReceiverSecret
from gjeldsbro.services.ports import Receiver
from gjeldsbro_local.sftp_server import SftpServer

SIZE = 400_000_000
_PIECE = 256 << 10
_AIMS = (speed(0.9, "seconds"),)

ROWS = (
    Row("400 MB to a receiver", "transfers.upload", "OpenSSH's sftp", "transfers.put", _AIMS, "seconds"),
    Row("400 MB from a receiver", "transfers.download", "OpenSSH's sftp", "transfers.get", _AIMS, "seconds"),
)


def write_data(folder: Path) -> None:
    """Make a file that cannot be packed, as packages are."""
    for name in ("transfer", "package"):
        with (folder / name).open("wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(os.urandom(1_000_000))


def upload(folder: Path) -> Work:
    """Our client's way up, with a delivery's pieces."""
    server = _server(folder)
    receiver, secret = _receiver(server)

    def pieces() -> Iterator[bytes]:
        with (folder / "transfer").open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def work() -> None:
        with connect(receiver, secret) as sftp:
            sftp.write("uploaded", 0, pieces())

    return work


def put(folder: Path) -> Work:
    """OpenSSH's way up."""
    server = _server(folder)
    return lambda: _sftp(server, f"put {folder / 'transfer'} {server.folder / 'uploaded'}")


def download(folder: Path) -> Work:
    """Our client's way down."""
    server = _server(folder)
    receiver, secret = _receiver(server)

    def work() -> None:
        with connect(receiver, secret) as sftp, (folder / "downloaded").open("wb") as file:
            for piece in sftp.read("package", 0, SIZE):
                file.write(piece)

    return work


def get(folder: Path) -> Work:
    """OpenSSH's way down."""
    server = _server(folder)
    return lambda: _sftp(server, f"get {server.folder / 'package'} {folder / 'downloaded'}")


def _server(folder: Path) -> SftpServer:
    server = SftpServer(folder / "sftp").start()
    atexit.register(server.stop)
    if not (server.folder / "package").exists():
        (server.folder / "package").hardlink_to(folder / "package")
    return server


def _receiver(server: SftpServer) -> tuple[Receiver, ReceiverSecret]:
    receiver = Receiver("920013015", "Bank", ("920013015",), server.url, (server.host_key,), "secret")
    return receiver, ReceiverSecret(None, server.private_key_file.read_text(), None)


def _sftp(server: SftpServer, command: str) -> None:
    known = f"StrictHostKeyChecking=no -o UserKnownHostsFile={os.devnull} -o IdentitiesOnly=yes -o LogLevel=ERROR"
    words = f"sftp -F {os.devnull} -b - -P {server.port} -i {server.private_key_file} -o {known}".split()
    address = f"{server.user}@{server.host}"
    subprocess.run([*words, address], input=command, text=True, stdout=subprocess.DEVNULL, check=True)
