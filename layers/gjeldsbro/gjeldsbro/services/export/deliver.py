"""Delivers a package: uploads it under another name, makes sure that it arrived, and only then gives it its name.

Each call goes on where the last one stopped. Where that was stands in ``delivery.json`` beside the slices, and the
server's own file says how much of an upload arrived. ``delivery.json`` is also the package's seal: it names the bytes
of all slices, so whatever is built again afterwards, all calls upload and compare the package that has its ``sha256``.

What makes a delivery is the renaming, at the very end. Before it, the run announces in the delivery's record which
package it gives the name (``publishing``); while it may do so no other run takes the delivery over, and one that does
so later first finds out whether it was done (decision record 0027).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from gjeldsbro.domain.exchange_reports import package_name
from gjeldsbro.domain.package import Package, Slice
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, DeliveryBusyError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.plan import Plan, slice_descriptions
from gjeldsbro.services.export.ports import Connect, ExportPartners, Folder, HasTime, RemoteFile, Store
from gjeldsbro.services.ports import Receiver

MAX_ATTEMPTS = 3
"""How often a package is uploaded whose copy on the server turned out to differ."""

HIDDEN = "the server does not show what was uploaded; `readBack: false` is for servers that hide it on purpose"

CLOCKS_DIFFER = timedelta(minutes=5)
"""By how much the clocks of two functions may differ: so much longer than its function's time a run may publish."""

_REWIND = 8 << 20
"""Bytes before the end of an interrupted upload that are sent again: more than was ever unconfirmed."""

_LOOK_AT_TIME = 256 << 10
"""Bytes that are sent between two looks at the time: a slow server takes a minute for as much as others in a moment."""

_TAIL = 8
"""Bytes at the end of a package that tell it from others: check sum and length of what is packed (RFC 1952)."""


