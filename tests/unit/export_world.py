"""The outside of the quarterly export, in memory: the bucket, the PartnerTable and a folder that may fail."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DeliveryBusyError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.pages import page
from gjeldsbro.services.export.ports import RemoteFile
from gjeldsbro.services.ports import Receiver
from gjeldsbro.services.reports.ports import Press

NOW = datetime(2026, 10, 1, 4, 0, 12, tzinfo=UTC)
RUN = "export-2026-10-01"
RECEIVER = "920013015"
OTHER = "985815534"


class MemoryStore:
    """The data bucket."""

    bucket = "bucket"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key, data, content_type=""):
        """Store an object."""
        self.objects[key] = bytes(data)

    def put_json(self, key, value):
        """Store a JSON document."""
        self.objects[key] = json.dumps(value).encode()

    def get(self, key):
        """An object."""
        return self.objects[key]

    def get_json(self, key):
        """A JSON document."""
        return json.loads(self.objects[key])

    def open(self, key, *, start=0, chunk=1 << 20):
        """An object in pieces."""
        data = self.objects[key]
        for at in range(start, len(data), chunk):
            yield data[at : at + chunk]

    def keys(self, prefix):
        """Keys under a prefix."""
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, keys):
        """Delete objects."""
        return sum(self.objects.pop(key, None) is not None for key in keys)

    def delete_prefix(self, prefix):
        """Delete what is under a prefix."""
        return self.delete(list(self.keys(prefix)))

    @contextmanager
    def writer(self, key):
        """Write an object in pieces."""
        data = bytearray()

        class Pieces:
            write = staticmethod(data.extend)

        yield Pieces()
        self.objects[key] = bytes(data)


class MemoryPartners:
    """The PartnerTable."""

    def __init__(self, *receivers: Receiver) -> None:
        self._receivers = {receiver.receiver: receiver for receiver in receivers}
        self._outcomes: dict[str, dict[str, dict[str, Any]]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.made: dict[tuple[str, str, str], dict[str, Any]] = {}

    def receiver(self, receiver):
        """One receiver."""
        return self._receivers.get(receiver)

    def receivers(self):
        """All receivers."""
        return list(self._receivers.values())

    def put_outcome(self, run, subject, outcome, now):
        """Store an outcome."""
        self._outcomes.setdefault(run, {})[subject] = outcome

    def outcomes(self, run):
        """The outcomes."""
        return dict(self._outcomes.get(run, {}))

    def put_run(self, flow, run, values, now):
        """Store a run."""
        self.runs[run] = values

    def run(self, flow, run):
        """A run."""
        return self.runs.get(run)

    def delivery(self, *key):
        """A delivery."""
        return self.made.get(key)

    def deliveries(self, quarter):
        """The deliveries of a quarter."""
        return {f"{key[0]}#{key[1]}": delivery for key, delivery in self.made.items() if key[2] == quarter}

    def claim_delivery(self, *key_run_now, again):
        """Claim a delivery, as the table does."""
        *key, run, now = key_run_now
        held = self.made.get(tuple(key), {})
        by_us = (held.get("run"), held.get("state")) == (run, "delivered")
        if held.get("deliveredAt") is not None and (by_us or not again):
            return None
        publishing = held.get("publishing")
        if publishing and publishing["run"] != run and publishing["until"] >= from_datetime(now):
            raise DeliveryBusyError("another run is just giving its package the name")
        self.made[tuple(key)] = {**held, "state": "delivering", "run": run}
        return self.made[tuple(key)]

    def start_publishing(self, *key_run_publishing):
        """Announce a renaming, as the table does."""
        *key, run, publishing = key_run_publishing
        held = self.made.get(tuple(key), {})
        if (held.get("run"), held.get("state")) != (run, "delivering"):
            return False
        announced = held.get("publishing")
        if announced and announced["run"] == run and announced["sha256"] != publishing["sha256"]:
            return False
        self.made[tuple(key)] = {**held, "publishing": publishing}
        return True

    def update_delivery(self, *key_run_values):
        """Replace a delivery, as the table does."""
        *key, run, values = key_run_values
        if self.made.get(tuple(key), {}).get("run") != run:
            return False
        self.made[tuple(key)] = {"run": run, **{name: v for name, v in values.items() if v is not None}}
        return True


class MemoryFolder:
    """A receiver's folder.

    Faults: ``refuse`` (codes), ``lose_after`` (bytes written), ``hidden``, ``secretive``, ``spoil``.
    """

    path = "/debt/exchange"

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.changed: dict[str, int] = {}
        self.refuse: set[str] = set()
        self.lose_after: int | None = None
        self.hidden = False
        self.secretive = False
        self.spoil = 0
        self.written = 0
        self.connections = 0
        self.connect_error: Exception | None = None
        self.history: list[tuple[str, ...]] = []

    @contextmanager
    def connect(self, receiver):
        """A connection to it."""
        self.connections += 1
        if self.connect_error is not None:
            raise self.connect_error
        yield self

    def files(self):
        """All files."""
        return [RemoteFile(name, len(data), self.changed.get(name, 0)) for name, data in sorted(self.content.items())]

    def file(self, name):
        """One file."""
        if name.endswith((".part", ".gzip")):
            if self.secretive:
                raise ReceiverRefusedError("READ", "permission denied")
            if self.hidden:
                return None
        return next((file for file in self.files() if file.name == name), None)

    def read(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Some bytes of a file."""
        self._may("READ")
        if name not in self.content:
            raise ReceiverRefusedError("READ", "no such file or folder")
        data = self.content[name][start : start + size]
        for at in range(0, len(data), 1000):
            yield data[at : at + 1000]

    def write(self, name: str, start: int, pieces: Iterable[bytes]) -> int:
        """Write from a byte on."""
        self._may("WRITE")
        self.history.append(("write", name, str(start)))
        if start and name not in self.content:
            raise ReceiverRefusedError("WRITE", "no such file or folder")
        data = bytearray(self.content.get(name, b"")[:start] if start else b"")
        for piece in pieces:
            data += piece
            self.written += len(piece)
            self.content[name] = bytes(data)
            if self.lose_after is not None and self.written >= self.lose_after:
                self.lose_after = None
                raise ReceiverUnavailableError("the connection was lost")
        self.content[name] = bytes(data)
        if self.spoil and data and name.endswith(".part") and ".gzip." in name:
            self.spoil -= 1
            self.content[name] = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        return len(data)

    def replace(self, source: str, target: str) -> None:
        """Rename."""
        self._may("RENAME")
        if source not in self.content:
            raise ReceiverRefusedError("RENAME", "no such file or folder")
        self.history.append(("replace", source, target))
        self.content[target] = self.content.pop(source)

    def remove(self, name: str) -> None:
        """Remove."""
        self.content.pop(name, None)

    def _may(self, code: str) -> None:
        if code in self.refuse:
            raise ReceiverRefusedError(code, "permission denied")


def press() -> Press:
    """Makes reports into a bucket of their own."""
    return Press(MemoryStore(), page, "gjeldsbro")


class Turns:
    """Whether there is time: ``yes`` times yes, then no; then the same again in the next invocation."""

    def __init__(self, yes: int) -> None:
        self._yes = yes
        self._left = yes

    def __call__(self) -> bool:
        """The next answer."""
        self._left -= 1
        if self._left >= 0:
            return True
        self._left = self._yes
        return False


def clock() -> datetime:
    """A moment after the run's start."""
    return NOW + timedelta(seconds=30)


def receiver(**changes: Any) -> Receiver:
    """A receiver for itself and another bank."""
    values = {
        "receiver": RECEIVER,
        "name": "Mottakerbanken AS",
        "on_behalf_of": (RECEIVER, OTHER),
        "url": "sftp://nogi@sftp.bank.no/debt/exchange",
        "host_keys": ("ssh-ed25519 AAAA",),
        "secret": "gjeldsbro/receiver/920013015",
    }
    return Receiver(**{**values, **changes})
