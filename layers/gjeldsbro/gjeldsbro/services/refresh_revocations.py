"""Keeps the revocation lists fresh: fetches each of them, and stores what is newer.

A list that cannot be fetched or used changes nothing: the last good one stays in use (services.revocation says for how
long), and what was wrong stands in its record until a later try succeeds.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from gjeldsbro.domain.revocation import chunks_of
from gjeldsbro.domain.timestamps import from_datetime, shorten
from gjeldsbro.errors import RevocationListError
from gjeldsbro.log import known_error, logger
from gjeldsbro.services.ports import RevocationList

MOST_FAILING = timedelta(hours=24)
"""After so long without a good answer a list counts as old, however long it says that it is in force."""

Status = Literal["refreshed", "unchanged", "failed"]


class ReadList(NamedTuple):
    """A list that an authority has signed."""

    this_update: datetime
    next_update: datetime
    serials: tuple[int, ...]
    digest: str


class Read(Protocol):
    """Reads and checks a list."""

    def __call__(self, data: bytes, *, certificate: str, url: str, now: datetime) -> ReadList:
        """What the list says; raises RevocationListError when it cannot be used."""
        ...


class RevocationLists(Protocol):
    """Where the lists are kept."""

    def lists(self) -> list[RevocationList]:
        """All configured lists."""
        ...

    def configure(self, configured: RevocationList) -> None:
        """Store name, address and certificate of a list; its callers are not let in before its chunks are stored."""
        ...

    def store(self, issuer: str, chunks: Mapping[str, bytes], this_update: datetime, next_update: datetime) -> bool:
        """Store a list's chunks; False when a newer list was stored meanwhile."""
        ...

    def record(self, refreshed: RevocationList) -> None:
        """Store what is known of a list that was read; a newer one that was stored meanwhile stays."""
        ...

    def record_failure(self, issuer: str, checked_at: datetime, problem: str) -> None:
        """Store why a list could not be read; what is known of the last good one stays."""
        ...


class Refreshed(NamedTuple):
    """A list after a try, and what the try did."""

    found: RevocationList
    status: Status


def is_old(found: RevocationList, now: datetime) -> bool:
    """Whether somebody must look after a list: its successor is due, or its server has failed for long."""
    if found.next_update is None or found.read_at is None:
        return True
    return now > found.next_update or now - found.read_at >= MOST_FAILING


def summary_of(refreshed: Refreshed) -> dict[str, Any]:
    """What became of a list, for whoever asked for it."""
    found = refreshed.found
    return {
        "issuer": found.issuer,
        "name": found.name,
        "status": refreshed.status,
        "problem": found.problem,
        "revoked": found.count,
        "thisUpdate": None if found.this_update is None else _shown(found.this_update),
        "nextUpdate": None if found.next_update is None else _shown(found.next_update),
    }


@dataclass(frozen=True)
class RefreshRevocations:
    """Fetches lists. ``fetch`` gives what is at an address, or raises RevocationListError."""

    lists: RevocationLists
    fetch: Callable[[str], bytes]
    read: Read
    clock: Callable[[], datetime]

    def refresh(self, issuers: Collection[str] | None = None) -> Iterator[Refreshed]:
        """Fetch all lists, or those of some issuers, one after the other: first those that waited longest."""
        chosen = [found for found in self.lists.lists() if issuers is None or found.issuer in issuers]
        for found in sorted(chosen, key=lambda one: one.checked_at.timestamp() if one.checked_at else 0):
            yield self._refresh(found)

    def put(self, configured: RevocationList) -> Refreshed:
        """Configure a list, when what is at its address can be used: else RevocationListError, and nothing changes."""
        before = next((found for found in self.lists.lists() if found.issuer == configured.issuer), None)
        if before is not None:
            configured = replace(before, name=configured.name, url=configured.url, certificate=configured.certificate)
        current = self._current(configured)
        self.lists.configure(configured)
        return self._store(configured, current)

    def _refresh(self, found: RevocationList) -> Refreshed:
        try:
            return self._store(found, self._current(found))
        except Exception as exc:  # noqa: BLE001 - whatever one list sets off, the others are read
            problem = _problem(exc)
            logger.warning("REVOCATION_LIST_FAILED", extra={"issuer": found.issuer, "reason": problem})
            now = self.clock()
            self.lists.record_failure(found.issuer, now, problem)
            return Refreshed(replace(found, checked_at=now, problem=problem), "failed")

    def _current(self, found: RevocationList) -> ReadList:
        data = self.fetch(found.url)
        current = self.read(data, certificate=found.certificate, url=found.url, now=self.clock())
        if found.this_update is not None and current.this_update < found.this_update:
            raise _older(current.this_update, found.this_update)
        return current

    def _store(self, found: RevocationList, current: ReadList) -> Refreshed:
        same = current.digest == found.digest
        if not same and not self.lists.store(
            found.issuer, chunks_of(current.serials), current.this_update, current.next_update
        ):
            raise RevocationListError("another run has stored a newer list meanwhile")
        now = self.clock()
        refreshed = replace(
            found,
            this_update=current.this_update,
            next_update=current.next_update,
            read_at=now,
            checked_at=now,
            problem=None,
            digest=current.digest,
            count=len(current.serials),
        )
        self.lists.record(refreshed)
        return Refreshed(refreshed, "unchanged" if same else "refreshed")


def _problem(exc: Exception) -> str:
    if isinstance(exc, RevocationListError):
        return str(exc)
    known = known_error(exc)
    return f"{type(known).__name__}: {known}"


def _older(given: datetime, used: datetime) -> RevocationListError:
    return RevocationListError(
        f"the server gives an older list (thisUpdate {_shown(given)}) than the one in use ({_shown(used)})"
    )


def _shown(moment: datetime) -> str:
    return shorten(from_datetime(moment))
