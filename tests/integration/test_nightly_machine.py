"""The nightly state machine in moto, with the real functions, stores and a server on loopback."""

import json
import zlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from moto.sns import sns_backends
from tests.integration.machines import Machine
from tests.integration.raw_server import RawServer, answer
from tests.unit.night_world import ASK, customer_json, list_json, page_json, people

from gjeldsbro.adapters import institution_client
from gjeldsbro.adapters.aws import from_item
from gjeldsbro.domain.loans import decode_loans
from gjeldsbro.services.ports import Institution, Provider

GOOD, BAD, DOWN, PAGED = "920013015", "985815534", "974760673", "983544622"


def provider_of(institution: str) -> str:
    """Each institution delivers for itself."""
    return f"9908:{institution}"


class Bank:
    """Serves datasets of several institutions on one server; what it does can be changed between nights."""

    def __init__(self) -> None:
        self.pages: dict[str, list[bytes]] = {}
        self.failures: dict[str, int] = {}
        self.lists: dict[str, bytes] = {}
        self.paths: list[str] = []

    def deliver(self, institution: str, amounts: dict[str, int], pages: int = 1) -> None:
        """Have an institution's next dataset say this."""
        at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
        customers = [
            customer_json(customer, balance, timestamp=at, institution=institution)
            for customer, balance in amounts.items()
        ]
        self.pages[institution] = [page_json(customers[at::pages], provider_of(institution)) for at in range(pages)]

    def name_customers(self, institution: str, customers: Iterable[str]) -> None:
        """Have an institution's next list of customers say this."""
        at = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
        self.lists[institution] = list_json(
            customers, timestamp=at, institution=institution, provider=provider_of(institution)
        )

    def __call__(self, stream, head: str) -> None:
        """Answer one request, deflated and with SPEC's own headers."""
        target = urlsplit(head.split(" ")[1])
        institution = target.path.rpartition("/")[2]
        self.paths.append(target.path)
        if self.failures.get(institution, 0) > 0:
            self.failures[institution] -= 1
            stream.sendall(answer(b"", status="503 Service Unavailable"))
            return
        if "/ssn/" in target.path:
            stream.sendall(answer(zlib.compress(self.lists[institution]), Encoding="deflate"))
            return
        pages = self.pages[institution]
        body = pages[int(parse_qs(target.query).get("page", ["0"])[0])]
        stream.sendall(answer(zlib.compress(body), Encoding="deflate", numberOfPages=str(len(pages))))


@pytest.fixture
def bank(tmp_path, partners, monkeypatch):
    """Four institutions on one server; pauses are short."""
    monkeypatch.setattr(institution_client, "sleep", lambda _: None)
    monkeypatch.setattr(
        institution_client.InstitutionClient.__init__,
        "__kwdefaults__",
        {
            **institution_client.InstitutionClient.__init__.__kwdefaults__,
            "limits": institution_client.Limits(pauses=()),
        },
    )
    served = Bank()
    with RawServer(served, folder=tmp_path) as server:
        for institution in (GOOD, BAD, DOWN, PAGED):
            provider = Provider(provider_of(institution), url=server.url)
            partners.put_institution(Institution(institution, f"Bank {institution}", providers=(provider,)))
        yield served


@pytest.fixture
def machine(aws, monkeypatch) -> Machine:
    """The nightly state machine."""
    return Machine("nightly_fetch", monkeypatch)


def in_register(aws) -> dict[str, dict[str, int]]:
    """Per institution: balances by partition key."""
    found: dict[str, dict[str, int]] = {}
    for stored in boto3.client("dynamodb").scan(TableName=aws["REGISTER_TABLE"])["Items"]:
        item = from_item(stored)
        institution = item["sk"].split("#")[1]
        found.setdefault(institution, {})[item["pk"]] = next(
            (loan.balance for loan in decode_loans(item["loans"])), ASK
        )
    return found


