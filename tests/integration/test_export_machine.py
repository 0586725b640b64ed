"""The quarterly export as a whole: the state machine in moto, the real handlers, and a real OpenSSH server."""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import pytest
from tests.integration.machines import ROOT, Context, Machine, handler_of
from tests.integration.partner_rights import allowed_by, covers, requests_of
from tests.integration.raw_server import RawServer, answer, authority
from tests.unit.night_world import customer_json, page_json

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.register import DatasetItems
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, Loan, RepaymentLoan, encode_loans
from gjeldsbro.domain.quarter import Quarter, month_and_year
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError, InstitutionUnavailableError
from gjeldsbro.services.export import read_lists
from gjeldsbro.services.ports import Institution, Provider, Receiver
from gjeldsbro_local.sftp_server import SftpServer

BANK, OTHER, AWAY, ALWAYS_ASKED = "920013015", "985815534", "971171324", "974760673"
DEBTOR, TWICE, FREE = "17912099997", "29822099635", "12829499914"
STAMP = "2026-09-30T03:00:00.0000000Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SftpServer]:
    """A receiver's real server."""
    with SftpServer(tmp_path_factory.mktemp("sftp")) as running:
        yield running


@pytest.fixture
def world(aws, partners, secrets, server):
    """A register with debt at two institutions, a receiver for two organisations, and one whose server is away."""
    for file in server.folder.iterdir():
        file.unlink()
    boto3.client("secretsmanager").create_secret(
        Name="receiver",
        SecretString=json.dumps({"privateKey": server.private_key_file.read_text()}),
    )
    partners.put_receiver(Receiver(BANK, "Bank", (BANK, OTHER), server.url, (server.host_key,), "receiver"))
    hash_key = secrets.hash_keys("hash-key").at(datetime.now(UTC))
    items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), hash_key.version)
    debts: dict[str, dict[str, tuple[Loan, ...]]] = {
        BANK: {
            DEBTOR: (RepaymentLoan("12345678901", STAMP, "Forbrukslån", 50000, 20000, 20, 1200, 0, 2),),
            TWICE: (ChargeCard("39", STAMP, None, 0, 100, 0),),
        },
        AWAY: {TWICE: (CreditFacility("47", STAMP, "Kort", 500000, 10000, 2000, 1200, 5000, 0),)},
    }
    for institution, customers in debts.items():
        provider = f"9908:{institution}"
        partners.put_institution(Institution(institution, "FI", providers=(Provider(provider, "https://fi"),)))
        dataset = partners.take_lease(institution, provider, "night", datetime.now(UTC), 60)
        partners.update_dataset(dataset, "night", as_of=STAMP, fetch_start=STAMP)
        rows = [(hash_key.customer_key(number), encode_loans(loans)) for number, loans in customers.items()]
        items.write_dataset_items(institution, provider, "night", rows)
    return server.folder


def delivered(folder, on_behalf_of: str) -> dict:
    """A delivered package."""
    return json.loads(gzip.decompress((folder / f"{on_behalf_of}.gzip").read_bytes()))


def report_name(on_behalf_of: str, kind: str) -> str:
    """The name of a report of a run of now."""
    month, year = month_and_year(datetime.now(UTC))
    return f"{BANK}-{on_behalf_of}-{month}-{year}-{kind}-report.txt"


def test_the_export_delivers_what_the_lists_ask_for(world, partners, store, monkeypatch):
    """From the lists on the receiver's server to its packages, in slices, with reports, and nothing left behind."""
    monkeypatch.setattr(read_lists, "BATCH_SIZE", 2)
    (world / f"{BANK}.txt").write_text(f"{DEBTOR},{FREE},abc,{TWICE},{DEBTOR}\n")
    (world / f"{OTHER}.txt").write_text(FREE)
    machine = Machine("quarterly_export", monkeypatch)
    result = machine.run("export-1")
    assert result["status"] == "SUCCEEDED"
    assert result["output"] == {
        "run": "export-1",
        "reportKey": "export/export-1.json",
        "deliveries": 2,
        "notDelivered": 0,
    }
    customers = {customer["customerID"]: customer for customer in delivered(world, BANK)["customers"]}
    assert list(customers) == [DEBTOR, FREE, TWICE]
    assert [len(customer["loans"]) for customer in customers.values()] == [1, 0, 2]
    assert {customer["financialInstitutionID"] for customer in customers.values()} == {BANK}
    assert AWAY not in json.dumps(customers)
    assert delivered(world, OTHER)["customers"] == [
        {"customerID": FREE, "financialInstitutionID": OTHER, "loans": []},
    ]
    report = (world / report_name(BANK, "progress")).read_text().splitlines()
    assert report[3:] == [
        "Numbers in list: 5",
        "Numbers in package: 3",
        "Invalid numbers: 1",
        "abc",
        "Duplicate numbers: 1",
        DEBTOR,
    ]
    assert sorted(file.name for file in world.iterdir()) == sorted(
        [
            *(f"{name}.{suffix}" for name in (BANK, OTHER) for suffix in ("txt", "gzip")),
            *(report_name(name, "progress") for name in (BANK, OTHER)),
        ],
    )
    assert not list(store.keys(""))
    quarter = str(Quarter.of(datetime.now(UTC)))
    assert {delivery["state"] for delivery in partners.deliveries(quarter).values()} == {"delivered"}
    assert [call[0] for call in machine.calls].count("build_slice") == 3
    said = json.dumps(machine.calls)
    assert not any(number in said for number in (DEBTOR, FREE, TWICE))


