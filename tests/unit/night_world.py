"""Everything around the nightly fetch, in memory: stores that can die at any write, and institutions that can fail."""

# ruff: noqa: D102 - services/night/ports.py says what the stores do

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from random import Random
from threading import Semaphore, Thread, current_thread
from typing import Any

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.dataset_index import INDEX_ROW_SIZE, KEY_SIZE, rows
from gjeldsbro.domain.loans import content_digest, decode_loans
from gjeldsbro.domain.register import DatasetItem, StoredItem, merge
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError
from gjeldsbro.pages import page
from gjeldsbro.services.customer_lookup import dataset_times, items_of_many
from gjeldsbro.services.night import plan, report
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.fetch import Fetcher, fetch_pages
from gjeldsbro.services.night.judge import judge_institution
from gjeldsbro.services.night.leases import taken
from gjeldsbro.services.night.load import Loader, load_dataset
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Dataset, DatasetKind, Institution, LookupMode, Provider
from gjeldsbro.services.reports.ports import Press
from gjeldsbro_population.identity import customer_ids

FI = "920013015"
PROVIDER = "9908:920013015"
SUCCESSOR = "9908:985815534"
PUSHER = "9908:983544622"

Amounts = dict[str, int]
"""What a test's dataset says: customerID to the balance of its one loan; 0: a customer without loans; ASK."""

ASK = -1
"""In place of a balance: the register knows no loans of the customer, only that the institution is to be asked."""


FOREVER = 10**9


class DiedError(BaseException):
    """The function was ended right after a write: nothing of it, no handler of errors either, does anything more."""


@lru_cache(maxsize=None)
def people(count: int) -> tuple[str, ...]:
    """The first ``count`` synthetic customers."""
    return tuple(islice(customer_ids(Random(7)), count))


def customer_json(customer: str, balance: int, *, timestamp: str, institution: str = FI) -> dict[str, Any]:
    """A customer in SPEC's model."""
    loan = {
        "type": "repaymentLoan",
        "timestamp": timestamp,
        "accountID": "4001",
        "originalBalance": "900",
        "balance": str(balance),
        "terms": "12",
        "nominalInterestRate": "0800",
        "installmentCharges": "0",
        "installmentChargePeriod": "MONTHLY",
        "coBorrower": "0",
    }
    return {"customerID": customer, "financialInstitutionID": institution, "loans": [loan] if balance else []}


def page_json(customers: Iterable[dict[str, Any]], provider: str = PROVIDER) -> bytes:
    """A page in SPEC's model."""
    return json.dumps({"providerID": provider, "customers": list(customers)}).encode()


def list_json(customers: Iterable[str], *, timestamp: str, institution: str = FI, provider: str = PROVIDER) -> bytes:
    """A list of customers in SPEC 4.5's model."""
    document = {"providerID": provider, "financialInstitutionID": institution, "timestamp": timestamp}
    return json.dumps({**document, "customers": list(customers)}).encode()


