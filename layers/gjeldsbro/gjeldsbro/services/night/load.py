"""Writes the differences between last night's dataset and this one to the register, and commits (design decision 5).

The order is what survives a death at any point: the list of customers about to change is stored, the dataset's record
points to it, then the register is written, then one conditional update switches the record to the new dataset. Whoever
comes later, a retry or the next night, finds either the old record and the list, or the new record.

When the rows come under a newer version of the hash key, nothing of them can be compared. All is written under the new
version, beside what lies under the old one and is read meanwhile; the commit switches readers over; then the old items
are deleted by the old index and lists, in as many calls as it takes (decision 0021, ``domain.register.in_force``).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from heapq import merge
from itertools import batched
from typing import Any, Protocol
from zlib import crc32

from gjeldsbro.domain.customer_keys import FIRST_VERSION
from gjeldsbro.domain.dataset_index import (
    DATASET_ROW_SIZE,
    GONE,
    INDEX_ROW_SIZE,
    KEY_SIZE,
    PENDING_ROW_SIZE,
    Kind,
    blocks,
    compare,
    place_of,
    rows,
)
from gjeldsbro.domain.register import cover_of, dataset_as_of
from gjeldsbro.domain.timestamps import to_datetime
from gjeldsbro.errors import ConfigurationError, DatasetBusyError
from gjeldsbro.log import logger
from gjeldsbro.services.customer_lookup import dataset_times
from gjeldsbro.services.night.common import (
    Clock,
    Job,
    Remaining,
    after_close,
    close,
    is_closed,
    leased,
    outcome,
)
from gjeldsbro.services.night.leases import released
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.night.records import Records, record_files
from gjeldsbro.services.ports import Dataset, Institution

STRIDE = 5000
"""Customers that are written between two notes of the position: a retry repeats at most so many."""

RESERVE_SECONDS = 240
"""Kept back for one stride, at the pace of a throttled table, and the commit."""

FULL_DAYS = 7
"""A dataset is written in full at least this often (decision 5: a scrub, and the recovery path)."""

SEGMENTS = 64
"""Parts of the register in which a load from scratch looks for what is there."""

SEGMENTS_AT_ONCE = 8

_FOREVER = "9999-12-31T23:59:59.9999999Z"
_STEPS_AT_ONCE = 4096


class RegisterWriter(Protocol):
    """The register's dataset items of one key version, and its pushes."""

    def write_dataset_items(
        self, institution: str, provider: str, run: str, rows: Iterable[tuple[bytes, bytes]]
    ) -> int:
        """Store (customer key, encoded loans); how many."""
        ...

    def delete_dataset_items(self, institution: str, provider: str, customer_keys: Iterable[bytes]) -> int:
        """Delete customers' items, whether they exist or not; how many keys were given."""
        ...

    def dataset_keys(
        self, institution: str, provider: str, segments: Iterable[int], of: int
    ) -> list[list[tuple[str, bytes]]]:
        """Of each of these segments ``of`` all: (key version, customer key) of the items of a dataset."""
        ...

    def delete_superseded_pushes(
        self, institution: str, provider: str, latest: str, cover: Callable[[], str | None]
    ) -> int:
        """Delete a provider's pushes up to and including ``latest`` and what ``cover`` says of them; how many.

        ``cover`` is asked when they are known: what comes later stays.
        """
        ...


@dataclass(frozen=True)
class Loader:
    """What loading needs. ``register`` gives the register under a version of the hash key."""

    records: NightRecords
    objects: Objects
    register: Callable[[str], RegisterWriter]
    clock: Clock
    remaining: Remaining


