"""The register as the design describes it, and nothing of how it is made: the model of ``test_whole_register``.

Written from the rules alone (docs/architecture.md, "The register", and docs/decisions/0009); it imports nothing of the
product. Where the rules leave something open, it knows all that may be: while a load is at work a customer's dataset
item may be the old one or the new one; loans whose content did not change may keep an older stamp; a push that a
dataset supersedes may be there until the load has cleaned up. Points in time are integers.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import NamedTuple


class Loan(NamedTuple):
    """What somebody says of one account: amounts in the order of SPEC's fields, as of ``at``."""

    kind: str
    account: str
    amounts: tuple[int, ...]
    at: int


class Shown(NamedTuple):
    """What a reader sees of an account that is debt; None stands for no debt."""

    kind: str
    amounts: tuple[int, ...]
    effective: int


class Provider(NamedTuple):
    """How a provider of an institution is set up."""

    delivers: bool
    ended: bool


Loans = tuple[Loan, ...]
"""A customer's dataset item; () means "is a customer, ask"."""

Account = tuple[str, str]
"""(kind, account)"""


class Side:
    """One provider's dataset of one institution: ``may`` holds each customer's possible items, None for no item."""

    def __init__(self) -> None:
        self.as_of: int | None = None
        self.fetch_start: int | None = None
        self.customers = 0
        self.may: dict[str, set[Loans | None]] = {}

    def possible(self, customer: str) -> set[Loans | None]:
        """What the register may hold of a customer."""
        return self.may.get(customer, {None})