def test_all_packages_are_built_before_the_first_is_delivered(world, monkeypatch):
    """Receivers get theirs at the same time, when all are there."""
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(FREE)
    machine = Machine("quarterly_export", monkeypatch)
    machine.run("export-1")
    order = [call[0] for call in machine.calls]
    last_built = max(index for index, name in enumerate(order) if name == "build_slice")
    assert last_built < order.index("deliver_package")


def test_one_receivers_failure_holds_no_other_up(world, partners, server, monkeypatch):
    """A server that is away and a missing list are reported; the rest is delivered."""
    away = Receiver(AWAY, "Away", (AWAY,), "sftp://nogi@127.0.0.1:1/x", (server.host_key,), "receiver")
    partners.put_receiver(away)
    (world / f"{BANK}.txt").write_text(DEBTOR)
    result = Machine("quarterly_export", monkeypatch).run("export-1")
    assert (result["output"]["deliveries"], result["output"]["notDelivered"]) == (3, 2)
    outcomes = partners.outcomes("export-1")
    assert outcomes[f"{BANK}#{BANK}"]["status"] == "delivered"
    assert outcomes[f"{BANK}#{OTHER}"]["error"] == "SSN_LIST_NOT_FOUND"
    assert outcomes[f"{AWAY}#{AWAY}"]["error"] == "ReceiverUnavailableError"
    assert (world / report_name(OTHER, "failure")).read_text().splitlines()[3] == "Error: SSN_LIST_NOT_FOUND"


def test_a_slice_that_cannot_be_built_keeps_its_package_back(world, partners, store, monkeypatch):
    """One failed batch is recorded, its package is not delivered, and the other organisation's is."""
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(FREE)
    real = handler_of("build_slice")

    def build(event, context):
        if event["onBehalfOf"] == OTHER:
            raise ValueError("a fault of ours")
        return real(event, context)

    result = Machine("quarterly_export", monkeypatch, handlers={"build_slice": build}).run("export-1")
    assert (result["output"]["deliveries"], result["output"]["notDelivered"]) == (2, 1)
    assert partners.outcomes("export-1")[f"{BANK}#{OTHER}"]["status"] == "failed"
    assert (world / f"{BANK}.gzip").exists()
    assert not (world / f"{OTHER}.gzip").exists()
    assert not list(store.keys(""))


def test_functions_that_run_out_of_time_go_on_in_the_next_call(world, monkeypatch):
    """With no spare time at all, each call does one piece of work, and the package arrives all the same."""
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(FREE)
    machine = Machine("quarterly_export", monkeypatch, seconds=60)
    assert machine.run("export-1")["output"]["notDelivered"] == 0
    assert [call[0] for call in machine.calls].count("deliver_package") > 4
    assert len(delivered(world, BANK)["customers"]) == 1


@pytest.fixture
def asked(world, aws, partners, secrets, tmp_path) -> Iterator["Asked"]:
    """A third institution, which is always asked: the register knows that DEBTOR and FREE are its customers."""
    provider = f"9908:{ALWAYS_ASKED}"
    script = Asked()
    theirs, ours = authority("institution"), authority("ours")
    certificate = dict(zip(("certificate", "privateKey"), ours.issue(), strict=True))
    boto3.client("secretsmanager").put_secret_value(SecretId="client-certificate", SecretString=json.dumps(certificate))
    with RawServer(script, folder=tmp_path, keep=True, pair=theirs.issue(), client_ca=ours.pem) as server:
        providers = (Provider(provider, server.url, ca=theirs.pem, dataset="ssn"),)
        partners.put_institution(Institution(ALWAYS_ASKED, "Live", providers=providers, lookup="live"))
        dataset = partners.take_lease(ALWAYS_ASKED, provider, "night", datetime.now(UTC), 60)
        partners.update_dataset(dataset, "night", as_of=STAMP, fetch_start=STAMP)
        hash_key = secrets.hash_keys("hash-key").at(datetime.now(UTC))
        items = DatasetItems(aws["REGISTER_TABLE"], aws_clients.dynamodb(), hash_key.version)
        rows = [(hash_key.customer_key(number), encode_loans(())) for number in (DEBTOR, FREE)]
        items.write_dataset_items(ALWAYS_ASKED, provider, "night", rows)
        yield script


