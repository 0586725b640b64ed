"""Faults of ourselves: AWS that fails, functions that die, runs that meet; each done to one call of many.

Whatever is done, the register and the packages end as if nothing had been, and the report says what there is to say.
A night and an export have some two hundred calls of AWS. ``make test`` has a fault befall every n-th of them, ``make
soak`` each one.
"""

import json
import os
from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random

import boto3
import pytest
from tests.integration import aws_faults
from tests.integration.aws_faults import AwsFaults, Death, Fault
from tests.integration.flows import (
    GOOD,
    MOVED,
    OTHER,
    RECEIVER,
    REFUSED,
    SHOWN,
    P,
    Shown,
    Story,
    expire_leases,
    is_unfinished,
)
from tests.integration.stored_forms import Copy, keep, put_back

EVERY = int(os.environ.get("POINTS", "25"))
KINDS = cycle(("throttled", "over capacity", "failing", "away", "refused"))
_READS = ("Get", "Query", "Head", "List", "Scan")


def some(*cases: tuple[str, int]) -> list[tuple[str, int]]:
    """All cases, or only the first."""
    return list(cases) if EVERY == 1 else [cases[0]]


class Stage:
    """A story, what AWS does in it, and the moment at which each try begins."""

    def __init__(self, story: Story, faults: AwsFaults) -> None:
        self.story = story
        self.faults = faults.install()
        self._kept: Copy = keep(story)
        story.revive = faults.revive
        # Step Functions reads the items of a map itself, and tries that again itself.
        story.read_items = lambda key: faults.elsewhere(lambda: story.store.get_json(key))

    def again(self) -> Story:
        """Back to that moment."""
        self.faults.forget()
        put_back(self.story, self._kept)
        self.story.calls.clear()
        return self.story

    def each(self, work: Callable[[], object], *, from_: int, writes_only: bool = True) -> Iterator[int]:
        """The numbers of calls that ``work`` makes when all goes well, some of them; each from the beginning again.

        A call that only reads leaves nothing behind: to die before or after it is the same.
        """
        self.again()
        work()
        numbers = sorted(
            {call.number for call in self.faults.calls if not (writes_only and call.operation.startswith(_READS))}
        )
        for number in numbers[from_ % EVERY :: EVERY]:
            self.again()
            yield number


@pytest.fixture
def night(aws, monkeypatch) -> Stage:
    """Before the second night."""
    story = Story(aws, monkeypatch)
    story.first_night()
    return Stage(story, AwsFaults(monkeypatch))


@pytest.fixture
def export(aws, monkeypatch) -> Stage:
    """Before the export, with a register in which three institutions have debt."""
    story = Story(aws, monkeypatch)
    story.first_night()
    return Stage(story, AwsFaults(monkeypatch))


def after_second_night_of(institution: str) -> Shown:
    """What the register shows when the second night has taken this institution only."""
    found: Shown = {}
    for night, of_night in SHOWN.items():
        for customer, debts in of_night.items():
            for name, balance in debts.items():
                if (night == 2) == (name == institution):
                    found.setdefault(customer, {})[name] = balance
    return found


def assert_loaded(story: Story, institution: str) -> None:
    """The second night has taken this institution, and nothing is left of it.

    The record of a provider that was withdrawn may wait for the lease of a call that died; the next night forgets it.
    """
    assert story.shown() == after_second_night_of(institution)
    if any(one.last_run and one.last_run.get("withdrawn") for one in story.partners.datasets(institution)):
        expire_leases(story)
        story.night("night-9", _only(institution))
        assert story.shown() == after_second_night_of(institution)
    assert [one for one in story.partners.datasets(institution) if is_unfinished(one)] == []
    assert story.left_over() == []


def assert_delivered(story: Story, run: str = "export-1") -> None:
    """Both packages are there, each was given its name once, and the run says so."""
    story.assert_packages_are_there(SHOWN[1])
    assert set(story.statuses(run).values()) == {"delivered"}
    named = [entry[2] for entry in story.folder.history if entry[0] == "replace" and entry[2].endswith(".gzip")]
    assert sorted(named) == sorted([f"{RECEIVER}.gzip", f"{OTHER}.gzip"])


