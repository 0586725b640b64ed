"""Planning, building, delivering and reporting: nothing is delivered twice, in part, or before all is built."""

import gzip
import json
from datetime import timedelta
from hashlib import sha256

import pytest
from tests.unit.export_world import (
    NOW,
    OTHER,
    RECEIVER,
    RUN,
    MemoryFolder,
    MemoryPartners,
    MemoryStore,
    Turns,
    clock,
    receiver,
)

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import RepaymentLoan
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.errors import ConfigurationError, ReceiverRefusedError, ReceiverUnavailableError
from gjeldsbro.pages import page
from gjeldsbro.services.export import deliver
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.check_receiver import check_receiver
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.plan import Plan, plan_deliveries, plan_export, plan_packages
from gjeldsbro.services.export.report import report_export
from gjeldsbro.services.reports.ports import Press

KEYS = HashKeys.of(HashKey("1", b"k" * 32))
NUMBERS = [["17912099997", "29822099635"], ["12829499914"]]
STAMP = "2026-09-30T03:00:00.0000000Z"


class Loans:
    """A register in which one customer has a loan."""

    def read(self, customer_ids):
        """What the register shows, one customer at a time."""
        loan = RepaymentLoan("12345678901", STAMP, "Forbrukslån", 50000, 20000, 20, 1200, 0, 2)
        found = {"971171324": [CurrentLoan(loan, STAMP, "9908:971171324", "dataset")]}
        for customer in customer_ids:
            yield [found if customer == "29822099635" else {}]


class World:
    """A run whose lists were read."""

    def __init__(self, **changes) -> None:
        self.store, self.folder, self.reports = MemoryStore(), MemoryFolder(), MemoryStore()
        self.partners = MemoryPartners(receiver(on_behalf_of=(OTHER,), **changes))

    def start(self, run: str = RUN, **request) -> None:
        """Plan a run and pretend that its list was read."""
        plan_export(run=run, started_at=NOW, request=request, partners=self.partners, store=self.store)
        prefix = f"runs/export/{run}/{RECEIVER}/{OTHER}/"
        for number, batch in enumerate(NUMBERS):
            self.store.put(f"{prefix}numbers/{number:05d}", "\n".join(batch).encode())
        self.store.put_json(f"{prefix}state.json", {"phase": "reported", "batches": len(NUMBERS)})

    def build(self, run: str = RUN, batches=(0, 1)) -> None:
        """Build slices."""
        for batch in batches:
            build_package_slice(
                run=run,
                receiver=RECEIVER,
                on_behalf_of=OTHER,
                batch=batch,
                store=self.store,
                loans=Loans(),
                keys=KEYS,
            )

    def deliver(self, run: str = RUN, has_time=lambda: True) -> bool:
        """One invocation."""
        delivery = PackageDelivery(
            plan=Plan.load(self.store, run),
            receiver=RECEIVER,
            on_behalf_of=OTHER,
            provider="9908:983544622",
            partners=self.partners,
            store=self.store,
            clock=clock,
            has_time=has_time,
            ends=clock() + timedelta(minutes=15),
        )
        return delivery.deliver(self.folder.connect)

    def report(self) -> dict:
        """End the run."""
        press = Press(self.reports, page, "gjeldsbro")
        return report_export(run=RUN, partners=self.partners, store=self.store, press=press, now=clock())

    def outcome(self, run: str = RUN) -> dict:
        """What became of the delivery."""
        return self.partners.outcomes(run)[f"{RECEIVER}#{OTHER}"]

    def package(self) -> dict:
        """The delivered document."""
        return json.loads(gzip.decompress(self.folder.content["985815534.gzip"]))


@pytest.fixture
def world() -> World:
    """A run of which everything is built."""
    world = World()
    world.start()
    world.build()
    return world


def test_a_package_holds_each_number_once_in_the_lists_order(world):
    """Every customer is there, without debt with an empty array, under the on-behalf-of organisation."""
    assert world.deliver()
    document = world.package()
    assert document["providerID"] == "9908:983544622"
    assert [customer["customerID"] for customer in document["customers"]] == [
        number for batch in NUMBERS for number in batch
    ]
    assert [len(customer["loans"]) for customer in document["customers"]] == [0, 1, 0]
    assert {customer["financialInstitutionID"] for customer in document["customers"]} == {OTHER}
    (loan,) = document["customers"][1]["loans"]
    assert loan["timestamp"] == "2026-10-01T04:00:12Z"
    assert "971171324" not in json.dumps(document)


