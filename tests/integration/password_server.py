"""A small SFTP server in this process: logs in with a password, and may run out of room."""

import os
import socket
import threading
from io import StringIO
from pathlib import Path
from typing import Self

import paramiko
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class PasswordServer:
    """Serves ``directory`` to one user; ``room`` is the size that a file may have, in bytes."""

    def __init__(self, directory: Path, *, user: str, password: str, room: int | None = None) -> None:
        self.directory, self.user, self.password, self.room = directory, user, password, room
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


def _files(server: PasswordServer) -> type[paramiko.SFTPServerInterface]:
    class Files(paramiko.SFTPServerInterface):
        def _at(self, path: str) -> Path:
            return server.directory / path.lstrip("/")

        def list_folder(self, path: str) -> list[paramiko.SFTPAttributes]:
            return [paramiko.SFTPAttributes.from_stat(entry.stat(), entry.name) for entry in self._at(path).iterdir()]

        def stat(self, path: str) -> paramiko.SFTPAttributes | int:
            try:
                return paramiko.SFTPAttributes.from_stat(self._at(path).stat())
            except OSError as exc:
                return paramiko.SFTPServer.convert_errno(exc.errno or 0)

        def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
            try:
                descriptor = os.open(self._at(path), flags, 0o600)
            except OSError as exc:
                return paramiko.SFTPServer.convert_errno(exc.errno or 0)
            handle = _Handle(flags)
            handle.room = server.room
            handle.readfile = handle.writefile = os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "wb")
            return handle

    return Files