def test_two_nights_from_schedule_to_report(aws, partners, store, reports, bank, machine) -> None:
    """Good, paged, refused and unavailable institutions side by side; the second night writes what changed."""
    bank.deliver(GOOD, dict.fromkeys(people(6), 100))
    bank.deliver(PAGED, dict.fromkeys(people(5), 200), pages=3)
    bank.deliver(BAD, {people(1)[0]: 100})
    bank.pages[BAD][0] = bank.pages[BAD][0].replace(b'"coBorrower": "0"', b'"coBorrower": "7"')
    bank.deliver(DOWN, dict.fromkeys(people(2), 300))
    bank.failures = {DOWN: 100, GOOD: 1}

    done = machine.run("night-1")

    assert done["status"] == "SUCCEEDED", done
    assert done["output"] == {
        "run": "night-1",
        "reportKey": "nightly/night-1.json",
        "datasets": 4,
        "notLoaded": 2,
        "written": 11,
    }
    report = reports.get_json("nightly/night-1.json")
    by_institution = {dataset["institution"]: dataset for dataset in report["datasets"]}
    assert {name: dataset["status"] for name, dataset in by_institution.items()} == {
        GOOD: "loaded",
        PAGED: "loaded",
        BAD: "refused",
        DOWN: "failed",
    }
    assert by_institution[PAGED]["pages"] == 3
    assert by_institution[BAD]["violations"][0]["place"] == "page 0 /customers/0/loans/0/coBorrower"
    assert by_institution[DOWN]["reason"] == "page 0: HTTP 503: the server has a fault of its own"
    assert sum(1 for name, event, _ in machine.calls if name == "fetch_pages" and event["institution"] == DOWN) == 4
    register = in_register(aws)
    assert {name: sorted(held.values()) for name, held in register.items()} == {GOOD: [100] * 6, PAGED: [200] * 5}
    assert not list(store.keys("runs/"))

    bank.deliver(GOOD, {**dict.fromkeys(people(6)[1:], 100), people(6)[2]: 111, people(7)[6]: 500})
    bank.deliver(PAGED, dict.fromkeys(people(5), 200), pages=2)
    bank.deliver(BAD, {})
    bank.failures = {}
    partners.put_institution(Institution(DOWN, "gone", providers=(Provider(provider_of(DOWN)),), ended=True))
    done = machine.run("night-2")

    assert done["status"] == "SUCCEEDED", done
    report = reports.get_json("nightly/night-2.json")
    good = next(dataset for dataset in report["datasets"] if dataset["institution"] == GOOD)
    assert [good[name] for name in ("added", "changed", "removed", "unchanged")] == [1, 1, 1, 4]
    assert report["counts"]["written"] == 3
    assert sorted(in_register(aws)[GOOD].values()) == [100, 100, 100, 100, 111, 500]
    assert partners.institution(DOWN) is None
    assert partners.run("nightly", "night-2")["statuses"] == {"loaded": 1, "unchanged": 3}
    kept = {key.partition("/")[0] for key in store.keys("")}
    assert kept == {"index"}


def test_a_night_tells_the_people_on_duty(aws, partners, reports, bank, machine, monkeypatch) -> None:
    """One message with what needs action and where the page is; the page is HTML, and a browser is told so."""
    bank.deliver(GOOD, dict.fromkeys(people(6), 100))
    bank.deliver(PAGED, dict.fromkeys(people(5), 200))
    bank.deliver(BAD, {people(1)[0]: 100})
    bank.pages[BAD][0] = bank.pages[BAD][0].replace(b'"coBorrower": "0"', b'"coBorrower": "7"')
    bank.deliver(DOWN, {})

    machine.run("night-1")

    ((subject, text),) = told(aws)
    assert subject.endswith(": 1 of 4 need action")
    assert "page 0 /customers/0/loans/0/coBorrower" in text
    assert "s3://gjeldsbro-reports/nightly/night-1.html" in text
    assert partners.run("nightly", "night-1")["notifiedAt"]
    page = boto3.client("s3").get_object(Bucket=aws["REPORT_BUCKET"], Key="nightly/night-1.html")
    assert page["ContentType"] == "text/html; charset=utf-8"
    assert f"Bank {BAD}" in page["Body"].read().decode()
    for number in people(6):
        assert number not in text

    boto3.client("sns").delete_topic(TopicArn=aws["ALARM_TOPIC"])
    assert machine.run("night-2")["status"] == "SUCCEEDED"
    assert "notifiedAt" not in partners.run("nightly", "night-2")
    assert [night["run"] for night in reports.get_json("nightly/night-2.json")["trend"]["nights"]] == [
        "night-1",
        "night-2",
    ]


