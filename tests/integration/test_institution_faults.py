"""What institutions' servers do wrong in a night, done to the real nightly state machine over real TLS.

One world for all of it: two good institutions and one for each fault, each with a server of its own on loopback that
demands our client certificate. In the first night all of them deliver; in the second each faulty one does what its
story says, and is not done before the good ones are; in the third all deliver again.
"""

import inspect
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple

import boto3
import pytest
from tests.cloudformation import ROOT
from tests.integration.conftest import stores
from tests.integration.machines import Context, Handler, Machine
from tests.integration.raw_server import Pair, RawServer, answer, authority
from tests.register_reader import Loans, everything_shown
from tests.unit.night_world import customer_json, page_json, people

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.institution_client import InstitutionClient, Limits
from gjeldsbro.adapters.institution_http import BodyLimits
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.services.ports import Institution, Provider
from gjeldsbro_population.identity import organisation_number
from gjeldsbro_simulator import ServedDataset, Simulator, Tls

pytestmark = pytest.mark.xdist_group("institution faults")

TRIES = 4
"""Of what may pass by itself: once and three times more, with pauses that grow to many minutes."""

FEW, MANY = 6, 120
"""Customers: too few for a shrink to be judged, and enough."""


class Story(NamedTuple):
    """What one institution does in the second night, and what must come of it."""

    fault: str
    """As docs/reliability.md names it."""
    does: str
    """A fault of the simulator, or the name of the server that stands in its place, see ``_stand_ins``."""
    status: str = "refused"
    reason: str | None = None
    """The whole reason, word for word; None where nothing needs one."""
    requests: int = 1
    """That its own server got in the second night; of what failed, the tries are counted instead."""
    shows: str = "yesterday"
    customers: int = FEW
    pages: int = 1
    limits: Limits = Limits(pauses=())


QUICK = Limits(read_seconds=0.3, pauses=())
SHORT = Limits(read_seconds=20, page_seconds=0.5, pauses=())
SMALL = Limits(body=BodyLimits(1 << 20, 1 << 20, expansion=100, expansion_from=1 << 20), pauses=())
PATIENT = Limits(pauses=(0.0, 0.0))

NOBODY = "the connection fails: nothing answers at this address and port"
UNKNOWN = "the server's certificate is not accepted: unable to get local issuer certificate"
MISMATCH = "the server's certificate is not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'."
EXPIRED = "the server's certificate is not accepted: certificate has expired"
NOT_US = "the server does not accept our client certificate (TLS: TLSV1_ALERT_UNKNOWN_CA)"
NO_TLS = "no secure connection could be agreed on (TLS: WRONG_VERSION_NUMBER)"
SLOW = "the server is too slow: the answer was not complete in time"
JSON = "the body must be one well-formed JSON document (SPEC 4.2)"
UTF_8 = "the body must be UTF-8 without a byte-order mark (SPEC 3.1.2); and 5 more"
COUNT = "numberOfPages must be the same on all pages"
TWICE = "a customer must come once; this one came before, on page 0 as /customers/"
NOTHING = "HTTP 404: the server has nothing at this address"
HOLE = "must hold customers when those of a later page do"
BOMB = "the body must expand at most 100 times"
LARGE = "the body must have at most 1 MiB as it is sent"
OTHER = "/customers/0/financialInstitutionID: must be the institution that the data was asked for (SPEC 3.1.2)"
OTHER_PROVIDER = "/providerID: must be the provider that the data was asked of (SPEC 4.2.1)"
SHRUNK = "after 120, more than 30 % fewer"

