"""Two invocations of one run side by side: one was given up, and is still at work (decision record 0022)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count, product

import pytest
from tests.unit.night_world import (
    FI,
    PROVIDER,
    SUCCESSOR,
    DiedError,
    World,
    customer_json,
    in_turns,
    page_json,
    people,
)

from gjeldsbro.domain.loans import decode_loans
from gjeldsbro.services.night import fetch, judge, load
from gjeldsbro.services.night.common import Job
from gjeldsbro.services.night.fetch import fetch_pages
from gjeldsbro.services.night.leases import LEASE_SECONDS, released, rested, taken
from gjeldsbro.services.night.load import load_dataset
from gjeldsbro.services.night.ports import FetchedPage
from gjeldsbro.services.night.report import record_failure
from gjeldsbro.services.ports import Lease, Provider

A, B, C, D, E = people(5)
FIRST = {A: 100, B: 200, C: 300}
SECOND = {A: 100, B: 250, D: 400, E: 500}
THIRD = {A: 101, B: 200, E: 500}
URL = "https://fi.example.no"

TURNS = [
    *product(range(0, 40, 2), (1, 3, 7, 13, 40, 100)),
    *((first, second) for first in (5, 9) for second in range(30)),
]
"""The first invocation's calls of the stores before the second begins, and the second's before the first goes on."""


def ready(*, judged: bool = True) -> World:
    """A world in which a second dataset is fetched, and is to be loaded by run n2."""
    world = World(max_shrink_percent=100)
    world.serve(FIRST)
    world.night("n1")
    world.serve(SECOND, pages=2)
    world.now += timedelta(hours=1)
    world.plan("n2")
    world.fetch("n2")
    if judged:
        world.judge("n2")
    return world


def one_load(world: World, run: str = "n2", provider: str = PROVIDER) -> Callable[[], bool]:
    """One invocation that loads."""
    return lambda: load_dataset(Job(run, FI, provider), world.loader)


def one_fetch(world: World, run: str = "n2") -> Callable[[], bool]:
    """One invocation that fetches."""
    return lambda: fetch_pages(Job(run, FI, PROVIDER), "fetch", world.fetcher)


def the_next_night_is_right(world: World) -> None:
    """Whatever was left: the next night ends with its dataset and nothing else."""
    world.serve(THIRD)
    world.night("n3")
    world.objects.delete_prefix("runs/")
    world.assert_holds(THIRD)


@pytest.mark.parametrize("stride", [2, 5000])
def test_two_loads_of_a_run_end_as_one(stride, monkeypatch) -> None:
    """However their calls mix: the register holds the dataset, the index belongs to it, and the next night is right."""
    monkeypatch.setattr(load, "STRIDE", stride)
    for turns in TURNS:
        world = ready()
        in_turns(one_load(world), one_load(world), world, turns)
        world.load("n2")
        assert world.dataset().run == "n2"
        assert world.balances() == world.expected(SECOND)
        assert world.index() == world.digests()
        assert world.outcome("n2")["status"] == "loaded"
        world.report("n2")
        the_next_night_is_right(world)


def test_no_other_run_writes_while_an_invocation_that_was_given_up_still_may() -> None:
    """The second invocation commits, another run comes at once, and the first goes on writing: the other is busy."""
    busy = 0
    for turns in TURNS:
        world = ready()

        def second_and_other(world: World = world) -> None:
            one_load(world)()
            world.serve(THIRD)
            world.night("other", days=0)

        in_turns(one_load(world), second_and_other, world, (*turns[:1], 10**6))
        world.load("n2")
        status = world.outcome("other")["status"]
        busy += status == "busy"
        assert world.balances() == world.expected(SECOND if status == "busy" else THIRD)
        assert world.index() == world.digests()
        world.now += timedelta(seconds=LEASE_SECONDS)
        world.night("later", days=0)
        world.objects.delete_prefix("runs/")
        world.assert_holds(THIRD)
    assert busy > 20


def test_an_invocation_that_was_given_up_commits_nothing_that_was_reported_as_failed() -> None:
    """The failure is recorded, and the report made, while it is still at work: then the register stays yesterday's."""
    for first in range(0, 60, 2):
        world = ready()

        def fail_and_report(world: World = world) -> None:
            subject = {"run": "n2", "institution": FI, "provider": PROVIDER}
            error = {"Error": "States.Timeout", "Cause": ""}
            record_failure("nightly", "n2", subject, error, records=world.records, clock=world.clock)
            world.report("n2")

        in_turns(one_load(world), fail_and_report, world, (first,))
        status = world.reports.get_json("nightly/n2.json")["datasets"][0]["status"]
        assert (world.dataset().run == "n2") is (status == "loaded")
        world.assert_doubt_is_noted()
        the_next_night_is_right(world)


