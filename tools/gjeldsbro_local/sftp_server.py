"""A real OpenSSH server with SFTP only, on a free loopback port: the receiver's side of the quarterly export.

It runs as the current user, with keys, configuration and folder of its own under one directory, and is ended by whoever
started it. Only a key logs in: passwords would need the system's accounts.
"""

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

START_SECONDS = 10
_POLL_SECONDS = 0.05
_ENDINGS = {signal.SIGTERM, signal.SIGINT}


class SftpServer:
    """The server and what a client needs to know of it; ``folder`` is the receiver's folder on its disk.

    ``sftp_options`` are those of OpenSSH's ``sftp-server``: ``-R`` takes no writes, ``-P rename`` no such request.

    ``start`` raises RuntimeError when OpenSSH's server is not installed or does not start.
    """

    host = "127.0.0.1"

    def __init__(self, directory: Path | str, *, sftp_options: str = "") -> None:
        self.directory = Path(directory).resolve()
        self.sftp_options = sftp_options
        self.folder = self.directory / "exchange"
        self.private_key_file = self.directory / "client_key"
        self.user = getpass.getuser()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The folder's address, as it stands in a receiver file."""
        return f"sftp://{self.user}@{self.host}:{self.port}{self.folder}"

    @property
    def host_key(self) -> str:
        """The server's public key, as it stands in a receiver file."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    def start(self) -> Self:
        """Start the server and wait until it answers; a directory that was used before keeps its keys and files."""
        program = shutil.which(
            "sshd", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
        )
        if program is None:
            raise RuntimeError("OpenSSH's server (package openssh-server) is not installed")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd, as root, wants to put its helper
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_key(self.directory / "host_key")
        self._make_key(self.private_key_file)
        shutil.copyfile(self.private_key_file.with_suffix(".pub"), self.directory / "authorized_keys")
        (self.directory / "authorized_keys").chmod(0o600)
        self.port = self.port or _free_port()
        configuration = self._configure(program)
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(program, configuration),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait()
        return self

    def stop(self) -> None:
        """End the server and its connections."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, program: str, configuration: Path) -> list[str]:
        return [program, "-D", "-e", "-f", str(configuration)]

    def _configure(self, program: str) -> Path:
        """Write the configuration; newer servers are told not to shut out an address whose logins failed."""
        path = self.directory / "sshd_config"
        for extra in ("PerSourcePenalties no", ""):
            path.write_text(self._configuration(extra))
            if subprocess.run([program, "-t", "-f", str(path)], capture_output=True, check=False).returncode == 0:
                break
        return path

    def _configuration(self, extra: str) -> str:
        return "\n".join(
            (
                extra,
                f"ListenAddress {self.host}",
                f"Port {self.port}",
                f"HostKey {self.directory / 'host_key'}",
                f"AuthorizedKeysFile {self.directory / 'authorized_keys'}",
                "PidFile none",
                "UsePAM no",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "StrictModes no",  # the directory may lie under a temporary folder that others can write to
                "AllowTcpForwarding no",
                "X11Forwarding no",
                "MaxStartups 50",
                "Subsystem sftp internal-sftp",
                f"ForceCommand internal-sftp {self.sftp_options}",
                "",
            ),
        )

    def _make_key(self, path: Path) -> None:
        if not path.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gjeldsbro", "-f", str(path)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                with socket.create_connection((self.host, self.port), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(_POLL_SECONDS)
        self.stop()
        raise RuntimeError(f"OpenSSH's server did not start; see {self.directory / 'sshd.log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((SftpServer.host, 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """``python -m gjeldsbro_local.sftp_server DIRECTORY``: run until ended; prints what a receiver file needs."""
    parser = argparse.ArgumentParser(description="A receiver's SFTP server on loopback, until it is interrupted.")
    parser.add_argument("directory", type=Path, help="where its keys, its configuration and its folder are")
    directory = parser.parse_args().directory
    # `kill` means the same as an interrupt: otherwise OpenSSH's server would outlive us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), SftpServer(directory) as server:
        print(
            f"sftp:\n  url: {server.url}\n  hostKeys: [{server.host_key}]\n  privateKeyFile: {server.private_key_file}"
        )
        # Blocked and waited for: one that came between a look and a pause would be lost, and the wait have no end.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        print(f"# The receiver's folder is {server.folder}. Interrupt to end the server.", flush=True)
        signal.sigwait(_ENDINGS)


if __name__ == "__main__":
    main()
