"""Everything at once, in memory: institutions, nights, pushes, receivers and exports that come into each other's way.

``test_whole_register`` drives it. A run goes its state machine's way, one invocation (``invocations``) after the other,
each of which can be stopped before every call to a store and after every write. What the real services do is told to
the model of ``whole_model``, which says what readers and packages may show.
"""

# ruff: noqa: D102 - services/*/ports.py say what the stores do

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any

from tests.unit import export_world, night_world
from tests.unit.export_world import MemoryFolder, MemoryPartners
from tests.unit.invocations import ENDLESS, Invocation, Machine, Task
from tests.unit.night_world import (
    PROVIDER,
    PUSHER,
    MemoryObjects,
    MemoryRecords,
    MemoryRegister,
    Mortality,
    RegisterView,
    World,
    page_json,
    people,
)
from tests.unit.whole_model import Loan, Loans, Model, Shown
from tests.unit.whole_model import Provider as KnownProvider

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.identity_numbers import organisation_identifiers
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, account_of, decode_loans, loan_type
from gjeldsbro.domain.loans import Loan as StoredLoan
from gjeldsbro.domain.register import DatasetItem, PushItem, StoredItem, is_index_only, merge, push_version
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import (
    InstitutionUnavailableError,
    InvalidMessageError,
    NotEntitledError,
)
from gjeldsbro.services.customer_lookup import dataset_times, items_of_many
from gjeldsbro.services.export import read_lists
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.loans import PackageLoans
from gjeldsbro.services.export.plan import Plan, plan_deliveries, plan_export, plan_packages
from gjeldsbro.services.export.read_lists import ListReader, ListRules
from gjeldsbro.services.export.report import report_export
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.fetch import fetch_pages
from gjeldsbro.services.night.load import load_dataset
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.night.report import record_failure
from gjeldsbro.services.ports import DatasetTime, Institution, Provider
from gjeldsbro.services.push import PushService, read_message
from gjeldsbro.services.reports.ports import Press

BANK, OTHER_BANK = "920013015", "985815534"
PEOPLE = people(4)
OTHER_PROVIDER = "9908:985815534"
PUSH_SECONDS = 30
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = {
    "repaymentLoan": ("originalBalance", "balance"),
    "creditFacility": ("creditLimit", "interestBearingBalance", "nonInterestBearingBalance"),
    "chargeCard": ("interestBearingBalance", "nonInterestBearingBalance"),
}


# Points in time


def ticks(moment: datetime) -> int:
    """A point in time in tenths of a microsecond, as SPEC's seven digits have it."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10


def parsed(text: str) -> int:
    """A timestamp in the fixed form."""
    return ticks(datetime.fromisoformat(text[:26] + "+00:00")) + int(text[26])


def written(at: int) -> str:
    """A timestamp as institutions send it, with all its digits."""
    moment = _EPOCH + timedelta(microseconds=at // 10)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{at % 10}Z"


# Loans in three forms


def amounts(kind: str, number: int, value: int | None) -> tuple[int, ...]:
    """Amounts that no other account has; ``value`` None or 0 for nothing owed."""
    owed = 1000 * number + value if value else 0
    return {
        "repaymentLoan": (1000 * number + 9, owed),
        "creditFacility": (owed, owed, 0),
        "chargeCard": (owed, 0),
    }[kind]


def loan_json(loan: Loan) -> dict[str, Any]:
    """SPEC's model of a loan."""
    wire: dict[str, Any] = {"type": loan.kind, "timestamp": written(loan.at), "accountID": loan.account}
    wire |= {name: str(amount) for name, amount in zip(_FIELDS[loan.kind], loan.amounts, strict=True)}
    if loan.kind == "repaymentLoan":
        wire["terms"] = "12"
    if loan.kind != "chargeCard":
        wire |= {"nominalInterestRate": "0800", "installmentCharges": "0", "installmentChargePeriod": "MONTHLY"}
    return wire | {"coBorrower": "0"}


def stored_amounts(loan: StoredLoan) -> tuple[int, ...]:
    """The amounts of one of the product's loans."""
    match loan:
        case CreditFacility():
            return loan.credit_limit, loan.interest_bearing_balance, loan.non_interest_bearing_balance
        case ChargeCard():
            return loan.interest_bearing_balance, loan.non_interest_bearing_balance
        case _:
            return loan.original_balance, loan.balance