class Asked:
    """Answers for one customer at a time: DEBTOR owes 777 there. ``failures`` come first; None: no end of them."""

    def __init__(self) -> None:
        self.failures: int | None = 0
        self.customers: list[str] = []

    def __call__(self, stream, head: str) -> None:
        """Answer one request (SPEC 3.1.2)."""
        assert head.startswith(f"GET /debt-information/v1/loans/{ALWAYS_ASKED}/customer ")
        (customer,) = re.findall(r"(?im)^customerid: ([0-9]{11})\r$", head)
        self.customers.append(customer)
        if self.failures is None or self.failures > 0:
            self.failures = self.failures and self.failures - 1
            stream.sendall(answer(b"{}", status="503 Service Unavailable"))
            return
        balance = {DEBTOR: 777}.get(customer, 0)
        document = customer_json(customer, balance, timestamp=STAMP, institution=ALWAYS_ASKED)
        stream.sendall(answer(page_json([document], f"9908:{ALWAYS_ASKED}")))


def test_an_institution_that_is_always_asked_is_asked_when_its_customers_packages_are_built(
    asked, world, aws, store, monkeypatch
):
    """Its answer is in the package beside the register's loans; nobody else's customer is asked for, none is kept."""
    (world / f"{BANK}.txt").write_text(f"{DEBTOR},{FREE},{TWICE}")
    (world / f"{OTHER}.txt").write_text(TWICE)
    machine = Machine("quarterly_export", monkeypatch)
    assert machine.run("export-1")["output"]["notDelivered"] == 0
    loans = {customer["customerID"]: customer["loans"] for customer in delivered(world, BANK)["customers"]}
    assert {number: len(held) for number, held in loans.items()} == {DEBTOR: 2, FREE: 0, TWICE: 2}
    assert sorted(loan.get("balance", "") for loan in loans[DEBTOR]) == ["20000", "777"]
    assert sorted(asked.customers) == sorted([DEBTOR, FREE])
    assert ALWAYS_ASKED not in json.dumps(loans)
    assert not list(store.keys(""))
    said = json.dumps(machine.calls)
    assert not any(text in said for text in (DEBTOR, FREE, "777"))
    assert boto3.client("dynamodb").scan(TableName=aws["LOOKUP_TABLE"])["Items"] == []


def test_a_slice_asks_the_partner_table_for_what_it_may_have(asked, world):
    """Nothing here enforces rights on parts of a table: what is asked for, also of the breaker, is in the template."""
    for name in (BANK, OTHER):
        (world / f"{name}.txt").write_text(DEBTOR)
    events = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").glob("*.json")}
    for step in ("plan_export", "read_ssn_lists", "plan_packages"):
        handler_of(step)(events[step], Context())
    requests = set()

    def note(params, model, **_):
        requests.update(requests_of(model.name, params))

    aws_clients.dynamodb().meta.events.register("before-parameter-build.dynamodb", note)
    build = handler_of("build_slice")
    asked.failures = None
    with pytest.raises(InstitutionUnavailableError):
        build(events["build_slice"], Context())
    asked.failures = 0
    assert build(events["build_slice"], Context()) == {"complete": True}
    allowed = allowed_by("BuildSliceRights")
    assert {one for one in requests if not any(covers(right, one) for right in allowed)} == set()
    assert {("UpdateItem", "BREAKER"), ("DeleteItem", "BREAKER"), ("UpdateItem", "PACE")} < requests
    assert {key for _, key in allowed} == {key for _, key in requests}


def test_a_slice_is_built_when_the_institution_answers_again(asked, world, monkeypatch):
    """The machine tries again, with growing pauses."""
    asked.failures = 8  # more than the client tries by itself
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(TWICE)
    machine = Machine("quarterly_export", monkeypatch)
    assert machine.run("export-1")["output"]["notDelivered"] == 0
    tried = [result for name, event, result in machine.calls if name == "build_slice" and event["onBehalfOf"] == BANK]
    assert tried[0]["errorType"] == "InstitutionUnavailableError"
    assert tried[-1] == {"complete": True}
    assert len(delivered(world, BANK)["customers"][0]["loans"]) == 2


