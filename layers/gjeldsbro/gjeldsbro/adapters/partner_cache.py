"""What lookups and pushes need of the PartnerTable, kept for a while: none of them should read all of it anew."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from gjeldsbro.adapters.partners import Partners
from gjeldsbro.services.ports import Dataset, DatasetTime, Institution, Lender

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CACHE_SECONDS = 30

TIMES_SECONDS = 2
"""Datasets' times change once a night each, and all are in one partition, of which DynamoDB gives 3,000 units a second.

Two hundred of them take about 37 units to read.
"""

PUSHED_EVERY = timedelta(seconds=10)
"""How much earlier than a provider's last push the time may be that is remembered of it."""


class _Kept:
    """Values for as long as each may be kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._values: dict[str, tuple[float, Any]] = {}

    def get[T](self, name: str, read: Callable[[], T], seconds: float) -> T:
        now = self._clock()
        at, value = self._values.get(name, (now - seconds, None))
        if now - at >= seconds:
            value = read()
            self._values[name] = (now, value)
        kept: T = value
        return kept


class CachedPartners:
    """For lookups: lenders and institutions as within the last half minute, datasets' times within two seconds."""

    def __init__(self, partners: Partners, *, clock: Callable[[], float] = monotonic) -> None:
        self._partners = partners
        self._kept = _Kept(clock)

    def lenders(self) -> list[Lender]:
        """All lenders."""
        return self._kept.get("lenders", self._partners.lenders, CACHE_SECONDS)

    def institutions(self) -> list[Institution]:
        """All institutions, ended ones included, by id."""
        return self._kept.get("institutions", self._partners.institutions, CACHE_SECONDS)

    def dataset_times(self) -> list[DatasetTime]:
        """``asOf`` of every dataset, as it was within the last two seconds.

        Times that are older than the items read after them are the safe direction. A dataset that is committed
        meanwhile has written its items by then; with its time from before they count by their own timestamps, and
        pushes that it covers may count a moment longer, as before the commit. Times that are newer than the items
        would hide pushes in favour of loans that were not read. So these are only ever read before the items.
        """
        return self._kept.get("times", self._partners.dataset_times, TIMES_SECONDS)


class PushPartners:
    """For pushes: who may push is asked each time; datasets are as they were within the last two seconds."""

    def __init__(self, partners: Partners, *, clock: Callable[[], float] = monotonic) -> None:
        self._partners = partners
        self._kept = _Kept(clock)
        self._recorded: dict[tuple[str, str], datetime] = {}

    def institution(self, institution: str) -> Institution | None:
        """One institution, as it is now: a provider that is dropped is refused at once."""
        return self._partners.institution(institution)

    def datasets(self, institution: str) -> list[Dataset]:
        """The datasets of one institution, as they were within the last two seconds.

        Older times than the items' are the safe direction here too: a push that a dataset superseded in between is
        stored, counts for no reader, and goes with the next commit, as one does that was on its way at the commit.
        """
        return self._kept.get(institution, lambda: self._partners.datasets(institution), TIMES_SECONDS)

    def record_push(self, institution: str, provider: str, now: datetime) -> None:
        """Remember when a provider last pushed for an institution, to within PUSHED_EVERY."""
        recorded = self._recorded.get((institution, provider))
        if recorded is None or not recorded <= now < recorded + PUSHED_EVERY:
            self._partners.record_push(institution, provider, now)
            self._recorded[institution, provider] = now


@lru_cache(maxsize=1)
def push_partners(table: str, client: "DynamoDBClient") -> PushPartners:
    """Those of this process."""
    return PushPartners(Partners(table, client))
