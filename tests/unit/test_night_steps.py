"""Planning, judging, withdrawing, reporting: what the night does around the data."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.night_world import FI, PROVIDER, PUSHER, SUCCESSOR, DiedError, World, people

from gjeldsbro.errors import ConfigurationError, DatasetBusyError
from gjeldsbro.services.night import plan, report
from gjeldsbro.services.night.leases import LEASE_SECONDS
from gjeldsbro.services.ports import Institution, Provider

URL = "https://fi.example.no"
MANY = dict.fromkeys(people(200), 100)


def some(count: int, balance: int = 100) -> dict[str, int]:
    """A dataset of the first ``count`` people."""
    return dict.fromkeys(people(200)[:count], balance)


# Plan


def manifest(world: World, run: str = "n1", **request) -> list[dict]:
    """The groups of a planned run."""
    world.plan(run, **request)
    return world.objects.get_json(f"runs/nightly/{run}/manifest.json")


def test_the_plan_lists_what_is_fetched_and_what_is_withdrawn() -> None:
    """Push-only providers have no dataset; ended ones, and all of an ended institution, are to be withdrawn."""
    world = World(Provider(PROVIDER, url=URL), Provider(PUSHER), Provider(SUCCESSOR, dataset_url=URL, ended=True))
    world.records.of["985815534"] = Institution("985815534", "B", providers=(Provider(PUSHER),))
    world.records.of["974760673"] = Institution("974760673", "C", providers=(Provider(PUSHER),), ended=True)
    found = {
        institution["institution"]: [(data["provider"], data["action"]) for data in institution["datasets"]]
        for institution in world.plan("n1")
    }
    assert found == {
        FI: [(PROVIDER, "fetch"), (SUCCESSOR, "withdraw")],
        "974760673": [(PUSHER, "withdraw")],
    }


def test_institutions_on_one_server_come_in_one_group() -> None:
    """Concurrency is capped per provider host (design decision 13), also where one institution joins two servers."""
    world = World(Provider(PROVIDER, url="https://one.example.no/a"))
    urls = {
        "2": ("https://two.example.no/x",),
        "3": ("https://three.example.no",),
        "4": ("https://TWO.example.no/y", "https://one.example.no/b"),
        "5": ("https://two.example.no:8443",),
    }
    for name, of in urls.items():
        providers = tuple(Provider(f"p{number}", url=url) for number, url in enumerate(of))
        world.records.of[name] = Institution(name, name, providers=providers)
    groups = [{institution["institution"] for institution in group["institutions"]} for group in manifest(world)]
    assert sorted(groups, key=len) == [{"3"}, {"5"}, {FI, "2", "4"}]


def test_a_large_group_is_cut_so_that_its_history_does_not_overflow() -> None:
    """A Step Functions execution ends at 25,000 events."""
    world = World()
    for number in range(plan.GROUP_SIZE + 10):
        name = f"fi{number}"
        world.records.of[name] = Institution(name, name, providers=(Provider("p", url=URL),))
    assert sorted(len(group["institutions"]) for group in manifest(world)) == [11, plan.GROUP_SIZE]


def test_one_institution_can_be_run_alone_and_without_the_hold() -> None:
    """``nightly run --institution`` and ``nightly release``."""
    world = World()
    world.records.of["985815534"] = Institution("985815534", "B", providers=(Provider(PUSHER, url=URL),))
    (only,) = world.plan("n1", institution="985815534", hold=False)
    assert (only["institution"], only["hold"]) == ("985815534", False)
    assert world.records.run_of["n1"]["state"] == "running"


@pytest.mark.parametrize(
    ("run", "request_"), [("n1", {"institution": "1"}), ("n1", {"hold": "no"}), ("a/b", {}), ("", {})]
)
def test_a_plan_that_makes_no_sense_is_refused(run, request_) -> None:
    """An unknown institution, a hold that is neither, a name that would leave its folder."""
    world = World()
    with pytest.raises(ConfigurationError):
        world.plan(run, **request_)
    assert world.objects.stored == {}


# Judge


@pytest.mark.parametrize(
    ("before", "after", "limit", "held"),
    [
        (100, 70, 30, False),
        (100, 69, 30, True),
        (99, 0, 30, False),
        (200, 0, 30, True),
        (200, 0, 100, False),
        (200, 199, 0, True),
        (150, 200, 0, False),
    ],
)
def test_a_shrink_beyond_the_limit_is_held(before, after, limit, held) -> None:
    """In per cent of the last customers with loans; small sets are exempt; held means that nothing of it is kept."""
    world = World(max_shrink_percent=limit)
    world.serve(some(before))
    world.night("n1")
    world.serve(some(after))
    world.night("n2", days=0)
    outcome = world.outcome("n2")
    assert (outcome["status"] == "held") is held
    assert world.dataset().held is held
    world.assert_holds(some(before) if held else some(after))
    if held:
        assert outcome["reason"] == f"customers with loans: {after} after {before}, more than {limit} % fewer"
        assert world.dataset().run == "n1"


def test_a_held_dataset_is_released_by_fetching_again_without_the_hold() -> None:
    """What was held is not kept: the release fetches anew."""
    world = World()
    world.serve(some(150))
    world.night("n1")
    world.serve(some(10))
    world.night("n2", days=0)
    assert world.dataset().held
    world.night("n3", days=0, institution=FI, hold=False)
    world.assert_holds(some(10))
    assert not world.dataset().held


def test_the_shrink_is_that_of_all_providers_of_the_institution() -> None:
    """What moves from one provider to another is no shrink; a refused dataset counts as yesterday's."""
    world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
    world.serve(some(100))
    world.serve({}, provider=SUCCESSOR)
    world.night("n1")
    world.serve({})
    world.serve(some(100), provider=SUCCESSOR)
    world.night("n2", days=0)
    assert world.outcome("n2")["status"] == world.outcome("n2", SUCCESSOR)["status"] == "loaded"
    world.served[FI, SUCCESSOR] = [b"not JSON"]
    world.night("n3", days=0)
    assert world.outcome("n3", SUCCESSOR)["status"] == "refused"
    assert world.outcome("n3")["status"] == "unchanged"
    world.assert_holds(some(100), SUCCESSOR)