STORIES = (
    Story("refused connection", "closed port", "failed", f"page 0: {NOBODY}"),
    Story(
        "TLS: a certificate of an unknown authority",
        "unknown authority",
        "refused",
        f"page 0: {UNKNOWN}",
        0,
    ),
    Story("TLS: a certificate for another name", "another name", "refused", f"page 0: {MISMATCH}", 0),
    Story("TLS: a certificate that has expired", "expired", "refused", f"page 0: {EXPIRED}", 0),
    Story("TLS: our certificate is not accepted", "does not accept us", "refused", f"page 0: {NOT_US}", 0),
    Story("TLS: a server that speaks plain http", "plain http", "refused", f"page 0: {NO_TLS}", 0),
    Story("TLS: a server that hangs up", "hangs up", "failed", "page 0: the connection breaks off"),
    Story("401", "status:401", reason="page 0: HTTP 401: the server does not accept our client certificate"),
    Story("403", "status:403", reason="page 0: HTTP 403: the server does not let us have this"),
    Story("429 that passes", "status:429,times=2", "loaded", requests=3, shows="tonight", limits=PATIENT),
    Story("429 all night", "status:429", "failed", "page 0: HTTP 429: the server says that we ask too often"),
    Story("503 that passes", "status:503,times=2", "loaded", requests=3, shows="tonight"),
    Story("503 all night", "status:503", "failed", "page 0: HTTP 503: the server has a fault of its own"),
    Story("silence", "slow,seconds=30", "failed", "page 0: the server is silent", limits=QUICK),
    Story("an answer after the deadline", "slow,seconds=30", "failed", f"page 0: {SLOW}", limits=SHORT),
    Story("a byte a second", "byte-a-second,seconds=0.1", "failed", f"page 0: {SLOW}", limits=SHORT),
    Story("connection cut in mid-body", "cut,page=1", "failed", "page 1: the answer breaks off", pages=3),
    Story("truncated JSON", "truncated-json,page=2", reason=f"page 2: {JSON}", requests=3, pages=3),
    Story("invalid JSON", "invalid-json", reason=f"page 0: {JSON}"),
    Story("wrong charset, said", "wrong-charset", reason="page 0: the charset of the Content-Type must be UTF-8"),
    Story("wrong charset, not said", "undeclared-charset", reason=f"page 0 /customers/0: {UTF_8}"),
    Story("HTML with 200", "html", reason="page 0: the Content-Type must be application/json"),
    Story("HTML with 200 that is said to be JSON", "html-as-json", reason=f"page 0: {JSON}"),
    Story("a redirect", "redirect", reason="page 0: HTTP 302: redirects are not followed"),
    Story("a page count that changes between pages", "page-count", reason=f"page 1: {COUNT}", requests=2, pages=3),
    Story(
        "a page that repeats", "repeated-page", reason=f"page 1 /customers/1: {TWICE}1; and 3 more", requests=3, pages=3
    ),
    Story("a page that is missing", "status:404,page=1", reason=f"page 1: {NOTHING}", requests=2, pages=3),
    Story("a page without its customers", "blank-page", reason=f"page 1 /customers: {HOLE}", requests=3, pages=3),
    Story(
        "the same customer on two pages",
        "duplicate-customer",
        reason=f"page 2 /customers/2: {TWICE}0",
        requests=3,
        pages=3,
    ),
    Story(
        "a customer split over pages", "split-customer", reason=f"page 2 /customers/2: {TWICE}0", requests=3, pages=3
    ),
    Story("a body that expands 1000 times", "gzip-bomb,megabytes=20", reason=f"page 0: {BOMB}"),
    Story("more than the agreed size", "oversized,megabytes=2", reason=f"page 0: {LARGE}", limits=SMALL),
    Story("another institution's data", "another-institution,page=1", reason=f"page 1 {OTHER}", requests=3, pages=3),
    Story("another provider's data", "another-provider", reason=f"page 0 {OTHER_PROVIDER}"),
    Story("an empty dataset of few", "empty", "loaded", shows="nothing"),
    Story("an empty dataset of many", "empty", "held", f"customers with loans: 0 {SHRUNK}", customers=MANY),
    Story("a dataset that shrinks by half", "shrink", "held", f"customers with loans: 60 {SHRUNK}", customers=MANY),
)