# AWS fails


@pytest.mark.parametrize(("institution", "from_"), some((GOOD, 0), (MOVED, 5)))
def test_a_night_in_which_a_call_of_aws_fails(night, institution, from_) -> None:
    """Throttled, failing or not to be reached in all tries of the client: the step is tried again, and all is there."""
    story = night.story
    for number in night.each(lambda: story.night("night-2", _only(institution)), from_=from_, writes_only=False):
        night.faults.fault = aws_faults.at(number, aws_faults.failing(next(KINDS)))
        story.night("night-2", _only(institution))
        assert_loaded(story, institution)
        assert set(story.statuses("night-2").values()) == {"loaded"}


def test_an_export_in_which_a_call_of_aws_fails(export) -> None:
    """Likewise: each package is delivered, once."""
    story = export.story
    for number in export.each(lambda: story.export("export-1"), from_=2, writes_only=False):
        story.folder.history.clear()
        export.faults.fault = aws_faults.at(number, aws_faults.failing(next(KINDS)))
        story.export("export-1")
        assert_delivered(story)


@pytest.mark.parametrize(("institution", "from_"), some((MOVED, 3), (GOOD, 1)))
def test_a_night_in_which_an_answer_of_aws_is_lost(night, institution, from_) -> None:
    """The call took effect, and the client repeats it: what is conditional must know its own work."""
    story = night.story
    for number in night.each(lambda: story.night("night-2", _only(institution)), from_=from_):
        night.faults.fault = aws_faults.at(number, aws_faults.reset, tries=1)
        story.night("night-2", _only(institution))
        assert_loaded(story, institution)
        assert set(story.statuses("night-2").values()) == {"loaded"}


def test_an_export_in_which_an_answer_of_aws_is_lost(export) -> None:
    """Likewise: a claim that was made is ours, a delivery that was recorded is recorded."""
    story = export.story
    for number in export.each(lambda: story.export("export-1"), from_=4):
        story.folder.history.clear()
        export.faults.fault = aws_faults.at(number, aws_faults.reset, tries=1)
        story.export("export-1")
        assert_delivered(story)


def test_objects_that_break_off_are_read_again(night) -> None:
    """Every object that S3 gives breaks off in the middle once; nobody notices."""
    story = night.again()
    night.faults.fault = _first_read_of_each(aws_faults.truncated)
    story.night("night-2")
    night.faults.forget()
    story.assert_second_night_is_there()
    night.faults.fault = _first_read_of_each(aws_faults.truncated)
    story.export("export-1")
    night.faults.forget()
    story.assert_packages_are_there(SHOWN[2])
    assert not [call for call in story.calls if call[0] == "record_failure"]


def test_batches_that_are_taken_in_part_are_completed(night) -> None:
    """DynamoDB takes one item of each batch and leaves the others: they are sent again."""
    story = night.again()
    night.faults.fault = aws_faults.partly_processed
    story.night("night-2")
    night.faults.fault = None
    story.assert_second_night_is_there()


@pytest.mark.parametrize(
    ("operation", "kind"), [("BatchWriteItem", "throttled"), ("GetSecretValue", "failing"), ("PutObject", "throttled")]
)
def test_a_service_that_stays_away_fails_the_run_in_words_and_the_next_mends_it(night, operation, kind) -> None:
    """For one institution it never answers: yesterday's data stays, others are loaded, the report names the call."""
    story = night.again()
    story.processes_stay = False

    def fails_for_good(call, request, answer):
        if call.operation == operation and story.at_work == GOOD:
            return aws_faults.failing(kind)(call, request, answer)
        return answer()

    night.faults.fault = fails_for_good
    story.night("night-2")
    night.faults.fault = None
    shown = story.shown()
    assert {customer: debts.get(GOOD) for customer, debts in shown.items()} == {
        customer: SHOWN[1].get(customer, {}).get(GOOD) for customer in shown
    }
    outcomes = story.partners.outcomes("night-2")
    failed = outcomes[f"{GOOD}#9908:{GOOD}"]
    assert (failed["status"], failed["error"]) == ("failed", "StoreUnavailableError")
    assert operation in failed["reason"]
    assert {outcome["status"] for subject, outcome in outcomes.items() if not subject.startswith((GOOD, REFUSED))} == {
        "loaded"
    }
    story.night("night-3", _only(GOOD))
    assert story.shown() == SHOWN[2]


