"""Lookups without a network: institutions, a register, and institutions' servers that do what a test says."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import Loan, RepaymentLoan
from gjeldsbro.domain.register import DatasetItem, Item, PushItem, StoredItem
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.customer_debt import CreditorDebt, CustomerDebt
from gjeldsbro.services.ports import DatasetTime, Institution, Lender, LookupMode, Provider

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
STAMP = from_datetime(NOW)
BANK, OTHER_BANK, THIRD_BANK = "920013015", "985815534", "0007:5569622441"
PERSON, PARTNER = "17912099997", "14842249091"
KEY = HashKey("1", b"k" * 32)
KEYS = HashKeys.of(KEY)


def at(tick: int) -> str:
    """The tick-th minute of the morning."""
    return f"2026-11-22T05:{tick:02d}:00.0000000Z"


def loan(balance: int = 100, account: str = "a", tick: int = 1, co_borrower: int = 0) -> RepaymentLoan:
    """A loan as of a tick."""
    return RepaymentLoan(account, at(tick), "Forbrukslån", 1000, balance, 12, 1020, 0, co_borrower)


def provider_of(institution: str, number: int = 0) -> str:
    """The id of an institution's provider."""
    return f"99{number:02}:{institution.rpartition(':')[2]}"


def server(institution: str, number: int = 0, **values: Any) -> Provider:
    """A provider that delivers datasets and can be asked."""
    return Provider(provider_of(institution, number), **{"url": "https://fi.example.no/debt-information/v1"} | values)


def bank(institution: str = BANK, *providers: Provider, lookup: LookupMode = "both", **values: Any) -> Institution:
    """An institution, with one provider unless told."""
    return Institution(
        institution, "Testbanken", providers=providers or (server(institution),), lookup=lookup, **values
    )


class FakePartners:
    """Institutions, lenders and when their datasets are of; what was read is noted in ``order``."""

    def __init__(self, order: list[str], *institutions: Institution) -> None:
        self.order = order
        self.known = list(institutions)
        self.as_of = {
            (institution.institution, provider.provider): at(5)
            for institution in institutions
            for provider in institution.providers
            if provider.delivers_datasets
        }
        self.registered: list[Lender] = []

    def institutions(self) -> list[Institution]:
        """As the table does."""
        return self.known

    def dataset_times(self) -> list[DatasetTime]:
        """As the table does."""
        self.order.append("times")
        return [DatasetTime(*subject, as_of) for subject, as_of in self.as_of.items()]

    def lenders(self) -> list[Lender]:
        """As the table does."""
        return self.registered


class FakeRegister:
    """What is stored of whom."""

    newest_version = KEY.number

    def __init__(self, order: list[str]) -> None:
        self.order = order
        self.items: dict[str, list[Item]] = {}

    def items_of_many(self, customer_ids: Any) -> list[list[StoredItem]]:
        """As the table does."""
        self.order.append("items")
        return [[StoredItem(KEY.number, item) for item in self.items.get(customer, ())] for customer in customer_ids]


class FakeServers:
    """Institutions' servers: loans, an error, or something to do, for each (institution, provider)."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.deadlines: set[float] = set()
        self.closing = threading.Event()

    def ask(self, provider: Provider, institution: str, customer_id: str, deadline: float) -> tuple[Loan, ...]:
        """As the client does."""
        self.asked.append((institution, provider.provider, customer_id))
        self.deadlines.add(deadline)
        answer = self.answers[institution, provider.provider]
        if isinstance(answer, dict):
            answer = answer[customer_id]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer

    def hang(self) -> tuple[Loan, ...]:
        """An answer that does not come before the test is over, whatever the deadline was."""
        self.closing.wait(10)
        return ()


class FakeBreaker:
    """A breaker that is open for those in ``open`` and notes what it is told; ``broken`` makes it raise."""

    def __init__(self) -> None:
        self.open: set[tuple[str, str]] = set()
        self.told: list[tuple[str, str, str]] = []
        self.fair: list[bool] = []
        self.broken: Exception | None = None

    def _note(self, what: str, institution: str, provider: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.told.append((what, institution, provider))

    def may_ask(self, institution: str, provider: str, now: datetime, *, fair: bool = True) -> bool:
        """As the breaker does."""
        self.fair.append(fair)
        self._note("may ask", institution, provider)
        return (institution, provider) not in self.open

    def failed(self, institution: str, provider: str, now: datetime) -> None:
        """As the breaker does."""
        self._note("failed", institution, provider)

    def answered(self, institution: str, provider: str, now: datetime) -> None:
        """As the breaker does."""
        self._note("answered", institution, provider)

    def verdicts(self) -> list[tuple[str, str, str]]:
        """What it was told of answers and failures."""
        return [told for told in self.told if told[0] != "may ask"]


class LookupWorld:
    """Institutions, what is stored, and what their servers say."""

    def __init__(self, *institutions: Institution, clock: Callable[[], float] = lambda: 100.0, **values: Any) -> None:
        self.order: list[str] = []
        self.partners = FakePartners(self.order, *institutions)
        self.register = FakeRegister(self.order)
        self.servers = FakeServers()
        self.breaker = FakeBreaker()
        self.clock = clock
        self.debt = CustomerDebt(self.partners, self.register, self.servers, self.breaker, clock, **values)

    def store(self, *loans: Loan, of: str = BANK, number: int = 0, person: str = PERSON) -> None:
        """Store a dataset's item; without loans it is an index's."""
        item = DatasetItem(of, provider_of(of, number), loans)
        self.register.items.setdefault(person, []).append(item)

    def push(self, pushed: Loan, of: str = BANK, number: int = 0, person: str = PERSON) -> None:
        """Store a push."""
        item = PushItem(of, provider_of(of, number), pushed)
        self.register.items.setdefault(person, []).append(item)

    def answers(self, *answer: Any, of: str = BANK, number: int = 0) -> None:
        """Let a server answer with loans."""
        self.servers.answers[of, provider_of(of, number)] = answer

    def does(self, action: Any, of: str = BANK, number: int = 0) -> None:
        """Let a server do something: raise an error, call a function, or answer by person (a dict)."""
        self.servers.answers[of, provider_of(of, number)] = action

    def found(self, person: str = PERSON, seconds: float = 1.0) -> list[CreditorDebt]:
        """What the person owes now."""
        return self.debt.of(person, deadline=self.clock() + seconds, now=NOW)
