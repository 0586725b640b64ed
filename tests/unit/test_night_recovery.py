"""Loads from scratch: whatever was lost or restored, the register is right afterwards (decision record 0023)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from tests.unit.night_world import FI, PROVIDER, SUCCESSOR, DiedError, World, people
from tests.unit.test_hash_key_rotation import watched

from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.night import load
from gjeldsbro.services.ports import Provider

A, B, C, D, E, F = people(6)
FIRST = {A: 100, B: 200, C: 300}
SECOND = {A: 100, B: 250, D: 400}
THIRD = {A: 101, D: 400, E: 500}
URL = "https://fi.example.no"


def after_two_nights() -> World:
    """A world in which two nights went well; what it was after the first one is kept in ``world.restorable``."""
    world = World(max_shrink_percent=100)
    world.serve(FIRST)
    world.night("n1")
    world.restorable = dict(world.records.held)
    world.serve(SECOND)
    world.night("n2")
    world.serve(THIRD)
    return world


def index_lost(world: World) -> None:
    """Somebody deleted the index."""
    world.objects.delete_prefix("index/")


def bucket_lost(world: World) -> None:
    """Everything in the bucket is gone."""
    world.objects.stored.clear()


def bucket_lost_in_mid_load(world: World) -> None:
    """The list of what was about to change is gone too, while the register holds some of it."""
    world.plan("dead")
    world.fetch("dead")
    world.judge("dead")
    world.mortality.writes, world.mortality.last = 0, 7
    with pytest.raises(DiedError):
        world.load("dead")
    world.mortality.last = None
    assert world.dataset().pending or world.dataset().rekey
    world.objects.stored.clear()


def records_lost(world: World) -> None:
    """The PartnerTable is gone, and the institution was set up again."""
    world.records.held.clear()


def records_restored(world: World) -> None:
    """The PartnerTable is of yesterday: it points to an index that is long deleted."""
    world.records.held = world.restorable


def records_restored_and_files_there(world: World) -> None:
    """The same, and an index with yesterday's name is there: it says what is not so."""
    (index,) = world.objects.keys("index/")
    world.objects.stored[world.restorable[FI, PROVIDER].index] = world.objects.stored[index]
    world.records.held = world.restorable


def register_lost(world: World) -> None:
    """The RegisterTable was made anew, while the index says that everything is there."""
    world.register.items.clear()


def register_strange(world: World) -> None:
    """Somebody wrote and deleted items by hand."""
    kept = sorted(world.register.items)
    version, institution, provider, _ = kept[0]
    world.register.items[version, institution, provider, world.hash_key.customer_key(F)] = world.register.items[kept[1]]
    del world.register.items[kept[0]]


def under_an_old_key(world: World) -> None:
    """Items under a version of the hash key that no record knows of."""
    for (_, institution, provider, key), loans in list(world.register.items.items()):
        if institution == FI:
            world.register.items["0", institution, provider, key] = loans


LOSSES = [
    index_lost,
    bucket_lost,
    bucket_lost_in_mid_load,
    records_lost,
    records_restored,
    records_restored_and_files_there,
    register_lost,
    register_strange,
    under_an_old_key,
]


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_a_run_from_scratch_heals_what_was_lost(loss: Callable[[World], None], rotated: bool) -> None:
    """The register is the dataset of that run, others' data is not touched, and an ordinary night goes on.

    Also when the hash key has been rotated since the last night.
    """
    world = after_two_nights()
    if rotated:
        world.rotate()
    other = ("1", "985815534", PROVIDER, bytes(32))
    world.register.items[other] = b"another institution's"
    loss(world)
    others = {other: world.register.items.pop(other, b"another institution's")}
    world.register.items |= others
    world.now = world.now.replace(year=2027)
    world.night("scratch", days=0, institution=FI, fromScratch=True)
    assert world.register.items.pop(other) == others[other]
    world.assert_holds(THIRD)
    assert world.outcome("scratch")["status"] == "loaded"
    world.serve(FIRST)
    world.night("n4")
    world.assert_holds(FIRST)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("loss", [records_lost, records_restored, bucket_lost], ids=lambda loss: loss.__name__)
def test_a_run_from_scratch_lets_nobody_see_less(loss: Callable[[World], None], rotated: bool) -> None:
    """After each write everybody is seen as yesterday's dataset or tonight's says, whatever key it lies under."""
    world = after_two_nights()
    if rotated:
        world.rotate()
    loss(world)
    with watched(world, SECOND, THIRD):
        world.night("scratch", fromScratch=True)
    world.assert_holds(THIRD)


