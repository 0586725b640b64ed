"""The local stack as a whole: started, described in its stack file, and ended."""

import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config

from gjeldsbro_local import deployment, processes
from gjeldsbro_local.certificates import Authority, Files

ROOT = deployment.ROOT
REGION = deployment.REGION
DIRECTORY = ROOT / ".local"
STACK = "gjeldsbro-local"
_MINISTACK = ROOT / ".tools" / "ministack" / "bin" / "python"
_LAUNCHER = Path(__file__).with_name("ministack_launcher.py")
_START_SECONDS = 60
_POLL_SECONDS = 0.1

type Report = Callable[[str], None]


class StackError(RuntimeError):
    """The local stack cannot be started, or is not there; the message says what to do."""


class LocalStack:
    """A local stack in a directory of its own: ``with LocalStack(directory) as stack: ...`` or start() and stop().

    Once it is started, or opened, its attributes are those of the stack file (docs: contract, local stack file).
    """

    endpoint_url: str
    outputs: dict[str, str]
    gateway_url: str

    def __init__(self, directory: Path = DIRECTORY, *, report: Report | None = None) -> None:
        self.directory = directory.resolve()
        self.name = STACK
        self.region = REGION
        self.stack_file = self.directory / "stack.json"
        self.gateway_ca_file = self.directory / "certificates" / "gateway-ca.pem"
        self.client_ca_files = Files(
            self.directory / "certificates" / "client-ca.pem",
            self.directory / "certificates" / "client-ca.key",
        )
        self._process_file = self.directory / "processes.json"
        self._processes: list[processes.Started] = []
        self._temporary = self.directory / "tmp"
        self._report = report or (lambda _: None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @classmethod
    def opened(cls, directory: Path = DIRECTORY) -> Self:
        """The stack that runs in a directory; StackError when none does."""
        stack = cls(directory)
        if not stack.running:
            raise StackError("the local stack does not run: start it with `make up`")
        stack._read_stack_file()
        return stack

    @property
    def running(self) -> bool:
        """Whether all of it runs."""
        started = processes.recall(self._process_file)
        return self.stack_file.exists() and bool(started) and all(process.running() for process in started)

    @property
    def logs(self) -> list[Path]:
        """The logs of the stack's own processes."""
        return sorted(self.directory.glob("*.log"))

    def start(self, parameters: Mapping[str, str] | None = None) -> None:
        """Start everything and deploy; ``parameters`` are the template's, beside those of samconfig.toml.

        Returns when the stack is ready. Ends what it had started when something fails.
        """
        if self.running:
            raise StackError(f"the local stack in {self.directory} runs already")
        self.stop()  # what a start that was interrupted left behind
        self.directory.mkdir(parents=True, exist_ok=True)
        for log in self.logs:
            log.unlink()
        self._temporary.mkdir()
        try:
            self._make_certificates()
            self._start_ministack()
            with deployment.exclusive():
                self._report("building layers and functions")
                deployment.build(self.directory / "sam-build.log")
                self._report("deploying template.yaml")
                log = self.directory / "sam-deploy.log"
                self.outputs = deployment.deploy(self.endpoint_url, self.name, log, parameters or {})
            self._start_gateway()
            self._write_stack_file()
        except BaseException:
            self.stop()
            raise
        self._report(f"ready: {self.gateway_url}")

    def stop(self) -> bool:
        """End exactly what start() started, in whatever process that was; False when nothing ran."""
        started = [process for process in processes.recall(self._process_file) if process.running()]
        processes.end(started)
        self._process_file.unlink(missing_ok=True)
        self.stack_file.unlink(missing_ok=True)
        self._processes = []
        shutil.rmtree(self._temporary, ignore_errors=True)
        return bool(started)

    def client(self, service: str) -> Any:
        """A boto3 client that may do anything in the stack."""
        session = boto3.Session(region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test")  # noqa: S106  # ministack's
        config = Config(proxies={}, read_timeout=900, retries={"total_max_attempts": 2}, max_pool_connections=32)
        return session.client(service, endpoint_url=self.endpoint_url, config=config)  # type: ignore[call-overload]  # any service

    @property
    def client_ca(self) -> Authority:
        """The authority whose client certificates the gateway lets in."""
        return Authority.load(self.client_ca_files)

    def resources(self) -> dict[str, str]:
        """The physical ids of the stack's resources by logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.name)
        return {
            resource["LogicalResourceId"]: resource["PhysicalResourceId"]
            for page in pages
            for resource in page["StackResourceSummaries"]
        }

    def _make_certificates(self) -> None:
        certificates = self.directory / "certificates"
        gateway_ca = Authority.create("gjeldsbro local gateway")
        gateway_ca.write(certificates, "gateway-ca")
        gateway_ca.issue_server().write(certificates, "gateway")
        Authority.create("gjeldsbro local enterprise certificates").write(certificates, "client-ca")

    def _start_ministack(self) -> None:
        if not _MINISTACK.exists():
            raise StackError("ministack is not installed: run `make setup`")
        port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{port}"
        log = self.directory / "ministack.log"
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._temporary),
            "TMPDIR": str(self._temporary),
            "LANG": "C.UTF-8",
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "AUTH": "true",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            # It would tidy up containers of its own in a Docker that it finds; there are none of ours.
            "DOCKER_HOST": f"unix://{self._temporary}/no-docker.sock",
        }
        self._report("starting ministack")
        started = self._start("ministack", [str(_MINISTACK), str(_LAUNCHER)], environment, log)
        self._wait_for(started, log, lambda: _answers(f"{self.endpoint_url}/_ministack/ready"))

    def _start_gateway(self) -> None:
        certificates = self.directory / "certificates"
        url_file = self._temporary / "gateway-url"
        log = self.directory / "gateway.log"
        command = [sys.executable, "-m", "gjeldsbro_local.gateway", "--endpoint-url", self.endpoint_url]
        command += ["--region", REGION, "--stack", self.name, "--url-file", str(url_file)]
        command += ["--cert-file", str(certificates / "gateway.pem"), "--key-file", str(certificates / "gateway.key")]
        command += ["--client-ca", str(self.client_ca_files.cert_file)]
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT / "tools")}
        started = self._start("gateway", command, environment, log)
        self._wait_for(started, log, lambda: url_file.exists() and url_file.read_text() != "")
        self.gateway_url = url_file.read_text()

    def _start(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> processes.Started:
        started = processes.start(name, command, environment, self._temporary, log)
        self._processes.append(started)
        processes.remember(self._processes, self._process_file)
        return started

    def _wait_for(self, process: processes.Started, log: Path, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            if not process.running() or time.monotonic() > deadline:
                said = "\n".join(log.read_text().splitlines()[-10:])
                raise StackError(f"{process.name} did not start, see {log}:\n{said}")
            time.sleep(_POLL_SECONDS)

    def _write_stack_file(self) -> None:
        description = {
            "endpointUrl": self.endpoint_url,
            "region": REGION,
            "stackName": self.name,
            "outputs": self.outputs,
            "gateway": {"url": self.gateway_url, "caFile": str(self.gateway_ca_file)},
            "clientCa": {
                "certFile": str(self.client_ca_files.cert_file),
                "keyFile": str(self.client_ca_files.key_file),
            },
        }
        written = self.stack_file.with_suffix(".new")
        written.write_text(json.dumps(description, indent=2) + "\n")
        written.replace(self.stack_file)

    def _read_stack_file(self) -> None:
        description = json.loads(self.stack_file.read_text())
        self.endpoint_url = description["endpointUrl"]
        self.outputs = description["outputs"]
        self.gateway_url = description["gateway"]["url"]


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