def load_dataset(job: Job, tools: Loader) -> bool:
    """Load what ``fetch_pages`` made ready; True when it is committed and cleaned up, False to be called again.

    A dataset that this run does not have ready is left alone. Raises ConfigurationError when a file is missing that
    only an operator can bring back, StoreUnavailableError when a retry may succeed.
    """
    dataset = tools.records.dataset(job.institution, job.provider)
    if not _is_ready(job, dataset):
        if is_closed(job, dataset):
            return _end_again(job, dataset, tools)
        return True
    with ExitStack() as stack:
        try:
            dataset = stack.enter_context(leased(job, tools.records, tools.clock))
        except DatasetBusyError:
            _busy(job, tools)
            return True
        if _is_ready(job, dataset):
            return _Load(job, dataset, tools).go_on()
        dataset = tools.records.update_dataset(dataset, job.run, lease=released(dataset.lease, tools.clock()))
    if is_closed(job, dataset):
        return _end_again(job, dataset, tools)
    _busy(job, tools)
    return True


def _is_ready(job: Job, dataset: Dataset) -> bool:
    return dataset.fetch is not None and dataset.fetch["run"] == job.run and bool(dataset.fetch["ready"])


def _busy(job: Job, tools: Loader) -> None:
    now = tools.clock()
    tools.records.put_outcome(job.run, job.subject, outcome(job, "busy", now, reason="another run works on it"), now)


def _end_again(job: Job, dataset: Dataset, tools: Loader) -> bool:
    """What follows the end of the work on a dataset, when an earlier call of the run died before it was done.

    False when the time was up before the end of it, as it may have been in the earlier call.
    """
    assert dataset.last_run is not None
    if dataset.run != job.run:
        after_close(job, dataset.last_run, records=tools.records, objects=tools.objects, now=tools.clock())
        return True
    _finish(job, dataset, tools)
    with suppress(DatasetBusyError), leased(job, tools.records, tools.clock) as mine:  # busy: another run does it
        found = _stored(job, tools.objects)
        end = _Load(job, mine, tools)
        if not end.delete_retired():
            return False
        end.update(lease=released(mine.lease, tools.clock()))
        _sweep(found, end.dataset, tools.objects)
    return True