# The stores


class Switch(Mortality):
    """Told of every write."""

    def __init__(self, world: "WholeWorld") -> None:
        super().__init__()
        self._world = world

    def wrote(self) -> None:
        self._world.observe()
        self._world.pause()


class Pausing:
    """A store before each of whose calls others may come."""

    def __init__(self, world: "WholeWorld", store: Any) -> None:
        self._world = world
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*values: Any, **named: Any) -> Any:
            self._world.pause()
            return found(*values, **named)

        return call


class WholeObjects(MemoryObjects):
    """The data bucket of both flows."""

    def get(self, key: str) -> bytes:
        return self.stored[key]


class WholePartners(MemoryRecords, MemoryPartners):
    """The PartnerTable of both flows."""

    def __init__(self, mortality: Mortality, *receivers: Any) -> None:
        MemoryPartners.__init__(self, *receivers)
        del self.runs  # those of MemoryRecords are for both flows
        MemoryRecords.__init__(self, mortality)
        self._tell = mortality

    def dataset_times(self) -> list[DatasetTime]:
        return [DatasetTime(held.institution, held.provider, held.as_of, held.key_version) for held in self.datasets()]

    def record_push(self, institution: str, provider: str, now: datetime) -> None:
        self._tell.wrote()


class WholeRegister(MemoryRegister):
    """The register with its pushes and its readers."""

    def __init__(self, mortality: Mortality, world: "WholeWorld") -> None:
        super().__init__(mortality)
        self.world = world
        self.held: dict[tuple[str, str, str, bytes, tuple[str, str]], StoredLoan] = {}

    def under(self, version: str) -> "WholeView":
        return WholeView(self, version)

    @property
    def newest_version(self) -> int:
        return self.world.hash_keys.keys[-1].number

    def items_of_many(self, customer_ids: Sequence[str]) -> list[list[StoredItem]]:
        return [list(self._items(customer)) for customer in customer_ids]

    def _items(self, customer: str) -> Iterator[StoredItem]:
        for key in self.world.hash_keys.readable:
            place = (key.version, key.customer_key(customer))
            for (version, institution, provider, of), loans in list(self.items.items()):
                if (version, of) == place:
                    yield StoredItem(key.number, DatasetItem(institution, provider, decode_loans(loans)))
            for (version, institution, provider, of, _), loan in list(self.held.items()):
                if (version, of) == place:
                    yield StoredItem(key.number, PushItem(institution, provider, loan))

    def put_pushes(self, pushes: Iterable[tuple[str, PushItem]], key: HashKey) -> int:
        count = 0
        for customer, push in pushes:
            self.world.pause()
            slot = self._slot(key, customer, push)
            if slot not in self.held or push_version(self.held[slot]) < push_version(push.loan):
                self.held[slot] = push.loan
                count += 1
        return count

    def delete_pushes(self, pushes: Iterable[tuple[str, StoredItem]]) -> int:
        count = 0
        for customer, (number, push) in pushes:
            self.world.pause()
            assert isinstance(push, PushItem)
            slot = self._slot(self.world.hash_keys.of_version(str(number)), customer, push)
            if self.held.get(slot) == push.loan:
                del self.held[slot]
                count += 1
        return count

    @staticmethod
    def _slot(key: HashKey, customer: str, push: PushItem) -> tuple[str, str, str, bytes, tuple[str, str]]:
        return key.version, push.institution, push.provider, key.customer_key(customer), account_of(push.loan)


