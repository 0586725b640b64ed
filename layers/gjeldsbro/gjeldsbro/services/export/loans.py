"""What a package says of its customers: the register's word, and the institutions' own where it is only an index.

A package holds all debt or is not delivered. So an institution in mode ``live`` is asked about each customer whom the
register knows there, one by one, as a lookup asks; of all others, and of its providers that cannot be asked, the
register's word counts. What is asked for packages is neither recorded nor announced as a lookup: a package feeds the
receiver's own score models, for which the law asks for no notice to the person, and who got which package is recorded
with its delivery.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import batched
from typing import Protocol

from gjeldsbro.domain.loans import Loan
from gjeldsbro.domain.register import CurrentLoan, DatasetTimes, Item, StoredItem, is_index_only, merge
from gjeldsbro.errors import InstitutionUnavailableError
from gjeldsbro.services.customer_debt import Asking, Breaker, CustomerDebt, DebtPartners
from gjeldsbro.services.customer_lookup import LookupRegister, dataset_times, items_of_many
from gjeldsbro.services.ports import DatasetTime, Institution, Provider

REQUESTS_PER_SECOND = 25
"""Asked of one provider by all functions together: half of what it must bear (TECH-03); lookups get the other half."""

ASKED_TOGETHER = 32
"""Customers that are asked for side by side, and between two looks at the time."""

TURN_SECONDS = 120
"""The longest wait for a provider's pace, when many slices ask it at once."""

ANSWER_SECONDS = 10
"""For an answer, second try included: no lender waits for it, so it may take longer than in a lookup."""

RESERVE_SECONDS = 60
"""Kept back for writing the slice, or how far it has come."""

_READ_AT_ONCE = 500
_IN_FORCE = sys.maxsize
"""In place of a version of the hash key: what was found to be in force stays so."""

type LoansOf = Mapping[str, Sequence[CurrentLoan]]
"""A customer's current loans per institution."""


class Pace(Protocol):
    """Spreads requests to one provider evenly, over all functions that ask it."""

    def turn(self, provider: str, now: float, latest: float) -> float | None:
        """When the next request may be sent, in seconds since 1970; None when that would be after ``latest``."""
        ...


@dataclass(frozen=True)
class PackageLoans:
    """Reads loans for packages. ``remaining`` gives the seconds until the function is ended."""

    partners: DebtPartners
    register: LookupRegister
    asking: Asking
    breaker: Breaker
    pace: Pace
    remaining: Callable[[], float]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def read(self, customer_ids: Sequence[str]) -> Iterator[list[LoansOf]]:
        """The current loans of each customer, some at a time, in their order.

        Ends early, after some at least unless others kept every provider busy, when there is no time for more. Raises
        InstitutionUnavailableError when an institution that must be asked does not answer, for whatever reason.
        """
        began = False
        for group in batched(customer_ids, _READ_AT_ONCE, strict=False):
            known = self._read(group)
            for part in known.parts():
                asked = [number for number in part if known.must_be_asked[number]]
                if asked and began and self.remaining() < TURN_SECONDS + ANSWER_SECONDS + RESERVE_SECONDS:
                    return
                answers = self._ask(known, asked) if asked else {}
                if answers is None:
                    return
                began = True
                yield [answers[number] if number in answers else known.loans(number) for number in part]

    def _read(self, customer_ids: Sequence[str]) -> "_Known":
        institutions = self.partners.institutions()
        times = self.partners.dataset_times()  # before the items: see dataset_times
        items = items_of_many(customer_ids, self.register, times)
        return _Known(customer_ids, institutions, times, items)

    def _ask(self, known: "_Known", asked: Sequence[int]) -> dict[int, LoansOf] | None:
        """What institutions and the register say of these customers together; None when it was not our turn."""
        paced = _Paced(self, self.clock() + TURN_SECONDS)
        view = _View(known, asked)
        debt = CustomerDebt(view, view, paced, paced)
        found = debt.of_many(
            [known.customer_ids[number] for number in asked],
            deadline=time.monotonic() + TURN_SECONDS + ANSWER_SECONDS,
            now=datetime.now(UTC),
        )
        missing = {creditor.institution for creditors in found for creditor in creditors if not creditor.answered}
        if missing and missing <= paced.without_turn - paced.failing:
            return None
        if missing:
            raise InstitutionUnavailableError(f"no answer about customers from {', '.join(sorted(missing))}")
        return {
            number: {creditor.institution: creditor.loans for creditor in creditors}
            for number, creditors in zip(asked, found, strict=True)
        }