def test_a_night_whose_predecessors_report_has_expired_is_reported(reports, bank, machine) -> None:
    """What is no longer there is no part of the trend, and no fault."""
    for institution in (GOOD, PAGED, BAD, DOWN):
        bank.deliver(institution, dict.fromkeys(people(2), 100))
    machine.run("night-1")
    reports.delete(["nightly/night-1.json"])

    assert machine.run("night-2")["status"] == "SUCCEEDED"

    assert [night["run"] for night in reports.get_json("nightly/night-2.json")["trend"]["nights"]] == ["night-2"]


def told(aws) -> list[tuple[str, str]]:
    """Subject and text of what was sent to the topic."""
    topic = sns_backends["123456789012"]["eu-north-1"].topics[aws["ALARM_TOPIC"]]
    return [(subject, message) for _, message, subject, *_ in topic.sent_notifications]


def test_nights_of_an_institution_that_is_always_asked(aws, partners, store, reports, bank, machine) -> None:
    """From loans to a list of customers and back: the register holds the last of them, next to others' loans."""
    bank.deliver(GOOD, dict.fromkeys(people(6), 100))
    bank.deliver(PAGED, dict.fromkeys(people(3), 200))
    bank.deliver(BAD, {})
    bank.deliver(DOWN, {})
    assert machine.run("night-1")["output"]["notLoaded"] == 0
    before = partners.institution(GOOD)
    index_only = replace(before, lookup="live", providers=(replace(before.providers[0], dataset="ssn"),))
    partners.put_institution(index_only)
    bank.name_customers(GOOD, people(8)[2:])
    bank.paths.clear()

    done = machine.run("night-2")

    assert done["output"]["notLoaded"] == 0, done
    report = reports.get_json("nightly/night-2.json")
    good = next(dataset for dataset in report["datasets"] if dataset["institution"] == GOOD)
    assert [good[name] for name in ("dataset", "customers", "added", "changed", "removed")] == ["ssn", 6, 2, 4, 2]
    assert f"/debt-information/v1/ssn/{GOOD}" in bank.paths
    assert f"/debt-information/v1/loans/{GOOD}" not in bank.paths
    register = in_register(aws)
    assert sorted(register[GOOD].values()) == [ASK] * 6
    assert sorted(register[PAGED].values()) == [200] * 3
    assert not list(store.keys("runs/"))

    bank.name_customers(GOOD, [*people(8)[2:], people(8)[2]])
    machine.run("night-3")
    (refused,) = [
        dataset for dataset in reports.get_json("nightly/night-3.json")["datasets"] if dataset["status"] == "refused"
    ]
    assert (refused["institution"], refused["violations"][0]["place"]) == (GOOD, "list /customers/6")
    assert in_register(aws)[GOOD] == register[GOOD]

    partners.put_institution(before)
    bank.deliver(GOOD, dict.fromkeys(people(5), 300))
    assert machine.run("night-4")["output"]["notLoaded"] == 0
    assert sorted(in_register(aws)[GOOD].values()) == [300] * 5


