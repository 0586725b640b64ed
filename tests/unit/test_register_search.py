"""The merge rule, by going through every short history (design decision 4)."""

from functools import reduce

import pytest
from tests.unit.register_world import (
    Setting,
    World,
    deliver,
    events,
    extract,
    fetch,
    heals,
    is_right,
    search,
    shown,
    start,
)


@pytest.mark.parametrize(
    ("setting", "depth", "histories"),
    [
        pytest.param(Setting(), 6, 253_774, id="provider delivers and pushes"),
        pytest.param(Setting(own_pushes=False), 5, 23_706, id="one delivers, another pushes"),
        pytest.param(Setting(accounts=2), 4, 12_268, id="two accounts, loads that die between them"),
    ],
)
def test_every_history_shows_the_newest_thing_told(setting, depth, histories):
    """After any events, each account shows the newest accepted extract or delivered push, as a plain model has it."""
    found = search(setting, depth)

    assert found.histories == histories
    assert not found.wrong, min(found.wrong.values(), key=len)
    assert not found.lasting, min(found.lasting.values(), key=len)


@pytest.mark.parametrize(
    ("setting", "depth", "nights"),
    [
        pytest.param(Setting(steady=False), 5, 1, id="empty datasets"),
        pytest.param(Setting(accounts=2, gliding=True), 4, 1, id="extraction takes time"),
        pytest.param(Setting(datasets=2, own_pushes=False), 4, 1, id="two datasets, a third pushes"),
        pytest.param(Setting(datasets=2, own_pushes=False, moves=True), 4, 1, id="hand-overs"),
        pytest.param(Setting(stamp_changes=True, lively=True), 5, 2, id="stamped with the last change"),
    ],
)
def test_no_history_shows_an_older_state_for_ever(setting, depth, nights):
    """Where the rule cannot know better for a while, quiet nights (one, or two for odd stamps) still show the truth."""
    found = search(setting, depth, nights)

    assert not found.lasting, min(found.lasting.values(), key=len)


def test_only_an_empty_dataset_hides_a_push_that_came_between_extract_and_fetch():
    """The known price of "empty dataset: start of the fetch": until the next night, and in no other situation."""
    found = search(Setting(steady=False), 5)

    assert found.wrong
    for world in found.wrong:
        (side,), (told,) = world.sides, world.base
        assert side.index == (0,), "the dataset in use is empty"
        assert side.as_of is not None
        assert told[1] <= side.as_of, "and what it hides was told before its fetch began"
        assert heals(world, Setting(steady=False))


def test_timestamps_alone_fail_on_the_history_of_decision_4():
    """Dataset says 1, push says 2, change back with the push lost, dataset says 1: asOf is what brings back the 1."""
    story = [
        "change 0 to 1, push held",
        "extract 0",
        "fetch 0",
        "change 0 to 2, push in time",
        "change 0 to 1, push held",
        "extract 0",
        "fetch 0",
    ]
    rule, naive = Setting(), Setting(timestamps_alone=True)

    assert shown(_after(story, rule), rule) == (1,)
    assert shown(_after(story, naive), naive) == (2,)
    assert not heals(_after(story, naive), naive, nights=5)


def test_the_search_finds_what_is_wrong_with_timestamps_alone():
    """The search itself is able to fail: it finds wrong and lasting states of the naive rule."""
    found = search(Setting(timestamps_alone=True), 4)

    assert found.wrong
    assert found.lasting


def test_without_any_fresh_stamp_a_closed_loan_stays():
    """Why SPEC 4.2.3 forbids stamping the last change: a dataset that proves no time closes nothing that was pushed."""
    setting = Setting(stamp_changes=True)
    world = _after(["change 0 to 1, push in time", "change 0 to 0, push held"], setting)

    assert not heals(world, setting, nights=5)


def test_two_loads_that_die_in_a_row_can_show_an_older_push_for_a_night():
    """The shortest history (8 events) in which the rule shows something older than what was told, and how it ends.

    The late push was older than what the first dead load had written, so it was not stored; the second dead load
    deleted that again. The next load that gets through mends it.
    """
    setting = Setting()
    world = _after(
        [
            "change 0 to 1, push in time",
            "change 0 to 2, push held",
            "extract 0",
            "change 0 to 0, push held",
            "fetch 0 died after (0,)",
            "late push 0=2 of 2",
            "extract 0",
            "fetch 0 died after (0,)",
        ],
        setting,
    )

    assert shown(world, setting) == (1,)
    assert not is_right(world, setting)
    assert heals(world, setting)


@pytest.mark.parametrize("value", [0, 2])
def test_a_late_push_does_not_undo_a_night(value):
    """A push that comes after a newer dataset was committed changes nothing, whatever it says."""
    setting = Setting()
    world = _after(["change 0 to 1, push held"], setting)
    world = fetch(extract(world, setting, 0), setting, 0)

    late = deliver(world, setting, 0, value, 0)

    assert shown(late, setting) == shown(world, setting) == world.truth
    assert late.pushes == (None,)


def _after(story: list[str], setting: Setting) -> World:
    """The world after the events of that name."""
    return reduce(lambda world, name: dict(events(world, setting))[name], story, start(setting))
