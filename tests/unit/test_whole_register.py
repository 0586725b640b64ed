"""Whatever happens, and in whatever order: readers and packages are what a plain model says.

A hypothesis state machine over institutions, providers, pushes, nights, exports and hand-overs, with deaths, retries
and second runs anywhere in between (``whole_world``), against a model of the rules alone (``whole_model``). ``make
soak`` lets it run for long, and shows that it finds planted bugs (``tests/soak/soak_whole_register.py``).
"""

import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.unit import night_world
from tests.unit.invocations import ENDLESS, Execution, Invocation, KilledError, Machine, Task
from tests.unit.night_world import PROVIDER, PUSHER, SUCCESSOR
from tests.unit.whole_model import Loan, is_debt
from tests.unit.whole_world import (
    BANK,
    OTHER_BANK,
    OTHER_PROVIDER,
    PEOPLE,
    PUSH_SECONDS,
    Watch,
    WholeWorld,
    amounts,
    provider_of,
    ticks,
)

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ReceiverUnavailableError, StoreUnavailableError
from gjeldsbro.services.export import read_lists
from gjeldsbro.services.night import judge, load
from gjeldsbro.services.ports import Institution

SMALL_SET = 3
SIDES = ((BANK, PROVIDER), (BANK, SUCCESSOR), (OTHER_BANK, OTHER_PROVIDER))
PUSHERS = (*SIDES, (BANK, PUSHER))
FAULTS = ("unavailable", "truncated", "foreign", "empty")
SIDE_BY_SIDE = (PROVIDER, SUCCESSOR, PUSHER)
SET_UPS = ((PROVIDER, PUSHER), SIDE_BY_SIDE, (SUCCESSOR, PUSHER), (SUCCESSOR,), (PROVIDER,))
DELIVERED = {"delivered", "already-delivered"}
TAKEN = {"loaded", "unchanged"}

values = st.sampled_from((None, 0, 1, 2))
sides = st.sampled_from(SIDES)
banks = st.sampled_from((BANK, OTHER_BANK))
faults = st.dictionaries(sides, st.sampled_from(FAULTS), max_size=2)
pauses = st.one_of(st.integers(1, 12), st.integers(1, 150))
skews = st.lists(st.integers(-120, 120), max_size=3)
lists = st.lists(st.sampled_from((*PEOPLE, PEOPLE[0], "no number")), min_size=1, max_size=5)


