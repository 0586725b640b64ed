"""Functions in the real Lambda runtime, with fakes behind them: AWS's interface emulator and runtime client.

A function sees its own built code, its own layers and the runtime's boto3, as in ``tests.e2e.lambda_runtime``; its
process is that of AWS too, one invocation at a time.
"""

import contextlib
import http.client
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.e2e.lambda_runtime import RIE

from gjeldsbro_local import processes
from gjeldsbro_local.stack import free_port

_INIT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")
_START_SECONDS = 30
_INVOCATION_SECONDS = 60


class Code(NamedTuple):
    """What a function is made of."""

    handler: str
    folder: Path
    layers: tuple[Path, ...]


class Process:
    """One process of a function: a context manager."""

    def __init__(self, code: Code, environment: dict[str, str], runtime: Path, log: Path) -> None:
        self._port = free_port()
        self._log = log
        log.write_bytes(b"")
        command = [
            str(RIE),
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{self._port}",
            "--runtime-api-address",
            f"127.0.0.1:{free_port()}",
            *(sys.executable, "-S", "-m", "awslambdaric", code.handler),
        ]
        own = {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join(map(str, (code.folder, *code.layers, runtime))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(code.folder),
            "AWS_LAMBDA_FUNCTION_NAME": code.handler.partition(".")[0],
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(_INVOCATION_SECONDS),
        }
        self._process = processes.start(code.handler, command, environment | own, code.folder, log)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
                return
            if time.monotonic() > deadline:
                raise TimeoutError("the emulator did not start")
            time.sleep(0.002)

    def invoke(self, event: bytes) -> tuple[float, dict[str, Any]]:
        """Seconds that the answer took, and the answer. The first invocation starts the function's own process."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_INVOCATION_SECONDS)
        connection.request("POST", "/2015-03-31/functions/function/invocations", body=event)
        content = connection.getresponse().read()
        seconds = time.perf_counter() - began
        connection.close()
        return seconds, json.loads(content)

    def init_seconds(self) -> float:
        """How long the INIT phase took: from the start of the process until it asked for the first event."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            found = _INIT.search(self._log.read_text(errors="replace"))
            if found is not None:
                return float(found[1]) / 1000
            time.sleep(0.01)
        raise TimeoutError(self._log.read_text(errors="replace")[-2000:])

    def cpu_seconds(self) -> float:
        """The processor's time that the function's own process has taken, the emulator's left out."""
        own, ticks = str(self._process.pid), 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if fields[3] == own and stat.parent.name != own:  # of the same session
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End the process."""
        processes.end([self._process])