def test_the_record_of_a_delivery_holds_figures_only(world):
    """Digest, size, counts and times; no person, no account."""
    world.deliver()
    data = world.folder.content["985815534.gzip"]
    record = world.partners.delivery(RECEIVER, OTHER, "2026-4")
    assert (record["state"], record["sha256"], record["bytes"]) == ("delivered", sha256(data).hexdigest(), len(data))
    assert (record["customers"], record["loans"]) == (3, 1)
    assert world.outcome()["status"] == "delivered"
    assert "29822099635" not in json.dumps([record, world.outcome()])


def test_only_the_complete_package_bears_its_name(world):
    """Whatever is uploaded has another name until its content was compared."""
    world.deliver()
    names = {name for action, name, *_ in world.folder.history if action == "write"}
    assert all(name.endswith(".part") and name.startswith("985815534.gzip.") for name in names)
    assert world.folder.history[-1][0] == "replace"
    assert sorted(world.folder.content) == ["985815534.gzip"]


def test_building_a_slice_twice_changes_nothing(world):
    """A repeated call after the numbers were deleted gives the same counts and the same slice."""
    before = dict(world.store.objects)
    world.build()
    assert world.store.objects == before
    assert not list(world.store.keys(f"runs/export/{RUN}/{RECEIVER}/{OTHER}/numbers/"))


def test_a_delivery_goes_on_at_the_byte(world, monkeypatch):
    """With hardly any time in each call the package arrives all the same, each call going on where the last stopped."""
    monkeypatch.setattr(deliver, "_REWIND", 10)
    calls = 1
    while not world.deliver(has_time=Turns(0)) and calls < 20:
        calls += 1
    assert 3 < calls < 20
    assert len(world.package()["customers"]) == 3
    starts = [int(start) for action, _, start in world.folder.history if action == "write"]
    assert starts == sorted(starts)
    assert starts[-1] > 0


def test_a_lost_connection_resumes_what_arrived(world, monkeypatch):
    """After a lost connection the server's file says how much there is, and that is not sent again."""
    monkeypatch.setattr(deliver, "_REWIND", 0)
    world.folder.lose_after = 100
    with pytest.raises(ReceiverUnavailableError):
        world.deliver()
    (unfinished,) = world.folder.content
    arrived = len(world.folder.content[unfinished])
    assert world.deliver()
    assert world.folder.history[-2] == ("write", unfinished, str(arrived))
    assert len(world.package()["customers"]) == 3


def test_a_spoilt_copy_is_sent_again(world):
    """A copy that reads differently is never published."""
    world.folder.spoil = 1
    assert world.deliver()
    assert world.outcome()["status"] == "delivered"
    assert len(world.package()["customers"]) == 3


def test_a_server_that_always_spoils_is_refused(world):
    """After a few uploads that all read differently, the delivery is refused and the last quarter's package stays."""
    world.folder.content["985815534.gzip"] = b"last quarter"
    world.folder.spoil = 99
    assert world.deliver()
    assert (world.outcome()["status"], world.outcome()["error"]) == ("refused", "READ_BACK")
    assert world.folder.content == {"985815534.gzip": b"last quarter"}
    assert world.partners.delivery(RECEIVER, OTHER, "2026-4")["state"] == "failed"


@pytest.mark.parametrize(("hidden", "secretive"), [(False, False), (True, False), (False, True)])
def test_a_server_that_forbids_reading_is_delivered_to(hidden, secretive):
    """With readBack off, the content is not asked for, and the size only as far as the server tells it."""
    world = World(read_back=False)
    world.start()
    world.build()
    world.folder.refuse = {"READ"}
    world.folder.hidden, world.folder.secretive = hidden, secretive
    assert world.deliver()
    assert world.outcome()["status"] == "delivered"
    assert len(world.package()["customers"]) == 3


@pytest.mark.parametrize("code", ["WRITE", "READ", "RENAME"])
def test_a_server_that_refuses_is_recorded(world, code):
    """What the receiver must mend is not retried, and nothing of the package is left on its server."""
    world.folder.refuse = {code}
    assert world.deliver()
    assert (world.outcome()["status"], world.outcome()["error"]) == ("refused", code)
    assert world.folder.content == {}


def test_a_crash_after_the_rename_is_no_second_delivery(world, monkeypatch):
    """When only the record is missing, the next call finds the package in its place and records it."""
    real = world.partners.update_delivery

    def crash(*_):
        monkeypatch.setattr(world.partners, "update_delivery", real)
        raise RuntimeError("the function was ended")

    monkeypatch.setattr(world.partners, "update_delivery", crash)
    with pytest.raises(RuntimeError):
        world.deliver()
    writes = len(world.folder.history)
    assert world.deliver()
    assert len(world.folder.history) == writes
    assert world.outcome()["status"] == "delivered"


