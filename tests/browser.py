"""A headless Chromium for the tests of pages, driven over a pair of pipes: no port, no network, no driver."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser of this machine, if it has one."""


class Browser:
    """A page in a browser that is already running. ``events`` are what it reported meanwhile."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._last = 0
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self, url: str, *, width: int, height: int = 900) -> None:
        """Show an address in a window of this size, and wait until it is there with all that belongs to it."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        mobile = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.ask("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """The value of an expression in the page's script."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to a command of its DevTools protocol."""
        self._last += 1
        command = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._writer, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._reader, 1 << 16)
            assert chunk, "the browser ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; it is ended, and a command that hangs ends it too."""
    assert CHROMIUM is not None
    their_input, ours_out = os.pipe()
    ours_in, their_output = os.pipe()
    arguments = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",  # tests may run as root in a container, where Chromium has none
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--proxy-server=127.0.0.1:9",  # whatever it still wanted from the network it does not get
        f"--user-data-dir={directory}",
        "--remote-debugging-pipe",
    ]
    nothing = os.open(os.devnull, os.O_RDWR)
    files = [(os.POSIX_SPAWN_DUP2, fd, as_fd) for fd, as_fd in ((nothing, 1), (nothing, 2))]
    # First out of the way of 3 and 4, then there: one of the pipes may have either number.
    high = [(os.POSIX_SPAWN_DUP2, their_input, 1003), (os.POSIX_SPAWN_DUP2, their_output, 1004)]
    low = [(os.POSIX_SPAWN_DUP2, 1003, 3), (os.POSIX_SPAWN_DUP2, 1004, 4)]
    closed = [(os.POSIX_SPAWN_CLOSE, 1003), (os.POSIX_SPAWN_CLOSE, 1004)]
    process = os.posix_spawn(
        CHROMIUM,
        arguments,
        {**os.environ, "HOME": str(directory)},
        file_actions=[*files, *high, *low, *closed],
        setpgroup=0,
    )
    for fd in (their_input, their_output, nothing):
        os.close(fd)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
