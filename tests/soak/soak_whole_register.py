"""The state machine of ``tests/unit/test_whole_register.py`` for long, and with bugs planted that it must find."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase
from tests.unit import export_world, night_world
from tests.unit.test_whole_register import tell_stories

from gjeldsbro.domain import register as rules
from gjeldsbro.services import push
from gjeldsbro.services.export import deliver
from gjeldsbro.services.export.loans import PackageLoans
from gjeldsbro.services.night import judge, leases, load, report

EXAMPLES = 600
STEPS = 60
EXAMPLES_UNTIL_FOUND = 300


def test_any_of_many_long_stories_ends_as_the_model_says() -> None:
    """Many long stories; a failing one is printed as the calls that make it. ``VOLUME=2`` tells others."""
    began = time.process_time()
    tell_stories(EXAMPLES, STEPS, volume=int(os.environ.get("VOLUME", "1")))
    print(f"{EXAMPLES} stories of {STEPS} steps: {time.process_time() - began:.0f} s of one processor")


# Planted bugs


@contextmanager
def replaced(where: Any, name: str, by: Any) -> Iterator[None]:
    """Something of ours does something else."""
    with patch.object(where, name, by):
        yield


def left_over_keys_are_forgotten() -> Any:
    """A load compares with the index only, whatever an unfinished one has written."""
    right = load.compare
    return replaced(load, "compare", lambda old, new, unknown=(), **options: right(old, new, (), **options))


def the_list_is_not_pointed_to() -> Any:
    """The record does not say which keys are about to change."""
    right = load._Load.update

    def update(self: Any, **changes: Any) -> None:
        wanted = changes.pop("pending", None)
        right(self, **changes)
        self.dataset = replace(self.dataset, pending=wanted)

    return replaced(load._Load, "update", update)


def the_commit_comes_first() -> Any:
    """AsOf and index are switched before the register is written."""
    right = load._Load.bring_in

    def bring_in(self: Any, dataset_key: str | None) -> bool:
        if self.cursor.get("phase") != self.job.run:
            self.plan(dataset_key)
            self.update(run=self.job.run)
        return bool(right(self, dataset_key))

    return replaced(load._Load, "bring_in", bring_in)


def leases_are_ignored() -> Any:
    """A run works on a dataset although another one does."""
    right = leases.taken
    return replaced(night_world, "taken", lambda held, run, now, seconds: right(None, run, now, seconds))


def all_pushes_go_with_a_commit() -> Any:
    """Those that came after the dataset was made, too."""
    return replaced(load, "cover_of", lambda *_: "9999")


def a_cover_is_the_newest_dataset() -> Any:
    """A provider that only pushes is silenced by the newest dataset, not by the oldest."""

    def cover_of(provider: str, datasets: Any) -> str | None:
        return datasets[provider] if provider in datasets else max(filter(None, datasets.values()), default=None)

    return replaced(rules, "cover_of", cover_of)


def a_dataset_speaks_for_its_fetch() -> Any:
    """AsOf is when it was fetched, not when it was made."""
    return replaced(load, "dataset_as_of", lambda earliest, latest, as_of, start, now: max(as_of or "", now))


def as_of_goes_back() -> Any:
    """An older dataset makes the institution's word older."""
    right = load.dataset_as_of
    return replaced(load, "dataset_as_of", lambda *found: right(*found[:2], None, *found[3:]))


def a_push_of_nothing_is_debt() -> Any:
    """A loan that was repaid by a push is still shown."""
    return replaced(rules, "is_debt", lambda loan, source: True)


def data_goes_before_its_successors() -> Any:
    """An ended provider is withdrawn in the next night, whatever came of the others."""
    return replaced(load, "_all_taken", lambda *_: True)


def nothing_is_held() -> Any:
    """However few customers come."""
    return replaced(judge, "_change", lambda *_: 0)


def files_of_a_night_stay() -> Any:
    """The report does not delete them."""
    return replaced(report, "run_folder", lambda run: f"elsewhere/{run}/")


def a_push_is_taken_from_anybody() -> Any:
    """Nobody looks whether a push counts when it comes, nor whether a newer one is there."""
    return replaced(push, "push_counts", lambda *_: False)


def packages_are_not_compared() -> Any:
    """What arrived is not read back."""

    def compare(self: Any, _: Any) -> bool:
        self._state["verified"] = self._state["bytes"]
        return True

    return replaced(deliver.PackageDelivery, "_compare", compare)


def deliveries_are_not_claimed() -> Any:
    """Each run delivers, whoever has."""
    right = export_world.MemoryPartners.claim_delivery
    return replaced(
        export_world.MemoryPartners, "claim_delivery", lambda self, *key, again: right(self, *key, again=True)
    )


def slices_hold_what_is_owed_elsewhere() -> Any:
    """A customer's loans end up with the next one."""
    right = PackageLoans.read
    return replaced(
        PackageLoans, "read", lambda self, customers: (list(reversed(part)) for part in right(self, customers))
    )


PLANTED = [
    left_over_keys_are_forgotten,
    the_list_is_not_pointed_to,
    the_commit_comes_first,
    leases_are_ignored,
    all_pushes_go_with_a_commit,
    a_cover_is_the_newest_dataset,
    a_dataset_speaks_for_its_fetch,
    as_of_goes_back,
    a_push_of_nothing_is_debt,
    data_goes_before_its_successors,
    nothing_is_held,
    files_of_a_night_stay,
    a_push_is_taken_from_anybody,
    packages_are_not_compared,
    deliveries_are_not_claimed,
    slices_hold_what_is_owed_elsewhere,
]


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_bugs_are_found(planted: Any) -> None:
    """A state machine that finds nothing proves nothing: each of these bugs makes it fail."""
    with planted(), pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it is that shows the bug
        tell_stories(EXAMPLES_UNTIL_FOUND, STEPS, Phase.generate)
