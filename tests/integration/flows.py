"""A small night and a small export on moto, to be walked step by step.

Functions, definitions and clients of AWS are the real ones; the institutions' servers and the receiver's folder are in
memory, so that many executions take little time.

The story: three institutions and one that changes its provider; the second night changes, adds and removes customers,
and has one dataset refused. The receiver asks for two packages. ``SHOWN`` is what the register must show of whom, night
by night, computed by hand.
"""

import gzip
import inspect
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import _lru_cache_wrapper
from typing import Any

import boto3
import pytest
from tests.executions import Execution, TaskError, definition_of
from tests.integration.aws_faults import KilledError
from tests.integration.machines import Context, Handler, handler_of
from tests.unit.export_world import MemoryFolder
from tests.unit.night_world import ASK, customer_json, list_json, page_json, people

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters import receiver_client
from gjeldsbro.adapters.aws import to_item
from gjeldsbro.adapters.customer_client import CustomerClient
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.institution_client import InstitutionClient
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import ReceiverSecret, Secrets
from gjeldsbro.domain.customer_keys import HashKeys
from gjeldsbro.domain.loans import RepaymentLoan
from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.register import PushItem, merge
from gjeldsbro.errors import ReceiverRefusedError
from gjeldsbro.services.customer_lookup import dataset_times, items_of_many
from gjeldsbro.services.export import loans, read_lists
from gjeldsbro.services.night import load
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.ports import Dataset, Institution, Provider, Receiver

P = people(12)
GOOD, REFUSED, LISTED, MOVED = "920013015", "985815534", "974760673", "983544622"
SUCCESSOR = "9908:971171324"
RECEIVER, OTHER = GOOD, REFUSED
DAY_1, DAY_2 = "2026-10-05T03:00:00Z", "2026-10-06T03:00:00Z"
NOON_1, NOON_2 = "2026-10-05T12:00:00.0000000Z", "2026-10-06T12:00:00.0000000Z"

Shown = dict[str, dict[str, int]]
"""Who owes what: customer to institution to balance; ASK: the register only knows the customer."""

SHOWN: dict[int, Shown] = {  # after each night and the day that follows it
    1: {
        **{customer: {GOOD: 100} for customer in P[:6]},
        P[1]: {GOOD: 150},  # pushed at noon
        P[4]: {GOOD: 444},  # pushed at noon of the second day
        P[7]: {REFUSED: 100},
        P[8]: {LISTED: ASK},
        P[9]: {LISTED: ASK},
        P[3]: {GOOD: 100, MOVED: 300},
        P[11]: {MOVED: 301},
    },
    2: {
        **{customer: {GOOD: 100} for customer in P[1:6]},
        P[2]: {GOOD: 111},
        P[3]: {GOOD: 100, MOVED: 310},
        P[4]: {GOOD: 444},
        P[6]: {GOOD: 500},
        P[7]: {REFUSED: 100},
        P[9]: {LISTED: ASK},
        P[10]: {LISTED: ASK},
    },
}

ASKED_FOR = {RECEIVER: (P[1], P[2], P[3], P[11]), OTHER: (P[5], P[7], P[9], P[10])}
"""Whose packages the receiver wants; P[11] is nobody's customer after the second night."""

LISTS = {
    f"{RECEIVER}.txt": f"{P[1]},{P[2]},{P[3]},abc,{P[1]},{P[11]}\n",
    f"{OTHER}.txt": ", ".join(ASKED_FOR[OTHER]),
}

ANSWERS = {P[9]: 999}
"""What LISTED says when it is asked about a customer whom the register only knows."""