def test_a_failure_that_is_recorded_late_hides_no_end_of_the_run() -> None:
    """What was refused before a step failed stays refused, also under a contested lease or with no outcome stored."""
    for killed, told in product((False, True), repeat=2):
        world = World()
        world.served[FI, PROVIDER] = [b"not JSON"]
        world.plan("n2")
        if killed:
            world.mortality.last = world.mortality.writes + 1
            with pytest.raises(DiedError):
                one_fetch(world)()
            world.mortality.last = None
        world.fetch("n2")
        before = world.outcome("n2")
        assert before["status"] == "refused"
        assert (world.dataset().lease is not None) is killed
        if not told:
            world.records.outcome_of.clear()
        subject = {"run": "n2", "institution": FI, "provider": PROVIDER}
        error = {"Error": "States.Timeout", "Cause": ""}
        record_failure("nightly", "n2", subject, error, records=world.records, clock=world.clock)
        assert world.outcome("n2") == world.dataset().last_run == before
        the_next_night_is_right(world)


def test_two_fetches_of_a_run_give_a_dataset_that_was_delivered_so(monkeypatch) -> None:
    """Each request is answered with other amounts: no digest may stand beside the loans of another answer."""
    monkeypatch.setattr(fetch, "PAGE_SECONDS", 0)
    for turns in TURNS:
        world = World()
        answers = count(1)
        at = world.now.isoformat()

        def answer(page: int, answers=answers, at=at) -> FetchedPage:
            number = next(answers)
            body = page_json(
                customer_json(person, number * 10 + place, timestamp=at)
                for place, person in enumerate(people(6)[page::3])
            )
            return FetchedPage(body, "3", len(body))

        world.served[FI, PROVIDER] = answer
        world.plan("n2")
        in_turns(one_fetch(world), one_fetch(world), world, turns)
        world.fetch("n2")
        world.judge("n2")
        world.load("n2")
        assert world.index() == world.digests()
        amounts = sorted(decode_loans(loans)[0].balance for loans in world.register.items.values())
        assert len(amounts) == 6
        assert {amount // 10 for amount in amounts if amount % 10 == 1} == {amount // 10 for amount in amounts}
        the_next_night_is_right(world)


def test_two_judges_of_a_run_hold_all_or_nothing(monkeypatch) -> None:
    """What one of them has begun to hold the other holds too, and says so; none of it is loaded, nor called busy."""
    monkeypatch.setattr(judge, "SMALL_SET", 1)
    held = 0
    for turns in product(range(2, 20, 3), range(2, 10), range(1, 12, 2)):
        world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL))
        world.serve(FIRST)
        world.serve(FIRST, provider=SUCCESSOR)
        world.night("n1")
        world.serve({})
        world.plan("n2")
        for provider in (PROVIDER, SUCCESSOR):
            world.fetch("n2", provider)
        chosen: list[dict[str, str]] = []

        def one_judge(world: World = world, chosen: list[dict[str, str]] = chosen) -> None:
            chosen += world.judge("n2", PROVIDER, SUCCESSOR)["datasets"]

        in_turns(one_judge, one_judge, world, turns)
        assert chosen == []
        subject = {"institution": FI, "datasets": world.plan("n2")[0]["datasets"]}
        error = {"Error": "DatasetBusyError", "Cause": ""}  # as for the machine, if the first took a lease last
        record_failure("nightly", "n2", subject, error, records=world.records, clock=world.clock)
        ends = [world.outcome("n2", provider)["status"] for provider in (PROVIDER, SUCCESSOR)]
        assert set(ends) <= {"held", "failed"}
        held += ends == ["held", "held"]
    assert held > 50