@pytest.mark.parametrize("loss", [index_lost, records_lost, bucket_lost])
def test_the_night_after_a_run_from_scratch_that_died_goes_on_from_scratch(
    loss: Callable[[World], None], monkeypatch
) -> None:
    """Nobody may have noticed yet; as long as none has ended, what is stored cannot be trusted."""
    monkeypatch.setattr(load, "SEGMENTS", 2)
    for writes in range(2, 40, 3):
        world = after_two_nights()
        world.rotate()
        loss(world)
        world.fetch("dead", scratch=True)
        world.judge("dead")
        world.mortality.writes, world.mortality.last = 0, writes
        with suppress(DiedError):
            world.load("dead")
        world.mortality.last = None
        world.serve(FIRST)
        with watched(world, SECOND, THIRD, FIRST):
            world.night("n4")
        world.objects.delete_prefix("runs/")
        world.assert_holds(FIRST)


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("loss", [index_lost, bucket_lost, records_restored, bucket_lost_in_mid_load])
def test_without_it_the_night_stops_before_it_deletes_anything(loss: Callable[[World], None], rotated: bool) -> None:
    """The reason names the file; yesterday's data stays in use until an operator decides."""
    world = after_two_nights()
    if rotated:
        world.rotate()
    loss(world)
    world.now = world.now.replace(year=2027)
    before = dict(world.register.items)
    with pytest.raises(ConfigurationError, match=r"is missing in the data bucket"):
        world.night("n3", days=0)
    assert world.register.items == before
    assert world.dataset().run != "n3"


def test_what_is_left_to_delete_under_an_old_key_is_not_forgotten_with_its_file() -> None:
    """Readers do not see it, so only the outcome can tell that it is still there; a run from scratch deletes it."""
    world = after_two_nights()
    world.rotate()
    world.now = world.now.replace(year=2027)
    world.fetch("dead")
    world.judge("dead")
    world.mortality.witness = lambda: setattr(
        world.mortality, "last", 0 if world.dataset().retired and world.dataset().run == "dead" else None
    )
    with pytest.raises(DiedError):
        world.load("dead")
    world.mortality.witness, world.mortality.last = lambda: None, None
    (left,) = world.dataset().retired or []
    world.objects.delete([left["file"]])
    world.now += timedelta(hours=1)
    with pytest.raises(ConfigurationError, match=r"is missing in the data bucket"):
        world.night("n3", days=0)
    assert world.dataset().run == "dead"
    world.now += timedelta(hours=1)
    world.night("scratch", days=0, fromScratch=True)
    world.objects.delete_prefix("runs/")
    world.assert_holds(THIRD)


@pytest.mark.parametrize("loss", [bucket_lost_in_mid_load, records_restored, under_an_old_key])
def test_a_run_from_scratch_that_dies_is_repeated(loss: Callable[[World], None], monkeypatch) -> None:
    """After any write: started again from scratch, or continued, it ends right."""
    monkeypatch.setattr(load, "SEGMENTS", 4)
    monkeypatch.setattr(load, "SEGMENTS_AT_ONCE", 2)
    for then in ("retry", "again"):
        for writes in range(1, 1000):
            world = after_two_nights()
            loss(world)
            world.now = world.now.replace(year=2027)
            world.plan("s1", fromScratch=True)
            world.mortality.writes, world.mortality.last = 0, writes
            died = False
            try:
                _go_on(world, "s1")
            except DiedError:
                died = True
            world.mortality.last = None
            if then == "retry":
                _go_on(world, "s1")
                world.report("s1")
            else:
                world.report("s1")
                world.night("s2", fromScratch=True)
            world.assert_holds(THIRD)
            if not died:
                break
        assert writes > 25


def _go_on(world: World, run: str) -> None:
    world.fetch(run, scratch=True)
    world.judge(run)
    world.load(run)


def test_looking_for_what_is_there_takes_as_many_invocations_as_it_needs() -> None:
    """A wave of segments each at least, and none of them twice."""
    world = after_two_nights()
    index_lost(world)
    world.fetch("n3", scratch=True)
    world.judge("n3")
    world.seconds = iter(lambda: 1.0, None)
    calls = 1
    while not load.load_dataset(load.Job("n3", FI, PROVIDER), world.loader):
        calls += 1
    assert calls == load.SEGMENTS // load.SEGMENTS_AT_ONCE
    world.assert_holds(THIRD)


def test_an_ended_provider_is_withdrawn_from_scratch_too() -> None:
    """Its index may be lost as well, and its data must go."""
    world = after_two_nights()
    world.records.of[FI] = replace(
        world.records.of[FI], providers=(Provider(PROVIDER, url=URL, ended=True), Provider(SUCCESSOR, url=URL))
    )
    world.serve(THIRD, provider=SUCCESSOR)
    bucket_lost(world)
    world.now = world.now.replace(year=2027)
    world.night("scratch", days=0, fromScratch=True)
    assert world.balances() == {}
    world.assert_holds(THIRD, SUCCESSOR)
    assert [provider.provider for provider in world.records.of[FI].providers] == [SUCCESSOR]


def test_a_run_from_scratch_moves_to_the_key_in_use() -> None:
    """Under the old version nothing is left, though no index says what was there."""
    world = after_two_nights()
    bucket_lost(world)
    world.rotate()
    world.night("scratch", fromScratch=True)
    world.assert_holds(THIRD)
    assert {version for version, _, _, _ in world.register.items} == {"2"}


def test_only_true_and_false_are_understood() -> None:
    """A request that says something else was not meant so."""
    world = World()
    with pytest.raises(ConfigurationError):
        world.plan("n1", fromScratch="yes")
    assert partial(world.plan, "n2", fromScratch=True)()[0]["datasets"][0]["fromScratch"]
