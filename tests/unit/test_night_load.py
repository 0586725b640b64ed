"""Loading a dataset: only what changed, and whatever dies in between (design decision 5)."""

from datetime import timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.night_world import FI, PROVIDER, PUSHER, SUCCESSOR, DiedError, World, people

from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.night import load, records
from gjeldsbro.services.night.leases import LEASE_SECONDS
from gjeldsbro.services.ports import Lease, Provider

A, B, C, D, E, F = people(6)
FIRST = {A: 100, B: 200, C: 300, D: 0}
SECOND = {A: 100, B: 250, D: 400, E: 500}
THIRD = {A: 101, B: 200, E: 500, F: 600}
FOREVER = 10_000


def loaded_once(amounts=FIRST, **options) -> World:
    """A world in which a first night has gone well."""
    world = World(**options)
    world.serve(amounts)
    world.night("n1")
    return world


def test_a_first_night_writes_every_customer_with_loans_once() -> None:
    """And none without: SPEC allows customers with an empty loans array."""
    world = loaded_once()
    world.assert_holds(FIRST)
    assert (world.register.puts, world.register.deletes) == (3, 0)
    outcome = world.outcome("n1")
    assert outcome["status"] == "loaded"
    assert {name: outcome[name] for name in ("added", "changed", "removed", "unchanged", "written")} == {
        "added": 3,
        "changed": 0,
        "removed": 0,
        "unchanged": 0,
        "written": 3,
    }


def test_a_second_night_writes_only_what_changed() -> None:
    """One changed, two new, one gone: three puts and one delete; the counts say so."""
    world = loaded_once()
    world.serve(SECOND, pages=2)
    world.register.puts = 0
    world.now += timedelta(hours=1)
    world.night("n2", days=0)
    world.assert_holds(SECOND)
    assert (world.register.puts, world.register.deletes) == (3, 1)
    outcome = world.outcome("n2")
    assert {name: outcome[name] for name in ("added", "changed", "removed", "unchanged", "written")} == {
        "added": 2,
        "changed": 1,
        "removed": 1,
        "unchanged": 1,
        "written": 4,
    }


def test_an_unchanged_dataset_costs_no_write_to_the_register() -> None:
    """Also though every timestamp is new: asOf carries the freshness."""
    world = loaded_once()
    world.register.puts = 0
    before = world.dataset().as_of
    world.now += timedelta(hours=2)
    world.serve(FIRST)
    world.night("n2", days=0)
    world.assert_holds(FIRST)
    assert (world.register.puts, world.register.deletes) == (0, 0)
    assert world.outcome("n2")["status"] == "unchanged"
    assert world.dataset().as_of > before
    assert world.dataset().run == "n2"


def test_an_empty_dataset_is_valid_and_speaks_for_the_start_of_its_fetch() -> None:
    """Hand-overs work so (SPEC's practice): everything of the provider goes."""
    world = loaded_once()
    world.serve({})
    world.night("n2", days=0)
    world.assert_holds({})
    dataset = world.dataset()
    assert dataset.as_of == dataset.fetch_start


def test_every_dataset_is_written_in_full_once_a_week() -> None:
    """Seven nights without changes: exactly one of them writes all, and repairs what went wrong in the register."""
    world = loaded_once()
    full = []
    for night in range(2, 9):
        world.serve(FIRST)
        world.register.puts = 0
        damaged = next(iter(world.register.items))
        before = world.register.items.pop(damaged)
        world.night(f"n{night}")
        full.append(world.register.puts)
        if world.register.puts:
            assert world.outcome(f"n{night}")["full"]
            assert world.outcome(f"n{night}")["status"] == "unchanged"
            world.assert_holds(FIRST)
        else:
            world.register.items[damaged] = before
    assert sorted(full) == [0, 0, 0, 0, 0, 0, 3]


def test_a_dataset_that_was_refused_on_its_day_is_written_in_full_later() -> None:
    """The weekday spreads the work; a week without is the limit."""
    world = loaded_once()
    world.serve(FIRST)
    world.register.puts = 0
    world.night("n2", days=9)
    assert world.register.puts == 3


# Deaths


def die_after(world: World, writes: int, work) -> bool:
    """Do ``work`` until the n-th write, then die; whether that happened before it was done."""
    world.mortality.writes, world.mortality.last = 0, writes
    try:
        work()
    except DiedError:
        return True
    finally:
        world.mortality.last = None
    return False