def test_an_institution_is_held_as_a_whole() -> None:
    """Half of a hand-over would show debt twice or not at all."""
    world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
    world.serve(some(150))
    world.serve({}, provider=SUCCESSOR)
    world.night("n1")
    world.serve({})
    world.serve(some(20), provider=SUCCESSOR)
    world.night("n2", days=0)
    assert {world.outcome("n2", provider)["status"] for provider in (PROVIDER, SUCCESSOR)} == {"held"}
    assert world.balances() == world.expected(some(150))
    assert world.balances(SUCCESSOR) == {}


@pytest.mark.parametrize("writes", range(1, 12))
def test_a_hold_that_dies_on_the_way_is_completed(writes) -> None:
    """What is left of the institution would be no shrink by itself, and is held with the rest nevertheless."""
    world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
    world.serve(some(100))
    world.serve(some(50), provider=SUCCESSOR)
    world.night("n1")
    world.serve(some(40))
    world.serve(some(40), provider=SUCCESSOR)
    for provider in (PROVIDER, SUCCESSOR):
        world.fetch("n2", provider)
    world.mortality.last = world.mortality.writes + writes
    with suppress(DiedError):
        world.judge("n2", PROVIDER, SUCCESSOR)
    world.mortality.last = None
    assert world.judge("n2", PROVIDER, SUCCESSOR) == {"datasets": [], "withdrawals": []}
    for provider in (PROVIDER, SUCCESSOR):
        outcome = world.outcome("n2", provider)
        assert (outcome["status"], outcome["customersBefore"], outcome["customersNow"]) == ("held", 150, 80)
        assert world.dataset(provider).held