class PackageDelivery:
    """The delivery of one package in one run, as far as it comes until ``ends``, when the function is ended."""

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
        ends: datetime,
    ) -> None:
        self._plan = plan
        self._receiver = receiver
        self._on_behalf_of = on_behalf_of
        self._key = (receiver, on_behalf_of, plan.quarter)
        self._ends = ends
        self._provider = provider
        self._partners = partners
        self._store = store
        self._clock = clock
        self._has_time = has_time
        self._prefix = plan.package_prefix(receiver, on_behalf_of)
        self._state: dict[str, Any] = {}

    def deliver(self, connect: Connect) -> bool:
        """Go on delivering; True when the package was delivered or refused.

        Raises ReceiverUnavailableError when the server cannot be reached, DeliveryBusyError while another run gives its
        package the name: the next call goes on.
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
                    if not self._is_ours(folder):  # what is refused may be what another run has taken away
                        self._save()
                        return True
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
        claimed = self._partners.claim_delivery(*self._key, self._plan.run, self._clock(), again=self._plan.again)
        if claimed is None:
            delivery = self._partners.delivery(*self._key) or {}
            if delivery.get("run") != self._plan.run:
                self._record("already-delivered")
            return False
        unsettled = None if self._plan.again else claimed.get("publishing")
        slices = [self._store.get_json(key) for key in slice_descriptions(self._store, self._prefix)]
        self._state = {
            "phase": "uploading" if unsettled is None else "settling",
            "unsettled": unsettled,
            "slices": [[entry["size"], entry["plain_size"], entry["crc32"], entry.get("name")] for entry in slices],
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
        steps = {
            "settling": self._settle,
            "uploading": self._upload,
            "verifying": self._verify,
            "publishing": self._publish,
        }
        while (phase := self._state["phase"]) in steps:
            step_done = steps[phase](folder, receiver) if self._is_ours(folder) else True
            self._save()
            if not step_done:
                return False
        return True

    def _is_ours(self, folder: Folder) -> bool:
        """Whether there is still something for this run to do: it has the claim, and has not delivered."""
        delivery = self._partners.delivery(*self._key) or {}
        ours = delivery.get("run") == self._plan.run
        if ours and delivery["state"] == "delivering":
            return True
        self._state["phase"] = "done"
        if ours and delivery["state"] == "delivered":  # by a call that could not say so, or is still at work
            self._record("delivered", **figures_of(delivery))
            return False
        with suppress(ReceiverRefusedError):
            folder.remove(self._unfinished)
        if delivery.get("deliveredAt") is not None:
            self._record("already-delivered", reason=f"run {delivery['run']} has delivered it meanwhile")
        else:
            reason = f"run {delivery.get('run')} has taken the delivery over: its report says what became of it"
            self._record("failed", error="SUPERSEDED", reason=reason)
        return False

    def _settle(self, folder: Folder, receiver: Receiver) -> bool:
        """Finish what a run left that died when it gave its package the name; then that was the delivery."""
        theirs, name = self._state["unsettled"], package_name(self._on_behalf_of)
        complete = _unfinished_name(self._on_behalf_of, theirs["sha256"])
        there, renamed = _uploaded(folder, receiver, complete), False
        if there is None or there.size == theirs["bytes"]:
            with suppress(ReceiverRefusedError):
                folder.replace(complete, name)
                renamed = True
        in_place = _is_in_place(folder, receiver, name, theirs)
        if in_place or (in_place is None and renamed):
            made = {"state": "delivered", **theirs, "finishedAt": self._now(), "deliveredAt": self._now()}
            self._partners.update_delivery(*self._key, self._plan.run, made)
            self._state["phase"] = "done"
            reason = f"run {theirs['run']} has delivered it, and ended before it could say so"
            self._record("already-delivered", reason=reason)
        elif in_place is None:
            self._finish("failed", "failed", error="UNCERTAIN", reason=_uncertain(theirs["run"]))
        else:
            self._state |= {"phase": "uploading", "unsettled": None}
        return True

    def _upload(self, folder: Folder, receiver: Receiver) -> bool:
        """Send what the server lacks; True when all was sent."""
        self._remove_leftovers(folder)
        size, arrived = self._state["bytes"], self._arrived(folder, receiver)
        # What the last call left in order was confirmed; of what a broken connection left, the end may have holes.
        start = min(arrived, max(self._state["uploaded"], arrived - _REWIND))
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
        if there is None and not hidden:
            self._start_again(folder, "READ_BACK", HIDDEN)
        elif there is not None and there.size != size:
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
        """Give the package its name. A call that finds it done, by one before that could not say so, records it."""
        if not self._partners.start_publishing(*self._key, self._plan.run, self._announcement()):
            if self._is_ours(folder):  # two calls sealed at once, while a slice was written again
                self._clean_up(folder)
                raise DeliveryBusyError("another call of this run is giving a package of another content the name")
            return True
        before, self._state["renaming"] = self._state.get("renaming", False), True
        self._save()
        name, refused = package_name(self._on_behalf_of), None
        try:
            folder.replace(self._unfinished, name)
        except ReceiverRefusedError as exc:
            refused = exc
        in_place = _is_in_place(folder, receiver, name, self._announcement())
        if in_place or (in_place is None and refused is None):
            self._finish("delivered", "delivered")
        elif in_place is None and before:
            self._finish("failed", "failed", error="UNCERTAIN", reason=_uncertain(self._plan.run))
        else:
            raise refused or ReceiverRefusedError("RENAME", "the package is not there after its renaming")
        return True

    def _announcement(self) -> dict[str, Any]:
        """What others must know of this package while it gets its name; ``until`` has the fixed form."""
        return {
            "run": self._plan.run,
            "until": from_datetime(self._ends + CLOCKS_DIFFER),
            "tail": self._package().tail[-_TAIL:].hex(),
            **figures_of(self._state),
            "again": self._plan.reason,
        }

    def _start_again(self, folder: Folder, code: str, why: str) -> None:
        """Upload the package from its first byte, unless that was done often enough."""
        folder.remove(self._unfinished)
        if self._state["attempts"] >= MAX_ATTEMPTS:
            raise ReceiverRefusedError(code, why)
        self._state |= {"phase": "uploading", "attempts": self._state["attempts"] + 1, "uploaded": 0, "verified": 0}

    def _remove_leftovers(self, folder: Folder) -> None:
        """Remove what other runs left of this organisation's files, as far as the server lets us."""
        reports = rf"{self._receiver}-{self._on_behalf_of}-[0-9]+-[0-9]+-(progress|failure)-report\.txt"
        package = re.escape(package_name(self._on_behalf_of))
        form = re.compile(rf"({package}|{reports})\.[0-9a-f]{{16}}\.part(\.old)?")
        for file in folder.files():
            if form.fullmatch(file.name) and file.name != self._unfinished:
                with suppress(ReceiverRefusedError):
                    folder.remove(file.name)

    def _finish(self, status: str, delivery_state: str, **why: str) -> None:
        """Record what became of the delivery: figures only, nothing of persons."""
        values = {**figures_of(self._state), **why, "finishedAt": self._now(), "again": self._plan.reason}
        # A delivery that was made stays made, whatever becomes of a repetition: only ``again`` may repeat it.
        before = self._partners.delivery(*self._key) or {}
        made = values["finishedAt"] if delivery_state == "delivered" else before.get("deliveredAt")
        record = {"state": delivery_state, **values, "deliveredAt": made}
        if why.get("error") == "UNCERTAIN" or self._state["phase"] == "settling":
            record["publishing"] = before.get("publishing")  # still to be found out
        self._partners.update_delivery(*self._key, self._plan.run, record)
        self._record(status, **values)
        self._state["phase"] = "done"
        self._save()

    @property
    def _unfinished(self) -> str:
        return _unfinished_name(self._on_behalf_of, self._state["sha256"])

    def _package(self) -> Package:
        return Package(self._provider, [Slice(*entry[:3]) for entry in self._state["slices"]])

    def _bytes_from(self, offset: int) -> Iterator[bytes]:
        for number, data, skip in self._package().pieces_from(offset):
            if number is None:
                yield data
            else:
                name = self._state["slices"][number][3:]  # none in what a version of before names stored
                yield from self._store.open(places.slice_key(self._prefix, number, *name), start=skip)

    def _worth_of_time(self, offset: int, arrived: int) -> Iterator[bytes]:
        """The package from ``offset`` on while there is time, and in any case more than had arrived before."""
        for piece in self._bytes_from(offset):
            for at in range(0, len(piece), _LOOK_AT_TIME):
                yield (part := piece[at : at + _LOOK_AT_TIME])
                offset += len(part)
                if offset > arrived and not self._has_time():
                    return

    def _record(self, status: str, **fields: Any) -> None:
        self._plan.record(self._partners, self._receiver, self._on_behalf_of, status, self._clock(), **fields)

    def _now(self) -> str:
        return from_datetime(self._clock())

    def _save(self) -> None:
        self._store.put_json(f"{self._prefix}delivery.json", self._state)


