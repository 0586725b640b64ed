"""Reads the SSN lists in a receiver's folder and tells the receiver what was in them.

Each call goes on where the last one stopped: a copy of a list is fetched piece by piece, judged as a stream, and
deleted at once. What is kept until the packages are built are batches of valid numbers.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from gjeldsbro.domain.exchange_reports import (
    OrganizationRule,
    Problem,
    ReportName,
    failure_report,
    list_name,
    progress_report,
    read_folder,
)
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.ssn_list import Findings, SsnList, check_size
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError, SsnListError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.plan import Plan
from gjeldsbro.services.export.ports import Connect, ExportPartners, Folder, HasTime, RemoteFile, Store

PIECE_SIZE = 2 << 20
"""Bytes of a list that are fetched at a time: where a fetch may be interrupted. Few, as some servers are slow."""

LOOK_AT_TIME = 256 << 10
"""Bytes of a report that are sent between two looks at the time."""

BATCH_SIZE = 5_000
"""Numbers that one worker looks up and deflates into one slice."""

PAUSES = (10, 20, 40, 80)
"""Seconds before a list that changed meanwhile is fetched anew: the receiver may just be writing it."""


class ListRules(NamedTuple):
    """The rules for what stands in lists and their names."""

    accepts: Accepts
    is_organization: OrganizationRule


class ListReader:
    """Reads the lists of one receiver in one run."""

    def __init__(
        self,
        *,
        plan: Plan,
        receiver: str,
        partners: ExportPartners,
        store: Store,
        rules: ListRules,
        clock: Callable[[], datetime],
        has_time: HasTime,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._plan = plan
        self._receiver = receiver
        self._partners = partners
        self._store = store
        self._rules = rules
        self._clock = clock
        self._has_time = has_time
        self._pause = pause

    def read(self, connect: Connect) -> bool:
        """Go on reading; True when every list of the run was read or refused.

        A server that refuses us, and a list that cannot be used, are recorded. Raises ReceiverUnavailableError when the
        server cannot be reached and ConfigurationError when our own record of it does not make sense.
        """
        receiver = self._partners.receiver(self._receiver)
        if receiver is None:
            raise ConfigurationError("there is no such receiver")
        organizations = self._plan.of_receiver(self._receiver)
        try:
            with connect(receiver) as folder:
                for on_behalf_of in self._judge_folder(folder, organizations, receiver.on_behalf_of):
                    if not self._read_list(folder, on_behalf_of):
                        return False
        except ReceiverRefusedError as exc:
            for on_behalf_of in organizations:
                if not self._is_decided(on_behalf_of):
                    self._record(on_behalf_of, exc.code, exc.detail)
        return True

    def _judge_folder(self, folder: Folder, expected: list[str], registered: Iterable[str]) -> list[str]:
        """The organisations whose lists are read, decided once a run; what is wrong with the others is reported."""
        key = places.folder_key(self._plan.run, self._receiver)
        try:
            return list(self._store.get_json(key))
        except KeyError:
            pass
        reading = read_folder(
            [file.name for file in folder.files()],
            expected=expected,
            registered=set(registered),
            folder=folder.path,
            is_organization=self._rules.is_organization,
        )
        for problem in reading.problems:
            self._refuse(folder, problem)
        self._store.put_json(key, reading.lists)
        return list(reading.lists)

    def _read_list(self, folder: Folder, on_behalf_of: str) -> bool:
        """Go on with one list; True when it was read and reported, or refused."""
        state = self._state(on_behalf_of)
        try:
            if state["phase"] == "fetching":
                if not self._fetch(folder, on_behalf_of, state):
                    return False
                state = self._judge(on_behalf_of, state)
            if state["phase"] == "judged":
                return self._report(folder, on_behalf_of, state)
        except SsnListError as exc:
            self._refuse(folder, Problem(on_behalf_of, exc.code, exc.detail))
        return True

    def _fetch(self, folder: Folder, on_behalf_of: str, state: dict[str, Any]) -> bool:
        """Copy the rest of a list; True when the copy is whole and the list is still the same.

        A list that changes under our hands is copied anew. It counts as the same when size and time are, and when a
        second reading says the same: not every server tells the time, and none of less than a second.
        """
        name, prefix = list_name(on_behalf_of), self._prefix(on_behalf_of)
        while True:
            file = self._listed(folder, name)
            if "pieces" not in state or state["file"] != [file.size, file.modified]:
                file = self._begin_copy(folder, on_behalf_of, state)
            pieces, compared = state["pieces"], state["compared"]
            offset = PIECE_SIZE * (compared if (copied := PIECE_SIZE * len(pieces) >= file.size) else len(pieces))
            if offset >= file.size:
                return True
            wanted = min(PIECE_SIZE, file.size - offset)
            piece = b"".join(self._reading(folder, name, offset, wanted))
            digest = sha256(piece).hexdigest()
            if copied:
                same = digest == pieces[compared]
                state["compared"] += 1
            else:
                same = len(piece) == wanted
                self._store.put(f"{prefix}list/{len(pieces):05d}", piece)
                pieces.append(digest)
            if not same:
                state["file"] = None
            self._save(on_behalf_of, state)
            if not self._has_time():
                return False

    def _begin_copy(self, folder: Folder, on_behalf_of: str, state: dict[str, Any]) -> RemoteFile:
        """Forget what was copied of another version of a list; SsnListError when that has happened too often."""
        name, attempt = list_name(on_behalf_of), state.get("attempts", 0)
        if attempt > len(PAUSES):
            raise SsnListError("SSN_LIST_UNREADABLE", f"{name} changed each time that it was read")
        if attempt:
            self._pause(PAUSES[attempt - 1])
        file = self._listed(folder, name)
        check_size(file.size)
        self._store.delete_prefix(f"{self._prefix(on_behalf_of)}list/")
        state |= {"attempts": attempt + 1, "file": [file.size, file.modified], "pieces": [], "compared": 0}
        self._save(on_behalf_of, state)
        return file

    def _listed(self, folder: Folder, name: str) -> RemoteFile:
        file = folder.file(name)
        if file is None:
            raise SsnListError("SSN_LIST_NOT_FOUND", f"No file {name} in {folder.path}")
        return file

    @staticmethod
    def _reading(folder: Folder, name: str, offset: int, size: int) -> Iterator[bytes]:
        try:
            yield from folder.read(name, offset, size)
        except ReceiverRefusedError as exc:
            raise SsnListError("SSN_LIST_UNREADABLE", f"{name} could not be read: {exc.detail}") from exc

    def _judge(self, on_behalf_of: str, state: dict[str, Any]) -> dict[str, Any]:
        """Split the copy into batches of valid numbers, invalid entries and duplicates, and delete it."""
        prefix = self._prefix(on_behalf_of)
        reader = SsnList(state["file"][0], self._rules.accepts)
        batches, batch = 0, []
        with self._store.writer(f"{prefix}invalid") as invalid, self._store.writer(f"{prefix}duplicates") as duplicates:
            for findings in self._findings(reader, f"{prefix}list/"):
                invalid.write(_lines(findings.invalid))
                duplicates.write(_lines(findings.duplicates))
                batch += findings.numbers
                while len(batch) >= BATCH_SIZE:
                    self._put_batch(on_behalf_of, batches, batch[:BATCH_SIZE])
                    batches, batch = batches + 1, batch[BATCH_SIZE:]
        if batch:
            self._put_batch(on_behalf_of, batches, batch)
            batches += 1
        judged = {
            "phase": "judged",
            "batches": batches,
            "entries": reader.entries,
            "numbers": reader.numbers,
            "invalid": reader.invalid,
            "duplicates": reader.duplicates,
        }
        self._save(on_behalf_of, judged)
        self._store.delete_prefix(f"{prefix}list/")
        return judged

    def _findings(self, reader: SsnList, prefix: str) -> Iterator[Findings]:
        for key in self._store.keys(prefix):
            for piece in self._store.open(key):
                yield reader.feed(piece)
        yield reader.finish()

    def _put_batch(self, on_behalf_of: str, number: int, batch: list[str]) -> None:
        key = places.batch_key(self._plan.run, self._receiver, on_behalf_of, number)
        self._store.put(key, "\n".join(batch).encode())

    def _report(self, folder: Folder, on_behalf_of: str, state: dict[str, Any]) -> bool:
        """Go on writing the progress report; True when it is there, and what only it shows is forgotten.

        It may be as long as the list, and the server slow.
        """
        prefix, name = self._prefix(on_behalf_of), self._report_name(on_behalf_of)
        if "report" not in state:
            self._compose(on_behalf_of, state)
        unfinished = self._unfinished(name.progress)
        there = folder.file(unfinished) if state["sent"] else None
        sent = state["sent"] if there is not None and there.size >= state["sent"] else 0
        with self._cleaned_up(folder, unfinished):
            pieces = self._worth_of_time(f"{prefix}report", sent)
            state["sent"] = folder.write(unfinished, sent, pieces)
            if state["sent"] < state["report"]:
                self._save(on_behalf_of, state)
                return False
            folder.replace(unfinished, name.progress)
        state["phase"] = "reported"
        self._save(on_behalf_of, state)
        self._store.delete_prefix(f"{prefix}list/")
        self._store.delete((f"{prefix}invalid", f"{prefix}duplicates", f"{prefix}report"))
        return True

    def _compose(self, on_behalf_of: str, state: dict[str, Any]) -> None:
        """Put the progress report together: ``report`` is its size, ``sent`` what of it the server has confirmed."""
        prefix = self._prefix(on_behalf_of)
        report = progress_report(
            self._report_name(on_behalf_of),
            self._now(),
            entries=state["entries"],
            numbers=state["numbers"],
            invalid=(state["invalid"], self._store.open(f"{prefix}invalid")),
            duplicates=(state["duplicates"], self._store.open(f"{prefix}duplicates")),
        )
        state |= {"report": 0, "sent": 0}
        with self._store.writer(f"{prefix}report") as writer:
            for piece in report:
                writer.write(piece)
                state["report"] += len(piece)
        self._save(on_behalf_of, state)

    def _worth_of_time(self, key: str, start: int) -> Iterator[bytes]:
        for piece in self._store.open(key, start=start, chunk=LOOK_AT_TIME):
            yield piece
            if not self._has_time():
                return

    def _refuse(self, folder: Folder, problem: Problem) -> None:
        """Tell the receiver why there is no package, and record it. A report that cannot be written changes nothing."""
        name = self._report_name(problem.on_behalf_of)
        reported = True
        try:
            unfinished = self._unfinished(name.failure)
            with self._cleaned_up(folder, unfinished):
                folder.write(unfinished, 0, [failure_report(name, self._now(), problem)])
                folder.replace(unfinished, name.failure)
        except ReceiverRefusedError:
            reported = False
        self._record(
            problem.on_behalf_of,
            problem.code,
            "the receiver was told" if reported else "the receiver could not be told",
        )

    def _record(self, on_behalf_of: str, error: str, reason: str) -> None:
        """Record a refusal, without what the receiver called its files, and forget what was read of the list."""
        self._store.delete_prefix(self._prefix(on_behalf_of))
        self._save(on_behalf_of, {"phase": "refused"})
        why = {"error": error, "reason": reason}
        self._plan.record(self._partners, self._receiver, on_behalf_of, "refused", self._clock(), **why)

    def _state(self, on_behalf_of: str) -> dict[str, Any]:
        try:
            state: dict[str, Any] = self._store.get_json(f"{self._prefix(on_behalf_of)}state.json")
        except KeyError:
            return {"phase": "fetching"}
        return state

    def _is_decided(self, on_behalf_of: str) -> bool:
        return self._state(on_behalf_of)["phase"] in {"refused", "reported"}

    def _save(self, on_behalf_of: str, state: dict[str, Any]) -> None:
        self._store.put_json(f"{self._prefix(on_behalf_of)}state.json", state)

    def _prefix(self, on_behalf_of: str) -> str:
        return places.list_prefix(self._plan.run, self._receiver, on_behalf_of)

    def _report_name(self, on_behalf_of: str) -> ReportName:
        return ReportName(self._receiver, on_behalf_of, self._plan.month, self._plan.year)

    def _unfinished(self, name: str) -> str:
        """The name of a report while it is written; no other run writes under it."""
        return f"{name}.{sha256(self._plan.run.encode()).hexdigest()[:16]}.part"

    @staticmethod
    @contextmanager
    def _cleaned_up(folder: Folder, unfinished: str) -> Iterator[None]:
        """Leave nothing unfinished on a server that refuses the rest."""
        try:
            yield
        except ReceiverRefusedError:
            with suppress(ReceiverRefusedError, ReceiverUnavailableError):
                folder.remove(unfinished)
            raise

    def _now(self) -> str:
        return from_datetime(self._clock().replace(microsecond=0))


def _lines(entries: list[str]) -> bytes:
    return "".join(f"{entry}\n" for entry in entries).encode()
