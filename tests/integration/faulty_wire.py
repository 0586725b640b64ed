"""Stands between us and a server on loopback, and does to connections what networks and busy servers do."""

import socket
import threading
from contextlib import suppress
from typing import Self

_AT_ONCE = 4096


class Wire:
    """Passes bytes on to ``port``; ``up`` and ``down`` count those to the server and from it.

    ``cut_up`` and ``cut_down`` end the next connection after so many bytes, once. ``alone``: a second connection beside
    another is closed at once. ``lingers``: as if the server counted one that has ended for a moment longer, the first
    connection after each end is closed as well. ``refused`` counts those that were closed, ``connections`` the others.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.up = self.down = self.connections = self.refused = 0
        self.cut_up: int | None = None
        self.cut_down: int | None = None
        self.alone = self.lingers = False
        self._open: set[socket.socket] = set()
        self._lingering = False
        self._lock = threading.Condition()
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def wait_until_free(self) -> None:
        """Return when no connection is open any more."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._open, timeout=30)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            ends = list(self._open)
        for end in ends:
            _end(end)
        for thread in self._threads:
            thread.join()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                busy = bool(self._open) if self.alone else False
                lingering, self._lingering = self._lingering and self.lingers, False
                if busy or lingering:
                    self.refused += 1
                    _end(client)
                    client.close()
                    continue
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            done = threading.Barrier(2)
            self._start(self._pump, client, server, "up", done)
            self._start(self._pump, server, client, "down", done)

    def _pump(self, source: socket.socket, target: socket.socket, way: str, done: threading.Barrier) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(_AT_ONCE):
                passed += len(data)
                with self._lock:
                    limit = getattr(self, f"cut_{way}")
                    if cut := limit is not None and passed > limit:
                        setattr(self, f"cut_{way}", None)
                    else:
                        setattr(self, way, getattr(self, way) + len(data))
                if cut:
                    break
                target.sendall(data)
        _end(source)
        _end(target)
        if done.wait() == 0:  # both ways have ended: one of the two closes
            with self._lock:
                self._open -= {source, target}
                self._lingering = True
                self._lock.notify_all()
            source.close()
            target.close()


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
