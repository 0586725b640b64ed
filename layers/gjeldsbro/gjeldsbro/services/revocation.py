"""Whether a caller's certificate was revoked, as its issuer's list says that is kept in the PartnerTable.

==========================================  ==========================================================================
the issuer's list                           what becomes of its callers
==========================================  ==========================================================================
none is configured                          not checked; the log says so (``REVOCATION_NOT_CHECKED``)
configured, and not stored yet              503
in force                                    let in, unless revoked (401)
ended, the days of grace have not           as above: the last good list stays in use, and an alarm is on
ended, and so have the days of grace        503 until a newer list is read; those that are revoked stay so (401)
==========================================  ==========================================================================

When the store cannot be read, the answer is 503 as for every failure of the store. Nothing would be gained by trusting
an older reading then: whatever a caller asks for needs the same store.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from gjeldsbro.domain.callers import Caller
from gjeldsbro.domain.revocation import chunk_of, holds
from gjeldsbro.errors import NotAuthenticatedError, RevocationUnknownError
from gjeldsbro.log import logger

KEPT = timedelta(minutes=5)
"""How long a process relies on what it has read of a certificate: a revocation that we know of counts after this."""

MOST_KEPT = 1000
"""Certificates that a process remembers; the one that was read first makes room."""


class RevokedChunk(NamedTuple):
    """One chunk of a list (domain.revocation), and when the list's issuer meant to have published its successor."""

    digests: bytes
    next_update: datetime


class RevokedCertificates(Protocol):
    """The lists' chunks."""

    def chunk(self, issuer: str, name: str) -> RevokedChunk | None:
        """A chunk of an issuer's list; None when no list of that issuer is kept."""
        ...


class _Known(NamedTuple):
    read_at: datetime
    revoked: bool
    next_update: datetime | None


class RevocationCheck:
    """Asks for a certificate's own chunk, and remembers the answer for a few minutes. One for each process."""

    def __init__(self, lists: RevokedCertificates, grace: timedelta) -> None:
        self._lists = lists
        self._grace = grace
        self._known: dict[tuple[str, int], _Known] = {}

    def check(self, caller: Caller, now: datetime) -> None:
        """Return when the caller's certificate is not revoked, as far as its issuer's list must be known.

        Raises NotAuthenticatedError when it is, and RevocationUnknownError when the list is older than the grace.
        """
        known = self._known.get((caller.issuer, caller.serial))
        # What is too old is never relied on: the next request sees a newer list at once.
        if known is None or not known.read_at <= now < known.read_at + KEPT or self._is_too_old(known, now):
            known = self._read(caller, now)
        if known.revoked:
            raise NotAuthenticatedError("the client certificate is revoked")
        if self._is_too_old(known, now):
            raise RevocationUnknownError(f"the revocation list of issuer {caller.issuer} is too old")

    def _is_too_old(self, known: _Known, now: datetime) -> bool:
        return known.next_update is not None and now > known.next_update + self._grace

    def _read(self, caller: Caller, now: datetime) -> _Known:
        chunk = self._lists.chunk(caller.issuer, chunk_of(caller.serial))
        if chunk is None:
            logger.info("REVOCATION_NOT_CHECKED", extra={"issuer": caller.issuer})
            known = _Known(now, revoked=False, next_update=None)
        else:
            known = _Known(now, holds(chunk.digests, caller.serial), chunk.next_update)
        key = (caller.issuer, caller.serial)
        self._known.pop(key, None)
        if len(self._known) >= MOST_KEPT:
            del self._known[next(iter(self._known))]
        self._known[key] = known
        return known
