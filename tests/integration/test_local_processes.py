"""Processes that outlive their starter, and end exactly when they are told to."""

import os
import sys
import time

from gjeldsbro_local import processes

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid,"
    " flush=True); time.sleep(60)",
]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


def wait_for(log) -> str:
    """The first line that a process writes."""
    deadline = time.monotonic() + 20
    while not (text := log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return text


def exists(pid: int) -> bool:
    """Whether a process is there and not just waiting to be collected."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_process_is_ended_by_whoever_recalls_it(tmp_path) -> None:
    """What one command started, the next one ends: `make up` and `make down` are two processes."""
    started = processes.start("sleeper", SLEEPER, os.environ, tmp_path, tmp_path / "log")
    processes.remember([started], tmp_path / "processes.json")
    (recalled,) = processes.recall(tmp_path / "processes.json")
    assert recalled.running()
    processes.end([recalled])
    assert not recalled.running()
    assert not exists(started.pid)


def test_another_process_with_the_same_id_is_left_alone(tmp_path) -> None:
    """An id that belongs to somebody else by now is not ours: the start time says so."""
    started = processes.start("sleeper", SLEEPER, os.environ, tmp_path, tmp_path / "log")
    try:
        stale = started._replace(started_at="1")
        assert not stale.running()
        processes.end([stale])
        assert started.running()
    finally:
        processes.end([started])


def test_what_a_process_started_ends_with_it(tmp_path) -> None:
    """Workers of a server do not stay behind."""
    log = tmp_path / "log"
    started = processes.start("parent", PARENT, os.environ, tmp_path, log)
    child = int(wait_for(log))
    processes.end([started])
    deadline = time.monotonic() + 10
    while exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_does_not_end_is_ended(tmp_path) -> None:
    """A process that ignores the polite signal gets the other one."""
    log = tmp_path / "log"
    started = processes.start("stubborn", STUBBORN, os.environ, tmp_path, log)
    wait_for(log)
    processes.end([started])
    assert not started.running()


def test_nothing_is_recalled_where_nothing_was_started(tmp_path) -> None:
    """`make down` on a fresh clone has nothing to do."""
    assert processes.recall(tmp_path / "processes.json") == []