# Withdraw


def handed_over(world: World) -> None:
    """The operator replaces the provider by its successor."""
    providers = (Provider(PROVIDER, url=URL, ended=True), Provider(SUCCESSOR, url=URL))
    world.records.of[FI] = replace(world.records.of[FI], providers=providers)


def test_an_ended_provider_stays_visible_until_its_successors_first_dataset() -> None:
    """Design decision 6: refused, unavailable or held successors change nothing; the accepted one replaces it."""
    world = World()
    world.serve(some(120))
    world.night("n1")
    handed_over(world)
    world.register.pushes.add((FI, PROVIDER, "2026-12-01T00:00:00.0000000Z"))
    world.served[FI, SUCCESSOR] = [b"not JSON"]
    world.requests.clear()
    world.night("n2", days=0)
    assert world.balances() == world.expected(some(120))
    assert world.outcome("n2")["status"] == "unchanged"
    assert "successor" in world.outcome("n2")["reason"]
    world.serve(some(10), provider=SUCCESSOR)
    world.night("n3", days=0)
    assert world.outcome("n3", SUCCESSOR)["status"] == "held"
    assert world.balances() == world.expected(some(120))
    world.serve(some(119), provider=SUCCESSOR)
    world.night("n4", days=0)
    assert {provider for _, provider, _ in world.requests} == {SUCCESSOR}
    assert world.balances() == {}
    assert world.register.pushes == set()
    world.assert_holds(some(119), SUCCESSOR)
    outcome = world.outcome("n4")
    assert (outcome["status"], outcome["removed"], outcome["withdrawn"]) == ("loaded", 120, True)
    assert [provider.provider for provider in world.records.of[FI].providers] == [SUCCESSOR]
    assert (FI, PROVIDER) not in world.records.held


def test_an_ended_institution_disappears_with_all_its_data() -> None:
    """Without a successor and without a call: the operator ended it, on the record."""
    world = World(Provider(PROVIDER, url=URL), Provider(PUSHER))
    world.serve(some(120))
    world.night("n1")
    world.register.pushes.add((FI, PUSHER, "2026-12-01T00:00:00.0000000Z"))
    world.records.of[FI] = replace(world.records.of[FI], ended=True)
    world.requests.clear()
    world.night("n2", days=0)
    assert world.requests == []
    assert world.register.items == {}
    assert world.register.pushes == set()
    assert world.records.of == {}
    assert world.records.held == {}
    assert not world.objects.stored


def test_a_provider_that_was_set_up_again_meanwhile_is_not_withdrawn() -> None:
    """The plan may be hours old: the operator's last word counts."""
    world = World()
    world.serve(some(20))
    world.night("n1")
    world.fetch("n2", action="withdraw")
    judged = world.judge("n2", hold=False)
    assert [step["provider"] for step in judged["withdrawals"]] == [PROVIDER]
    world.load("n2")
    assert world.outcome("n2")["status"] == "failed"
    world.objects.delete_prefix("runs/")
    world.assert_holds(some(20))


def test_a_withdrawal_that_dies_anywhere_is_completed_the_next_night() -> None:
    """The files go first, then the record, then the provider's entry: whatever is left is planned again."""
    for writes in range(1, 200):
        world = World()
        world.serve(some(5))
        world.night("n1")
        handed_over(world)
        world.serve(some(5), provider=SUCCESSOR)
        for provider, action in ((SUCCESSOR, "fetch"), (PROVIDER, "withdraw")):
            world.fetch("n2", provider, action)
        world.judge("n2", SUCCESSOR, PROVIDER)
        world.load("n2", SUCCESSOR)
        world.mortality.writes, world.mortality.last = 0, writes
        try:
            world.load("n2")
        except DiedError:
            died = True
        else:
            died = False
        world.mortality.last = None
        world.assert_doubt_is_noted()
        world.objects.delete_prefix("runs/")
        world.serve(some(5), provider=SUCCESSOR)
        world.night("n3")
        assert world.balances() == {}
        world.assert_holds(some(5), SUCCESSOR)
        assert [provider.provider for provider in world.records.of[FI].providers] == [SUCCESSOR]
        if not died:
            break
    assert writes > 10