def test_a_repeated_call_after_the_delivery_changes_nothing(world):
    """Step Functions may call twice: the receiver gets one file once."""
    world.deliver()
    history = list(world.folder.history)
    assert world.deliver()
    assert world.folder.history == history


def test_leftovers_of_other_runs_are_removed(world):
    """What an earlier run left unfinished goes; other files of the receiver stay."""
    world.folder.content = {"985815534.gzip.0123456789abcdef.part": b"x", "985815534.gzip.backup": b"y"}
    world.deliver()
    assert sorted(world.folder.content) == ["985815534.gzip", "985815534.gzip.backup"]


def test_a_second_run_in_the_quarter_delivers_nothing(world):
    """At most one delivery per receiver, organisation and quarter."""
    world.deliver()
    planned = plan_export(run="second", started_at=NOW, request={}, partners=world.partners, store=world.store)
    assert planned["receivers"] == 0
    assert world.outcome("second")["status"] == "already-delivered"


def test_two_runs_at_the_same_time_make_one_delivery(world):
    """A run that was planned before the other delivered finds out when it claims the delivery."""
    world.start("second")
    world.build("second")
    world.deliver()
    history = list(world.folder.history)
    assert world.deliver("second")
    assert world.folder.history == history


def test_a_run_whose_claim_was_taken_over_does_not_publish(world):
    """Only the run that has the claim gives the package its name; the other one cleans up."""
    world.deliver(has_time=lambda: False)
    world.partners.claim_delivery(RECEIVER, OTHER, "2026-4", "second", NOW, again=False)
    while not world.deliver():
        pass
    assert world.folder.content == {}
    assert (world.outcome()["status"], world.outcome()["error"]) == ("failed", "SUPERSEDED")


def test_a_second_delivery_with_a_reason_replaces_the_first(world):
    """An operator may ask for it again; the reason stays with the delivery."""
    world.deliver()
    world.folder.content["985815534.gzip"] = b"lost by the receiver"
    world.start("second", again=True, reason="the receiver deleted it")
    world.build("second")
    assert world.deliver("second")
    assert len(world.package()["customers"]) == 3
    assert world.partners.delivery(RECEIVER, OTHER, "2026-4")["again"] == "the receiver deleted it"