@pytest.mark.parametrize("then", ["retry", "next night", "next night is the old one", "another version", "empty"])
def test_a_load_that_dies_after_any_write_leaves_nothing_wrong(then) -> None:
    """After each write: what differs from the index is on the list, and a retry or a later night mends it all."""
    for writes in range(1, FOREVER):
        world = loaded_once()
        world.serve(SECOND, pages=2)
        world.now += timedelta(hours=1)
        world.plan("n2")
        world.fetch("n2")
        world.judge("n2", hold=False)
        died = die_after(world, writes, partial(world.load, "n2"))
        world.assert_doubt_is_noted()
        if then == "retry":
            world.load("n2")
            world.report("n2")
            world.assert_holds(SECOND)
            assert world.outcome("n2")["status"] == "loaded"
            assert world.outcome("n2")["added"] == 2
        else:
            world.report("n2")
            expected = {"next night is the old one": FIRST, "empty": {}}.get(then, THIRD)
            if then == "another version":
                world.rotate()
            world.serve(expected, pages=2)
            world.night("n3")
            world.assert_holds(expected)
        if not died:
            break
    assert writes > 15


def test_deaths_in_several_nights_in_a_row_add_up_to_nothing() -> None:
    """A left-over list of a left-over list: whatever an unfinished load wrote is known to the next."""
    for first in range(1, 25, 2):
        for second in range(1, 25, 2):
            world = loaded_once()
            for run, amounts, writes in (("n2", SECOND, first), ("n3", THIRD, second)):
                world.serve(amounts)
                world.now += timedelta(hours=1)
                world.fetch(run)
                world.judge(run, hold=False)
                die_after(world, writes, partial(world.load, run))
                world.assert_doubt_is_noted()
            world.serve(FIRST)
            world.now += timedelta(hours=1)
            world.night("n4", days=0)
            world.objects.delete_prefix("runs/")
            world.assert_holds(FIRST)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    nights=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(people(12)), st.integers(0, 3), max_size=12),
            st.integers(1, 4),
            st.integers(1, 60),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_any_nights_with_any_deaths_end_at_the_last_dataset(nights) -> None:
    """Datasets, pages and deaths as they come; the night that goes well leaves exactly its dataset."""
    world = World(max_shrink_percent=100)
    for number, (amounts, pages, writes) in enumerate(nights):
        world.serve(amounts, pages=pages)
        world.now += timedelta(days=1)
        die_after(world, writes, partial(world.night, f"n{number}", days=0))
        world.assert_doubt_is_noted()
    world.night("last")
    world.objects.delete_prefix("runs/")
    world.assert_holds(nights[-1][0])


def test_another_run_cannot_write_while_a_lease_lasts_and_takes_over_after() -> None:
    """Two runs at once: the second is busy, which is no fault of the data; a dead run's lease runs out."""
    world = loaded_once()
    world.serve(SECOND)
    world.plan("n2")
    world.fetch("n2")
    world.night("other", days=0)
    assert world.outcome("other")["status"] == "busy"
    assert world.outcome("other")["reason"]
    world.assert_doubt_is_noted()
    assert world.register.puts == 3
    world.now += timedelta(seconds=LEASE_SECONDS + 1)
    world.night("later", days=0)
    world.report("n2")
    world.assert_holds(SECOND)


def test_a_run_whose_lease_was_taken_over_writes_nothing_more() -> None:
    """What it fetched is no longer its business: the dataset's cursor is another run's."""
    world = loaded_once()
    world.serve(SECOND)
    world.fetch("slow")
    world.now += timedelta(seconds=LEASE_SECONDS + 1)
    world.serve(THIRD)
    world.fetch("quick")
    puts = world.register.puts
    assert world.judge("slow") == {"datasets": [], "withdrawals": []}
    world.load("slow")
    assert world.register.puts == puts
    world.judge("quick", hold=False)
    world.load("quick")
    assert world.balances() == world.expected(THIRD)


def test_a_lease_that_was_lost_between_the_writes_and_the_commit_prevents_the_commit() -> None:
    """The commit is conditional on the lease: the record never says what another run has changed meanwhile."""
    world = loaded_once()
    world.serve(SECOND)
    world.fetch("n2")
    stolen = world.records.update_dataset

    def steal(dataset, run, /, **changes):
        if "index" in changes:
            key = (FI, PROVIDER)
            world.records.held[key] = load.Dataset(**{**vars(world.records.held[key]), "lease": Lease("thief", "9999")})
        return stolen(dataset, run, **changes)

    world.records.update_dataset = steal
    with pytest.raises(load.DatasetBusyError):
        world.load("n2")
    assert world.dataset().run == "n1"
    world.assert_doubt_is_noted()


# Time


def test_a_load_goes_on_where_the_time_was_up(monkeypatch) -> None:
    """Nothing assumes that it fits in one invocation: each does a stride at least, and no customer is written twice."""
    monkeypatch.setattr(load, "STRIDE", 3)
    world = World()
    amounts = {customer: 100 + number for number, customer in enumerate(people(20))}
    world.serve(amounts, pages=3)
    world.fetch("n1")
    world.seconds = iter(lambda: 1.0, None)
    calls = 0
    while not load.load_dataset(load.Job("n1", FI, PROVIDER), world.loader):
        calls += 1
    assert calls == 6
    assert world.register.puts == 20
    world.assert_holds(amounts)