class _Known:
    """What is stored of some customers, by their numbers in ``customer_ids``."""

    def __init__(
        self,
        customer_ids: Sequence[str],
        institutions: Sequence[Institution],
        times: Sequence[DatasetTime],
        items: Sequence[Sequence[Item]],
    ) -> None:
        self.customer_ids = customer_ids
        self.institutions = institutions
        self.dataset_times = times
        self.items = items
        self._times: Mapping[str, DatasetTimes] = dataset_times(institutions, times)
        live = {institution.institution: institution for institution in institutions if _is_asked(institution)}
        # Of a provider that no list of customers was accepted of yet, nobody knows whose institution it is.
        everybody = any(
            provider.can_be_asked and self._times[name].get(provider.provider) is None
            for name, institution in live.items()
            for provider in institution.providers
        )
        self.must_be_asked = [
            everybody or any(item.institution in live or is_index_only(item) for item in stored) for stored in items
        ]

    def parts(self) -> Iterator[list[int]]:
        """The customers in their order, in parts of which few enough must be asked for."""
        part: list[int] = []
        asked = 0
        for number, must_be_asked in enumerate(self.must_be_asked):
            if must_be_asked and asked == ASKED_TOGETHER:
                yield part
                part, asked = [], 0
            part.append(number)
            asked += must_be_asked
        yield part

    def loans(self, number: int) -> LoansOf:
        """What the register shows of a customer."""
        return merge(self.items[number], self._times).loans


class _View:
    """The register and the institutions as a package sees them: who is not ``live`` is not asked.

    An index without loans is asked about even if the institution's mode has been changed since: until its first dataset
    of loans is there, nobody else knows them.
    """

    def __init__(self, known: _Known, asked: Sequence[int]) -> None:
        self._known = known
        self._items = [known.items[number] for number in asked]
        self._indexed = {item.institution for items in self._items for item in items if is_index_only(item)}

    def institutions(self) -> list[Institution]:
        return [
            replace(
                institution,
                lookup="live" if _is_asked(institution) or institution.institution in self._indexed else "stored",
            )
            for institution in self._known.institutions
        ]

    def dataset_times(self) -> list[DatasetTime]:
        return list(self._known.dataset_times)

    newest_version = _IN_FORCE

    def items_of_many(self, customer_ids: Sequence[str]) -> list[list[StoredItem]]:  # noqa: ARG002 - those it was made for
        return [[StoredItem(_IN_FORCE, item) for item in items] for items in self._items]


class _Paced:
    """Asks at the providers' pace. Only what an institution did itself is told to the breaker."""

    def __init__(self, tools: PackageLoans, latest: float) -> None:
        self._tools = tools
        self._latest = latest
        self.without_turn: set[str] = set()
        self.failing: set[str] = set()

    def ask(self, provider: Provider, institution: str, customer_id: str, deadline: float) -> tuple[Loan, ...]:
        self._wait_for_turn(provider, institution)
        try:
            until = min(deadline, time.monotonic() + ANSWER_SECONDS)
            return self._tools.asking.ask(provider, institution, customer_id, until)
        except Exception:
            self.failing.add(institution)
            raise

    def _wait_for_turn(self, provider: Provider, institution: str) -> None:
        tools = self._tools
        while True:
            now = tools.clock()
            at = tools.pace.turn(provider.provider, now, self._latest)
            if at is not None:
                tools.sleep(max(0.0, at - now))
                return
            if now + 1 >= self._latest:
                self.without_turn.add(institution)
                raise InstitutionUnavailableError("others kept the provider busy")
            tools.sleep(random.uniform(1, 3))  # noqa: S311 - spreads those who wait, no secret

    def may_ask(self, institution: str, provider: str, now: datetime, *, fair: bool = True) -> bool:
        return self._tools.breaker.may_ask(institution, provider, now, fair=fair)

    def failed(self, institution: str, provider: str, now: datetime) -> None:
        if institution in self.failing:
            self._tools.breaker.failed(institution, provider, now)

    def answered(self, institution: str, provider: str, now: datetime) -> None:
        self._tools.breaker.answered(institution, provider, now)


def _is_asked(institution: Institution) -> bool:
    return (
        institution.lookup == "live"
        and not institution.ended
        and any(provider.can_be_asked for provider in institution.providers)
    )
