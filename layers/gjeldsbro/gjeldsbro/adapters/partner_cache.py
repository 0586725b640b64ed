"""What seldom changes in the PartnerTable, kept for half a minute: a lookup should not read all institutions anew."""

from collections.abc import Callable
from time import monotonic
from typing import Any

from gjeldsbro.adapters.partners import Partners
from gjeldsbro.services.ports import DatasetTime, Institution, Lender

CACHE_SECONDS = 30


class CachedPartners:
    """Lenders and institutions as they were within the last half minute; datasets' times as they are now."""

    def __init__(self, partners: Partners, *, clock: Callable[[], float] = monotonic) -> None:
        self._partners = partners
        self._clock = clock
        self._kept: dict[str, tuple[float, Any]] = {}

    def lenders(self) -> list[Lender]:
        """All lenders."""
        return self._keep("lenders", self._partners.lenders)

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included, by id."""
        return self._keep("institutions", self._partners.institutions)

    def dataset_times(self) -> list[DatasetTime]:
        """``asOf`` of every dataset, read now."""
        return self._partners.dataset_times()

    def _keep[T](self, name: str, read: Callable[[], T]) -> T:
        now = self._clock()
        at, value = self._kept.get(name, (now - CACHE_SECONDS, None))
        if now - at >= CACHE_SECONDS:
            value = read()
            self._kept[name] = (now, value)
        kept: T = value
        return kept