class Mortality:
    """Counts writes and dies after the ``last`` one that it allows.

    ``pause`` is called before each call of a store; ``witness`` looks on after each write.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.last: int | None = None
        self.pause: Callable[[], None] = lambda: None
        self.witness: Callable[[], None] = lambda: None

    def wrote(self) -> None:
        """A write has happened."""
        self.writes += 1
        self.witness()
        if self.last is not None and self.writes >= self.last:
            raise DiedError


def in_turns(first: Callable[[], object], second: Callable[[], object], world: "World", turns: Iterable[int]) -> None:
    """Run two functions side by side, as two invocations do: so many calls of the stores each, in turns.

    ``turns`` are the lengths of the turns, ``first`` begins; after the last one each runs to its end, the one whose
    turn it is first. What they raise is not heard: nobody listens to an invocation that was given up.
    """
    lengths = iter(turns)
    batons = (Semaphore(0), Semaphore(0))
    left = [next(lengths, FOREVER)]
    ended = [False, False]

    def hand_over(me: int) -> None:
        left[0] = next(lengths, FOREVER)
        batons[1 - me].release()

    def step(me: int) -> None:
        if left[0] == 0 and not ended[1 - me]:
            hand_over(me)
            batons[me].acquire()
        left[0] -= 1

    def run(me: int, work: Callable[[], object]) -> None:
        batons[me].acquire()
        try:
            with suppress(Exception):
                work()
        finally:
            ended[me] = True
            hand_over(me)

    threads = [Thread(target=run, args=(me, work)) for me, work in enumerate((first, second))]
    world.mortality.pause = lambda: step(threads.index(current_thread()))
    for thread in threads:
        thread.start()
    batons[0].release()
    for thread in threads:
        thread.join()
    world.mortality.pause = lambda: None


class MemoryObjects:
    """The data bucket."""

    bucket = "data"

    def __init__(self, mortality: Mortality) -> None:
        self.stored: dict[str, bytes] = {}
        self.largest_read = 0
        self._mortality = mortality

    def put(self, key: str, data: bytes, content_type: str = "") -> None:
        self._mortality.pause()
        self.stored[key] = data
        self._mortality.wrote()

    def put_json(self, key: str, value: Any) -> None:
        self.put(key, json.dumps(value).encode())

    def get_json(self, key: str) -> Any:
        return json.loads(self.stored[key])

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        self._mortality.pause()
        data = self.stored[key]
        for at in range(start, len(data), chunk):
            self.largest_read = max(self.largest_read, len(data[at : at + chunk]))
            yield data[at : at + chunk]

    def keys(self, prefix: str) -> Iterator[str]:
        self._mortality.pause()
        yield from sorted(key for key in self.stored if key.startswith(prefix))

    def delete(self, keys: Iterable[str]) -> int:
        self._mortality.pause()
        named = list(keys)
        for key in named:
            self.stored.pop(key, None)
            self._mortality.wrote()
        return len(named)

    def delete_prefix(self, prefix: str) -> int:
        return self.delete(list(self.keys(prefix)))

    @contextmanager
    def writer(self, key: str) -> Iterator[Any]:
        parts: list[bytes] = []

        class Writer:
            def write(self, data: bytes) -> None:
                parts.append(data)

        yield Writer()
        self.put(key, b"".join(parts))


class MemoryRecords:
    """The PartnerTable, with the conditions of the real one."""

    def __init__(self, mortality: Mortality) -> None:
        self.of: dict[str, Institution] = {}
        self.held: dict[tuple[str, str], Dataset] = {}
        self.outcome_of: dict[tuple[str, str], dict[str, Any]] = {}
        self.run_of: dict[str, dict[str, Any]] = {}
        self._mortality = mortality

    def institution(self, institution: str) -> Institution | None:
        self._mortality.pause()
        return self.of.get(institution)

    def institutions(self) -> list[Institution]:
        return [self.of[name] for name in sorted(self.of)]

    def drop_provider(self, institution: Institution, provider: str) -> bool:
        self._mortality.pause()
        if self.of.get(institution.institution) != institution:
            return False
        remaining = tuple(kept for kept in institution.providers if kept.provider != provider)
        if institution.ended and not remaining:
            del self.of[institution.institution]
        else:
            self.of[institution.institution] = replace(institution, providers=remaining)
        self._mortality.wrote()
        return True

    def dataset(self, institution: str, provider: str) -> Dataset:
        self._mortality.pause()
        return self.held.get((institution, provider), Dataset(institution, provider))

    def datasets(self, institution: str | None = None) -> list[Dataset]:
        self._mortality.pause()
        return [dataset for key, dataset in sorted(self.held.items()) if institution in {None, key[0]}]

    def take_lease(self, institution: str, provider: str, run: str, now: datetime, seconds: int) -> Dataset:
        self._mortality.pause()
        dataset = self.dataset(institution, provider)
        self.held[institution, provider] = replace(dataset, lease=taken(dataset.lease, run, now, seconds))
        self._mortality.wrote()
        return self.held[institution, provider]

    def update_dataset(self, dataset: Dataset, run: str, /, **changes: Any) -> Dataset:
        self._mortality.pause()
        current = self._mine(dataset, run)
        defaults = {"customers": 0, "held": False}
        stored = {field: defaults.get(field) if value is None else _plain(value) for field, value in changes.items()}
        self.held[dataset.institution, dataset.provider] = replace(current, **stored)
        self._mortality.wrote()
        return self.held[dataset.institution, dataset.provider]

    def remove_dataset(self, dataset: Dataset, run: str) -> None:
        self._mortality.pause()
        self._mine(dataset, run)
        del self.held[dataset.institution, dataset.provider]
        self._mortality.wrote()

    def _mine(self, dataset: Dataset, run: str) -> Dataset:
        current = self.dataset(dataset.institution, dataset.provider)
        token = dataset.lease and dataset.lease.token
        if current.lease is None or current.lease.run != run or current.lease.token != token:
            raise DatasetBusyError
        return current

    def put_outcome(self, run: str, subject: str, outcome: dict[str, Any], now: datetime) -> None:
        self._mortality.pause()
        self.outcome_of[run, subject] = _plain(outcome)
        self._mortality.wrote()

    def outcomes(self, run: str) -> dict[str, dict[str, Any]]:
        self._mortality.pause()
        return {subject: found for (of, subject), found in self.outcome_of.items() if of == run}

    def put_run(self, flow: str, run: str, values: dict[str, Any], now: datetime) -> None:
        self.run_of[run] = _plain(values)
        self._mortality.wrote()

    def run(self, flow: str, run: str) -> dict[str, Any] | None:
        return self.run_of.get(run)

    def runs(self, flow: str, since: datetime) -> dict[str, dict[str, Any]]:
        return {run: found for run, found in self.run_of.items() if found["startedAt"] >= from_datetime(since)}


def _plain(value: Any) -> Any:
    """A deep copy as the table would give it back, so that nobody shares a dictionary with it."""
    return json.loads(json.dumps(value)) if isinstance(value, dict | list) else value


class MemoryRegister:
    """The register's dataset items, and the pushes' timestamps, under all key versions."""

    def __init__(self, mortality: Mortality) -> None:
        self.items: dict[tuple[str, str, str, bytes], bytes] = {}
        self.pushes: set[tuple[str, str, str]] = set()
        self.puts = 0
        self.deletes = 0
        self._mortality = mortality

    def read_by(self, keys: HashKeys) -> "RegisterReader":
        """The register for whoever has these keys."""
        return RegisterReader(self, keys)

    def under(self, version: str) -> "RegisterView":
        """The register under a version of the hash key."""
        return RegisterView(self, version)


class RegisterReader:
    """What lookups see of the register."""

    def __init__(self, register: MemoryRegister, keys: HashKeys) -> None:
        self._register = register
        self._keys = keys
        self.newest_version = keys.keys[-1].number

    def items_of_many(self, customer_ids: Sequence[str]) -> list[list[StoredItem]]:
        return [
            [
                StoredItem(key.number, DatasetItem(of, by, decode_loans(loans)))
                for key in self._keys.readable
                for (version, of, by, customer), loans in self._register.items.items()
                if (version, customer) == (key.version, key.customer_key(customer_id))
            ]
            for customer_id in customer_ids
        ]


class RegisterView:
    """What the load sees of the register."""

    def __init__(self, register: MemoryRegister, version: str) -> None:
        self._register = register
        self._version = version

    def write_dataset_items(
        self, institution: str, provider: str, run: str, rows: Iterable[tuple[bytes, bytes]]
    ) -> int:
        count = 0
        for key, loans in rows:
            self._register._mortality.pause()
            self._register.items[self._version, institution, provider, key] = loans
            self._register.puts += 1
            count += 1
            self._register._mortality.wrote()
        return count

    def delete_dataset_items(self, institution: str, provider: str, customer_keys: Iterable[bytes]) -> int:
        count = 0
        for key in customer_keys:
            self._register._mortality.pause()
            self._register.items.pop((self._version, institution, provider, key), None)
            self._register.deletes += 1
            count += 1
            self._register._mortality.wrote()
        return count

    def dataset_keys(
        self, institution: str, provider: str, segments: Iterable[int], of: int
    ) -> list[list[tuple[str, bytes]]]:
        self._register._mortality.pause()
        there = [(version, key) for version, fi, by, key in self._register.items if (fi, by) == (institution, provider)]
        return [[found for found in there if found[1][0] % of == segment] for segment in segments]

    def delete_superseded_pushes(
        self, institution: str, provider: str, latest: str, cover: Callable[[], str | None]
    ) -> int:
        self._register._mortality.pause()
        found = {push for push in self._register.pushes if push[:2] == (institution, provider) and push[2] <= latest}
        last = cover() if found else None
        gone = {push for push in found if last is not None and push[2] <= last}
        self._register.pushes -= gone
        self._register._mortality.wrote()
        return len(gone)


class World:
    """Institutions, stores and a clock; ``night`` does what the state machine does."""

    def __init__(self, *providers: Provider, max_shrink_percent: int = 30) -> None:
        self.mortality = Mortality()
        self.objects = MemoryObjects(self.mortality)
        self.reports = MemoryObjects(self.mortality)
        self.records = MemoryRecords(self.mortality)
        self.register = MemoryRegister(self.mortality)
        self.hash_keys = HashKeys.of(HashKey("1", b"k" * 32))
        self.now = datetime(2026, 11, 23, 5, 5, tzinfo=UTC)
        self.seconds: Iterator[float] | None = None
        self.served: dict[tuple[str, str], list[bytes] | Callable[[int], FetchedPage]] = {}
        self.served_lists: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str, int | str]] = []
        served = providers or (Provider(PROVIDER, url="https://fi.example.no"),)
        self.records.of[FI] = Institution(FI, "Testbanken", max_shrink_percent, served)

    # The surroundings

    def clock(self) -> datetime:
        """Time goes on a little with every look at it."""
        self.now += timedelta(milliseconds=10)
        return self.now

    def remaining(self) -> float:
        """Seconds that an invocation has left; plenty, unless a test says how it goes."""
        return 900.0 if self.seconds is None else next(self.seconds)

    def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        """A page as the test wants it."""
        self.requests.append((institution, provider.provider, page))
        pages = self.served[institution, provider.provider]
        if callable(pages):
            return pages(page)
        header = str(len(pages)) if len(pages) > 1 else None
        return FetchedPage(pages[page], header, len(pages[page]))

    def serve(self, amounts: Amounts, *, provider: str = PROVIDER, pages: int = 1, institution: str = FI) -> None:
        """Have a provider deliver ``amounts`` on so many pages."""
        at = (self.now - timedelta(hours=1)).isoformat()
        customers = [
            customer_json(customer, balance, timestamp=at, institution=institution)
            for customer, balance in amounts.items()
        ]
        self.served[institution, provider] = [page_json(customers[number::pages], provider) for number in range(pages)]

    def fetch_customers(self, provider: Provider, institution: str, seconds: float) -> FetchedPage:
        """The list as the test wants it."""
        self.requests.append((institution, provider.provider, "list"))
        body = self.served_lists[institution, provider.provider]
        return FetchedPage(body, None, len(body))

    def serve_list(self, customers: Iterable[str], *, provider: str = PROVIDER, institution: str = FI) -> None:
        """Have a provider deliver a list of customers."""
        at = (self.now - timedelta(hours=1)).isoformat()
        body = list_json(customers, timestamp=at, institution=institution, provider=provider)
        self.served_lists[institution, provider] = body

    def deliver(self, kind: DatasetKind, provider: str = PROVIDER) -> None:
        """Have the institution's provider deliver loans or lists from now on."""
        institution = self.records.of[FI]
        providers = tuple(
            replace(known, dataset=kind) if known.provider == provider else known for known in institution.providers
        )
        lookup: LookupMode = "live" if any(known.dataset == "ssn" for known in providers) else "both"
        self.records.of[FI] = replace(institution, providers=providers, lookup=lookup)

    @property
    def hash_key(self) -> HashKey:
        """The key in force."""
        return self.hash_keys.at(self.now)

    def rotate(self) -> None:
        """Have a new key, in force at once."""
        number = len(self.hash_keys.keys) + 1
        new = HashKey(str(number), bytes([number]) * 32, from_datetime(self.now))
        self.hash_keys = HashKeys.of(*self.hash_keys.keys, new)

    # The steps

    @property
    def fetcher(self) -> Fetcher:
        return Fetcher(self.records, self.objects, self, self.hash_keys, "synthetic", self.clock, self.remaining)

    @property
    def loader(self) -> Loader:
        return Loader(
            self.records,
            self.objects,
            self.register.under,
            self.clock,
            self.remaining,
        )

    def fetch(
        self,
        run: str,
        provider: str = PROVIDER,
        action: str = "fetch",
        institution: str = FI,
        *,
        scratch: bool = False,
    ) -> None:
        """Fetch as the machine does: until complete."""
        for _ in range(50):
            if fetch_pages(Job(run, institution, provider), action, self.fetcher, scratch=scratch):
                return
        raise AssertionError("the fetch does not end")

    def judge(self, run: str, *providers: str, hold: bool = True, institution: str = FI) -> dict[str, Any]:
        """Judge as the machine does."""
        return judge_institution(
            run,
            institution,
            list(providers or (PROVIDER,)),
            hold=hold,
            records=self.records,
            objects=self.objects,
            clock=self.clock,
        )

    def load(self, run: str, provider: str = PROVIDER, institution: str = FI) -> None:
        """Load as the machine does: until complete."""
        for _ in range(200):
            if load_dataset(Job(run, institution, provider), self.loader):
                return
        raise AssertionError("the load does not end")

    def plan(self, run: str, **request: Any) -> list[dict[str, Any]]:
        """Plan a run; its institutions."""
        plan.plan_night(
            run,
            self.now.isoformat(),
            request,
            records=self.records,
            objects=self.objects,
            clock=self.clock,
        )
        groups = self.objects.get_json(f"runs/nightly/{run}/manifest.json")
        return [institution for group in groups for institution in group["institutions"]]

    def report(self, run: str) -> dict[str, Any]:
        """Report a run."""
        return report.report_night(
            run,
            self.now.isoformat(),
            records=self.records,
            objects=self.objects,
            press=Press(self.reports, page, "gjeldsbro"),
            clock=self.clock,
        )

    def night(self, run: str, *, days: int = 1, **request: Any) -> dict[str, Any]:
        """A whole night without failures of the steps, ``days`` after the last; the report."""
        self.now += timedelta(days=days)
        for institution in self.plan(run, **request):
            name = institution["institution"]
            for dataset in institution["datasets"]:
                scratch = dataset.get("fromScratch", False)
                self.fetch(run, dataset["provider"], dataset["action"], name, scratch=scratch)
            providers = [dataset["provider"] for dataset in institution["datasets"]]
            judged = self.judge(run, *providers, hold=institution["hold"], institution=name)
            for step in [*judged["datasets"], *judged["withdrawals"]]:
                self.load(run, step["provider"], name)
        self.report(run)
        result: dict[str, Any] = self.reports.get_json(f"nightly/{run}.json")
        return result

    def outcome(self, run: str, provider: str = PROVIDER, institution: str = FI) -> dict[str, Any]:
        """What a run did with a dataset."""
        return self.records.outcome_of[run, f"{institution}#{provider}"]

    def dataset(self, provider: str = PROVIDER) -> Dataset:
        """What is known of a dataset."""
        return self.records.dataset(FI, provider)

    # What must hold

    def balances(self, provider: str = PROVIDER, institution: str = FI) -> dict[bytes, int]:
        """What the register holds of a provider: balances by customer key, of the current key version only."""
        return {
            key: next((loan.balance for loan in decode_loans(loans)), ASK)
            for (version, of, by, key), loans in self.register.items.items()
            if (version, of, by) == (self.hash_key.version, institution, provider)
        }

    def shown(self, customers: Iterable[str], datasets: list[Dataset], institution: str = FI) -> Amounts:
        """What somebody sees who read ``datasets`` some time ago and now reads the register."""
        wanted = list(customers)
        seen = items_of_many(wanted, self.register.read_by(self.hash_keys), datasets)
        times = dataset_times(self.records.institutions(), datasets)
        return {
            customer: loans[0].loan.balance
            for customer, items in zip(wanted, seen, strict=True)
            if (loans := merge(items, times).loans.get(institution))
        }

    def expected(self, amounts: Amounts) -> dict[bytes, int]:
        """What the register must hold of ``amounts``."""
        return {self.hash_key.customer_key(customer): balance for customer, balance in amounts.items() if balance}

    def assert_holds(self, amounts: Amounts, provider: str = PROVIDER) -> None:
        """The register and the index say what ``amounts`` says, and no working file or second index is left."""
        assert self.balances(provider) == self.expected(amounts)
        assert len(self.balances(provider)) == sum(1 for key in self.register.items if key[2] == provider)
        assert self.index(provider) == self.digests(provider)
        dataset = self.dataset(provider)
        assert dataset.pending is None
        # Free; or a dead invocation, of which nobody knows that it is dead, keeps others away for a while.
        assert dataset.lease is None or (dataset.lease.token, dataset.lease.until) == (None, dataset.lease.contested)
        assert dataset.fetch is None
        assert dataset.customers == sum(1 for balance in amounts.values() if balance)
        kept = list(self.objects.keys(""))
        assert kept == sorted(data.index for data in self.records.datasets() if data.index)

    def index(self, provider: str = PROVIDER) -> dict[bytes, bytes]:
        """The index that the dataset's record points to."""
        key = self.dataset(provider).index
        found = [] if key is None else list(rows(self.objects.open(key), INDEX_ROW_SIZE))
        assert found == sorted(found)
        return {row[:KEY_SIZE]: row[KEY_SIZE:] for row in found}

    def digests(self, provider: str = PROVIDER) -> dict[bytes, bytes]:
        """What an index of the register's items would say."""
        return {
            key: content_digest(*decode_loans(loans))
            for (version, _, by, key), loans in self.register.items.items()
            if by == provider and version in {self.dataset(provider).key_version, None}
        }

    def assert_doubt_is_noted(self, provider: str = PROVIDER) -> None:
        """Wherever the register differs from the index, the list that the record points to names the customer.

        And what lies under another version of the hash key than the dataset's is on a list of that version.
        """
        held, index = self.digests(provider), self.index(provider)
        differing = {key for key in held.keys() | index.keys() if held.get(key) != index.get(key)}
        dataset = self.dataset(provider)
        assert differing <= self._listed(dataset.pending)
        listed: dict[str, set[bytes]] = {}
        for one in dataset.retired or []:
            listed.setdefault(one["version"], set()).update(self._listed(one["file"], one["position"]))
        if dataset.rekey is not None:
            listed.setdefault(dataset.rekey["version"], set()).update(self._listed(dataset.rekey["pending"]))
        for version, _, by, key in self.register.items:
            assert by != provider or version == dataset.key_version or key in listed.get(version, ())

    def _listed(self, file: str | None, start: int = 0) -> set[bytes]:
        if file is None:
            return set()
        found = rows(self.objects.open(file, start=start * INDEX_ROW_SIZE), INDEX_ROW_SIZE)
        return {row[:KEY_SIZE] for row in found}
