"""A new version is deployed during a run: it goes on with what an older version has stored.

``tests/data/stored_forms/<date>/`` holds what the version of that day stored, call by call, and the definitions that
its executions keep to their end. The runs are continued from these points with today's functions.

A version that stores another form records its own, beside the older ones:
``RECORD_STORED_FORMS=2026-11-22 .venv/bin/python -m pytest tests/integration/test_stored_forms.py -k record``.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.executions import ROOT, Execution, TaskError, definition
from tests.integration.aws_faults import AwsFaults, Death
from tests.integration.flows import GOOD, LISTED, MOVED, NOON_1, OTHER, RECEIVER, SHOWN, P, Story, expire_leases
from tests.integration.stored_forms import Snapshot, difference, keep, put_back, restore, snapshot

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.lookups import LookupHistory, LookupRecorder
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.domain.loans import ChargeCard, CreditFacility, RepaymentLoan, decode_loans, encode_loans
from gjeldsbro.services.circuit_breaker import BreakerState
from gjeldsbro.services.lookup_records import AskedCreditor, LookupRecord
from gjeldsbro.services.night import fetch
from gjeldsbro.services.ports import Lender, RevocationList

FORMS = ROOT / "tests" / "data" / "stored_forms"
VERSIONS = sorted(folder.name for folder in FORMS.iterdir())
NIGHT, EXPORT = "nightly_fetch", "quarterly_export"
EVERY = int(os.environ.get("POINTS", "5"))
"""Runs are continued from every n-th point; ``make soak`` takes all."""

RECORD = os.environ.get("RECORD_STORED_FORMS")
Deaths = tuple[tuple[str, str, str, int], ...]
NIGHT_DEATHS: Deaths = (
    ("load_dataset", MOVED, "UpdateItem", 2),  # the list of keys is there, nothing is written
    ("load_dataset", GOOD, "UpdateItem", 3),  # a stride was written
    ("load_dataset", LISTED, "UpdateItem", 4),  # committed, and nothing tidied up
)
EXPORT_DEATHS: Deaths = (
    ("read_ssn_lists", RECEIVER, "PutObject", 5),  # judged, and not reported
    ("deliver_package", RECEIVER, "UpdateItem", 1),  # claimed, and nothing sealed
    ("deliver_package", RECEIVER, "PutObject", 3),  # about to be renamed
    ("deliver_package", OTHER, "GetItem", 3),  # renamed, and not recorded
    ("deliver_package", OTHER, "PutItem", 1),  # recorded, without an outcome
)
"""Functions that die while the run is recorded: of whom, after which call of AWS."""

OLD_HASH_KEY = json.dumps({"version": "1", "key": "k" * 64})
LOANS = (
    RepaymentLoan("4001", NOON_1, "Forbrukslån", 90000, 80000, 24, 1200, 4500, 1),
    CreditFacility("4002", NOON_1, None, 500000, 10000, 2000, 1850, 0, 0),
    ChargeCard("4003", NOON_1, "Kort", 700, 300, 0),
)


@pytest.fixture
def story(aws, monkeypatch) -> Story:
    """Stores in which nothing is yet, under the hash key in the form that it had first.

    What was recorded goes on as if no time had passed: the hours in which its fetches had to end are over.
    """
    monkeypatch.setattr(fetch, "_check_time", lambda *_: None)
    boto3.client("secretsmanager").put_secret_value(SecretId="hash-key", SecretString=OLD_HASH_KEY)
    return Story(aws, monkeypatch)


def stored_by(version: str, machine: str) -> dict[str, Any]:
    """What a version stored in a run: ``before``, and call by call what was called, answered and changed."""
    found: dict[str, Any] = json.loads((FORMS / version / f"{machine}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_night_goes_on_after_a_deployment(story, version) -> None:
    """From each point of an older version's night: the register ends as if nothing had been deployed."""
    recorded = stored_by(version, NIGHT)
    for number in _each_point(story, recorded, every=EVERY):
        story.serve_second()
        _go_on(story, recorded, number, "night-2")
        story.assert_second_night_is_there()
        assert sorted(story.statuses("night-2").values()) == ["loaded"] * 4 + ["refused"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_goes_on_after_a_deployment(story, version) -> None:
    """From each point of an older version's export: both packages are delivered, once."""
    recorded = stored_by(version, EXPORT)
    for number in _each_point(story, recorded, every=EVERY):
        _go_on(story, recorded, number, "export-1")
        story.assert_packages_are_there(SHOWN[2])
        assert set(story.statuses("export-1").values()) == {"delivered"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_that_an_older_version_left_undone_is_made_up_for(story, version) -> None:
    """A night that died in the middle, and the next one with today's functions and definition, after the lease."""
    for _ in _each_point(story, stored_by(version, NIGHT), every=4 * EVERY):
        story.serve_second()
        expire_leases(story)
        story.night("night-3")
        assert story.shown() == SHOWN[2]
        assert {dataset.pending for dataset in story.partners.datasets()} == {None}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_night_and_export_take_what_an_older_version_left(story, version) -> None:
    """Indexes, records and deliveries of an older version: unchanged is unchanged, delivered is delivered."""
    _to_the_end(story, stored_by(version, EXPORT))
    story.serve_second()
    story.night("night-3")
    assert story.shown() == SHOWN[2]
    good = story.partners.outcomes("night-3")[f"{GOOD}#9908:{GOOD}"]
    assert (good["status"], good["added"], good["changed"], good["removed"]) == ("unchanged", 0, 0, 0)
    before = dict(story.folder.content)
    story.export("export-2")
    assert story.folder.content == before
    assert set(story.statuses("export-2").values()) == {"already-delivered"}


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_else_that_is_stored_can_be_read(story, version) -> None:
    """Institutions, receivers, lenders, records of lookups, the trail, loans: what is read of them is what it was."""
    path = FORMS / version / "at_rest.json"
    at_rest = json.loads(path.read_text(encoding="utf-8"))
    restore(story, at_rest["stored"])
    _restore_lookups(story, at_rest["lookups"])
    assert _covers(_read_everything(story), at_rest["read"])
    assert decode_loans(bytes.fromhex(at_rest["loans"])) == LOANS


# Continuing


def _each_point(story: Story, recorded: dict[str, Any], *, every: int) -> Iterator[int]:
    """Puts the stores back as they were after calls of a run, one after the other; the number of the call.

    That is after every n-th call, after each one that died, and after the last.
    """
    calls = recorded["calls"]
    restore(story, recorded["before"])
    for number in range(len(calls) + 1):
        if number:
            restore(story, calls[number - 1]["changes"])
        if number % every == 0 or number == len(calls) or "error" in calls[number - 1]:
            kept = keep(story)
            story.forget_processes()
            yield number
            put_back(story, kept)


def _to_the_end(story: Story, recorded: dict[str, Any]) -> None:
    """Everything as it was after a run."""
    for changes in (recorded["before"], *(call["changes"] for call in recorded["calls"])):
        restore(story, changes)


def _go_on(story: Story, recorded: dict[str, Any], number: int, run: str) -> None:
    """Walk an old definition: its first calls are answered as they were then, the rest by today's functions."""
    earlier = iter(recorded["calls"][:number])
    manifests = {
        key: data["json"]
        for call in recorded["calls"]
        for key, data in call["changes"].get("objects", {}).items()
        if data is not None and "json" in data
    }

    def invoke(function: str, event: dict[str, Any]) -> Any:
        call = next(earlier, None)
        if call is None:
            return story.invoke(function, event)
        assert (call["function"], call["event"]) == (function, event)
        if "error" in call:
            raise TaskError(call["error"])
        return call["result"]

    started_at = recorded["calls"][0]["event"]["startedAt"]
    Execution(recorded["definition"], run, invoke, manifests.__getitem__, started_at=started_at).run()


# What is at rest


def _read_everything(story: Story) -> dict[str, Any]:
    """What today's functions read of what is stored, as JSON."""
    partners, client = story.partners, aws_clients.dynamodb()
    table = story.environment["PARTNER_TABLE"]
    history = LookupHistory(story.environment["LOOKUP_TABLE"], client)
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    return _json(
        {
            "institutions": partners.institutions(),
            "receivers": partners.receivers(),
            "lenders": partners.lenders(),
            "datasets": partners.datasets(),
            "datasetTimes": partners.dataset_times(),
            "lastPush": partners.last_push(GOOD, f"9908:{GOOD}"),
            "outcomes": partners.outcomes("night-2"),
            "night": partners.run("nightly", "night-2"),
            "export": partners.run("export", "export-1"),
            "deliveries": partners.deliveries("2026-4"),
            "trail": partners.trail(long_ago),
            "breaker": BreakerItems(table, client).states(),
            "revocationLists": Revocations(table, client).lists(),
            "revoked": Revocations(table, client).chunk("issuer", "0"),
            "lookups": history.of(story.hash_keys.keys[0].partition_of(P[1]), long_ago),
            "shown": story.shown(),
        }
    )


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    match value:
        case dict():
            return {name: _json(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_json(inner) for inner in value]
        case bytes():
            return value.hex()
        case datetime():
            return value.isoformat()
        case _:
            return value


def _covers(now: Any, then: Any) -> bool:
    """Whether all that was known then is known now; there may be more."""
    if isinstance(then, dict):
        assert isinstance(now, dict)
        for name, value in then.items():
            assert name in now, name
            assert _covers(now[name], value), name
        return True
    if isinstance(then, list) and then and isinstance(then[0], dict):
        assert len(now) == len(then)
        return all(_covers(one, other) for one, other in zip(now, then, strict=True))
    return bool(now == then)


def _put_everything(story: Story) -> None:
    """One of each kind of item that the flows do not leave behind."""
    partners, client = story.partners, aws_clients.dynamodb()
    table, key = story.environment["PARTNER_TABLE"], story.hash_keys.keys[0]
    now = datetime.now(UTC)
    partners.put_lender(Lender(RECEIVER, "Bank", (OTHER,), ("creditApplication",), ("PSDSE-FINA-44059",)))
    partners.record_push(GOOD, f"9908:{GOOD}", now)
    partners.record_trail(who="operator", action="institution put", subject=GOOD, reason="a reason", now=now)
    partners.count(f"NTRNO-{GOOD}", now, now + timedelta(minutes=1))
    held = partners.take_lease(OTHER, f"9908:{OTHER}", "night-2", now, 60)
    partners.update_dataset(held, "night-2", held=True)
    items = BreakerItems(table, client)
    for _ in range(5):
        items.add_failure(GOOD, f"9908:{GOOD}", now)
    items.change(BreakerState(GOOD, f"9908:{GOOD}", 5, 1, NOON_1, NOON_1, trying=True), None, now)
    lists = Revocations(table, client)
    authority = RevocationList("issuer", "An authority", "http://crl.example.no/ca.crl", "PEM")
    lists.configure(authority)
    lists.store("issuer", dict.fromkeys("0123456789abcdef", b"digests"), now, now + timedelta(days=1))
    read = dataclasses.replace(authority, this_update=now, next_update=now, read_at=now, checked_at=now)
    lists.record(dataclasses.replace(read, digest="d", count=1))
    lookups = LookupRecorder(story.environment["LOOKUP_TABLE"], client, timedelta(days=1095))
    creditors = (AskedCreditor(GOOD, answered=True, source="institution"),)
    record = LookupRecord(
        key.partition_of(P[1]), "id", NOON_1, RECEIVER, OTHER, "reference", "payout", "borrower", creditors
    )
    lookups.record([record])


def _lookups(story: Story) -> Any:
    return aws_clients.dynamodb().scan(TableName=story.environment["LOOKUP_TABLE"])["Items"]


def _restore_lookups(story: Story, items: list[dict[str, Any]]) -> None:
    for item in items:
        aws_clients.dynamodb().put_item(TableName=story.environment["LOOKUP_TABLE"], Item=item)


# Recording


@pytest.mark.skipif(RECORD is None, reason="only to record what this version stores")
def test_record_what_is_stored(story, monkeypatch) -> None:
    """Writes ``tests/data/stored_forms/<RECORD>/``."""
    assert RECORD is not None
    folder = FORMS / RECORD
    folder.mkdir(exist_ok=True, parents=True)
    faults = AwsFaults(monkeypatch).install()
    story.first_night()
    story.seconds = 60.0  # each call does as little as it may
    _record(story, faults, NIGHT, "night-2", folder, NIGHT_DEATHS)
    story.assert_second_night_is_there()
    _record(story, faults, EXPORT, "export-1", folder, EXPORT_DEATHS)
    story.assert_packages_are_there(SHOWN[2])
    _put_everything(story)
    at_rest = {
        "stored": snapshot(story),
        "lookups": _lookups(story),
        "loans": encode_loans(LOANS).hex(),
        "read": _read_everything(story),
    }
    _write(folder / "at_rest.json", at_rest)


def _record(story: Story, faults: AwsFaults, machine: str, run: str, folder: Path, deaths: Deaths) -> None:
    """Walk a machine and write what each call changed."""
    text = (ROOT / "statemachines" / f"{machine}.asl.json").read_text(encoding="utf-8")
    recorded: dict[str, Any] = {"definition": definition(text), "before": snapshot(story), "calls": []}
    state: Snapshot = recorded["before"]
    left = list(deaths)

    def invoke(function: str, event: dict[str, Any]) -> Any:
        nonlocal state
        call: dict[str, Any] = {"function": function, "event": event}
        subject = next((event[name] for name in ("onBehalfOf", "institution", "receiver") if name in event), "")
        death = next((one for one in left if one[:2] == (function, subject)), None)
        faults.forget()
        faults.fault = None if death is None else Death(death[3], operation=death[2])
        try:
            call["result"] = story.invoke(function, event)
        except TaskError as exc:
            call["error"] = exc.error
            assert death is not None
            left.remove(death)
            raise
        finally:
            faults.forget()
            after = snapshot(story)
            call["changes"] = difference(state, after)
            recorded["calls"].append(call)
            state = after
        return call["result"]

    story.execution(machine, run, invoke).run()
    assert not left
    _write(folder / f"{machine}.json", recorded)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n", encoding="utf-8")
