"""Delivers a package: uploads it under another name, makes sure that it arrived, and only then gives it its name.

Each call goes on where the last one stopped. Where that was stands in ``delivery.json`` beside the slices, and the
server's own file says how much of an upload arrived.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any

from gjeldsbro.domain.exchange_reports import package_name
from gjeldsbro.domain.package import Package, Slice
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.plan import Plan, slice_keys
from gjeldsbro.services.export.ports import Connect, ExportPartners, Folder, HasTime, RemoteFile, Store
from gjeldsbro.services.ports import Receiver

MAX_ATTEMPTS = 3
"""How often a package is uploaded whose copy on the server turned out to differ."""

_REWIND = 8 << 20
"""Bytes before the end of an interrupted upload that are sent again: more than was ever unconfirmed."""


class PackageDelivery:
    """The delivery of one package in one run."""

    def __init__(
        self,
        *,
        plan: Plan,
        receiver: str,
        on_behalf_of: str,
        provider: str,
        partners: ExportPartners,
        store: Store,
        clock: Callable[[], datetime],
        has_time: HasTime,
    ) -> None:
        self._plan = plan
        self._receiver = receiver
        self._on_behalf_of = on_behalf_of
        self._provider = provider
        self._partners = partners
        self._store = store
        self._clock = clock
        self._has_time = has_time
        self._prefix = plan.package_prefix(receiver, on_behalf_of)
        self._state: dict[str, Any] = {}

    def deliver(self, connect: Connect) -> bool:
        """Go on delivering; True when the package was delivered or refused.

        Raises ReceiverUnavailableError when the server cannot be reached: the next call goes on.
        """
        receiver = self._partners.receiver(self._receiver)
        if receiver is None:
            raise ConfigurationError("there is no such receiver")
        if not self._resume() and not self._begin():
            return True
        try:
            with connect(receiver) as folder:
                try:
                    return self._go_on(folder, receiver)
                except ReceiverRefusedError:
                    self._clean_up(folder)
                    raise
        except ReceiverRefusedError as exc:
            self._finish("refused", "failed", error=exc.code, reason=exc.detail)
            return True

    def _clean_up(self, folder: Folder) -> None:
        """Remove what was uploaded of a package that is given up, as far as the server lets us."""
        with suppress(ReceiverRefusedError, ReceiverUnavailableError):
            folder.remove(self._unfinished)

    def _resume(self) -> bool:
        try:
            self._state = self._store.get_json(f"{self._prefix}delivery.json")
        except KeyError:
            return False
        return True

    def _begin(self) -> bool:
        """Claim the delivery and seal the package; False when it was delivered before."""
        delivery = self._partners.delivery(self._receiver, self._on_behalf_of, self._plan.quarter) or {}
        if delivery.get("state") == "delivered" and delivery.get("run") == self._plan.run:
            return False
        claim = (self._receiver, self._on_behalf_of, self._plan.quarter, self._plan.run)
        if not self._partners.claim_delivery(*claim, again=self._plan.again):
            self._record("already-delivered")
            return False
        slices = [self._store.get_json(f"{key}.json") for key in slice_keys(self._store, self._prefix)]
        self._state = {
            "phase": "uploading",
            "slices": [[entry["size"], entry["plain_size"], entry["crc32"]] for entry in slices],
            "customers": sum(entry["customers"] for entry in slices),
            "loans": sum(entry["loans"] for entry in slices),
            "startedAt": from_datetime(self._clock()),
            "attempts": 1,
            "uploaded": 0,
            "verified": 0,
        }
        digest = sha256()
        for piece in self._bytes_from(0):
            digest.update(piece)
        self._state |= {"sha256": digest.hexdigest(), "bytes": self._package().size}
        self._save()
        return True

    def _go_on(self, folder: Folder, receiver: Receiver) -> bool:
        steps = {"uploading": self._upload, "verifying": self._verify, "publishing": self._publish}
        while (phase := self._state["phase"]) in steps:
            step_done = steps[phase](folder, receiver)
            self._save()
            if not step_done:
                return False
        return True

    def _upload(self, folder: Folder, receiver: Receiver) -> bool:
        """Send what the server lacks; True when all was sent."""
        self._remove_leftovers(folder)
        size, arrived = self._state["bytes"], self._arrived(folder, receiver)
        start = max(0, arrived - _REWIND)
        try:
            self._state["uploaded"] = folder.write(self._unfinished, start, self._worth_of_time(start, arrived))
        except ReceiverRefusedError as exc:
            if not start:
                raise
            self._start_again(folder, exc.code, exc.detail)
            return True
        if self._state["uploaded"] < size:
            return False
        self._state["phase"] = "verifying"
        return True

    def _arrived(self, folder: Folder, receiver: Receiver) -> int:
        """How much the server has: the name says that what is there is of this package, its size how much of it."""
        there = _uploaded(folder, receiver, self._unfinished)
        if there is not None:
            return there.size if there.size <= self._state["bytes"] else 0
        return 0 if receiver.read_back else int(self._state["uploaded"])  # such servers may hide what was uploaded

    def _verify(self, folder: Folder, receiver: Receiver) -> bool:
        """Compare size and, where we may read, content with the slices; a copy that differs is sent again."""
        there, size = _uploaded(folder, receiver, self._unfinished), self._state["bytes"]
        hidden = there is None and not receiver.read_back
        if not hidden and (there is None or there.size != size):
            self._start_again(folder, "READ_BACK", "the copy on the server has another size")
        elif receiver.read_back and not self._compare(folder):
            self._start_again(folder, "READ_BACK", "the copy on the server differs")
        elif receiver.read_back and self._state["verified"] < size:
            return False
        else:
            self._state["phase"] = "publishing"
        return True

    def _compare(self, folder: Folder) -> bool:
        """Compare the copy from where the last call stopped; False when it differs."""
        start, size = self._state["verified"], self._state["bytes"]
        ours, rest = self._bytes_from(start), b""
        for piece in folder.read(self._unfinished, start, size - start):
            while len(rest) < len(piece):
                rest += next(ours)
            if rest[: len(piece)] != piece:
                return False
            rest = rest[len(piece) :]
            self._state["verified"] += len(piece)
            if not self._has_time():
                return True
        return bool(self._state["verified"] == size)

    def _publish(self, folder: Folder, receiver: Receiver) -> bool:
        """Give the package its name, unless another run has claimed the delivery meanwhile."""
        delivery = self._partners.delivery(self._receiver, self._on_behalf_of, self._plan.quarter) or {}
        if delivery.get("run") != self._plan.run:
            folder.remove(self._unfinished)
            self._state["phase"] = "done"
            self._record("failed", error="SUPERSEDED", reason="another run has claimed the delivery")
            return True
        name, size = package_name(self._on_behalf_of), self._state["bytes"]
        there = _uploaded(folder, receiver, self._unfinished)
        published = _uploaded(folder, receiver, name)
        already = there is None and published is not None and published.size == size and self._state.get("renaming")
        if not already:
            self._state["renaming"] = True
            self._save()
            folder.replace(self._unfinished, name)
            published = _uploaded(folder, receiver, name)
            hidden = published is None and not receiver.read_back
            if not hidden and (published is None or published.size != size):
                raise ReceiverRefusedError("RENAME", "the package is not there after its renaming")
        self._finish("delivered", "delivered")
        return True

    def _start_again(self, folder: Folder, code: str, why: str) -> None:
        """Upload the package from its first byte, unless that was done often enough."""
        folder.remove(self._unfinished)
        if self._state["attempts"] >= MAX_ATTEMPTS:
            raise ReceiverRefusedError(code, why)
        self._state |= {"phase": "uploading", "attempts": self._state["attempts"] + 1, "uploaded": 0, "verified": 0}

    def _remove_leftovers(self, folder: Folder) -> None:
        """Remove what other runs left of this organisation's packages."""
        form = re.compile(rf"{re.escape(package_name(self._on_behalf_of))}\.[0-9a-f]{{16}}\.part")
        for file in folder.files():
            if form.fullmatch(file.name) and file.name != self._unfinished:
                folder.remove(file.name)

    def _finish(self, status: str, delivery_state: str, **why: str) -> None:
        """Record what became of the delivery: figures only, nothing of persons."""
        figures = {name: self._state[name] for name in ("sha256", "bytes", "customers", "loans", "startedAt")}
        values = {**figures, **why, "finishedAt": from_datetime(self._clock()), "again": self._plan.reason}
        key = (self._receiver, self._on_behalf_of, self._plan.quarter, self._plan.run)
        # A delivery that was made stays made, whatever becomes of a repetition: only ``again`` may repeat it.
        before = self._partners.delivery(self._receiver, self._on_behalf_of, self._plan.quarter) or {}
        made = values["finishedAt"] if delivery_state == "delivered" else before.get("deliveredAt")
        self._partners.update_delivery(*key, {"state": delivery_state, **values, "deliveredAt": made})
        self._record(status, **values)
        self._state["phase"] = "done"
        self._save()

    @property
    def _unfinished(self) -> str:
        return f"{package_name(self._on_behalf_of)}.{self._state['sha256'][:16]}.part"

    def _package(self) -> Package:
        return Package(self._provider, [Slice(*entry) for entry in self._state["slices"]])

    def _bytes_from(self, offset: int) -> Iterator[bytes]:
        for number, data, skip in self._package().pieces_from(offset):
            if number is None:
                yield data
            else:
                yield from self._store.open(places.slice_key(self._prefix, number), start=skip)

    def _worth_of_time(self, offset: int, arrived: int) -> Iterator[bytes]:
        """The package from ``offset`` on while there is time, and in any case more than had arrived before."""
        for piece in self._bytes_from(offset):
            yield piece
            offset += len(piece)
            if offset > arrived and not self._has_time():
                return

    def _record(self, status: str, **fields: Any) -> None:
        self._plan.record(self._partners, self._receiver, self._on_behalf_of, status, self._clock(), **fields)

    def _save(self) -> None:
        self._store.put_json(f"{self._prefix}delivery.json", self._state)


def _uploaded(folder: Folder, receiver: Receiver, name: str) -> RemoteFile | None:
    """A file that we put there; None when it is not there, or when the server hides it or forbids us to look."""
    try:
        return folder.file(name)
    except ReceiverRefusedError:
        if receiver.read_back:
            raise
        return None