def test_a_retry_after_a_death_repeats_a_stride_at_most(monkeypatch) -> None:
    """The position is noted with the dataset after every stride."""
    monkeypatch.setattr(load, "STRIDE", 5)
    world = World()
    amounts = dict.fromkeys(people(40), 100)
    world.serve(amounts)
    world.fetch("n1")
    assert die_after(world, 40, lambda: world.load("n1"))
    world.load("n1")
    assert 40 <= world.register.puts <= 45
    world.assert_holds(amounts)


def test_the_time_is_looked_at_between_strides_only_after_progress() -> None:
    """An invocation that begins with little time still gets further: otherwise it would be called for ever."""
    world = World()
    world.serve(FIRST)
    world.fetch("n1")
    world.seconds = iter(lambda: 0.0, None)
    world.load("n1")
    world.assert_holds(FIRST)


def test_memory_stays_flat_as_the_files_are_read_in_pieces(monkeypatch) -> None:
    """Records come through a window that moves over the page; no file is read whole."""
    monkeypatch.setattr(records, "WINDOW_BUDGET", 1)
    world = World()
    amounts = {customer: 100 + number for number, customer in enumerate(people(3000))}
    world.serve(amounts, pages=2)
    world.night("n1")
    assert world.balances() == world.expected(amounts)
    assert max(len(data) for data in world.objects.stored.values()) > 100_000
    assert world.objects.largest_read <= 1 << 20


# The key


def test_a_new_version_of_the_hash_key_moves_every_customer() -> None:
    """Under the old version nothing is left, under the new one everything is written: no digest can be compared."""
    world = loaded_once()
    world.rotate()
    world.serve(SECOND)
    world.night("n2", days=0)
    world.assert_holds(SECOND)
    assert {key[0] for key in world.register.items} == {"2"}
    assert world.dataset().key_version == "2"


# Pushes


def test_a_commit_deletes_the_pushes_that_the_dataset_supersedes_and_no_others() -> None:
    """The provider's own up to asOf; those of a provider that only pushes up to the smallest asOf; newer ones stay."""
    url = "https://fi.example.no"
    world = World(Provider(PROVIDER, url=url), Provider(PUSHER), Provider(SUCCESSOR, url=url))
    world.serve(FIRST)
    world.serve({}, provider=SUCCESSOR)
    early, late = "2026-11-20T00:00:00.0000000Z", "2026-12-24T00:00:00.0000000Z"
    for provider in (PROVIDER, PUSHER, SUCCESSOR):
        world.register.pushes |= {(FI, provider, early), (FI, provider, late)}
    world.register.pushes.add(("985815534", PROVIDER, early))
    world.fetch("n1")
    world.judge("n1", hold=False)
    world.load("n1")
    # The successor's first dataset is still to come: it might carry what the pusher told.
    assert (FI, PUSHER, early) in world.register.pushes
    assert (FI, PROVIDER, early) not in world.register.pushes
    assert (FI, SUCCESSOR, early) in world.register.pushes
    world.night("n2", days=0)
    assert world.register.pushes == {
        *((FI, provider, late) for provider in (PROVIDER, PUSHER, SUCCESSOR)),
        ("985815534", PROVIDER, early),
    }


# Files that are gone


@pytest.mark.parametrize("lost", ["index", "pages", "dataset"])
def test_a_missing_file_stops_the_load_before_anything_is_deleted(lost) -> None:
    """Without its index a dataset's vanished customers could not be found: an operator must act."""
    world = loaded_once()
    world.serve(SECOND)
    world.fetch("n2")
    match lost:
        case "index":
            world.objects.delete_prefix("index/")
        case "pages":
            world.objects.delete_prefix(f"runs/nightly/n2/{FI}/{PROVIDER}/pages/")
        case "dataset":
            world.objects.delete([load.Job("n2", FI, PROVIDER).dataset_key])
    before = dict(world.register.items)
    with pytest.raises(ConfigurationError, match="missing in the data bucket"):
        world.load("n2")
    assert world.register.items == before
    assert world.dataset().run == "n1"


def test_nobody_gets_the_loans_of_another_when_a_page_was_stored_twice() -> None:
    """A call that was repeated may replace a page after the merge: the load stops, and the next night goes well."""
    world = loaded_once()
    world.serve(SECOND)
    world.plan("n2")
    world.fetch("n2")
    (page,) = [key for key in world.objects.keys("runs/") if key.endswith(".rec")]
    size = len(world.objects.stored[page]) // 4
    world.objects.stored[page] = world.objects.stored[page][size:] + world.objects.stored[page][:size]
    with pytest.raises(ConfigurationError, match="not the one that was merged"):
        world.load("n2")
    assert world.dataset().run == "n1"
    world.report("n2")
    world.now += timedelta(seconds=LEASE_SECONDS)
    world.night("n3")
    world.assert_holds(SECOND)