class WholeView(RegisterView):
    """What a load writes; only who has the dataset's lease may."""

    _register: WholeRegister

    def write_dataset_items(
        self, institution: str, provider: str, run: str, rows: Iterable[tuple[bytes, bytes]]
    ) -> int:
        return super().write_dataset_items(institution, provider, run, self._told(institution, provider, rows))

    def delete_dataset_items(self, institution: str, provider: str, customer_keys: Iterable[bytes]) -> int:
        return super().delete_dataset_items(institution, provider, self._told(institution, provider, customer_keys))

    def delete_superseded_pushes(
        self, institution: str, provider: str, latest: str, cover: Callable[[], str | None]
    ) -> int:
        world = self._register.world
        world.pushes_go(institution, provider)
        found = [
            (slot, loan)
            for slot, loan in self._register.held.items()
            if slot[1:3] == (institution, provider) and loan.timestamp <= latest
        ]
        world.model.may_go(institution, provider)
        last = cover() if found else None
        world.model.may_go(institution, provider)  # others may have come while it was asked
        gone = [(slot, push_version(loan)) for slot, loan in found if last is not None and loan.timestamp <= last]
        for slot, version in gone:
            world.pause()
            if slot in self._register.held and push_version(self._register.held[slot]) == version:
                del self._register.held[slot]
        return len(gone)

    def _told[Row](self, institution: str, provider: str, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._register.world.load_writes(institution, provider)
            yield row


class WholeFolder(MemoryFolder):
    """A receiver's folder; whatever appears under a package's name is looked at."""

    def __init__(self, world: "WholeWorld", receiver: str) -> None:
        super().__init__()
        self._world = world
        self._receiver = receiver
        self._uploaded_by: dict[str, str] = {}

    @contextmanager
    def connect(self, receiver: Any) -> Iterator[Any]:
        with super().connect(receiver):
            yield Pausing(self._world, self)

    def replace(self, source: str, target: str) -> None:
        super().replace(source, target)
        if target.endswith(".gzip"):
            run = self._uploaded_by[source]  # another run may complete what this one left
            self._world.published(run, self._receiver, target.removesuffix(".gzip"), self.content[target])

    def write(self, name: str, start: int, pieces: Iterable[bytes]) -> int:
        assert not name.endswith(".gzip"), "nothing is written under a package's name"
        assert self._world.current is not None
        self._uploaded_by[name] = self._world.current.task.run
        return super().write(name, start, pieces)


# What institutions have, and what becomes of it


@dataclass
class Truth:
    """One account as its institution knows it; ``value`` None: there is none."""

    number: int
    home: str
    value: int | None = None
    changed: int = 0


@dataclass
class Extract:
    """What a provider hands out to one run: loans, or a list of customers."""

    kind: str
    dataset: dict[str, Loans]
    stamps: tuple[int, int] | None
    pages: list[bytes]


@dataclass
class Watch:
    """What a reader that is at work may see of some customers: all that could be seen at any moment of it."""

    customers: tuple[str, ...]
    shown: dict[tuple[str, str, tuple[str, str]], set[Shown | None]] = field(default_factory=dict)
    asked: dict[tuple[str, str], set[bool]] = field(default_factory=dict)


class WholeWorld(World):
    """Two institutions, three providers and one that only pushes, two receivers, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.current: Invocation | None = None
        self.switch = Switch(self)
        receivers = [
            export_world.receiver(receiver=name, on_behalf_of=on_behalf_of)
            for name, on_behalf_of in ((BANK, (BANK, OTHER_BANK)), (OTHER_BANK, (OTHER_BANK,)))
        ]
        self.table = WholePartners(self.switch, *receivers)
        self.bucket = WholeObjects(self.switch)
        self.shelf = WholeRegister(self.switch, self)
        self.records: Any = Pausing(self, self.table)
        self.objects: Any = Pausing(self, self.bucket)
        self.register = self.shelf
        self.folders = {name: WholeFolder(self, name) for name in (BANK, OTHER_BANK)}
        self.table.of = {
            BANK: _institution(BANK, PROVIDER, PUSHER),
            OTHER_BANK: _institution(OTHER_BANK, OTHER_PROVIDER),
        }
        self.model = Model(self._providers)
        kinds = tuple(_FIELDS)
        self.truth = {
            (bank, person, (kinds[(number + at + account) % 3], f"4001000{account * (number % 2)}")): Truth(
                1 + number * 4 + at * 2 + account, home
            )
            for number, person in enumerate(PEOPLE)
            for at, (bank, home) in enumerate(((BANK, PROVIDER), (OTHER_BANK, OTHER_PROVIDER)))
            for account in (0, 1)
        }
        self.faults: dict[tuple[str, str], str] = {}
        self.style = "fresh"
        self.page_count = 1
        self.extracts: dict[tuple[str, str, str], Extract] = {}
        self.earlier: dict[tuple[str, str, str], tuple[dict[str, Loans], tuple[int, int] | None]] = {}
        self.fetches: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
        """Between which points of our clocks a run was at work at fetching."""
        self.set_ups: dict[tuple[str, str], Institution | None] = {}
        """How an institution was set up when a run's last load of it began."""
        self.committed: dict[tuple[str, str], str] = {}
        self.loading: dict[tuple[str, str], str] = {}
        self.covers_at: dict[tuple[str, str, str], dict[str, int | None]] = {}
        self.watches: list[Watch] = []
        self.slices: dict[tuple[str, str, str, int], Watch] = {}
        self.numbers: dict[tuple[str, str, str], list[list[str]]] = {}
        self.deliveries: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        self.reported: set[str] = set()
        self.on_purpose: set[str] = set()
        """Runs that may deliver again."""

    # Time

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now + (self.current.skew if self.current else timedelta())

    def remaining(self) -> float:
        assert self.current is not None
        return 0.0 if self.current.hurried else (self.current.ends - self.now).total_seconds()

    def rotate(self) -> None:
        """There is a new hash key, in force in a quarter of an hour."""
        number = len(self.hash_keys.keys) + 1
        since = from_datetime(self.now + timedelta(minutes=15))
        self.hash_keys = HashKeys.of(*self.hash_keys.keys, HashKey(str(number), bytes([number]) * 32, since))

    def has_time(self) -> bool:
        return self.current is not None and not self.current.hurried

    def sleep(self, seconds: float) -> None:
        """A function waits of its own accord: time passes, and others may come."""
        self.now += timedelta(seconds=seconds)
        self.pause()

    def pause(self) -> None:
        if self.current is not None:
            self.current.pause()

    # What institutions' servers say

    def snapshot(self, bank: str, provider: str, kind: str) -> tuple[dict[str, Loans], tuple[int, int] | None]:
        """What a provider would deliver now: loans that are stamped in the world's ``style``; and those stamps."""
        now = ticks(self.clock())
        if kind == "ssn":
            customers = {
                person for (of, person, _), truth in self.truth.items() if of == bank and self._has(truth, provider)
            }
            return dict.fromkeys(sorted(customers), ()), (now, now)
        found: dict[str, Loans] = {}
        for (of, person, account), truth in self.truth.items():
            if of == bank and self._has(truth, provider):
                stamp = truth.changed if self.style == "last change" and found and truth.changed else now
                loan = Loan(*account, amounts(account[0], truth.number, truth.value), stamp)
                found[person] = (*found.get(person, ()), loan)
        stamps = [loan.at for loans in found.values() for loan in loans]
        return found, (min(stamps), max(stamps)) if stamps else None

    @staticmethod
    def _has(truth: Truth, provider: str) -> bool:
        return truth.home == provider and truth.value is not None

    def kind_of(self, bank: str, provider: str) -> str:
        """What the night fetches of a provider."""
        institution = self.table.of.get(bank)
        found = None if institution is None else institution.provider(provider)
        return "loans" if found is None else found.dataset

    def _extract(self, bank: str, provider: str, kind: str) -> Extract:
        """What is handed out to the run that asks, the same in all its tries for the same kind of dataset."""
        assert self.current is not None
        found = self.extracts.get((self.current.task.run, bank, provider))
        if found is None or found.kind != kind:
            dataset, stamps = self.earlier.pop((bank, provider, kind), None) or self.snapshot(bank, provider, kind)
            if self.faults.get((bank, provider)) == "empty":
                dataset, stamps = {}, None
            found = Extract(kind, dataset, stamps, _pages(bank, provider, dataset, self.page_count))
            self.extracts[self.current.task.run, bank, provider] = found
        return found

    def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        self.pause()
        extract = self._extract(institution, provider.provider, "loans")
        fault = self.faults.get((institution, provider.provider))
        body = _spoiled(extract.pages[page], fault)
        return FetchedPage(body, str(len(extract.pages)), len(body))

    def fetch_customers(self, provider: Provider, institution: str, seconds: float) -> FetchedPage:
        self.pause()
        extract = self._extract(institution, provider.provider, "ssn")
        fault = self.faults.get((institution, provider.provider))
        stamp = written(extract.stamps[0] if extract.stamps else ticks(self.now))
        if extract.stamps is None:
            extract.stamps = (ticks(self.now), ticks(self.now))
        document = {"providerID": provider.provider, "financialInstitutionID": institution, "timestamp": stamp}
        body = _spoiled(json.dumps({**document, "customers": list(extract.dataset)}).encode(), fault)
        return FetchedPage(body, None, len(body))

    def ask(self, provider: Provider, institution: str, customer_id: str, deadline: float) -> tuple[StoredLoan, ...]:
        """Packages ask about single customers: out of this test's scope, so nobody answers."""
        raise InstitutionUnavailableError("nobody answers about single customers here")

    # What is told to the model

    def _providers(self, bank: str) -> dict[str, KnownProvider]:
        institution = self.table.of.get(bank)
        known = () if institution is None else institution.providers
        return {provider.provider: KnownProvider(provider.delivers_datasets, provider.ended) for provider in known}

    def load_writes(self, bank: str, provider: str) -> None:
        """A load is about to write or delete a customer's item."""
        assert self.current is not None
        run = self.current.task.run
        dataset = self.table.dataset(bank, provider)
        assert dataset.lease is not None, "a load writes without a lease"
        assert dataset.lease.run == run, "a load writes although another run has the lease"
        if self.loading.get((bank, provider)) != run:
            self.loading[bank, provider] = run
            if self.current.task.withdraws:
                self._withdrawal(bank, provider)
            elif (run, bank, provider) in self.extracts:  # else it only deletes what lies under an older hash key
                self.model.load_begins(bank, provider, self.extracts[run, bank, provider].dataset)
            self.observe()

    def pushes_go(self, bank: str, provider: str) -> None:
        """A run is about to delete pushes."""
        assert self.current is not None
        if self.current.task.withdraws and self.current.task.subject == (bank, provider):
            self._withdrawal(bank, provider)

    def _withdrawal(self, bank: str, provider: str) -> None:
        assert self.current is not None
        begun_with = self.set_ups[self.current.task.run, bank]
        assert any(self._has_successors(institution) for institution in (begun_with, self.table.of.get(bank))), (
            "data goes before its successor's came"
        )
        self.model.withdrawal_begins(bank, provider)

    def _has_successors(self, institution: Institution | None) -> bool:
        """Whether an ended provider's data may go: all others have been taken by this run."""
        assert self.current is not None
        if institution is None or institution.ended:
            return True
        others = [other.provider for other in institution.providers if other.delivers_datasets and not other.ended]
        taken = {(self.current.task.run, institution.institution, other) for other in others}
        return bool(taken) and taken <= self.covers_at.keys()

    def observe(self) -> None:
        """Notice what became of datasets' records; those who are reading now may see what is there now."""
        for key, dataset in self.table.held.items():
            if dataset.run is not None and self.committed.get(key) != dataset.run:
                self._commit(key, dataset.run)
        for key in [key for key in self.committed if key not in self.table.held]:
            del self.committed[key]
            self.loading.pop(key, None)
            self.model.withdrawn(*key)
        for watch in self.watches:
            self._look(watch)

    def _commit(self, key: tuple[str, str], run: str) -> None:
        dataset, extract = self.table.held[key], self.extracts[run, *key]
        assert dataset.fetch_start is not None
        start = parsed(dataset.fetch_start)
        assert any(earliest <= start <= latest for earliest, latest in self.fetches[run, *key]), (
            "not when the fetch began"
        )
        if self.loading.get(key) != run:
            self.model.load_begins(*key, extract.dataset)
        self.model.committed(*key, extract.dataset, extract.stamps, start)
        assert dataset.as_of is not None
        assert parsed(dataset.as_of) == self.model.sides[key].as_of
        self.committed[key] = run
        self.loading.pop(key, None)
        self.covers_at[run, *key] = self.model.covers(key[0])

    def loaded(self, run: str, bank: str, provider: str) -> None:
        """A load has ended well."""
        key = (bank, provider)
        if self.committed.get(key) == run:
            now = self.model.covers(bank)
            then = self.covers_at[run, bank, provider]
            covers = {
                name: min(before, after)
                for name, before in then.items()
                if before is not None and (after := now.get(name)) is not None
            }
            self.model.cleaned_up(bank, provider, covers)

    # Readers

    def watch(self, *customers: str) -> Watch:
        """Somebody begins to read these customers."""
        watch = Watch(customers)
        self._look(watch)
        self.watches.append(watch)
        return watch

    def _look(self, watch: Watch) -> None:
        for person in watch.customers:
            for bank in (BANK, OTHER_BANK):
                watch.asked.setdefault((bank, person), set()).update(self.model.to_be_asked(bank, person))
                for account in self.model.accounts(bank, person):
                    seen = watch.shown.setdefault((bank, person, account), set())
                    seen |= self.model.shown(bank, person, account)

    def end_watch(self, watch: Watch) -> Watch:
        """It has ended; what it may have seen."""
        self._look(watch)
        self.watches = [other for other in self.watches if other is not watch]
        return watch

    def read(self, person: str) -> tuple[dict[tuple[str, tuple[str, str]], Shown], set[str]]:
        """What a reader sees: loans by (institution, account), and who has the person as a customer to ask about."""
        institutions, datasets = self.records.institutions(), self.records.dataset_times()
        times = dataset_times(institutions, datasets)
        self.pause()
        (items,) = items_of_many([person], self.shelf, datasets)
        found = {
            (bank, account_of(current.loan)): Shown(
                loan_type(current.loan), stored_amounts(current.loan), parsed(current.effective)
            )
            for bank, loans in merge(items, times).loans.items()
            for current in loans
        }
        return found, {item.institution for item in items if is_index_only(item)}

    def compare(self, watch: Watch, person: str, found: Any, asked: set[str]) -> None:
        """What was seen is what may be seen."""
        for bank in (BANK, OTHER_BANK):
            assert (bank in asked) in watch.asked[bank, person]
        seen = {(bank, person, account): shown for (bank, account), shown in found.items()}
        for key in seen.keys() | {key for key in watch.shown if key[1] == person}:
            possible = watch.shown.get(key, {None})
            assert seen.get(key) in possible, f"{key}: {seen.get(key)} is none of {possible}"

    def check(self) -> None:
        """Every person is shown as the model says, at this moment."""
        for person in PEOPLE:
            watch = Watch((person,))
            self._look(watch)
            self.compare(watch, person, *self.read(person))

    # Pushes

    def push(self, bank: str, provider: str, person: str, loan: Loan) -> Task:
        """A provider's message, as a task; its result: 200, 400 or 403."""
        body = page_json([{"customerID": person, "financialInstitutionID": bank, "loans": [loan_json(loan)]}], provider)
        organisation = next(iter(organisation_identifiers(provider)))
        service = PushService(self.records, self.shelf, self.hash_keys)

        def receive() -> int:
            now = self.now
            too_early = loan.at > ticks(now + timedelta(minutes=5))
            institution = self.table.of.get(bank)
            entitled = institution is not None and institution.may_report(provider)
            try:
                message = read_message(body, accepts="synthetic", now=now)
            except InvalidMessageError:
                assert too_early
                return 400
            assert not too_early, "a push from the future was taken"
            before = self.model.push_comes(bank, provider, person, loan) if entitled else set()
            self.observe()
            try:
                service.receive(message, organisation, now)
            except NotEntitledError:
                return 403
            if before:
                self.model.push_was_answered(bank, provider, person, loan, before)
            return 200

        return Task("push", receive)

    # Nights

    def night_machine(self, run: str, request: dict[str, Any]) -> Machine:
        """The state machine ``nightly_fetch``."""
        plan, failed = yield Task(run, partial(self.plan, run, **request), kills=0)
        if failed:
            return
        for institution in plan:
            name = institution["institution"]
            for dataset in institution["datasets"]:
                job = Job(run, name, dataset["provider"])
                work = partial(self._fetch, job, dataset["action"])
                yield from self._to_the_end(Task(run, work, subject=(name, job.provider)), dataset)
            providers = [dataset["provider"] for dataset in institution["datasets"]]
            judge = partial(self.judge, run, *providers, hold=institution["hold"], institution=name)
            judged, failed = yield Task(run, judge, kills=0)
            if failed:
                yield self._record(run, institution, failed)
                continue
            for steps, withdraws in (("datasets", False), ("withdrawals", True)):
                for step in judged[steps]:
                    job = Job(run, name, step["provider"])
                    work = partial(self._load, job)
                    task = Task(run, work, subject=(name, job.provider), withdraws=withdraws, step="load")
                    yield from self._to_the_end(task, step)
        _, failed = yield Task(run, partial(self.report, run), kills=6)
        if not failed:
            self.reported.add(run)

    def _fetch(self, job: Job, action: str) -> bool:
        spans = self.fetches.setdefault((job.run, job.institution, job.provider), [])
        number = len(spans)
        spans.append((ticks(self.clock()), ENDLESS**3))
        try:
            return fetch_pages(job, action, self.fetcher)
        finally:
            spans[number] = (spans[number][0], ticks(self.clock()))

    def _load(self, job: Job) -> bool:
        self.set_ups[job.run, job.institution] = self.table.of.get(job.institution)
        complete = load_dataset(job, self.loader)
        if complete:
            self.loaded(job.run, job.institution, job.provider)
        return complete

    def _to_the_end(self, task: Task, subject: dict[str, Any]) -> Machine:
        for _ in range(100):
            complete, failed = yield task
            if failed:
                yield self._record(task.run, subject, failed)
            if failed or complete:
                return
        raise AssertionError("it does not end")

    def _record(self, run: str, subject: dict[str, Any], error: dict[str, str], flow: str = "nightly") -> Task:
        record = partial(record_failure, flow, run, subject, error, records=self.records, clock=self.clock)
        return Task(run, record, kills=0)

    # Exports

    def export_machine(self, run: str, request: dict[str, Any]) -> Machine:
        """The state machine ``quarterly_export``."""
        if request.get("again"):
            self.on_purpose.add(run)
        plan = partial(
            plan_export,
            run=run,
            started_at=self.now,
            request=request,
            partners=self.records,
            store=self.objects,
        )
        planned, failed = yield Task(run, plan, kills=0)
        if failed:
            return
        for item in self.bucket.get_json(planned["manifestKey"]):
            yield from self._to_the_end_of_export(run, partial(self._read_lists, run, item["receiver"]), item)
        shared = {"run": run, "partners": self.records, "store": self.objects}
        planned, failed = yield Task(run, partial(plan_packages, **shared), kills=0)
        items = [] if failed else self.bucket.get_json(planned["manifestKey"])
        for item in items:
            yield from self._to_the_end_of_export(run, partial(self._build, run, item), item)
        if items:
            planned, failed = yield Task(run, partial(plan_deliveries, **shared, now=self.now), kills=0)
            for of_receiver in [] if failed else self.bucket.get_json(planned["manifestKey"]):
                for item in of_receiver["deliveries"]:
                    yield from self._to_the_end_of_export(run, partial(self._deliver, run, item), item)
        press = Press(self.reports, night_world.page, "gjeldsbro")
        _, failed = yield Task(run, partial(report_export, **shared, press=press, now=self.now), kills=6)
        if not failed:
            self.reported.add(run)

    def _to_the_end_of_export(self, run: str, call: Callable[[], Any], item: dict[str, Any]) -> Machine:
        for _ in range(100):
            complete, failed = yield Task(run, call, step="build" if "batch" in item else "deliver")
            if failed:
                yield self._record(run, item, failed, "export")
            if failed or complete:
                return
        raise AssertionError("it does not end")

    def _read_lists(self, run: str, receiver: str) -> bool:
        reader = ListReader(
            plan=Plan.load(self.objects, run),
            receiver=receiver,
            partners=self.records,
            store=self.objects,
            rules=ListRules("synthetic", {BANK, OTHER_BANK}.__contains__),
            clock=self.clock,
            has_time=self.has_time,
            pause=self.sleep,
        )
        for on_behalf_of in (BANK, OTHER_BANK):
            self.numbers.setdefault((run, receiver, on_behalf_of), [])
        self.lists_written()
        return reader.read(self.folders[receiver].connect)

    def lists_written(self) -> None:
        """Runs that have begun to read a list may find it as it is now."""
        for (_, receiver, on_behalf_of), possible in self.numbers.items():
            numbers = self.folders[receiver].content.get(f"{on_behalf_of}.txt", b"").decode().split(",")
            possible.append([number for number in dict.fromkeys(numbers) if number in PEOPLE])

    def _build(self, run: str, item: dict[str, Any]) -> bool:
        key = (run, item["receiver"], item["onBehalfOf"], item["batch"])
        if key not in self.slices:
            self.slices[key] = self.watch(*PEOPLE)
        loans = PackageLoans(self.records, Pausing(self, self.shelf), self, _NoBreaker(), _NoPace(), self.remaining)
        done = build_package_slice(
            run=run,
            receiver=item["receiver"],
            on_behalf_of=item["onBehalfOf"],
            batch=item["batch"],
            store=self.objects,
            loans=loans,
            keys=self.hash_keys,
        )
        if done.complete and self.slices[key] in self.watches:
            self.end_watch(self.slices[key])
        return done.complete

    def _deliver(self, run: str, item: dict[str, Any]) -> bool:
        assert self.current is not None
        delivery = PackageDelivery(
            plan=Plan.load(self.objects, run),
            receiver=item["receiver"],
            on_behalf_of=item["onBehalfOf"],
            provider="9908:983544622",
            partners=self.records,
            store=self.objects,
            clock=self.clock,
            has_time=self.has_time,
            ends=self.current.ends + self.current.skew,
        )
        return delivery.deliver(self.folders[item["receiver"]].connect)

    def published(self, run: str, receiver: str, on_behalf_of: str, data: bytes) -> None:
        """A file has got a package's name: it is whole, says what the model says, and is the quarter's only one."""
        document = json.loads(gzip.decompress(data))
        numbers = [customer["customerID"] for customer in document["customers"]]
        assert numbers in self.numbers[run, receiver, on_behalf_of]
        stamps = set()
        for place, customer in enumerate(document["customers"]):
            watch = self.slices[run, receiver, on_behalf_of, place // read_lists.BATCH_SIZE]
            assert customer["financialInstitutionID"] == on_behalf_of
            found = [
                (loan["type"], tuple(int(loan[name]) for name in _FIELDS[loan["type"]])) for loan in customer["loans"]
            ]
            stamps |= {loan["timestamp"] for loan in customer["loans"]}
            assert _may_hold(watch, customer["customerID"], found), "a package shows what the register did not"
        assert len(stamps) <= 1
        plan = Plan.load(self.bucket, run)
        made = self.deliveries.setdefault((receiver, on_behalf_of, plan.quarter), [])
        made.append((run, sha256(data).hexdigest()))
        contents = {digest for of, digest in made if of not in self.on_purpose}
        assert len(contents) <= 1, "delivered twice in a quarter, with different content"


class _NoBreaker:
    def may_ask(self, institution: str, provider: str, now: datetime, *, fair: bool = True) -> bool:
        return True

    def failed(self, institution: str, provider: str, now: datetime) -> None:
        pass

    answered = failed


class _NoPace:
    def turn(self, provider: str, now: float, latest: float) -> float | None:
        return now


def _may_hold(watch: Watch, person: str, found: list[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether a package's loans are one possible choice. Their accounts have no names there: any that fits will do."""
    choices = [
        {None if shown is None else (shown.kind, shown.amounts) for shown in possible}
        for (_, whom, _), possible in watch.shown.items()
        if whom == person
    ]

    def fits(left: list[tuple[str, tuple[int, ...]]], number: int) -> bool:
        if number == len(choices):
            return not left
        return any(
            fits(left[:at] + left[at + 1 :], number + 1) for at, loan in enumerate(left) if loan in choices[number]
        ) or (None in choices[number] and fits(left, number + 1))

    return fits(found, 0)


def _institution(name: str, *providers: str) -> Institution:
    return Institution(name, "Testbanken", 60, tuple(map(provider_of, providers)))


def provider_of(name: str) -> Provider:
    """A provider that delivers datasets, but for the one that only pushes."""
    return Provider(name, url=None if name == PUSHER else f"https://fi{name[-3:]}.example.no")


def _pages(bank: str, provider: str, dataset: dict[str, Loans], count: int) -> list[bytes]:
    customers = [
        {"customerID": person, "financialInstitutionID": bank, "loans": [loan_json(loan) for loan in loans]}
        for person, loans in dataset.items()
    ]
    customers += [
        {"customerID": person, "financialInstitutionID": bank, "loans": []}
        for person in PEOPLE[:1]
        if person not in dataset
    ]
    return [page_json(customers[number::count], provider) for number in range(count)]


def _spoiled(body: bytes, fault: str | None) -> bytes:
    if fault == "unavailable":
        raise InstitutionUnavailableError("the server does not answer")
    if fault == "foreign":
        return body.replace(b'"financialInstitutionID": "9', b'"financialInstitutionID": "8')
    return body[:-2] if fault == "truncated" else body