def test_a_release_runs_one_institution_without_the_hold(aws, store, bank, machine) -> None:
    """The request is the execution's input."""
    bank.deliver(GOOD, dict.fromkeys(people(120), 100))
    machine.run("night-1", {"institution": GOOD})
    bank.deliver(GOOD, dict.fromkeys(people(20), 100))
    assert machine.run("night-2", {"institution": GOOD})["output"]["notLoaded"] == 1
    assert len(in_register(aws)[GOOD]) == 120
    assert machine.run("release", {"institution": GOOD, "hold": False})["output"]["notLoaded"] == 0
    assert len(in_register(aws)[GOOD]) == 20


def test_nothing_that_the_machine_passes_on_holds_a_person(aws, bank, machine, log_stream) -> None:
    """Execution input, task events and results, log lines, keys and items of the stores (design decision 15)."""
    bank.deliver(GOOD, dict.fromkeys(people(6), 987_654))
    bank.deliver(PAGED, {people(1)[0]: 987_654})
    bank.pages[PAGED][0] = bank.pages[PAGED][0].replace(b'"coBorrower": "0"', b'"coBorrower": "7"')
    done = machine.run("night-1", {"institution": GOOD})
    more = machine.run("night-2", {"institution": PAGED})
    client = boto3.client("dynamodb")
    items = [client.scan(TableName=aws[name])["Items"] for name in ("PARTNER_TABLE", "REGISTER_TABLE")]
    s3 = boto3.client("s3")
    objects = [
        entry["Key"].encode() + s3.get_object(Bucket=aws["DATA_BUCKET"], Key=entry["Key"])["Body"].read()
        for entry in s3.list_objects_v2(Bucket=aws["DATA_BUCKET"])["Contents"]
    ]
    said = json.dumps(machine.calls) + repr(done) + repr(more) + log_stream.getvalue() + repr(objects)
    for customer in people(6):
        assert customer not in said + repr(items)
    assert "987654" not in said
    assert "4001" not in said


def test_a_night_that_cannot_be_planned_fails_with_a_name(aws, machine) -> None:
    """The alarm on failed executions is what wakes the engineer on duty."""
    done = machine.run("night-1", {"institution": "000000000"})
    assert done["status"] == "FAILED"
    assert done["error"] == "NightNotPlanned"


def test_an_ended_provider_is_dropped_only_from_what_was_read(partners) -> None:
    """An operator's change that comes between reading and dropping is not lost."""
    providers = (Provider("9908:920013015", url="https://a.example.no", ended=True), Provider("9908:985815534"))
    partners.put_institution(Institution(GOOD, "Bank", providers=providers))
    read = partners.institution(GOOD)
    partners.put_institution(Institution(GOOD, "Bank", providers=providers[:1]))
    assert not partners.drop_provider(read, "9908:920013015")
    assert partners.drop_provider(partners.institution(GOOD), "9908:920013015")
    assert partners.institution(GOOD).providers == ()


def test_a_night_without_institutions_is_reported(aws, machine) -> None:
    """The first night of a new company."""
    done = machine.run("night-1")
    assert done["status"] == "SUCCEEDED", done
    assert done["output"]["datasets"] == 0


def test_a_step_that_fails_unexpectedly_is_recorded_and_stops_nothing_else(aws, reports, bank, monkeypatch) -> None:
    """A fault of ours in one dataset: the others are loaded, the report says which failed."""
    machine = Machine("nightly_fetch", monkeypatch)
    load = machine._handlers["load_dataset"]

    def flawed(event, context):
        if event["institution"] == GOOD:
            raise KeyError(people(1)[0])
        return load(event, context)

    machine._handlers["load_dataset"] = flawed
    for institution in (GOOD, PAGED, BAD, DOWN):
        bank.deliver(institution, dict.fromkeys(people(3), 100))
    done = machine.run("night-1")
    assert done["output"]["notLoaded"] == 1
    report = reports.get_json("nightly/night-1.json")
    failed = next(dataset for dataset in report["datasets"] if dataset["institution"] == GOOD)
    assert (failed["status"], failed["error"], failed["reason"]) == ("failed", "KeyError", "KeyError")
    assert set(in_register(aws)) == {PAGED, BAD, DOWN}
