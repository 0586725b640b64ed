"""The SFTP server that the page for trying by hand starts beside the local stack."""

import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import yaml


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_ending_the_command_ends_the_server(tmp_path, ending):
    """However the command is ended, OpenSSH's server does not outlive it."""
    command = [sys.executable, "-m", "gjeldsbro_local.sftp_server", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = [process.stdout.readline() for _ in range(5)]
        address = urlsplit(yaml.safe_load("".join(printed))["sftp"]["url"])
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            assert connection.recv(4) == b"SSH-"
        process.send_signal(ending)
        assert process.wait(timeout=20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)