# Functions die


@pytest.mark.parametrize(("institution", "from_"), some((GOOD, 2), (MOVED, 7)))
def test_a_night_in_which_a_function_is_killed(night, institution, from_) -> None:
    """After each write the process is gone; Step Functions calls again, and the run ends well."""
    story = night.story
    for number in night.each(lambda: story.night("night-2", _only(institution)), from_=from_):
        night.faults.fault = Death(number)
        story.night("night-2", _only(institution))
        assert_loaded(story, institution)
        assert set(story.statuses("night-2").values()) == {"loaded"}


def test_an_export_in_which_a_function_is_killed(export) -> None:
    """Likewise, also between the moment when a package gets its name and the record of it."""
    story = export.story
    for number in export.each(lambda: story.export("export-1"), from_=6):
        story.folder.history.clear()
        export.faults.fault = Death(number)
        story.export("export-1")
        story.assert_packages_are_there(SHOWN[1])
        assert set(story.statuses("export-1").values()) == {"delivered"}


@pytest.mark.parametrize(("institution", "from_"), some((MOVED, 1), (GOOD, 4)))
def test_a_night_that_is_given_up_and_a_new_one(night, institution, from_) -> None:
    """A function dies and nobody calls it again: the next night, after the lease, makes up for it."""
    story = night.story
    for number in night.each(lambda: story.night("night-2", _only(institution)), from_=from_):
        _until_it_dies(night, "nightly_fetch", "night-2", _only(institution), Death(number))
        expire_leases(story)
        story.night("night-3", _only(institution))
        story.store.delete_prefix("runs/nightly/night-2/")  # what the bucket's lifecycle does
        assert_loaded(story, institution)


def test_an_export_that_is_given_up_and_a_new_one(export) -> None:
    """A function dies and nobody calls it again: the next run delivers what is missing, and nothing twice."""
    story = export.story
    for number in export.each(lambda: story.export("export-1"), from_=8):
        story.folder.history.clear()
        _until_it_dies(export, "quarterly_export", "export-1", {}, Death(number))
        before = {name: data for name, data in story.folder.content.items() if name.endswith(".gzip")}
        story.export_after_pause("export-2")
        assert {name: story.folder.content[name] for name in before} == before
        for run in ("runs/export/export-1/", "packages/"):
            story.store.delete_prefix(run)
        story.assert_packages_are_there(SHOWN[1])


# Runs meet


def test_two_exports_that_run_together(export) -> None:
    """Their calls come in any order: each package is delivered by one of them, and both say what became of it."""
    story = export.story
    for seed in range(0, 90, EVERY):
        export.again()
        story.folder.history.clear()
        runs = [story.execution("quarterly_export", run).steps() for run in ("export-1", "export-2")]
        _in_any_order(runs, Random(seed))
        story.assert_packages_are_there(SHOWN[1])
        named = [entry[2] for entry in story.folder.history if entry[0] == "replace" and entry[2].endswith(".gzip")]
        assert sorted(named) == sorted([f"{RECEIVER}.gzip", f"{OTHER}.gzip"])
        for organisation in (RECEIVER, OTHER):
            subject = f"{RECEIVER}#{organisation}"
            ends = [story.partners.outcomes(run)[subject] for run in ("export-1", "export-2")]
            statuses = sorted(end["status"] for end in ends)
            assert statuses in (["already-delivered", "delivered"], ["delivered", "failed"]), statuses
            assert all(end["error"] == "SUPERSEDED" for end in ends if end["status"] == "failed")