def test_a_repetition_that_fails_leaves_the_delivery_made(world):
    """After a second delivery with a reason has failed, a plain run does not deliver once more by itself."""
    world.deliver()
    world.start("second", again=True, reason="the receiver deleted it")
    world.build("second")
    world.folder.refuse = {"WRITE"}
    assert world.deliver("second")
    assert world.partners.delivery(RECEIVER, OTHER, "2026-4")["state"] == "failed"
    planned = plan_export(run="third", started_at=NOW, request={}, partners=world.partners, store=world.store)
    assert planned["receivers"] == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"again": True},
        {"again": True, "reason": " "},
        {"quarter": "2026-5"},
        {"quarter": 4},
        {"receiver": "000000000"},
        {"force": True},
        {"again": "yes", "reason": "x"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(world, request_):
    """Unknown receivers and words, wrong quarters, and a second delivery without a reason."""
    with pytest.raises(ConfigurationError):
        plan_export(run="x", started_at=NOW, request=request_, partners=world.partners, store=world.store)


def test_a_request_may_name_receiver_and_quarter(world):
    """Only the named receiver is planned, for the named quarter; the reports still bear the run's month."""
    request = {"receiver": RECEIVER, "quarter": "2026-3"}
    assert (
        plan_export(run="x", started_at=NOW, request=request, partners=world.partners, store=world.store)["receivers"]
        == 1
    )
    plan = Plan.load(world.store, "x")
    assert (plan.quarter, plan.month, plan.year) == ("2026-3", 10, 2026)


def test_deliveries_are_planned_when_all_slices_are_there(world):
    """Complete packages become deliveries, receiver by receiver."""
    planned = plan_deliveries(run=RUN, partners=world.partners, store=world.store, now=NOW)
    assert planned["receivers"] == 1
    item = {"run": RUN, "receiver": RECEIVER, "onBehalfOf": OTHER}
    expected = [{"run": RUN, "receiver": RECEIVER, "deliveries": [item]}]
    assert world.store.get_json(planned["manifestKey"]) == expected


def test_a_package_that_lacks_a_slice_is_not_delivered():
    """One batch that failed keeps the whole package back."""
    world = World()
    world.start()
    world.build(batches=(0,))
    assert plan_deliveries(run=RUN, partners=world.partners, store=world.store, now=NOW)["receivers"] == 0
    assert (world.outcome()["status"], world.outcome()["error"]) == ("failed", "INCOMPLETE")


def test_a_failure_of_the_whole_receiver_is_the_reason_of_its_deliveries():
    """What stopped the reading of a receiver's lists stands at each of its deliveries."""
    world = World()
    world.start()
    world.store.delete_prefix(f"runs/export/{RUN}/{RECEIVER}/{OTHER}/")
    failure = {"status": "failed", "error": "ReceiverUnavailableError", "reason": "the connection was lost"}
    world.partners.put_outcome(RUN, RECEIVER, failure, NOW)
    assert plan_packages(run=RUN, partners=world.partners, store=world.store)["batches"] == 0
    plan_deliveries(run=RUN, partners=world.partners, store=world.store, now=NOW)
    assert world.outcome()["error"] == "ReceiverUnavailableError"


def test_the_report_ends_the_run_and_leaves_nothing(world):
    """The report says what became of each delivery; lists, numbers and packages are gone."""
    world.deliver()
    result = world.report()
    assert result == {"run": RUN, "reportKey": f"export/{RUN}.json", "deliveries": 1, "notDelivered": 0}
    assert not world.store.objects
    report = world.reports.get_json(result["reportKey"])
    assert report["statuses"] == {"delivered": 1}
    assert report["deliveries"][0]["onBehalfOf"] == OTHER
    assert world.partners.runs[RUN]["state"] == "finished"
    world.store.put(f"runs/export/{RUN}/left-behind", b"")
    assert world.report() == result
    assert not world.store.objects


def test_a_delivery_without_an_outcome_is_reported_as_failed(world):
    """What a run never came to is not passed over in silence, and its claim is closed."""
    world.deliver(has_time=lambda: False)
    result = world.report()
    assert (result["deliveries"], result["notDelivered"]) == (1, 1)
    assert world.outcome()["error"] == "NO_OUTCOME"
    assert world.partners.delivery(RECEIVER, OTHER, "2026-4")["state"] == "failed"


def test_a_list_that_nobody_registered_is_reported_but_no_missed_delivery(world):
    """A stray list is the receiver's affair: the run did all that it was asked for."""
    world.deliver()
    Plan.load(world.store, RUN).record(
        world.partners, RECEIVER, "971171324", "refused", NOW, error="UNKNOWN_ORGANIZATION"
    )
    result = world.report()
    assert (result["deliveries"], result["notDelivered"]) == (1, 0)
    assert len(world.reports.get_json(result["reportKey"])["deliveries"]) == 2


def test_a_check_of_a_good_server_says_ok_and_cleans_up(world):
    """All steps work, and nothing is left on the server."""
    result = check_receiver(receiver=RECEIVER, partners=world.partners, connect=world.folder.connect)
    assert result["works"]
    assert set(result["checks"].values()) == {"ok"}
    assert world.folder.content == {}


@pytest.mark.parametrize(
    ("code", "check", "after"),
    [("HOST_KEY", "hostKey", "login"), ("LOGIN", "login", "folder"), ("FOLDER", "folder", "write")],
)
def test_a_check_says_which_step_failed(world, code, check, after):
    """What came before the refusal worked, and what comes after was not tried."""
    world.folder.connect_error = ReceiverRefusedError(code, "no")
    result = check_receiver(receiver=RECEIVER, partners=world.partners, connect=world.folder.connect)
    assert not result["works"]
    assert result["checks"]["connect"] == "ok"
    assert (result["checks"][check], result["checks"][after]) == ("no", "not tried")


@pytest.mark.parametrize(("code", "check"), [("WRITE", "write"), ("READ", "readBack"), ("RENAME", "rename")])
def test_a_check_tries_what_a_delivery_does(world, code, check):
    """Writing, reading back and renaming are tried one after another, and the probe is removed whatever happens."""
    world.folder.refuse = {code}
    result = check_receiver(receiver=RECEIVER, partners=world.partners, connect=world.folder.connect)
    assert (result["works"], result["checks"][check]) == (False, "permission denied")
    assert result["checks"]["folder"] == "ok"
    assert world.folder.content == {}


def test_a_check_of_a_server_that_is_away_says_so(world):
    """A server that cannot be reached fails at the first step."""
    world.folder.connect_error = ReceiverUnavailableError("the server cannot be reached")
    checks = check_receiver(receiver=RECEIVER, partners=world.partners, connect=world.folder.connect)["checks"]
    assert checks["connect"] == "the server cannot be reached"
    assert checks["hostKey"] == "not tried"


def test_a_check_does_not_read_where_that_is_not_wanted():
    """With readBack off nothing is read, and the server still counts as working."""
    world = World(read_back=False)
    world.folder.refuse = {"READ"}
    result = check_receiver(receiver=RECEIVER, partners=world.partners, connect=world.folder.connect)
    assert (result["works"], result["checks"]["readBack"]) == (True, "not wanted")
