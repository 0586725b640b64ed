"""A small SFTP server in this process: logs in with a password, and does what OpenSSH's cannot be told to."""

import os
import socket
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Self

import paramiko
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class PasswordServer:
    """Serves ``directory`` to one user; ``room`` is the size that a file may have, in bytes.

    With ``renames`` it renames, but never over a file that is there, and not in one step. With ``hides`` it shows
    nothing of what was uploaded: neither in its list, nor whether it is there, nor what is in it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        user: str,
        password: str,
        room: int | None = None,
        renames: bool = False,
        hides: bool = False,
    ) -> None:
        self.directory, self.user, self.password, self.room = directory, user, password, room
        self.renames, self.hides = renames, hides
        text = (
            ed25519.Ed25519PrivateKey.generate()
            .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            .decode()
        )
        self._key = paramiko.Ed25519Key.from_private_key(StringIO(text))
        self.host_key = f"ssh-ed25519 {self._key.get_base64()}"
        self._transports: list[paramiko.Transport] = []

    @property
    def url(self) -> str:
        """Its address, as it stands in a receiver file."""
        return f"sftp://{self.user}@127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for transport in self._transports:
            transport.close()
            transport.sock.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            self._transports.append(transport)
            transport.add_server_key(self._key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, sftp_si=_files(self))
            transport.start_server(server=_Logins(self))


class _Logins(paramiko.ServerInterface):
    def __init__(self, server: PasswordServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (self._server.user, self._server.password)
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED


class _Handle(paramiko.SFTPHandle):
    room: int | None = None

    def write(self, offset: int, data: bytes) -> int:
        if self.room is not None and offset + len(data) > self.room:
            return paramiko.SFTP_FAILURE
        return super().write(offset, data)


def _files(server: PasswordServer) -> type[paramiko.SFTPServerInterface]:  # noqa: C901 - one class
    class Files(paramiko.SFTPServerInterface):
        def _at(self, path: str) -> Path:
            return server.directory / path.lstrip("/")

        def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
            return [
                paramiko.SFTPAttributes.from_stat(entry.stat(), entry.name)
                for entry in self._at(path).iterdir()
                if not self._hidden(entry.name)
            ]

        def _hidden(self, path: str) -> bool:
            return server.hides and not path.endswith((".txt", "/"))

        def stat(self, path: str) -> paramiko.SFTPAttributes | int:
            if self._hidden(path):
                return paramiko.SFTP_NO_SUCH_FILE
            try:
                return paramiko.SFTPAttributes.from_stat(self._at(path).stat())
            except OSError as exc:
                return paramiko.SFTPServer.convert_errno(exc.errno or 0)

        def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
            if self._hidden(path) and not flags & (os.O_WRONLY | os.O_RDWR):
                return paramiko.SFTP_PERMISSION_DENIED
            try:
                descriptor = os.open(self._at(path), flags, 0o600)
            except OSError as exc:
                return paramiko.SFTPServer.convert_errno(exc.errno or 0)
            handle = _Handle(flags)
            handle.room = server.room
            mode = "r+b" if flags & os.O_RDWR else "wb" if flags & os.O_WRONLY else "rb"
            handle.readfile = handle.writefile = os.fdopen(descriptor, mode)
            return handle

        def rename(self, oldpath: str, newpath: str) -> int:
            if not server.renames:
                return paramiko.SFTP_OP_UNSUPPORTED
            if self._at(newpath).exists():
                return paramiko.SFTP_FAILURE
            return self._done(lambda: self._at(oldpath).rename(self._at(newpath)))

        def remove(self, path: str) -> int:
            return self._done(self._at(path).unlink)

        def _done(self, act: Callable[[], object]) -> int:
            try:
                act()
            except OSError as exc:
                return paramiko.SFTPServer.convert_errno(exc.errno or 0)
            return paramiko.SFTP_OK

    return Files