def figures_of(known: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a package, of what is known of it or of its delivery."""
    return {name: known[name] for name in ("sha256", "bytes", "customers", "loans", "startedAt")}


def _unfinished_name(on_behalf_of: str, digest: str) -> str:
    """The name of a package that is not to be read yet; it says which package that is."""
    return f"{package_name(on_behalf_of)}.{digest[:16]}.part"


def _is_in_place(folder: Folder, receiver: Receiver, name: str, package: Mapping[str, Any]) -> bool | None:
    """Whether a file is that ``package`` (``bytes``, ``tail``); None when the server does not let us see."""
    there = _uploaded(folder, receiver, name)
    if there is None:
        return False if receiver.read_back else None
    same_size = bool(there.size == package["bytes"])
    if not same_size or not receiver.read_back:
        return same_size
    return bool(b"".join(folder.read(name, there.size - _TAIL, _TAIL)).hex() == package["tail"])


def _uncertain(run: str) -> str:
    return (
        f"run {run} ended when it gave the package its name, and the server does not show whether it did:"
        " ask the receiver whether the package came"
    )


def _uploaded(folder: Folder, receiver: Receiver, name: str) -> RemoteFile | None:
    """A file that we put there; None when it is not there, or when the server hides it or forbids us to look."""
    try:
        return folder.file(name)
    except ReceiverRefusedError:
        if receiver.read_back:
            raise
        return None