class _Load:
    """One invocation's work on a dataset whose lease it has."""

    def __init__(self, job: Job, dataset: Dataset, tools: Loader) -> None:
        self.job = job
        self.dataset = dataset
        self.tools = tools

    @property
    def cursor(self) -> dict[str, Any]:
        assert self.dataset.fetch is not None
        return self.dataset.fetch

    def go_on(self) -> bool:
        withdraw = bool(self.cursor["withdraw"])
        if withdraw and not self.may_withdraw():
            return True
        if self.cursor.get("scratch") and not self.find():
            return False
        if not self.bring_in(None if withdraw else self.job.dataset_key):
            return False
        return self.withdraw() if withdraw else self.commit()

    @property
    def version(self) -> str:
        """The version of the hash key under which this load writes: that of its rows; a withdrawal has none."""
        of_rows = str(self.cursor.get("keyVersion", FIRST_VERSION))  # a fetch from before there was a choice has none
        return self.dataset.key_version or of_rows if self.cursor["withdraw"] else of_rows

    @property
    def moves(self) -> bool:
        """Whether the register shows the dataset under another version of the hash key."""
        return self.dataset.key_version not in {None, self.version}

    @property
    def pending(self) -> str | None:
        """The list of customers that this load, or an unfinished one under the same version, is about to change."""
        if not self.moves:
            return self.dataset.pending
        rekey = self.dataset.rekey
        return rekey["pending"] if rekey is not None and rekey["version"] == self.version else None

    def update(self, **changes: Any) -> None:
        self.dataset = self.tools.records.update_dataset(self.dataset, self.job.run, **changes)

    # From scratch

    def find(self) -> bool:
        """Find what the register holds of the dataset; False when the time is up before.

        Each segment's keys are stored in a file of index rows, with the key's version in place of the digest.
        """
        found = list(self.cursor.get("found", ()))
        began_at = len(found)
        while len(found) < SEGMENTS:
            if len(found) > began_at and self.tools.remaining() < RESERVE_SECONDS:
                return False
            assert self.dataset.lease is not None
            segments = range(len(found), min(len(found) + SEGMENTS_AT_ONCE, SEGMENTS))
            register = self.tools.register(self.version)
            keys = register.dataset_keys(self.job.institution, self.job.provider, segments, SEGMENTS)
            versions = set(self.cursor.get("versions", ()))
            for segment, there in zip(segments, keys, strict=True):
                file = f"{self.job.pending_folder}{self.job.run}-found-{segment}-{self.dataset.lease.token}.keys"
                self.tools.objects.put(file, b"".join(sorted(key + _padded(version) for version, key in there)))
                found.append(file)
                versions |= {version for version, _ in there}
            self.update(fetch={**self.cursor, "found": found, "versions": sorted(versions)})
        if self.dataset.key_version is None and self.cursor["versions"]:
            # Of a dataset whose record was lost readers see all versions. They shall until the commit: so it moves.
            self.update(key_version=min(self.cursor["versions"], key=int))
        return True

    def found(self, version: str) -> Iterator[bytes]:
        """What was found under a version of the hash key, as index rows in key order."""
        of, last = _padded(version), b""
        for row in merge(*(self.stored(file, INDEX_ROW_SIZE) for file in self.cursor["found"])):
            if row[KEY_SIZE:] == of and row != last:  # a segment's customer may come twice where segments are not kept
                last = row
                yield row

    def others(self, name: str) -> list[dict[str, Any]]:
        """What was found under other versions of the hash key, as something to delete after the commit."""
        retired = []
        for version in self.cursor["versions"]:
            if version != self.version:
                file = f"{self.job.pending_folder}{name}-under-{version}.keys"
                with self.tools.objects.writer(file) as writer:
                    for block in blocks(self.found(version)):
                        writer.write(block)
                retired.append(_retired(version, file))
        return retired

    # From the rows to the register

    def bring_in(self, dataset_key: str | None) -> bool:
        """Make the register hold what ``dataset_key`` holds (None: nothing); False when the time is up before."""
        if self.cursor.get("phase") != self.job.run:
            self.plan(dataset_key)
        counts = self.cursor["counts"]
        position, total = int(self.cursor["position"]), int(counts["pending"])
        if position == total:
            return True
        register = self.tools.register(self.version)
        records = Records(record_files(self.job, self.cursor), self.tools.objects)
        began_at = position
        pending = self.stored(self.pending, PENDING_ROW_SIZE, start=position)
        for stride in batched(pending, STRIDE, strict=False):
            if position > began_at and self.tools.remaining() < RESERVE_SECONDS:
                return False
            places = [(row[:KEY_SIZE], place_of(row)) for row in stride]
            register.write_dataset_items(
                self.job.institution,
                self.job.provider,
                self.job.run,
                ((key, records.read(key, place)) for key, place in places if place.file != GONE),
            )
            register.delete_dataset_items(
                self.job.institution,
                self.job.provider,
                (key for key, place in places if place.file == GONE),
            )
            position += len(stride)
            self.update(fetch={**self.cursor, "position": position})
        return True

    def plan(self, dataset_key: str | None) -> None:
        """Compare with what the register shows, store the new index and the pending list, and point to the list."""
        job, dataset, objects = self.job, self.dataset, self.tools.objects
        assert dataset.lease is not None
        name = f"{job.run}-{dataset.lease.token}"
        scratch = bool(self.cursor.get("scratch"))
        full = self.moves or scratch or self.is_full()
        if not scratch:
            for one in [*self.given_up(), *self.superseded()]:
                next(self.stored(one["file"], INDEX_ROW_SIZE), None)  # a missing one is told before the commit
        steps = compare(
            self.stored(None if self.moves or scratch else dataset.index, INDEX_ROW_SIZE),
            self.stored(dataset_key, DATASET_ROW_SIZE),
            self.found(self.version) if scratch else self.stored(self.pending, PENDING_ROW_SIZE),
            full=full,
        )
        kinds: Counter[Kind] = Counter()
        size = 0
        index_key, pending_key = f"{job.index_folder}{name}.idx", f"{job.pending_folder}{name}.keys"
        with objects.writer(index_key) as index, objects.writer(pending_key) as pending:
            for some in batched(steps, _STEPS_AT_ONCE, strict=False):
                index.write(b"".join([step.index_row for step in some]))
                changing = b"".join([step.pending_row for step in some])
                pending.write(changing)
                size += len(changing)
                kinds.update([step.kind for step in some])
        counts = {**{kind.value: kinds[kind] for kind in Kind}, "pending": size // PENDING_ROW_SIZE}
        retired = self.others(name) if scratch else self.given_up()
        found = _stored(job, objects)
        cursor = {**self.cursor, "phase": job.run, "index": index_key, "position": 0, "counts": counts, "full": full}
        if self.moves:
            rekey = {"version": self.version, "pending": pending_key} if size else None
            self.update(rekey=rekey, retired=retired or None, fetch=cursor)
        else:
            found_others = {"rekey": None, "retired": retired or None} if scratch else {}
            self.update(pending=pending_key if size else None, key_version=self.version, fetch=cursor, **found_others)
        _sweep(found, self.dataset, objects)

    def is_full(self) -> bool:
        """Whether everything is written today: on the dataset's own weekday, so that a night takes a seventh of all."""
        if self.dataset.full_at is None:
            return True
        today = to_datetime(self.cursor["start"]).date()
        days = (today - to_datetime(self.dataset.full_at).date()).days
        return days >= FULL_DAYS or (days > 0 and crc32(self.job.subject.encode()) % 7 == today.weekday())

    def stored(self, key: str | None, size: int, *, start: int = 0) -> Iterator[bytes]:
        """The rows of a stored file from number ``start`` on; none when there is no file to be."""
        if key is None:
            return
        try:
            yield from rows(self.tools.objects.open(key, start=start * size), size)
        except KeyError:
            raise ConfigurationError(f"{key} is missing in the data bucket") from None

    # Commit

    def commit(self) -> bool:
        """Switch the dataset to what the register now holds, in one conditional update.

        False when the time is up before what lies under earlier versions of the hash key is deleted.
        """
        dataset, cursor, now = self.dataset, self.cursor, self.tools.clock()
        as_of = dataset_as_of(
            cursor["earliest"] or None,
            cursor["latest"] or None,
            dataset.as_of,
            dataset.fetch_start,
            cursor["start"],
        )
        kind = cursor.get("kind", "loans")  # a fetch that began before there was a choice has none
        pages = cursor["pages"] if kind == "loans" else 1
        result = self.loaded(now, dataset=kind, asOf=as_of, pages=pages, bytes=cursor["received"])
        retired = [*(dataset.retired or []), *self.superseded()]
        found = _stored(self.job, self.tools.objects)
        self.update(
            run=self.job.run,
            index=cursor.get("index") or f"{self.job.index_folder}{self.job.run}.idx",  # as it was named before
            as_of=as_of,
            fetch_start=cursor["start"],
            key_version=self.version,
            customers=cursor["withLoans"],
            full_at=cursor["start"] if cursor["full"] else dataset.full_at,
            pending=None,
            rekey=None,
            retired=retired or None,
            fetch=None,
            held=False,
            last_run=result,
            **({} if retired else {"lease": released(dataset.lease, now)}),
        )
        _sweep(found, self.dataset, self.tools.objects)
        _finish(self.job, self.dataset, self.tools)
        if not retired:
            return True
        if not self.delete_retired():
            return False
        self.update(lease=released(self.dataset.lease, self.tools.clock()))
        return True

    def delete_retired(self) -> bool:
        """Delete what lies under earlier versions of the hash key; False when the time is up before."""
        began = False
        while self.dataset.retired:
            first, *others = self.dataset.retired
            position = int(first["position"])
            register = self.tools.register(first["version"])
            keys = self.stored(first["file"], INDEX_ROW_SIZE, start=position)
            for stride in batched(keys, STRIDE, strict=False):
                if began and self.tools.remaining() < RESERVE_SECONDS:
                    return False
                began = True
                register.delete_dataset_items(
                    self.job.institution, self.job.provider, (row[:KEY_SIZE] for row in stride)
                )
                position += len(stride)
                self.update(retired=[{**first, "position": position}, *others])
            self.update(retired=others or None)
            self.tools.objects.delete([first["file"]])
        return True

    def given_up(self) -> list[dict[str, Any]]:
        """What is to be deleted after the commit, when this load moves the dataset to another version."""
        return [*(self.dataset.retired or []), *(self.rekeyed() if self.pending is None else [])]

    def superseded(self) -> list[dict[str, Any]]:
        """What the commit of this load makes something to delete, when it moves the dataset to another version."""
        dataset = self.dataset
        if not self.moves or self.cursor.get("scratch"):  # which found by itself what lies under other versions
            return []
        assert dataset.key_version is not None
        return [_retired(dataset.key_version, file) for file in (dataset.index, dataset.pending) if file is not None]

    def rekeyed(self) -> list[dict[str, Any]]:
        """What a load under another version wrote and never committed, as something to delete."""
        rekey = self.dataset.rekey
        return [] if rekey is None else [_retired(rekey["version"], rekey["pending"])]

    def loaded(self, now: datetime, **fields: Any) -> dict[str, Any]:
        """The outcome of a dataset that was taken."""
        counts = self.cursor["counts"]
        changes = {kind.value: counts[kind.value] for kind in (Kind.ADDED, Kind.CHANGED, Kind.REMOVED)}
        return outcome(
            self.job,
            "loaded" if any(changes.values()) else "unchanged",
            now,
            customers=self.cursor["withLoans"],
            **changes,
            unchanged=counts[Kind.UNCHANGED.value],
            written=counts["pending"],
            full=self.cursor["full"],
            startedAt=self.cursor["start"],
            **({"rekeyed": True} if self.moves else {}),
            **fields,
        )

    # Withdrawal

    def may_withdraw(self) -> bool:
        """Whether the provider has ended and its successor's data is there (design decision 6); else end this work.

        Nobody says who the successor is: so every provider that the institution still has must have been taken in this
        run. What two of them say of the same loan is merged meanwhile.
        """
        records, now = self.tools.records, self.tools.clock()
        institution = records.institution(self.job.institution)
        if institution is None or institution.ended:
            return True
        provider = institution.provider(self.job.provider)
        if provider is not None and not provider.ended:
            result = outcome(self.job, "failed", now, reason="the provider was set up again during the run")
        elif _all_taken(institution, self.job.run, records):
            return True
        else:
            reason = "ended; its data stays until the successor's first accepted dataset"
            result = outcome(self.job, "unchanged", now, reason=reason, customers=self.dataset.customers)
        close(self.job, self.dataset, records=records, objects=self.tools.objects, result=result, now=now)
        return False

    def withdraw(self) -> bool:
        """Forget the dataset and the provider, now that the register holds nothing of it under its version.

        False when the time is up before what lies under other versions is deleted.
        """
        job, records, objects = self.job, self.tools.records, self.tools.objects
        if self.dataset.rekey is not None:
            self.update(rekey=None, retired=[*(self.dataset.retired or []), *self.rekeyed()])
        if not self.delete_retired():
            return False
        register = self.tools.register(self.version)
        register.delete_superseded_pushes(job.institution, job.provider, _FOREVER, lambda: _FOREVER)
        now = self.tools.clock()
        result = self.loaded(now, withdrawn=True)
        if released(self.dataset.lease, now) is not None:
            # An earlier invocation may still be deleting. So nobody may set the provider up again and load yet: the
            # record stays, with its lease, and the next run withdraws what is withdrawn already.
            close(job, self.dataset, records=records, objects=objects, result=result, now=now)
            return True
        records.put_outcome(job.run, job.subject, result, now)
        found = [*_stored(job, objects), *objects.keys(job.folder)]
        # The record goes last, for only whoever finds one looks for files; and it lets go of them before they go, for
        # one that points to a file which is gone could not be withdrawn any more.
        self.update(index=None, pending=None)
        objects.delete(found)
        records.remove_dataset(self.dataset, job.run)
        for _ in range(3):
            institution = records.institution(job.institution)
            provider = None if institution is None else institution.provider(job.provider)
            if institution is None or provider is None or not (provider.ended or institution.ended):
                break
            if records.drop_provider(institution, job.provider):
                break
        logger.info("NIGHT_DATASET_WITHDRAWN", extra={"dataset": job.subject})
        return True


def _padded(version: str) -> bytes:
    return version.encode().ljust(INDEX_ROW_SIZE - KEY_SIZE, b" ")


def _all_taken(institution: Institution, run: str, records: NightRecords) -> bool:
    successors = [provider for provider in institution.providers if provider.delivers_datasets and not provider.ended]
    return bool(successors) and all(
        records.dataset(institution.institution, successor.provider).run == run for successor in successors
    )


def _stored(job: Job, objects: Objects) -> list[str]:
    """All indexes and lists of the dataset. Their names are never used twice."""
    return [key for folder in (job.index_folder, job.pending_folder) for key in objects.keys(folder)]


def _sweep(found: list[str], dataset: Dataset, objects: Objects) -> None:
    """Delete what dead loads left behind: of what was ``found`` before ``dataset`` was written, what it does not use.

    So an invocation that another one has replaced without its knowing deletes nothing that is in use.
    """
    in_use = {dataset.index, dataset.pending, (dataset.fetch or {}).get("index"), (dataset.rekey or {}).get("pending")}
    in_use |= {one["file"] for one in dataset.retired or []}
    objects.delete([key for key in found if key not in in_use])


def _retired(version: str, file: str) -> dict[str, Any]:
    """Customer keys of a version of the hash key whose items are to be deleted, for ``Dataset.retired``."""
    return {"version": version, "file": file, "position": 0}


def _finish(job: Job, dataset: Dataset, tools: Loader) -> None:
    """What follows a commit of this run; all of it may be done twice."""
    result = dataset.last_run
    assert result is not None
    tools.records.put_outcome(job.run, job.subject, result, tools.clock())
    tools.objects.delete_prefix(job.folder)
    pushes = _delete_pushes(job, dataset, tools)
    fields = ("status", "added", "changed", "removed", "unchanged", "written")
    counts = {name: result.get(name) for name in fields}
    logger.info("NIGHT_DATASET_LOADED", extra={"dataset": job.subject, "pushes": pushes, **counts})


def _delete_pushes(job: Job, dataset: Dataset, tools: Loader) -> int:
    """Delete the pushes that the new dataset supersedes: its provider's, and those of providers that only push.

    Operators may set up other providers at any time, and what was superseded is so no more. So of pushes that were
    found it is asked then whether they are superseded; those that come later are left to later commits.
    """

    def cover(provider: str) -> str | None:
        institution = tools.records.institution(job.institution)
        if institution is None:
            return None
        times = dataset_times([institution], tools.records.datasets(job.institution))[job.institution]
        return cover_of(provider, times) if provider == job.provider or provider not in times else None

    institution = tools.records.institution(job.institution)
    if institution is None or dataset.as_of is None:
        return 0
    only_push = {provider.provider for provider in institution.providers if not provider.delivers_datasets}
    register = tools.register(dataset.key_version or FIRST_VERSION)  # pushes go whatever version they lie under
    return sum(
        register.delete_superseded_pushes(job.institution, provider, dataset.as_of, partial(cover, provider))
        for provider in {job.provider, *only_push}
    )