class Story:
    """The stores as they are before the first night, and everything around them."""

    def __init__(self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.environment = environment
        self.folder = MemoryFolder()
        self.served: dict[tuple[str, str], list[bytes]] = {}
        self.lists: dict[str, bytes] = {}
        self.seconds = 900.0
        self.processes_stay = True
        """Else every call begins in a new process."""
        self.at_work = ""
        """The institution of the function that is at work."""
        self._modules: dict[str, Handler] = {}
        self.handlers: dict[str, Handler] = {}
        self.calls: list[tuple[str, dict[str, Any], Any]] = []
        self.revive: Callable[[], object] = lambda: None
        """Called when a function was killed: the next one lives."""
        self.read_items: Callable[[str], Any] = self.store.get_json
        """Reads the items of a map, as Step Functions does."""
        monkeypatch.setattr(InstitutionClient, "fetch_page", self._fetch_page)
        monkeypatch.setattr(InstitutionClient, "fetch_customers", self._fetch_customers)
        monkeypatch.setattr(CustomerClient, "ask", self._ask)
        monkeypatch.setattr(receiver_client, "connect", self._connect)
        monkeypatch.setattr(load, "STRIDE", 3)
        monkeypatch.setattr(read_lists, "BATCH_SIZE", 2)
        monkeypatch.setattr(read_lists, "PIECE_SIZE", 32)
        monkeypatch.setattr(loans, "ASKED_TOGETHER", 1)
        self.login: dict[str, str] = {"password": "first"}
        """What the receiver's server lets in."""
        boto3.client("secretsmanager").create_secret(Name="receiver", SecretString=json.dumps(self.login))

    # The stores

    @property
    def partners(self) -> Partners:
        """The PartnerTable."""
        return Partners(self.environment["PARTNER_TABLE"], aws_clients.dynamodb())

    @property
    def store(self) -> DataStore:
        """The data bucket."""
        return DataStore(self.environment["DATA_BUCKET"], aws_clients.s3())

    @property
    def hash_keys(self) -> HashKeys:
        """The keys of today."""
        return Secrets(aws_clients.secretsmanager()).hash_keys(self.environment["HASH_KEY_SECRET"])

    @property
    def register(self) -> Register:
        """The RegisterTable."""
        return Register(self.environment["REGISTER_TABLE"], aws_clients.dynamodb(), self.hash_keys)

    def forget_processes(self, *functions: str) -> None:
        """As if these functions, or all, began in a new process: nothing is cached of secrets."""
        for function in functions or tuple(self._modules):
            for value in inspect.unwrap(self._modules[function]).__globals__.values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()

    # The story

    def set_up(self) -> None:
        """Onboard the institutions and the receiver."""
        for institution in (GOOD, REFUSED, LISTED, MOVED):
            listed = institution == LISTED
            provider = Provider(f"9908:{institution}", url="https://fi", dataset="ssn" if listed else "loans")
            lookup = "live" if listed else "both"
            self.partners.put_institution(Institution(institution, "FI", providers=(provider,), lookup=lookup))
        receiver = Receiver(
            RECEIVER, "Bank", (RECEIVER, OTHER), "sftp://nogi@sftp.example/x", ("ssh-rsa AA",), "receiver"
        )
        self.partners.put_receiver(receiver)
        self.folder.content = {name: text.encode() for name, text in LISTS.items()}

    def serve_first(self) -> None:
        """Have the institutions deliver what the first night fetches."""
        self._serve(GOOD, dict.fromkeys(P[:6], 100), DAY_1)
        self._serve(REFUSED, {P[7]: 100}, DAY_1)
        self._serve(MOVED, {P[3]: 300, P[11]: 301}, DAY_1)
        self.lists[LISTED] = list_json(P[8:10], timestamp=DAY_1, institution=LISTED, provider=f"9908:{LISTED}")

    def serve_second(self) -> None:
        """Have them deliver what the second night fetches; MOVED has another provider by then."""
        amounts = {**dict.fromkeys(P[1:6], 100), P[2]: 111, P[6]: 500}
        self._serve(GOOD, amounts, DAY_2, pages=3)
        self._serve(REFUSED, {P[7]: 200}, DAY_2)
        (page,) = self.served[REFUSED, f"9908:{REFUSED}"]
        self.served[REFUSED, f"9908:{REFUSED}"] = [page.replace(b'"coBorrower": "0"', b'"coBorrower": "7"')]
        self._serve(MOVED, {P[3]: 310}, DAY_2, provider=SUCCESSOR)
        self.lists[LISTED] = list_json(P[9:11], timestamp=DAY_2, institution=LISTED, provider=f"9908:{LISTED}")

    def push(self, customer: str, balance: int, at: str) -> None:
        """What a push to GOOD leaves in the register."""
        loan = RepaymentLoan("4001", at, None, 900, balance, 12, 800, 0, 0)
        push = PushItem(GOOD, f"9908:{GOOD}", loan)
        self.register.put_pushes([(customer, push)], self.hash_keys.keys[-1])

    def first_night(self) -> None:
        """The first night, and what is pushed and handed over on the day after it."""
        self.set_up()
        self.serve_first()
        self.night("night-1")
        self.between()

    def between(self) -> None:
        """The day between the nights."""
        self.push(P[1], 150, NOON_1)
        self.push(P[4], 444, NOON_2)  # a clock that runs ahead of the next extract, not of the night
        old = self.partners.institution(MOVED)
        assert old is not None
        providers = (replace(old.providers[0], ended=True), Provider(SUCCESSOR, url="https://new"))
        self.partners.put_institution(replace(old, providers=providers))
        self.serve_second()

    # Executions

    def execution(
        self, machine: str | dict[str, Any], name: str, invoke: Callable[..., Any] | None = None
    ) -> Execution:
        """An execution of a machine, by its name or its definition."""
        found = definition_of(machine) if isinstance(machine, str) else machine
        return Execution(found, name, invoke or self.invoke, self.read_items)

    def night(self, run: str, request: dict[str, Any] | None = None) -> Any:
        """A night from its start to its end; the output."""
        return self.execution("nightly_fetch", run).run(request)

    def export(self, run: str, request: dict[str, Any] | None = None) -> Any:
        """An export from its start to its end; the output."""
        return self.execution("quarterly_export", run).run(request)

    def export_after_pause(self, run: str) -> Any:
        """An export when whoever gave a package its name is dead for certain (``until`` of its announcement)."""
        for delivery in self.partners.deliveries(str(Quarter.of(datetime.now(UTC)))).items():
            self._expire_announcement(*delivery)
        return self.export(run)

    def invoke(self, function: str, event: dict[str, Any]) -> Any:
        """Call a function; one that is killed (``aws_faults.Death``) fails as Lambda says it."""
        self.at_work = event.get("institution", "")
        handler = self.handler(function)
        if not self.processes_stay:
            self.forget_processes(function)
        try:
            result = handler(event, Context(self.seconds))
        except KilledError:
            self.forget_processes(function)
            self.revive()
            raise TaskError("Sandbox.Timedout", "the function was ended") from None
        self.calls.append((function, event, result))
        return result

    def handler(self, function: str) -> Handler:
        """A function's handler, in a process that stays."""
        if function in self.handlers:
            return self.handlers[function]
        if function not in self._modules:
            self._modules[function] = handler_of(function)
        return self._modules[function]

    # What must hold

    def shown(self) -> Shown:
        """What a reader sees of everybody now."""
        datasets = self.partners.datasets()
        times = dataset_times(self.partners.institutions(), datasets)
        found: Shown = {}
        for customer, items in zip(P, items_of_many(P, self.register, datasets), strict=True):
            current = merge(items, times).loans
            debts = {institution: held[0].loan.balance for institution, held in current.items()}
            debts |= {item.institution: ASK for item in items if item.institution == LISTED}
            if debts:
                found[customer] = debts
        return found

    def statuses(self, run: str) -> dict[str, str]:
        """What became of each dataset or delivery of a run."""
        return {subject: outcome["status"] for subject, outcome in self.partners.outcomes(run).items()}

    def assert_second_night_is_there(self) -> None:
        """The register shows what it must after the second night, and nothing of the run is left."""
        assert self.shown() == SHOWN[2]
        moved = self.partners.institution(MOVED)
        assert moved is not None
        assert [provider.provider for provider in moved.providers] == [SUCCESSOR]
        datasets = self.partners.datasets()
        assert len(datasets) == 4
        assert [dataset for dataset in datasets if is_unfinished(dataset)] == []
        assert not self.left_over()

    def left_over(self) -> list[str]:
        """Working files: all but an older version's reports and the indexes that the datasets' records point to."""
        indexes = {dataset.index for dataset in self.partners.datasets()}
        return [key for key in self.store.keys("") if not key.startswith("reports/") and key not in indexes]

    def packages(self) -> dict[str, Shown]:
        """The delivered packages: organisation to customer to what the loans sum up to."""
        found = {}
        for name, data in self.folder.content.items():
            if name.endswith(".gzip"):
                document = json.loads(gzip.decompress(data))
                found[name.removesuffix(".gzip")] = {
                    customer["customerID"]: sorted(int(loan["balance"]) for loan in customer["loans"])
                    for customer in document["customers"]
                }
        return found

    def assert_packages_are_there(self, shown: Shown) -> None:
        """Both packages say what ``shown`` says, and nothing unfinished is left on the server or on our side."""
        assert self.packages() == {
            organisation: {customer: debts_of(shown, customer) for customer in customers}
            for organisation, customers in ASKED_FOR.items()
        }
        assert not [name for name in self.folder.content if name.endswith(".part")]
        assert not self.left_over()

    # Inside

    def _connect(self, receiver: Receiver, secret: ReceiverSecret) -> AbstractContextManager[MemoryFolder]:
        shown = {"password": secret.password, "privateKey": secret.private_key}
        if {name: value for name, value in shown.items() if value} != self.login:
            raise ReceiverRefusedError("LOGIN", "the server refused the login")
        connection: AbstractContextManager[MemoryFolder] = self.folder.connect(receiver)
        return connection

    def _expire_announcement(self, subject: str, delivery: dict[str, Any]) -> None:
        if delivery.get("publishing"):
            key = to_item({"pk": f"DELIVERY#{Quarter.of(datetime.now(UTC))}", "sk": subject})
            aws_clients.dynamodb().update_item(
                TableName=self.environment["PARTNER_TABLE"],
                Key=key,
                UpdateExpression="SET publishing.#until = :past",
                ExpressionAttributeNames={"#until": "until"},
                ExpressionAttributeValues=to_item({":past": "2026-10-01T00:00:00.0000000Z"}),
            )

    def _serve(self, institution: str, amounts: dict[str, int], at: str, *, provider: str = "", pages: int = 1) -> None:
        provider = provider or f"9908:{institution}"
        customers = [
            customer_json(customer, balance, timestamp=at, institution=institution)
            for customer, balance in amounts.items()
        ]
        self.served[institution, provider] = [page_json(customers[number::pages], provider) for number in range(pages)]

    def _fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> FetchedPage:
        pages = self.served[institution, provider.provider]
        return FetchedPage(pages[page], str(len(pages)), len(pages[page]))

    def _ask(
        self, provider: Provider, institution: str, customer_id: str, deadline: float
    ) -> tuple[RepaymentLoan, ...]:
        balance = ANSWERS.get(customer_id)
        return () if balance is None else (RepaymentLoan("4001", NOON_2, None, 999, balance, 12, 800, 0, 0),)

    def _fetch_customers(self, provider: Provider, institution: str, seconds: float) -> FetchedPage:
        return FetchedPage(self.lists[institution], None, len(self.lists[institution]))


def debts_of(shown: Shown, customer: str) -> list[int]:
    """What a package says of a customer: all balances, of who is only known what the institution answers."""
    held = shown.get(customer, {}).values()
    answers = [ANSWERS[customer]] if ASK in held and customer in ANSWERS else []
    return sorted([*(balance for balance in held if balance != ASK), *answers])


def expire_leases(story: Story) -> None:
    """Time goes on: whoever worked on a dataset is dead for certain."""
    client, table = aws_clients.dynamodb(), story.environment["PARTNER_TABLE"]
    for dataset in story.partners.datasets():
        if dataset.lease is not None:
            times = dict.fromkeys(("until", "contested"), "2026-10-01T00:00:00.0000000Z")
            held = {name: value for name, value in vars(dataset.lease).items() if value is not None}
            lease = held | {name: times[name] for name in held.keys() & times}
            client.update_item(
                TableName=table,
                Key={"pk": {"S": "DATASET"}, "sk": {"S": f"{dataset.institution}#{dataset.provider}"}},
                UpdateExpression="SET lease = :past",
                ExpressionAttributeValues={":past": to_item({"past": lease})["past"]},
            )


def is_unfinished(dataset: Dataset) -> bool:
    """Whether work on it has not ended; a lease that only outwaits a dead function (``contested``) is no work."""
    at_work = dataset.lease is not None and dataset.lease.contested is None
    return at_work or dataset.fetch is not None or dataset.pending is not None


def tables(environment: dict[str, str]) -> Iterable[str]:
    """The tables of the stack."""
    return (environment["PARTNER_TABLE"], environment["REGISTER_TABLE"])