def test_without_its_answer_a_package_is_reported_and_not_delivered(asked, world, partners, store, monkeypatch):
    """Missing debt would look like none: the receiver keeps last quarter's package, and the report says why."""
    asked.failures = None
    (world / f"{BANK}.txt").write_text(f"{DEBTOR},{TWICE}")
    (world / f"{OTHER}.txt").write_text(TWICE)
    (world / f"{BANK}.gzip").write_bytes(b"last quarter's")
    result = Machine("quarterly_export", monkeypatch).run("export-1")
    assert (result["status"], result["output"]["notDelivered"]) == ("SUCCEEDED", 1)
    outcome = partners.outcomes("export-1")[f"{BANK}#{BANK}"]
    assert (outcome["status"], outcome["error"]) == ("failed", "InstitutionUnavailableError")
    assert ALWAYS_ASKED in outcome["reason"]
    assert DEBTOR not in json.dumps(outcome)
    assert partners.outcomes("export-1")[f"{BANK}#{OTHER}"]["status"] == "delivered"
    assert (world / f"{BANK}.gzip").read_bytes() == b"last quarter's"
    assert not list(store.keys(""))


def test_a_second_run_delivers_again_only_with_a_reason(world, partners, monkeypatch):
    """At most one delivery in a quarter; an operator may ask for another one, of one receiver."""
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(FREE)
    machine = Machine("quarterly_export", monkeypatch)
    machine.run("export-1")
    before = (world / f"{BANK}.gzip").stat().st_mtime_ns
    second = machine.run("export-2")
    assert (second["output"]["deliveries"], second["output"]["notDelivered"]) == (2, 0)
    assert (world / f"{BANK}.gzip").stat().st_mtime_ns == before
    assert {outcome["status"] for outcome in partners.outcomes("export-2").values()} == {"already-delivered"}
    refused = machine.run("export-3", {"again": True})
    assert (refused["status"], refused["error"]) == ("FAILED", "ExportNotPlanned")
    machine.run("export-4", {"receiver": BANK, "again": True, "reason": "the receiver lost it"})
    assert {outcome["status"] for outcome in partners.outcomes("export-4").values()} == {"delivered"}
    assert (world / f"{BANK}.gzip").stat().st_mtime_ns > before


def test_a_run_that_nobody_knows_is_not_reported(world):
    """Neither a plan nor a report is a fault of whoever asks for it, and says so."""
    with pytest.raises(ConfigurationError, match="neither a plan nor a report"):
        handler_of("report_export")({"run": "export-1"}, Context())


def test_a_run_without_receivers_ends_well(aws, partners, store, monkeypatch):
    """Nothing to do is no fault."""
    result = Machine("quarterly_export", monkeypatch).run("export-1")
    assert (result["status"], result["output"]["deliveries"]) == ("SUCCEEDED", 0)


def test_a_step_that_fails_as_a_whole_still_leaves_no_numbers_behind(world, store, monkeypatch):
    """When packages cannot be planned, the report says that nothing was delivered, and the numbers are deleted."""
    (world / f"{BANK}.txt").write_text(DEBTOR)

    def fail(event, context):
        raise ValueError("a fault of ours")

    result = Machine("quarterly_export", monkeypatch, handlers={"plan_packages": fail}).run("export-1")
    assert (result["status"], result["output"]["notDelivered"]) == ("SUCCEEDED", 2)
    assert not list(store.keys(""))


def test_check_receiver_tells_what_works(world, partners, server):
    """The operator's check goes through the real server, and leaves nothing there."""
    check = handler_of("check_receiver")
    result = check({"receiver": BANK}, Context())
    assert result["works"], result
    assert list(world.iterdir()) == []
    partners.put_receiver(Receiver(AWAY, "Away", (AWAY,), server.url, ("ssh-ed25519 AAAA",), "receiver"))
    refused = check({"receiver": AWAY}, Context())
    assert not refused["works"]
    assert refused["checks"]["hostKey"] != "ok"
    assert refused["checks"]["login"] == "not tried"


@pytest.mark.parametrize(
    "function",
    [
        "build_slice",
        "check_receiver",
        "deliver_package",
        "plan_deliveries",
        "plan_export",
        "plan_packages",
        "read_ssn_lists",
        "report_export",
    ],
)
def test_the_example_events_are_what_the_functions_read(function, world, partners):
    """Each function takes its file in events/, one after another, as a run would call them."""
    (world / f"{BANK}.txt").write_text(DEBTOR)
    (world / f"{OTHER}.txt").write_text(FREE)
    order = ["plan_export", "read_ssn_lists", "plan_packages", "build_slice", "plan_deliveries", "deliver_package"]
    order += ["report_export", "check_receiver"]
    for step in order[: order.index(function) + 1]:
        event = json.loads((ROOT / "events" / f"{step}.json").read_text())
        result = handler_of(step)(event, Context())
    assert isinstance(result, dict)
    assert from_datetime(datetime.now(UTC)) > STAMP