def test_no_file_outlives_the_record_that_points_to_it() -> None:
    """A withdrawal that dies anywhere, and a provider that only pushes from then on: nobody looks for files again."""
    for writes in range(1, 200):
        world = World()
        world.serve(some(5))
        world.night("n1")
        world.records.of[FI] = replace(world.records.of[FI], ended=True)
        world.fetch("n2", action="withdraw")
        world.judge("n2")
        world.mortality.writes, world.mortality.last = 0, writes
        try:
            world.load("n2")
        except DiedError:
            died = True
        else:
            died = False
        world.mortality.last = None
        if not world.records.held:
            assert not list(world.objects.keys("index/"))
            assert not list(world.objects.keys("pending/"))
        if not died:
            break
    assert writes > 10


def test_a_provider_that_another_run_has_withdrawn_leaves_no_record() -> None:
    """`institution remove` starts a run of its own beside the night: nobody would ever look for such a record again."""
    world = World()
    world.serve(some(5))
    world.night("n1")
    world.records.of[FI] = replace(world.records.of[FI], ended=True)
    planned = world.plan("n2")
    world.night("removal", days=0)
    assert world.records.of == {}
    for institution in planned:
        for dataset in institution["datasets"]:
            world.fetch("n2", dataset["provider"], dataset["action"])
    assert world.records.held == {}
    assert world.outcome("n2")["reason"] == "another run has withdrawn it"


# Failures and the report


CAUSE = json.dumps({"errorType": "InstitutionUnavailableError", "errorMessage": "page 0: HTTP 503", "stackTrace": []})


def fail(world: World, subject: dict, error: str, cause: str = CAUSE, flow: str = "nightly", run: str = "n2") -> None:
    """What the machine calls for an error that it caught."""
    report.record_failure(
        flow,
        run,
        subject,
        {"Error": error, "Cause": cause},
        records=world.records,
        clock=world.clock,
    )


SUBJECT = {"run": "n2", "institution": FI, "provider": PROVIDER, "action": "fetch"}


def test_a_failure_of_ours_is_recorded_with_its_reason_and_frees_the_dataset() -> None:
    """The function ended in order: another run may begin at once."""
    world = World()
    world.serve(some(5))
    world.fetch("n2")
    fail(world, SUBJECT, "InstitutionUnavailableError")
    outcome = world.outcome("n2")
    assert (outcome["status"], outcome["reason"]) == ("failed", "page 0: HTTP 503")
    assert outcome["error"] == "InstitutionUnavailableError"
    dataset = world.dataset()
    assert (dataset.lease, dataset.fetch) == (None, None)
    assert dataset.last_run["status"] == "failed"


@pytest.mark.parametrize("error", ["States.Timeout", "Lambda.Unknown", "Sandbox.Timedout", "KeyError"])
def test_a_function_that_was_cut_off_keeps_its_lease(error) -> None:
    """It may still be at work somewhere, but can change the record no more; and a foreign error is not quoted."""
    world = World()
    world.serve(some(5))
    world.fetch("n2")
    cut_off = world.records.take_lease(FI, PROVIDER, "n2", world.now, LEASE_SECONDS)
    fail(world, SUBJECT, error, json.dumps({"errorMessage": f"{people(1)[0]}"}))
    lease = world.dataset().lease
    assert lease is not None
    assert (lease.token, lease.until) == (None, cut_off.lease.until)
    with pytest.raises(DatasetBusyError):
        world.records.update_dataset(cut_off, "n2", index="another")
    assert world.outcome("n2")["reason"] == error
    assert people(1)[0] not in repr(world.records.outcome_of)
    world.night("other", days=0)
    assert world.outcome("other")["status"] == "busy"
    world.now += timedelta(seconds=LEASE_SECONDS)
    world.night("later", days=0)
    world.objects.delete_prefix("runs/")
    world.assert_holds(some(5))