class Told:
    """What the institutions' own systems say in one night: a ``gjeldsbro_simulator.sources.Source``."""

    def __init__(self, night: int, sizes: dict[str, int]) -> None:
        self.night = night
        self.sizes = sizes
        self.at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()

    @property
    def datasets(self) -> tuple[tuple[str, str], ...]:
        """The one dataset of each."""
        return tuple((institution, provider_of(institution)) for institution in self.sizes)

    def count(self, institution: str, provider: str) -> int:
        """Customers that it has."""
        return self.sizes[institution]

    def customers(self, institution: str, provider: str, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """Each with two loans."""
        for number, person in list(enumerate(people(self.sizes[institution])))[start:stop]:
            customer = customer_json(person, self._balance(number), timestamp=self.at, institution=institution)
            second = {"accountID": "4002", "accountName": "Boliglån", "balance": str(self._balance(number) + 1)}
            customer["loans"].append({**customer["loans"][0], **second})
            yield customer

    def customer(self, institution: str, provider: str, customer_id: str) -> None:
        """Nobody looks anybody up here."""
        raise AssertionError("the night asks for whole datasets")

    def model(self, institution: str) -> Loans:
        """What the register must show when it has taken this."""
        told = {}
        for number, person in enumerate(people(self.sizes[institution])):
            told |= {(person, "4001"): self._balance(number), (person, "4002"): self._balance(number) + 1}
        return told

    def _balance(self, number: int) -> int:
        return 10_000 * self.night + 10 * number


class Night(NamedTuple):
    """What a night left: the report and, per institution, its outcome, its requests, our tries and what is shown."""

    report: dict[str, Any]
    outcomes: dict[str, dict[str, Any]]
    requests: Counter[str]
    tries: Counter[str]
    shown: dict[str, Loans]
    model: dict[str, Loans]
    left: list[str]


class Nights(NamedTuple):
    """The three nights; the institution of each fault, the good ones, and who held them up; the waits for a server."""

    first: Night
    second: Night
    third: Night
    institutions: dict[str, str]
    good: tuple[str, str]
    held_up: list[str]
    waits: list[float]


def provider_of(institution: str) -> str:
    """Each institution delivers for itself."""
    return f"9908:{institution}"


class World:
    """The stores, the servers and the machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.environment = stack.enter_context(stores(monkeypatch))
        self.partners = Partners(self.environment["PARTNER_TABLE"], aws_clients.dynamodb())
        self.folder, self.stack = folder, stack
        draw = Random(4)
        numbers = sorted({organisation_number(draw) for _ in range(len(STORIES) + 40)})[: len(STORIES) + 2]
        # The good ones come last in the plan, behind all that is faulty.
        self.good = (numbers[-2], numbers[-1])
        self.of = {story.fault: number for story, number in zip(STORIES, numbers, strict=False)}
        self.stories = {number: story for story, number in zip(STORIES, numbers, strict=False)}
        self.sizes = {number: self.stories[number].customers if number in self.stories else FEW for number in numbers}
        self.theirs, self.ours = authority("institution"), authority("ours")
        certificate, key = self.ours.issue()
        put_certificate(self.environment, certificate, key)
        tls = self._tls("server", self.theirs.issue())
        told = Told(1, self.sizes)
        self.servers: dict[str, Simulator] = {}
        for number in numbers:
            pages = self.stories[number].pages if number in self.stories else 1
            size = self.sizes[number] // pages
            served = ServedDataset(institution=number, provider=provider_of(number), page_size=size)
            self.servers[number] = stack.enter_context(Simulator(told, [served], tls=tls))
            provider = Provider(provider_of(number), url=self.servers[number].url, ca=self.theirs.pem)
            self.partners.put_institution(Institution(number, f"Bank {number}", providers=(provider,)))
        self.machine = Machine("nightly_fetch", monkeypatch, concurrency=len(numbers))
        self.misbehaving = False
        self.held_up: list[str] = []
        self.waits: list[float] = []
        self._good_are_done = threading.Event()
        self._loaded: set[str] = set()
        self._watch(monkeypatch)

    def _tls(self, name: str, pair: Pair) -> Tls:
        files = {"crt": pair.certificate, "key": pair.key, "ca": self.ours.pem}
        for ending, text in files.items():
            (self.folder / f"{name}.{ending}").write_text(text)
        return Tls(*(self.folder / f"{name}.{ending}" for ending in files))

    def _watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give each institution its limits, and let no faulty one's fetch end before the good ones are loaded."""
        world = self

        class Client(InstitutionClient):
            def fetch_page(self, provider: Provider, institution: str, page: int, seconds: float) -> Any:
                story = world.stories.get(institution) if world.misbehaving else None
                self._limits = story.limits if story is not None else Limits(pauses=())
                self._pause = world.waits.append
                return super().fetch_page(provider, institution, page, seconds)

        handlers = self.machine._handlers
        monkeypatch.setitem(inspect.unwrap(handlers["fetch_pages"]).__globals__, "InstitutionClient", Client)
        handlers |= {name: _one_at_a_time(handler) for name, handler in handlers.items()}
        fetch, load = handlers["fetch_pages"], handlers["load_dataset"]

        def fetch_pages(event: dict[str, Any], context: Context) -> dict[str, Any]:
            try:
                return fetch(event, context)
            finally:
                if event["institution"] not in self.good and not self._good_are_done.wait(60):
                    self.held_up.append(event["institution"])

        def load_dataset(event: dict[str, Any], context: Context) -> dict[str, Any]:
            result = load(event, context)
            self._loaded.add(event["institution"])
            if self._loaded.issuperset(self.good):
                self._good_are_done.set()
            return result

        handlers |= {"fetch_pages": fetch_pages, "load_dataset": load_dataset}

    def night(self, number: int) -> Night:
        """Have all tell the next thing, and run a night."""
        told = Told(number, self.sizes)
        self._good_are_done.clear()
        self._loaded.clear()
        before = Counter({name: len(server.requests) for name, server in self.servers.items()})
        for server in self.servers.values():
            server.serve(told)
        done = self.machine.run(f"night-{number}")
        assert done["status"] == "SUCCEEDED", done
        store = DataStore(self.environment["DATA_BUCKET"], aws_clients.s3())
        reports = DataStore(self.environment["REPORT_BUCKET"], aws_clients.s3())
        report = reports.get_json(done["output"]["reportKey"])
        outcomes = {found["institution"]: found for found in report["datasets"]}
        requests = Counter({name: len(server.requests) for name, server in self.servers.items()})
        requests.subtract(before)
        tries = Counter(
            event["institution"]
            for function, event, _ in self.machine.calls
            if function == "fetch_pages" and event["run"] == f"night-{number}"
        )
        left = list(store.keys("runs/"))
        model = {name: told.model(name) for name in self.sizes}
        return Night(report, outcomes, requests, tries, self.shown(), model, left)

    def shown(self) -> dict[str, Loans]:
        """What a reader sees of everybody, per institution."""
        hash_keys = Secrets(aws_clients.secretsmanager()).hash_keys("hash-key")
        register = Register(self.environment["REGISTER_TABLE"], aws_clients.dynamodb(), hash_keys)
        shown = everything_shown(register, self.partners, people(MANY))
        return {institution: shown.get(institution, {}) for institution in self.sizes}

    def misbehave(self) -> None:
        """Have each do what its story says."""
        self.misbehaving = True
        stand_ins = self._stand_ins()
        for number, story in self.stories.items():
            if story.does not in stand_ins:
                self.servers[number].misbehave(number, story.does)
                continue
            found = self.partners.institution(number)
            assert found is not None
            moved = replace(found.providers[0], url=stand_ins[story.does])  # the same server, for all that we can see
            self.partners.put_institution(replace(found, providers=(moved,)))

    def behave(self) -> None:
        """Have all be well again."""
        self.misbehaving = False
        for number, server in self.servers.items():
            server.behave()
            found = self.partners.institution(number)
            assert found is not None
            back = replace(found.providers[0], url=server.url)
            self.partners.put_institution(replace(found, providers=(back,)))

    def _stand_ins(self) -> dict[str, str]:
        """The URLs of servers that nobody can fetch from, by what is wrong with them."""
        listener = self.stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))  # bound, so that nobody else gets the port, but it does not listen
        urls = {"closed port": f"https://127.0.0.1:{listener.getsockname()[1]}/debt-information/v1"}
        told = Told(2, self.sizes)
        for name, pair in (
            ("unknown authority", authority("nobody's").issue()),
            ("another name", self.theirs.issue(address="127.0.0.2")),
            ("expired", self.theirs.issue(days=-3)),
        ):
            simulator = Simulator(told, tls=self._tls(name, pair))
            urls[name] = self.stack.enter_context(simulator).url
        plain = self.stack.enter_context(Simulator(told))
        urls["plain http"] = plain.url.replace("http://", "https://")
        strict = RawServer(
            lambda stream, head: None, pair=self.theirs.issue(), client_ca=authority("nobody's").pem, folder=self.folder
        )
        urls["does not accept us"] = self.stack.enter_context(strict).url
        hasty = self.stack.enter_context(ThreadingTCPServer(("127.0.0.1", 0), BaseRequestHandler))
        threading.Thread(target=hasty.serve_forever, args=(0.05,), daemon=True).start()
        self.stack.callback(hasty.shutdown)
        urls["hangs up"] = f"https://127.0.0.1:{hasty.server_address[1]}/debt-information/v1"
        return urls


