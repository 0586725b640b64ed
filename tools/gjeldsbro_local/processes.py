"""Starts processes that live on after their starter, and ends exactly those later.

A process is known by its id and the time it started: an id alone may belong to somebody else by then. Each is the
leader of a session of its own, so that what it started itself ends with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

END_SECONDS = 3
"""How long a process may take to end by itself; nothing here has anything to save."""
_POLL_SECONDS = 0.05


class Started(NamedTuple):
    """A process that was started here, now or earlier."""

    name: str
    pid: int
    started_at: str

    def running(self) -> bool:
        """Whether this very process still runs."""
        _reap(self.pid)
        return _start_time(self.pid) == self.started_at


def start(name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> Started:
    """Start a process in a session of its own, with its output in ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = 0  # it is ended by its id, perhaps by another process than this one: no warning at collection
    return Started(name, process.pid, _start_time(process.pid) or "")


def end(processes: Sequence[Started]) -> None:
    """End processes, and all that they started, the last one first."""
    for process in reversed(processes):
        if not process.running():
            continue
        for sent in (signal.SIGTERM, signal.SIGKILL):
            _signal_session(process.pid, sent)
            deadline = time.monotonic() + END_SECONDS
            while process.running() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if not process.running():
                break
        # What it started may outlive it for a moment, or ignore the first signal.
        _signal_session(process.pid, signal.SIGKILL)


def remember(processes: Sequence[Started], file: Path) -> None:
    """Write down what runs."""
    file.write_text(json.dumps([process._asdict() for process in processes]))


def recall(file: Path) -> list[Started]:
    """What was written down."""
    return [Started(**process) for process in json.loads(file.read_text())] if file.exists() else []


def _signal_session(pid: int, sent: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, sent)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_time(pid: int) -> str | None:
    """When a process started, in whatever form the system has it; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
        answer = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        state, _, started = answer.stdout.strip().partition(" ")
        return started.strip() if started and not state.startswith("Z") else None
    return None if fields[0] == "Z" else fields[19]