def test_a_failure_after_the_commit_does_not_hide_the_success() -> None:
    """Only the clean-up went wrong: the dataset is what the register shows."""
    world = World()
    world.serve(some(5))
    world.night("n2")
    world.records.outcome_of.clear()
    fail(world, SUBJECT, "StoreUnavailableError")
    assert world.outcome("n2")["status"] == "loaded"


def test_a_failure_does_not_replace_the_outcome_of_another_step() -> None:
    """Refused stays refused."""
    world = World()
    world.served[FI, PROVIDER] = [b"not JSON"]
    world.fetch("n2")
    fail(world, SUBJECT, "UnexpectedError")
    assert world.outcome("n2")["status"] == "refused"


def test_an_institution_that_was_not_judged_has_failed_in_all_its_datasets() -> None:
    """The subject is the institution's item of the manifest."""
    world = World()
    (institution,) = world.plan("n2")
    fail(world, institution, "ConfigurationError")
    assert world.outcome("n2")["status"] == "failed"


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ({"run": "e", "receiver": "920013015"}, "920013015"),
        ({"run": "e", "receiver": "920013015", "onBehalfOf": "985815534"}, "920013015#985815534"),
    ],
)
def test_a_failed_delivery_is_recorded_under_its_receiver(subject, name) -> None:
    """The same function serves the export."""
    world = World()
    fail(world, subject, "ReceiverUnavailableError", CAUSE, flow="export", run="e")
    outcome = world.records.outcome_of["e", name]
    assert (outcome["status"], outcome["reason"], outcome["receiver"]) == ("failed", "page 0: HTTP 503", "920013015")


def test_the_report_counts_every_dataset_and_ends_the_run() -> None:
    """A dataset without an outcome has failed; working files are gone; the record says what happened."""
    world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
    world.serve(some(7))
    world.plan("n1")
    world.fetch("n1")
    world.judge("n1")
    world.load("n1")
    answer = world.report("n1")
    assert answer == {
        "run": "n1",
        "reportKey": "nightly/n1.json",
        "datasets": 2,
        "notLoaded": 1,
        "written": 7,
    }
    stored = world.reports.get_json("nightly/n1.json")
    assert stored["statuses"] == {"loaded": 1, "failed": 1}
    assert stored["counts"]["added"] == 7
    assert world.records.run_of["n1"]["state"] == "finished"
    assert not list(world.objects.keys("runs/"))
    world.objects.put("runs/nightly/n1/left-behind", b"")
    assert world.report("n1") == answer
    assert not list(world.objects.keys("runs/"))


@pytest.mark.parametrize(("request_", "whole"), [({}, True), ({"institution": FI}, False)])
def test_a_run_says_whether_it_was_of_all_institutions(request_, whole) -> None:
    """From its plan to its end, and for as long as runs are kept: the watch asks for whole nights."""
    world = World()
    world.plan("r", **request_)
    assert world.records.run("nightly", "r")["whole"] is whole
    world.report("r")
    finished = world.records.run("nightly", "r")
    assert (finished["whole"], finished["state"]) == (whole, "finished")


def test_a_run_that_was_never_planned_has_no_report() -> None:
    """Neither manifest nor report: somebody made the name up."""
    with pytest.raises(ConfigurationError):
        World().report("n9")


def test_a_failure_of_one_dataset_stops_no_other() -> None:
    """Institutions and providers are independent of each other."""
    world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
    world.served[FI, PROVIDER] = [b"not JSON"]
    world.serve(some(5), provider=SUCCESSOR)
    world.now += timedelta(hours=1)
    found = world.night("n1", days=0)
    assert found["statuses"] == {"refused": 1, "loaded": 1}
    assert world.balances(SUCCESSOR) == world.expected(some(5))