_INVOCATIONS = threading.Lock()


def _one_at_a_time(handler: Handler) -> Handler:
    """As in Lambda, where no process has two invocations at once: neither our logger nor moto knows of threads."""

    def run(event: dict[str, Any], context: Any) -> dict[str, Any]:
        with _INVOCATIONS:
            return handler(event, context)

    return run


def put_certificate(environment: dict[str, str], certificate: str, key: str) -> None:
    """Store our client certificate as ``gjeldsbro certificate put`` does."""
    text = json.dumps({"certificate": certificate, "privateKey": key})
    boto3.client("secretsmanager").put_secret_value(
        SecretId=environment["CLIENT_CERTIFICATE_SECRET"], SecretString=text
    )


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """All three nights of all stories."""
    with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
        for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "eu-north-1")):
            monkeypatch.setenv(f"AWS_{name}", value)
        world = World(tmp_path_factory.mktemp("servers"), monkeypatch, stack)
        first = world.night(1)
        world.misbehave()
        second = world.night(2)
        world.behave()
        third = world.night(3)
        return Nights(first, second, third, world.of, world.good, world.held_up, world.waits)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.fault)
def test_a_fault_of_an_institution(nights: Nights, story: Story) -> None:
    """The register is right, the report says why in words, and the next good night mends it."""
    number = nights.institutions[story.fault]
    night = nights.second
    well = nights.first.outcomes[number]
    assert (well["status"], well.get("reason")) == ("loaded", None)
    assert nights.first.shown[number] == nights.first.model[number]
    told = night.outcomes[number]
    assert (told["status"], told.get("reason")) == (story.status, story.reason)
    expected = {"yesterday": nights.first.model, "tonight": night.model, "nothing": {number: {}}}[story.shows]
    assert night.shown[number] == expected[number]
    well = nights.third.outcomes[number]
    assert (well["status"], well.get("reason")) == ("loaded", None)
    assert nights.third.shown[number] == nights.third.model[number]
    if story.status == "failed":
        assert night.tries[number] >= TRIES  # moto counts tries across datasets at times, and then makes one more
    else:
        assert night.requests[number] == story.requests