class WholeRegister(RuleBasedStateMachine):
    """Things that happen, one at a time or into each other."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = ExitStack()
        for module, name, value in (
            (judge, "SMALL_SET", SMALL_SET),
            (load, "STRIDE", 2),
            (read_lists, "BATCH_SIZE", 2),
            (night_world, "page", lambda _: ""),  # how reports look is another test's
        ):
            self._patches.enter_context(patch.object(module, name, value))
        logging.disable()
        self._patches.callback(logging.disable, logging.NOTSET)
        self.world = WholeWorld()
        self.accounts = sorted(self.world.truth)
        self.kept: list[tuple[str, str, str, Loan]] = []
        self.open: list[Execution] = []
        self.zombies: list[Invocation] = []
        self.lookups: list[tuple[Execution, Watch, str, dict, datetime]] = []
        self.runs = 0
        for folder in self.world.folders.values():
            for on_behalf_of in (BANK, OTHER_BANK):
                folder.content[f"{on_behalf_of}.txt"] = ",".join((*PEOPLE, "no number", PEOPLE[0])).encode()
        for number, key in enumerate(self.accounts):
            self.world.truth[key].value = number % 3 or None
            self.world.truth[key].changed = ticks(self.world.clock())

    def teardown(self) -> None:
        """Stop what is still open, let two quiet nights and an export pass: all is as it should be."""
        try:
            self._heal()
        finally:
            self._patches.close()

    # What institutions tell

    @rule(number=st.integers(0, 15), value=values, told=st.sampled_from(("now", "late", "never")), helper=st.booleans())
    def change(self, number: int, value: int | None, told: str, helper: bool) -> None:
        """A loan changes; its provider, or the one that only pushes, tells it at once, late or never."""
        bank, person, (kind, account) = key = self.accounts[number]
        truth, world = self.world.truth[key], self.world
        truth.value, truth.changed = value, ticks(world.clock()) + number % 10
        loan = Loan(kind, account, amounts(kind, truth.number, value), truth.changed)
        message = (bank, PUSHER if helper and bank == BANK else truth.home, person, loan)
        if told == "now":
            self._push(message).finish()
        elif told == "late":
            self.kept.append(message)

    @precondition(lambda self: self.kept)
    @rule(number=st.integers(0, 20), again=st.booleans())
    def tell_late(self, number: int, again: bool) -> None:
        """A push comes that was kept back; perhaps it comes again later."""
        place = number % len(self.kept)
        self._push(self.kept[place] if again else self.kept.pop(place)).finish()

    @rule(
        number=st.integers(0, 15),
        value=values,
        pusher=st.sampled_from(PUSHERS),
        seconds=st.one_of(st.integers(-90_000, 240), st.just(420)),
        budget=st.none() | st.integers(1, 8),
    )
    def claim(self, number: int, value: int | None, pusher: tuple[str, str], seconds: int, budget: int | None) -> None:
        """Somebody pushes anything, of any time; it may take its while."""
        bank, person, (kind, account) = key = self.accounts[number]
        bank, provider = pusher
        stamp = ticks(self.world.clock() + timedelta(seconds=seconds))
        loan = Loan(kind, account, amounts(kind, self.world.truth[key].number, value), stamp)
        push = self._push((bank, provider, person, loan))
        if budget is None:
            push.finish()
        else:
            self._begin(push, budget)

    @rule(side=sides)
    def extract_early(self, side: tuple[str, str]) -> None:
        """A provider extracts now what it will hand out at the next fetch."""
        kind = self.world.kind_of(*side)
        self.world.earlier[*side, kind] = self.world.snapshot(*side, kind)

    # Nights

    @rule(
        found=faults,
        style=st.sampled_from(("fresh", "fresh", "last change")),
        pages=st.integers(1, 2),
        only=st.none() | banks,
        hold=st.booleans(),
        hours=st.sampled_from((0, 1, 24, 24)),
        offsets=skews,
        hurried=st.booleans(),
    )
    def night(self, found, style, pages, only, hold, hours, offsets, hurried) -> None:
        """A whole night, of one institution or of all; without ``hold`` it is a release."""
        self._pass(timedelta(hours=hours))
        run = self._night(found, style, pages, only, hold, offsets, hurried=hurried)
        alone = not self.open and not self.zombies
        expected = self._expected(only, hold, offsets) if alone else {}
        run.finish()
        self._ended(run)
        for side, statuses in expected.items():
            assert self.world.table.outcomes(run.run)["#".join(side)]["status"] in statuses

    @precondition(lambda self: len(self.open) < 3)
    @rule(
        found=faults,
        style=st.sampled_from(("fresh", "fresh", "last change")),
        pages=st.integers(1, 2),
        only=st.none() | banks,
        hold=st.booleans(),
        offsets=skews,
        hurried=st.booleans(),
        budget=pauses,
    )
    def begin_night(self, found, style, pages, only, hold, offsets, hurried, budget) -> None:
        """A night begins, and others come in between."""
        self._begin(self._night(found, style, pages, only, hold, offsets, hurried=hurried), budget)

    @rule(number=st.integers(0, 15), value=st.sampled_from((1, 2)), seconds=st.integers(-600, -1))
    def half_a_night(self, number: int, value: int, seconds: int) -> None:
        """Of two providers one is not reached; who only pushes tells of a time between their datasets."""
        self.hand_over(SIDE_BY_SIDE, "none")
        self.night({(BANK, SUCCESSOR): "unavailable"}, "fresh", 1, BANK, False, 0, [], False)
        self.claim(number, value, (BANK, PUSHER), seconds, None)

    @precondition(lambda self: not self.open and not self.zombies)
    @rule(number=st.integers(0, 15), budget=st.integers(1, 60))
    def die_in_a_load(self, number: int, budget: int) -> None:
        """A load dies that brings something new; by the next night all is again as it was before."""
        bank, before = self.accounts[number][0], self.world.truth[self.accounts[number]].value
        self.change(number, 2 if before == 1 else 1, "never", False)
        run = self._night({}, "fresh", 1, bank, False, (), hurried=False)
        run.reach("load")
        run.step(budget)
        run.abandon()
        self.change(number, before, "never", False)
        self.night({}, "fresh", 1, None, False, 24, [], False)

    @precondition(lambda self: not self.open and not self.zombies)
    @rule(side=sides)
    def shrink(self, side: tuple[str, str]) -> None:
        """After a good night nobody is left in a dataset; ``night`` knows whether that is to be held."""
        self.night({}, "fresh", 1, None, False, 24, [], False)
        self.night({side: "empty"}, "fresh", 1, side[0], True, 24, [], False)

    # Exports

    @rule(receiver=st.none() | banks, again=st.booleans(), days=st.sampled_from((0, 0, 0, 95)), hurried=st.booleans())
    def export(self, receiver: str | None, again: bool, days: int, hurried: bool) -> None:
        """A whole export, perhaps of the next quarter."""
        self._pass(timedelta(days=days))
        run = self._export(receiver, again=again, hurried=hurried)
        run.finish()
        self._ended(run)

    @precondition(lambda self: len(self.open) < 3)
    @rule(receiver=st.none() | banks, again=st.booleans(), hurried=st.booleans(), budget=pauses)
    def begin_export(self, receiver: str | None, again: bool, hurried: bool, budget: int) -> None:
        """An export begins, and others come in between."""
        self._begin(self._export(receiver, again=again, hurried=hurried), budget)

    @rule(
        receiver=banks,
        refuse=st.sampled_from((None, None, "WRITE", "READ", "RENAME")),
        lose_after=st.none() | st.integers(1, 2000),
        spoil=st.integers(0, 3),
        away=st.booleans(),
    )
    def trouble(self, receiver: str, refuse: str | None, lose_after: int | None, spoil: int, away: bool) -> None:
        """A receiver's server has a fault from now on, or none."""
        folder = self.world.folders[receiver]
        folder.refuse = {refuse} if refuse else set()
        folder.lose_after = None if lose_after is None else folder.written + lose_after
        folder.spoil = spoil
        folder.connect_error = ReceiverUnavailableError("no route to it") if away else None

    @rule(receiver=banks, on_behalf_of=banks, numbers=lists)
    def write_list(self, receiver: str, on_behalf_of: str, numbers: list[str]) -> None:
        """A receiver writes another list."""
        self.world.folders[receiver].content[f"{on_behalf_of}.txt"] = ",".join(numbers).encode()
        self.world.lists_written()

    # Into each other

    @precondition(lambda self: len(self.open) < 3)
    @rule(only=st.none() | banks, budget=st.integers(1, 60), offsets=skews, hurried=st.booleans())
    def begin_load(self, only: str | None, budget: int, offsets: list[int], hurried: bool) -> None:
        """A night begins, and stops in the middle of a load."""
        run = self._night({}, "fresh", 1, only, False, offsets, hurried=hurried)
        run.reach("load")
        self._begin(run, budget)

    @precondition(lambda self: len(self.open) < 3)
    @rule(step=st.sampled_from(("build", "deliver")), budget=st.integers(1, 40), again=st.booleans())
    def begin_delivery(self, step: str, budget: int, again: bool) -> None:
        """An export begins, and stops when it builds or delivers."""
        run = self._export(None, again=again, hurried=False)
        run.reach(step)
        self._begin(run, budget)

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 2), budget=pauses)
    def go_on(self, number: int, budget: int) -> None:
        """One of the open runs goes on a little."""
        run = self.open[number % len(self.open)]
        run.step(budget)
        self._close()

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 2))
    def finish(self, number: int) -> None:
        """One of the open runs goes on to its end."""
        self.open[number % len(self.open)].finish()
        self._close()

    @precondition(lambda self: self.open)
    @rule(number=st.integers(0, 2), then=st.sampled_from(("retry", "give up", "abandon", "store")))
    def kill(self, number: int, then: str) -> None:
        """A function is ended where it is, or a store fails; then it is repeated, given up, or all of the run is."""
        run = self.open[number % len(self.open)]
        if then == "abandon":
            run.abandon()
        else:
            run.strike(
                StoreUnavailableError("throttled") if then == "store" else KilledError(), give_up=then == "give up"
            )
        self._close()

    @precondition(lambda self: self.open and len(self.zombies) < 2)
    @rule(number=st.integers(0, 2))
    def lose(self, number: int) -> None:
        """The connection to a function is lost: the step is repeated while the function goes on by itself."""
        lost = self.open[number % len(self.open)].lose()
        if lost is not None:
            self.zombies.append(lost)

    @precondition(lambda self: self.zombies)
    @rule(number=st.integers(0, 1), budget=pauses)
    def haunt(self, number: int, budget: int) -> None:
        """A function that nobody waits for goes on a little."""
        zombie = self.zombies[number % len(self.zombies)]
        zombie.step(budget)
        if zombie.done:
            self.zombies.remove(zombie)

    # Hand-overs

    @rule(names=st.sampled_from(SET_UPS), move=st.sampled_from(("all", "half", "none")))
    def hand_over(self, names: tuple[str, ...], move: str) -> None:
        """The institution gets other providers; those that go are kept as ended until their data is gone."""
        self._put(BANK, names)
        homes = [name for name in names if name != PUSHER]
        for number, key in enumerate(self.accounts):
            truth = self.world.truth[key]
            if key[0] == BANK and truth.home not in homes and (move == "all" or (move == "half" and number % 2)):
                truth.home = homes[number % len(homes)]

    @rule(side=sides, kind=st.sampled_from(("loans", "ssn")))
    def switch_kind(self, side: tuple[str, str], kind: str) -> None:
        """A provider delivers a list of customers from now on, or loans."""
        bank, provider = side
        institution = self.world.table.of.get(bank)
        if institution is not None and institution.provider(provider) is not None:
            providers = tuple(
                replace(known, dataset=kind) if known.provider == provider else known for known in institution.providers
            )
            lookup = "live" if any(known.dataset == "ssn" for known in providers) else "both"
            self.world.table.of[bank] = replace(institution, providers=providers, lookup=lookup)
            self.world.observe()

    @rule(bank=banks)
    def end_institution(self, bank: str) -> None:
        """An institution ends."""
        institution = self.world.table.of.get(bank)
        if institution is not None:
            self.world.table.of[bank] = replace(institution, ended=True)
            self.world.observe()

    @rule(bank=banks)
    def put_again(self, bank: str) -> None:
        """An institution is set up again as it was at first."""
        self._put(bank, (PROVIDER, PUSHER) if bank == BANK else (OTHER_PROVIDER,))

    @precondition(lambda self: len(self.world.hash_keys.keys) < 3)
    @rule()
    def rotate(self) -> None:
        """An operator rotates the hash key."""
        self.world.rotate()

    # Time and readers

    @rule(seconds=st.sampled_from((1, 10, 60, 600, 1000, 1500)))
    def wait(self, seconds: int) -> None:
        """Time passes; functions do not live longer than their time."""
        self._pass(timedelta(seconds=seconds))

    @precondition(lambda self: len(self.lookups) < 2)
    @rule(person=st.sampled_from(PEOPLE))
    def begin_lookup(self, person: str) -> None:
        """Somebody has read when datasets are of, and not yet the person's items."""
        world, result = self.world, {}
        watch = world.watch(person)

        def machine() -> Machine:
            result["found"], _ = yield Task("lookup", lambda: world.read(person), kills=9)

        lookup = Execution(world, "lookup", machine(), (), hurried=False)
        lookup.step(3)
        self.lookups.append((lookup, watch, person, result, world.now))

    @precondition(lambda self: self.lookups)
    @rule()
    def end_lookup(self) -> None:
        """It reads the items: what it shows was true at some moment since it began.

        A function lives for 15 minutes at most: nobody reads items by records and keys that are older.
        """
        lookup, watch, person, result, began = self.lookups.pop(0)
        lookup.finish()
        seen = self.world.end_watch(watch)
        if self.world.now - began <= timedelta(minutes=15):
            self.world.compare(seen, person, *result["found"])

    @invariant()
    def readers_see_what_the_model_says(self) -> None:
        """At every moment, whatever is half done."""
        self.world.check()

    @invariant()
    def records_of_deliveries_are_true(self) -> None:
        """What is recorded as delivered has been delivered, by that run or by another one with the same content."""
        for (receiver, on_behalf_of, quarter), record in self.world.table.made.items():
            if record["state"] == "delivered":
                made = self.world.deliveries.get((receiver, on_behalf_of, quarter), [])
                assert record["sha256"] in {digest for _, digest in made}

    # Helpers

    def _push(self, message: tuple[str, str, str, Loan]) -> Execution:
        def machine() -> Machine:
            yield self.world.push(*message)

        push = Execution(self.world, "push", machine(), (), hurried=False)
        push.invocation.ends = self.world.now + timedelta(seconds=PUSH_SECONDS)
        return push

    def _night(self, found, style, pages, only, hold, offsets, *, hurried: bool) -> Execution:
        self.runs += 1
        run = f"n{self.runs}"
        self.world.faults, self.world.style, self.world.page_count = found, style, pages
        request = ({} if only is None or only not in self.world.table.of else {"institution": only}) | {"hold": hold}
        return Execution(self.world, run, self.world.night_machine(run, request), offsets, hurried=hurried)

    def _export(self, receiver: str | None, *, again: bool, hurried: bool) -> Execution:
        self._pass(timedelta(seconds=1))  # so that no two packages are the same by chance
        self.runs += 1
        run = f"e{self.runs}"
        request = {} if receiver is None else {"receiver": receiver}
        request |= {"again": True, "reason": "the receiver lost it"} if again else {}
        return Execution(self.world, run, self.world.export_machine(run, request), (), hurried=hurried)

    def _begin(self, run: Execution, budget: int) -> None:
        run.step(budget)
        self.open.append(run)
        self._close()

    def _close(self) -> None:
        for run in [run for run in self.open if run.done]:
            self.open.remove(run)
            self._ended(run)

    def _ended(self, run: Execution) -> None:
        """Nothing temporary of a run is left when it has reported."""
        if run.run in self.world.reported:
            left = [key for key in self.world.bucket.stored if f"/{run.run}/" in key]
            assert left == []
        for folder in self.world.folders.values():
            assert not [name for name in folder.content if name.endswith(".gzip.part")]

    def _pass(self, time: timedelta) -> None:
        self.world.now += time

    def _put(self, bank: str, names: tuple[str, ...]) -> None:
        """As ``gjeldsbro institution put`` does."""
        before = self.world.table.of.get(bank)
        known = () if before is None else before.providers
        kept = tuple(replace(provider, ended=True) for provider in known if provider.provider not in names)
        providers = tuple(map(provider_of, names))
        self.world.table.of[bank] = Institution(bank, "Testbanken", 60, providers + kept)
        self.world.observe()

    def _expected(self, only: str | None, hold: bool, offsets: list[int]) -> dict[tuple[str, str], set[str]]:
        """What must become of each dataset of a night in which nobody else works."""
        world, found = self.world, {}
        for bank, institution in world.table.of.items():
            if only in world.table.of and bank != only:
                continue
            now = from_datetime(world.now + timedelta(seconds=min([0, *offsets])))
            records = [world.table.dataset(bank, provider.provider) for provider in institution.providers]
            if any(record.lease is not None and record.lease.until >= now for record in records):
                continue
            before = after = 0
            statuses: dict[str, set[str]] = {}
            going = []
            for provider in institution.providers:
                side = world.model.sides.get((bank, provider.provider))
                count = side.customers if side is not None else 0
                before += count
                if institution.ended or provider.ended:
                    statuses[provider.provider] = TAKEN
                    going.append(count)
                elif provider.delivers_datasets:
                    count, statuses[provider.provider] = self._delivers(bank, provider.provider, count)
                after += count
            staying = [p.provider for p in institution.providers if p.delivers_datasets and not p.ended]
            if staying and all(statuses[name] == TAKEN for name in staying):
                after -= sum(going)
            shrinks = before >= SMALL_SET and (before - after) * 100 > institution.max_shrink_percent * before
            for name, status in statuses.items():
                is_held = hold and shrinks and not institution.ended and status == TAKEN
                found[bank, name] = {"held"} if is_held else status
        return found

    def _delivers(self, bank: str, provider: str, count: int) -> tuple[int, set[str]]:
        fault = self.world.faults.get((bank, provider))
        if fault == "unavailable":
            return count, {"failed"}
        if fault in {"truncated", "foreign"}:
            return count, {"refused"}
        kind = self.world.kind_of(bank, provider)
        dataset = (self.world.earlier.get((bank, provider, kind)) or self.world.snapshot(bank, provider, kind))[0]
        return (0 if fault == "empty" else len(dataset)), TAKEN

    # The end

    def _heal(self) -> None:
        world = self.world
        for run in (*(lookup for lookup, *_ in self.lookups), *self.open):
            run.abandon()
        world.watches.clear()
        for zombie in self.zombies:
            zombie.step(ENDLESS)
        self._mend()
        for _ in range(2):
            self._pass(timedelta(days=1))
            run = self._night({}, "fresh", 1, None, False, (), hurried=False)
            run.finish()
        self._check_truth()
        for message in self.kept:
            self._push(message).finish()
        self._check_truth()
        self._check_files()
        run = self._export(None, again=True, hurried=False)
        run.finish()
        self._ended(run)
        for receiver, folder in world.folders.items():
            for on_behalf_of in world.table.receiver(receiver).on_behalf_of:
                if any(number in PEOPLE for number in folder.content[f"{on_behalf_of}.txt"].decode().split(",")):
                    assert world.table.outcomes(run.run)[f"{receiver}#{on_behalf_of}"]["status"] == "delivered"

    def _mend(self) -> None:
        """Operators, institutions and receivers mend what is wrong."""
        world = self.world
        for folder in world.folders.values():
            folder.refuse, folder.lose_after, folder.spoil, folder.connect_error = set(), None, 0, None
        for bank, names in ((BANK, (PROVIDER, PUSHER)), (OTHER_BANK, (OTHER_PROVIDER,))):
            institution = world.table.of.get(bank)
            active = [] if institution is None else [p for p in institution.providers if not p.ended and p.url]
            if institution is not None and not institution.ended and not active:
                self._put(bank, names)
            if institution is not None and institution.lookup == "live":
                providers = tuple(replace(provider, dataset="loans") for provider in institution.providers)
                world.table.of[bank] = replace(institution, providers=providers, lookup="both")
        for key, truth in world.truth.items():
            institution = world.table.of.get(key[0])
            homes = [] if institution is None else [p.provider for p in institution.providers if not p.ended and p.url]
            if homes and truth.home not in homes:
                truth.home = homes[0]
        world.earlier.clear()

    def _check_files(self) -> None:
        """Nothing of unfinished work is left."""
        world = self.world
        kept = {key for key, data in world.bucket.stored.items() if key.startswith(("index/", "pending/")) and data}
        assert kept <= {dataset.index for dataset in world.table.datasets()}
        for dataset in world.table.datasets():
            if dataset.as_of is not None:  # else an interrupted withdrawal of a provider that only pushes
                assert (dataset.lease, dataset.fetch, dataset.pending) == (None, None, None)
                assert (dataset.rekey, dataset.retired) == (None, None)
        for version, bank, provider, _ in world.shelf.items:
            assert version == world.table.dataset(bank, provider).key_version

    def _check_truth(self) -> None:
        """Readers see what institutions know, however it came about."""
        world = self.world
        world.check()
        for person in PEOPLE:
            found, asked = world.read(person)
            assert not asked
            seen = {(bank, person, account): shown[:2] for (bank, account), shown in found.items()}
            wanted = {}
            for (bank, whom, (kind, account)), truth in world.truth.items():
                institution = world.table.of.get(bank)
                there = truth.value is not None and institution is not None and not institution.ended
                loan = Loan(kind, account, amounts(kind, truth.number, truth.value), 0)
                if whom == person and there and is_debt(loan, pushed=False):
                    wanted[bank, person, (kind, account)] = (kind, loan.amounts)
            assert seen == wanted


def tell_stories(examples: int, steps: int, *phases: Phase, volume: int = 1) -> None:
    """Let so many stories of so many steps happen, in one process the same ones each time; a volume has its own."""
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases or (Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(volume)(type("Story", (WholeRegister,), {})), settings=limits)


def test_any_story_ends_as_the_model_says() -> None:
    """Whatever happens, and in whatever order: at each moment readers and packages are what the model says.

    In a process of its own: hypothesis takes ideas from the modules that happen to be loaded, and the same stories are
    to be told each time.
    """
    told = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import tell_stories; tell_stories(150, 50)"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert told.returncode == 0, told.stderr


def test_a_change_of_providers_during_a_load_leaves_the_pushes_that_count_after_it() -> None:
    """Wherever a load was when the providers changed: what it still tidies up are not the pushes that count again."""
    for budget in range(1, 60):
        story = WholeRegister()
        try:
            story.begin_load(budget=budget, hurried=True, offsets=[], only=None)
            story.half_a_night(number=0, seconds=-1, value=1)
            story.readers_see_what_the_model_says()
            while story.open:
                story.go_on(number=0, budget=1)
                story.readers_see_what_the_model_says()
        finally:
            story.teardown()
