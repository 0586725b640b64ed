"""What lookups need of the PartnerTable, kept for a while: a lookup should not read all institutions anew."""

from collections.abc import Callable
from time import monotonic
from typing import Any

from gjeldsbro.adapters.partners import Partners
from gjeldsbro.services.ports import DatasetTime, Institution, Lender

CACHE_SECONDS = 30

TIMES_SECONDS = 2
"""Datasets' times change once a night each, and all are in one partition, of which DynamoDB gives 3,000 units a second.

Two hundred of them take about 37 units to read.
"""


class CachedPartners:
    """Lenders and institutions as they were within the last half minute, datasets' times within two seconds."""

    def __init__(self, partners: Partners, *, clock: Callable[[], float] = monotonic) -> None:
        self._partners = partners
        self._clock = clock
        self._kept: dict[str, tuple[float, Any]] = {}

    def lenders(self) -> list[Lender]:
        """All lenders."""
        return self._keep("lenders", self._partners.lenders, CACHE_SECONDS)

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included, by id."""
        return self._keep("institutions", self._partners.institutions, CACHE_SECONDS)

    def dataset_times(self) -> list[DatasetTime]:
        """``asOf`` of every dataset, as it was within the last two seconds.

        Times that are older than the items read after them are the safe direction. A dataset that is committed
        meanwhile has written its items by then; with its time from before they count by their own timestamps, and
        pushes that it covers may count a moment longer, as before the commit. Times that are newer than the items
        would hide pushes in favour of loans that were not read. So these are only ever read before the items.
        """
        return self._keep("times", self._partners.dataset_times, TIMES_SECONDS)

    def _keep[T](self, name: str, read: Callable[[], T], seconds: float) -> T:
        now = self._clock()
        at, value = self._kept.get(name, (now - seconds, None))
        if now - at >= seconds:
            value = read()
            self._kept[name] = (now, value)
        kept: T = value
        return kept