def test_a_refusal_by_an_invocation_that_was_given_up_deletes_nothing_of_the_next_one() -> None:
    """One is answered with a dataset that is wrong, the other with a right one: the run ends as whoever came first."""
    ends = set()
    for turns in TURNS:
        world = World()
        answers = iter([b"not JSON"])
        good = page_json(customer_json(person, 100, timestamp=world.now.isoformat()) for person in FIRST)

        def answer(page: int, answers=answers, good=good) -> FetchedPage:
            body = next(answers, good)
            return FetchedPage(body, None, len(body))

        world.served[FI, PROVIDER] = answer
        world.plan("n2")
        in_turns(one_fetch(world), one_fetch(world), world, turns)
        world.fetch("n2")
        judged = world.judge("n2")
        for step in judged["datasets"]:
            world.load("n2", step["provider"])
        status = world.outcome("n2")["status"]
        ends.add(status)
        assert (len(judged["datasets"]), len(world.register.items)) == ((1, 3) if status == "loaded" else (0, 0))
        world.report("n2")
        the_next_night_is_right(world)
    assert ends == {"loaded", "refused"}


def test_a_withdrawal_that_was_given_up_deletes_nothing_that_is_loaded_later() -> None:
    """The operator sets the provider up again at once: it is loaded when nobody may be deleting any more."""
    for turns in TURNS:
        world = World(Provider(PROVIDER, url=URL), Provider(SUCCESSOR, url=URL), max_shrink_percent=100)
        world.serve(FIRST)
        world.serve({}, provider=SUCCESSOR)
        world.night("n1")
        before = world.records.of[FI]
        world.records.of[FI] = replace(
            before, providers=(Provider(PROVIDER, url=URL, ended=True), Provider(SUCCESSOR, url=URL))
        )
        world.now += timedelta(hours=1)
        for provider, action in ((SUCCESSOR, "fetch"), (PROVIDER, "withdraw")):
            world.fetch("n2", provider, action)
        world.judge("n2", SUCCESSOR, PROVIDER)
        world.load("n2", SUCCESSOR)

        def second_and_again(world: World = world, before=before) -> None:
            one_load(world)()
            if not any(of == PROVIDER for _, _, of, _ in world.register.items):
                world.records.of[FI] = before
                world.night("other", days=0)

        in_turns(one_load(world), second_and_again, world, turns)
        world.assert_doubt_is_noted()
        world.records.of[FI] = before
        world.now += timedelta(seconds=LEASE_SECONDS)
        world.night("later", days=0)
        world.objects.delete_prefix("runs/")
        world.assert_holds(FIRST)


def test_an_invocation_that_ends_in_order_leaves_no_doubt() -> None:
    """Also by an error: the next one goes on, and the dataset is free at once when the run's work has ended."""
    world = ready()
    world.objects.delete_prefix("runs/nightly/n2/")
    with pytest.raises(load.ConfigurationError):
        one_load(world)()
    lease = world.dataset().lease
    assert lease is not None
    assert (lease.run, lease.token, lease.contested) == ("n2", None, None)


def test_a_lease_tells_until_when_others_may_still_write() -> None:
    """An invocation that never ended counts until its own time is over, however many have come since."""
    now = World().now
    later = now + timedelta(seconds=10)
    first = taken(None, "n1", now, 60)
    second = taken(first, "n1", later, 60)
    third = taken(rested(second), "n1", later, 60)
    assert first.token != second.token != third.token
    assert second.contested == third.contested == first.until
    assert released(first, now) is None
    assert released(third, now) == Lease("n1", first.until, None, first.until)
    assert released(third, now + timedelta(seconds=61)) is None
    assert taken(released(third, now), "n2", now + timedelta(seconds=61), 60).contested is None