def test_two_nights_that_run_together(night) -> None:
    """Their calls come in any order: each dataset is loaded by at least one of them, the other says busy."""
    story = night.story
    for seed in range(0, 90, EVERY):
        night.again()
        runs = [
            story.execution("nightly_fetch", run).steps(_only(institution))
            for run, institution in (("night-2", GOOD), ("night-3", GOOD))
        ]
        _in_any_order(runs, Random(seed))
        assert_loaded(story, GOOD)
        ends = [story.statuses(run)[f"{GOOD}#9908:{GOOD}"] for run in ("night-2", "night-3")]
        assert set(ends) <= {"loaded", "unchanged", "busy"}
        assert "loaded" in ends


# Secrets change


@pytest.mark.parametrize("login", [{"password": "second"}, {"privateKey": "a key"}])
@pytest.mark.parametrize("before", ["read_ssn_lists", "deliver_package"])
def test_a_receivers_login_that_is_changed_during_a_run(export, login, before) -> None:
    """Functions keep secrets for minutes; one that does not let us in is read anew, and the package is delivered."""
    story = export.again()
    story.seconds = 60.0  # several calls of each function: the first ones have used the old login
    seen = 0
    for function in story.execution("quarterly_export", "export-1").steps():
        seen += function == before
        if seen == 2:
            story.login = login
            boto3.client("secretsmanager").put_secret_value(SecretId="receiver", SecretString=json.dumps(login))
    assert_delivered(story)


# A push meets the night


@pytest.mark.parametrize(
    ("at", "wins"), [("2026-10-06T02:00:00.0000000Z", False), ("2026-10-06T04:00:00.0000000Z", True)]
)
def test_a_push_in_the_middle_of_the_customers_load(night, at, wins) -> None:
    """Before and after each write of the night: a newer push is seen at once and stays, an older one never wins.

    The dataset speaks as of 03:00 and says 111.
    """
    story = night.story
    customer = P[2]

    def push() -> None:
        night.faults.elsewhere(lambda: story.push(customer, 777, at))

    def seen() -> int:
        return night.faults.elsewhere(lambda: story.shown()[customer][GOOD])

    for number in night.each(lambda: story.night("night-2", _only(GOOD)), from_=0):
        looks: list[int] = []

        def watch(call, request, answer, number=number, looks=looks):
            if call.number == number:
                push()
            found = answer()
            if call.number >= number and not call.operation.startswith(_READS):
                looks.append(seen())
            return found

        night.faults.fault = watch
        story.night("night-2", _only(GOOD))
        night.faults.fault = None
        expected = after_second_night_of(GOOD)
        if wins:
            assert set(looks) == {777}
            expected[customer] = {GOOD: 777}
        else:
            assert set(looks) <= {100, 777, 111}
            assert looks == sorted(looks, key=[100, 777, 111].index), "what was seen once is not unseen"
        assert story.shown() == expected


# Inside


def _only(institution: str) -> dict[str, str]:
    return {"institution": institution}


def _first_read_of_each(fault: Fault) -> Fault:
    seen: set[str] = set()

    def decide(call, request, answer):
        if call.operation == "GetObject" and request.url not in seen:
            seen.add(request.url)
            return fault(call, request, answer)
        return answer()

    return decide


def _until_it_dies(stage: Stage, machine: str, run: str, request: dict[str, str], death: Death) -> None:
    """Walk a machine until a function dies, and no further."""
    stage.faults.fault = death
    steps = stage.story.execution(machine, run).steps(request)
    for _ in steps:
        if death.happened:
            break
    stage.faults.fault = None


def _in_any_order(runs: list[Iterator[str]], random: Random) -> None:
    """Let executions take turns, call by call."""
    left = list(runs)
    while left:
        run = random.choice(left)
        try:
            next(run)
        except StopIteration:
            left.remove(run)