def test_the_others_are_not_held_up(nights: Nights) -> None:
    """The good institutions, last in the plan, were loaded before any faulty one's fetch had ended."""
    assert nights.held_up == []
    for night in (nights.first, nights.second, nights.third):
        for number in nights.good:
            assert night.outcomes[number]["status"] == "loaded"
            assert night.shown[number] == night.model[number]


def test_a_server_that_asks_us_to_wait_is_waited_for(nights: Nights) -> None:
    """As long as its Retry-After says; nobody else makes us wait."""
    assert nights.waits == [1.0, 1.0]


def test_the_report_counts_and_names_nobody(nights: Nights) -> None:
    """Each status with its number; no customer's number anywhere, and no file of the run is left."""
    for night in (nights.first, nights.second, nights.third):
        assert night.report["statuses"] == Counter(found["status"] for found in night.outcomes.values())
        assert night.left == []
        text = json.dumps(night.report)
        assert not [person for person in people(MANY) if person in text]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.fault)
def test_every_fault_stands_in_the_table_with_its_words(story: Story) -> None:
    """An operator who searches docs/reliability.md for what the report says finds the fault."""
    rows = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| {story.fault} |")]
    assert "test_institution_faults.py::test_a_fault_of_an_institution`" in row
    assert f"`{story.status}`" in row
    assert story.reason is None or f"`{story.reason}`" in row


@pytest.mark.parametrize("refusal", ["in TLS", "401 Unauthorized", "403 Forbidden"])
def test_a_new_client_certificate_counts_from_the_next_try_on(
    aws: dict[str, str], partners: Partners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    """An operator puts it in its place during the run, while the function still has the old one in memory."""
    number = organisation_number(Random(4))
    old, new = authority("ours").issue(), authority("ours anew").issue()
    put_certificate(aws, *old)
    at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    body = page_json([customer_json(people(1)[0], 100, timestamp=at, institution=number)], provider_of(number))
    refused: list[bool] = []

    def script(stream: Any, head: str) -> None:
        known = stream.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(new.certificate)
        refused.append(not known)
        stream.sendall(answer(body) if known else answer(b"", status=refusal))

    trusted = authority("ours anew").pem + ("" if refusal == "in TLS" else authority("ours").pem)
    machine = Machine("nightly_fetch", monkeypatch)
    fetch = machine._handlers["fetch_pages"]
    inspect.unwrap(fetch).__globals__["_secrets"]().client_certificate(aws["CLIENT_CERTIFICATE_SECRET"])
    put_certificate(aws, *new)
    theirs = authority("institution")
    with RawServer(script, pair=theirs.issue(), client_ca=trusted, folder=tmp_path) as server:
        provider = Provider(provider_of(number), url=server.url, ca=theirs.pem)
        partners.put_institution(Institution(number, "Bank", providers=(provider,)))
        done = machine.run("night-1")
    assert done["output"]["notLoaded"] == 0
    assert refused == ([False] if refusal == "in TLS" else [True, False])
