"""The SFTP server that the page for trying by hand starts beside the local stack."""

import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import yaml


def test_ending_the_command_ends_the_server(tmp_path):
    """When the command is ended, OpenSSH's server does not outlive it."""
    command = [sys.executable, "-m", "gjeldsbro_local.sftp_server", str(tmp_path)]
    # SIGTERM, as `kill` sends it: SIGINT is ignored by whatever a shell script runs in the background.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        printed = [process.stdout.readline() for _ in range(5)]
        address = urlsplit(yaml.safe_load("".join(printed))["sftp"]["url"])
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            assert connection.recv(4) == b"SSH-"
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)
