"""Clocks that are off by minutes, either way, from one invocation to the next."""

from datetime import timedelta
from itertools import cycle, pairwise, product

import pytest
from tests.unit.night_world import DiedError, World, people

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import DatasetBusyError
from gjeldsbro.services.night.leases import LEASE_SECONDS, released, taken

A, B, C, D = people(4)
NIGHTS = [{A: 100, B: 200}, {A: 100, B: 250, C: 300}, {B: 250, D: 400}, {B: 250, D: 400}, {A: 7}]
OFF = [-5, 5, 0, 5, -5, -5, 3, 0, -1]
FUNCTION = timedelta(minutes=15)


def set_clocks(world: World, *minutes: float) -> None:
    """Have each look at a clock be at another one, which is off by so many minutes."""
    off = cycle(minutes)

    def clock():
        world.now += timedelta(milliseconds=10)
        return world.now + timedelta(minutes=next(off))

    world.clock = clock


@pytest.mark.parametrize("hours", [1, 24])
@pytest.mark.parametrize("start", range(len(OFF)))
def test_nights_end_right_whatever_the_clocks_say(start, hours) -> None:
    """Each ends with its dataset; what a dataset speaks for never goes back, and is little ahead."""
    world = World(max_shrink_percent=100)
    set_clocks(world, *OFF[start:], *OFF[:start])
    times = []
    for number, amounts in enumerate(NIGHTS):
        world.now += timedelta(hours=hours)
        world.serve(amounts)
        world.night(f"n{number}", days=0)
        world.assert_holds(amounts)
        assert world.dataset().as_of <= from_datetime(world.now + timedelta(minutes=5))
        times.append(world.dataset().as_of)
    assert all(one <= other for one, other in pairwise(times))


@pytest.mark.parametrize(("before", "after"), [(-5, 5), (5, -5)])
def test_a_load_that_dies_is_made_up_for_under_another_clock(before, after) -> None:
    """After every write, by a retry and by the next night."""
    for writes in range(1, 1000):
        world = World(max_shrink_percent=100)
        world.serve(NIGHTS[0])
        world.night("n0")
        set_clocks(world, before)
        world.serve(NIGHTS[1])
        world.now += timedelta(hours=1)
        world.plan("n1")
        world.fetch("n1")
        world.judge("n1")
        world.mortality.writes, world.mortality.last = 0, writes
        died = False
        try:
            world.load("n1")
        except DiedError:
            died = True
        world.mortality.last = None
        set_clocks(world, after)
        world.assert_doubt_is_noted()
        if writes % 2:
            world.load("n1")
            world.report("n1")
            world.assert_holds(NIGHTS[1])
        world.serve(NIGHTS[2])
        world.night("n2")
        world.objects.delete_prefix("runs/")
        world.assert_holds(NIGHTS[2])
        if not died:
            break
    assert writes > 8


def test_no_clock_ends_a_lease_while_a_function_may_be_at_work() -> None:
    """However two clocks are off, by five minutes either way each."""
    now = World().now
    for mine, other in product((-5, 0, 5), repeat=2):
        lease = taken(None, "n1", now + timedelta(minutes=mine), LEASE_SECONDS)
        again = taken(lease, "n1", now + timedelta(minutes=mine, seconds=1), LEASE_SECONDS)
        for held in (lease, released(again, now + timedelta(minutes=other))):
            with pytest.raises(DatasetBusyError):
                taken(held, "n2", now + FUNCTION + timedelta(minutes=other), LEASE_SECONDS)
