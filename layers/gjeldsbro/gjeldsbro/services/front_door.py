"""Between a caller that we know and every route: was its certificate revoked, does it ask too often."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Protocol

from gjeldsbro.domain.callers import Caller
from gjeldsbro.errors import TooManyRequestsError

WINDOW = timedelta(seconds=10)
"""Requests of a caller are counted in windows of this length, which begin at the same times for all."""


class Revocations(Protocol):
    """Which certificates their issuers have revoked."""

    def check(self, caller: Caller, now: datetime) -> None:
        """Return when the caller's certificate is not revoked.

        Raises NotAuthenticatedError when it is, and RevocationUnknownError when that cannot be told.
        """
        ...


class CallerRates(Protocol):
    """Counts requests, for all functions of the API together."""

    def count(self, organisation: str, window_start: datetime, expires: datetime) -> int:
        """Count one more request in that window; the number of them now. After ``expires`` the count may go."""
        ...


@dataclass(frozen=True)
class FrontDoor:
    """The last step before a route. One for each process: it remembers who asks too often."""

    revocations: Revocations | None
    rates: CallerRates
    requests_per_caller: int
    _full: dict[str, datetime] = field(default_factory=dict, init=False, repr=False, compare=False)

    def admit(self, caller: Caller, now: datetime) -> None:
        """Return when ``caller`` may go on to the route.

        Raises NotAuthenticatedError (revoked), RevocationUnknownError, or TooManyRequestsError with the seconds until
        the caller's next window.
        """
        if self.revocations is not None:
            self.revocations.check(caller, now)
        self._count(caller.organisation, now)

    def _count(self, organisation: str, now: datetime) -> None:
        seconds = int(WINDOW.total_seconds())
        start = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)
        # Whoever is over its number in this window stays so: no need to write it down once more for each request.
        if self._full.get(organisation) != start:
            if self.rates.count(organisation, start, start + WINDOW) <= self.requests_per_caller:
                return
            self._full[organisation] = start
        raise TooManyRequestsError(max(1, ceil((start + WINDOW - now).total_seconds())))