class Model:
    """What the register may show. ``providers`` says how an institution's providers are set up now."""

    def __init__(self, providers: Callable[[str], Mapping[str, Provider]]) -> None:
        self._providers = providers
        self.sides: dict[tuple[str, str], Side] = {}
        self.pushes: dict[tuple[str, str, str, Account], set[Loan | None]] = {}

    # Nights

    def load_begins(self, institution: str, provider: str, dataset: Mapping[str, Loans]) -> None:
        """From now on any customer may be as before, or as in ``dataset``."""
        side = self.sides.setdefault((institution, provider), Side())
        for customer in side.may.keys() | dataset.keys():
            side.may[customer] = side.possible(customer) | {dataset.get(customer)}

    def committed(
        self,
        institution: str,
        provider: str,
        dataset: Mapping[str, Loans],
        stamps: tuple[int, int] | None,
        fetch_start: int,
    ) -> None:
        """The dataset is accepted. ``stamps``: its earliest and latest timestamp, None of a dataset without any."""
        side = self.sides[institution, provider]
        side.as_of = as_of(stamps, side.as_of, side.fetch_start, fetch_start)
        side.fetch_start = fetch_start
        side.customers = len(dataset)
        for customer, possible in side.may.items():
            new = dataset.get(customer)
            side.may[customer] = {new} | {old for old in possible if content(old) == content(new)}
        for slot in self._superseded(institution, provider):
            self.pushes[slot] |= {None}

    def cleaned_up(self, institution: str, provider: str, covers: Mapping[str, int | None]) -> None:
        """The run that committed has ended its work: pushes up to ``covers`` (from before it did) are gone."""
        for slot in self._superseded(institution, provider):
            before = covers.get(slot[1])
            if before is not None:
                self.pushes[slot] = {push for push in self.pushes[slot] if push is None or push.at > before} or {None}

    def may_go(self, institution: str, provider: str) -> None:
        """A load deletes pushes of a provider: those that are superseded now may be gone, whatever is so later."""
        cover = self.cover(institution, provider)
        for slot, pushes in self.pushes.items():
            if slot[:2] == (institution, provider) and any(push and _is_covered(push, cover) for push in pushes):
                pushes.add(None)

    def withdrawn(self, institution: str, provider: str) -> None:
        """An ended provider's data is gone, its pushes too."""
        self.sides.pop((institution, provider), None)
        for slot in self.pushes:
            if slot[:2] == (institution, provider):
                self.pushes[slot] = {None}

    def withdrawal_begins(self, institution: str, provider: str) -> None:
        """From now on any of it may be gone."""
        self.load_begins(institution, provider, {})
        for slot in self.pushes:
            if slot[:2] == (institution, provider):
                self.pushes[slot] |= {None}

    def covers(self, institution: str) -> dict[str, int | None]:
        """The cover of each provider's pushes."""
        names = {provider for of, provider, *_ in self.pushes if of == institution}
        return {provider: self.cover(institution, provider) for provider in names}

    def cover(self, institution: str, provider: str) -> int | None:
        """Up to when pushes of a provider are superfluous; None for never."""
        times = self._times(institution)
        if provider in times:
            return times[provider]
        if not times or None in times.values():
            return None
        return min(time for time in times.values() if time is not None)

    def _times(self, institution: str) -> dict[str, int | None]:
        """AsOf of whoever delivers datasets, None before the first; and of whoever's dataset is still in use."""
        times: dict[str, int | None] = {
            name: None
            for name, provider in self._providers(institution).items()
            if provider.delivers and not provider.ended
        }
        for (of, name), side in self.sides.items():
            if of == institution and side.as_of is not None:
                times[name] = side.as_of
        return times

    def _superseded(self, institution: str, provider: str) -> list[tuple[str, str, str, Account]]:
        """The slots of pushes that a commit of this provider's dataset may have made superfluous."""
        times = self._times(institution)
        return [
            slot
            for slot, pushes in self.pushes.items()
            if slot[0] == institution
            and (slot[1] == provider or slot[1] not in times)
            and any(push is not None and _is_covered(push, self.cover(institution, slot[1])) for push in pushes)
        ]

    # Pushes

    def counts(self, institution: str, provider: str, customer: str, loan: Loan) -> set[bool]:
        """Whether a push counts now."""
        cover = self.cover(institution, provider)
        account = (loan.kind, loan.account)
        return {
            not _is_covered(loan, cover) and all(loan.at > effective for _, effective in said)
            for said in self._said(institution, customer, account)
        }

    def push_comes(self, institution: str, provider: str, customer: str, loan: Loan) -> set[bool]:
        """A push is on its way: it may be stored from now on. Returns whether it counts now."""
        slot = (institution, provider, customer, (loan.kind, loan.account))
        counts = self.counts(institution, provider, customer, loan)
        held = self.pushes.setdefault(slot, {None})
        if True in counts:
            held |= {loan for old in held if old is None or old.at <= loan.at}
        return counts

    def push_was_answered(self, institution: str, provider: str, customer: str, loan: Loan, before: set[bool]) -> None:
        """It was answered with 200: it is in the register, or older than what that holds."""
        slot = (institution, provider, customer, (loan.kind, loan.account))
        after = self.push_comes(institution, provider, customer, loan)
        if before == after == {True}:
            self.pushes[slot] = {old for old in self.pushes[slot] if old is not None and old.at >= loan.at}
        elif True in before:
            self.pushes[slot].add(loan)

    # Readers

    def accounts(self, institution: str, customer: str) -> set[Account]:
        """Of which anything may be known."""
        found = {account for of, _, whom, account in self.pushes if (of, whom) == (institution, customer)}
        for (of, _), side in self.sides.items():
            if of == institution:
                found |= {(loan.kind, loan.account) for loans in side.possible(customer) if loans for loan in loans}
        return found

    def shown(self, institution: str, customer: str, account: Account) -> set[Shown | None]:
        """All that a reader may see of an account at this moment."""
        pushed = [
            (self.cover(institution, provider), held)
            for (of, provider, whom, what), held in self.pushes.items()
            if (of, whom, what) == (institution, customer, account)
        ]
        seen: set[Shown | None] = set()
        for said in self._said(institution, customer, account):
            newest_said = max((effective for _, effective in said), default=None)
            for pushes in product(*(held for _, held in pushed)):
                counting = [
                    push
                    for (cover, _), push in zip(pushed, pushes, strict=True)
                    if push is not None
                    and not _is_covered(push, cover)
                    and (newest_said is None or push.at > newest_said)
                ]
                claims = [(loan, effective, False) for loan, effective in said]
                claims += [(push, push.at, True) for push in counting]
                newest = max((effective for _, effective, _ in claims), default=None)
                if newest is None:
                    seen.add(None)
                for loan, effective, was_pushed in claims:
                    if effective == newest:
                        debt = is_debt(loan, pushed=was_pushed)
                        seen.add(Shown(loan.kind, loan.amounts, effective) if debt else None)
        return seen

    def to_be_asked(self, institution: str, customer: str) -> set[bool]:
        """Whether a reader may see that the institution has the customer, and knows alone what is owed."""
        sides = [side.possible(customer) for (of, _), side in self.sides.items() if of == institution]
        return {() in items for items in product(*sides)}

    def _said(self, institution: str, customer: str, account: Account) -> Iterator[list[tuple[Loan, int]]]:
        """All that datasets may say of an account: each provider's loan with its effective time."""
        sides = [side for (of, _), side in self.sides.items() if of == institution]
        options = []
        for side in sides:
            said: set[tuple[Loan, int] | None] = set()
            for loans in side.possible(customer):
                found = [loan for loan in loans or () if (loan.kind, loan.account) == account]
                said |= {(loan, max(loan.at, side.as_of or 0)) for loan in found} or {None}
            options.append(said)
        for combination in product(*options):
            yield [said for said in combination if said is not None]


def as_of(stamps: tuple[int, int] | None, previous: int | None, previous_start: int | None, start: int) -> int:
    """Since when a dataset speaks: its earliest stamp, or later if something proves that it was made later."""
    if stamps is None:
        found = start
    else:
        earliest, latest = stamps
        found = min(earliest, start)
        if previous_start is not None and latest > previous_start:
            found = max(found, previous_start)
    return found if previous is None else max(found, previous)


def is_debt(loan: Loan, *, pushed: bool) -> bool:
    """Contract, "What counts as debt"."""
    if loan.kind == "repaymentLoan":
        return loan.amounts[1] != 0
    if loan.kind == "creditFacility":
        return any(loan.amounts)
    return not pushed or any(loan.amounts)


def content(item: Loans | None) -> frozenset[tuple[str, str, tuple[int, ...]]] | None:
    """An item without its stamps."""
    return None if item is None else frozenset(loan[:3] for loan in item)


def _is_covered(push: Loan, cover: int | None) -> bool:
    return cover is not None and push.at <= cover
