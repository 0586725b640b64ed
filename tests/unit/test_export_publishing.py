"""Giving a package its name: one content in a quarter, whoever dies when and however many runs there are."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from tests.unit.export_world import NOW, OTHER, RECEIVER, MemoryFolder, MemoryPartners, MemoryStore, press, receiver

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import ChargeCard
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.errors import DeliveryBusyError, ReceiverRefusedError
from gjeldsbro.services.export import deliver, places
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.plan import Plan, plan_export
from gjeldsbro.services.export.report import report_export

NUMBER, STAMP, QUARTER = "29822099635", "2026-09-30T03:00:00.0000000Z", "2026-4"
NAME = f"{OTHER}.gzip"
BEFORE = b"last quarter's"
FIRST, SECOND = "first", "second"

type Step = Callable[[int], None]


class KilledError(BaseException):
    """The function is ended; nothing in it may notice."""


class Loans:
    """A register in which everybody has a loan: packages of different runs bear different timestamps."""

    def __init__(self, balance: int = 100) -> None:
        self._balance = balance

    def read(self, customer_ids):
        """What the register shows."""
        loan = CurrentLoan(ChargeCard("39", STAMP, None, 0, self._balance, 0), STAMP, "9908:971171324", "dataset")
        for _ in customer_ids:
            yield [{"971171324": [loan]}]


class Stepped:
    """Passes every call on, and says before each that it comes."""

    def __init__(self, inner: Any, step: Callable[[], None]) -> None:
        self._inner, self._step = inner, step

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            self._step()
            return value(*arguments, **named)

        return call


class Contents(MemoryFolder):
    """A folder that remembers what has stood under the package's name; ``shown`` is what it lets us see of uploads."""

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.hidden = shown == "nothing"
        self.refuse = {"READ"} if shown == "sizes" else set()
        self.content[NAME] = BEFORE
        self.contents = [BEFORE]

    def replace(self, source: str, target: str) -> None:
        """Rename."""
        super().replace(source, target)
        if target == NAME:
            self.contents.append(self.content[NAME])


class World:
    """Two runs of the same quarter whose packages are built, an hour apart."""

    def __init__(self, shown: str) -> None:
        self.now = NOW
        self.store, self.folder = MemoryStore(), Contents(shown)
        self.partners = MemoryPartners(receiver(on_behalf_of=(OTHER,), read_back=shown == "everything"))
        for number, run in enumerate((FIRST, SECOND)):
            started = NOW + timedelta(hours=number)
            plan_export(run=run, started_at=started, request={}, partners=self.partners, store=self.store)
            self.build(run, Loans())

    def build(self, run: str, loans: Loans, dies_at: int | None = None) -> None:
        """Build the slice, as a call does that has read the batch's numbers, whatever became of them since."""
        self.store.put(places.batch_key(run, RECEIVER, OTHER, 0), NUMBER.encode())
        calls = 0

        def step() -> None:
            nonlocal calls
            calls += 1
            if calls == dies_at:
                raise KilledError

        build_package_slice(
            run=run,
            receiver=RECEIVER,
            on_behalf_of=OTHER,
            batch=0,
            store=Stepped(self.store, step),
            loans=loans,
            keys=HashKeys.of(HashKey("1", b"k" * 32)),
        )

    def call(self, run: str, step: Step = lambda _: None) -> bool:
        """One invocation; ``step`` hears the number of each call to the outside before it is made."""
        calls = 0

        def count() -> None:
            nonlocal calls
            calls += 1
            step(calls)

        @contextmanager
        def connect(_: Any) -> Iterator[Any]:
            yield Stepped(self.folder, count)

        return PackageDelivery(
            plan=Plan.load(self.store, run),
            receiver=RECEIVER,
            on_behalf_of=OTHER,
            provider="9908:983544622",
            partners=Stepped(self.partners, count),
            store=Stepped(self.store, count),
            clock=lambda: self.now,
            has_time=lambda: True,
            ends=self.now + timedelta(minutes=15),
        ).deliver(connect)

    def dies(self, run: str, at: int) -> bool:
        """One invocation that is ended before its call number ``at``; False when it has fewer."""

        def step(number: int) -> None:
            if number == at:
                raise KilledError

        try:
            self.call(run, step)
        except KilledError:
            return True
        return False

    def outcome(self, run: str) -> dict[str, Any]:
        """What a run says of the delivery."""
        return self.partners.outcomes(run).get(places.subject(RECEIVER, OTHER), {})

    def record(self) -> dict[str, Any]:
        """What is known of the delivery."""
        return self.partners.delivery(RECEIVER, OTHER, QUARTER) or {}

    def made_by(self) -> str:
        """Whose package bears the name; each run's bears the run's own time."""
        (customer,) = json.loads(gzip.decompress(self.folder.content[NAME]))["customers"]
        hour = customer["loans"][0]["timestamp"][11:13]
        return FIRST if hour == f"{NOW.hour:02}" else SECOND

    def check_delivered_once(self) -> None:
        """One package, complete, under its name; the record says which; nothing unfinished is left."""
        assert len(set(self.folder.contents)) == 2
        assert list(self.folder.content) == [NAME]
        assert (self.record()["state"], self.record()["run"]) == ("delivered", self.made_by())
        assert "publishing" not in self.record()


def every_death(shown: str, run: str) -> Iterator[World]:
    """A world for each call before which that run's first invocation may die."""
    for at in range(1, 100):
        world = World(shown)
        if not world.dies(run, at):
            assert at > 15
            return
        yield world
    raise AssertionError("it never ends")


@pytest.mark.parametrize("shown", ["everything", "sizes", "nothing"])
def test_a_call_that_dies_anywhere_is_continued_by_the_next(shown):
    """One delivery; only where the server shows nothing it may stay uncertain, and then it says so."""
    uncertain = 0
    for world in every_death(shown, FIRST):
        assert world.call(FIRST)
        if world.outcome(FIRST).get("error") == "UNCERTAIN":
            uncertain += 1
            assert world.folder.contents[1:]
            assert "ask the receiver" in world.outcome(FIRST)["reason"]
            continue
        world.check_delivered_once()
        # A call that finds it done before it began has nothing to say; then the report says it.
        report_export(run=FIRST, partners=world.partners, store=world.store, press=press(), now=world.now)
        assert world.outcome(FIRST)["status"] == "delivered"
    assert (uncertain > 0) == (shown == "nothing")


@pytest.mark.parametrize("shown", ["everything", "sizes", "nothing"])
@pytest.mark.parametrize("reported", [False, True], ids=["no report", "reported"])
def test_a_run_that_dies_anywhere_is_finished_by_the_next_run(shown, reported):
    """The next run waits until the dead one can no more publish; then it finds out whether it did."""
    finished = {"delivered": 0, "already-delivered": 0, "failed": 0}
    for world in every_death(shown, FIRST):
        announced = "publishing" in world.record()
        if reported:
            report_export(run=FIRST, partners=world.partners, store=world.store, press=press(), now=world.now)
        if announced:
            with pytest.raises(DeliveryBusyError):
                world.call(SECOND)
            world.now += timedelta(minutes=21)
        assert world.call(SECOND)
        outcome = world.outcome(SECOND)
        finished[outcome["status"]] += 1
        if outcome["status"] == "failed":
            assert (shown, outcome["error"]) == ("nothing", "UNCERTAIN")
            assert len(world.folder.contents) == 2
            assert world.made_by() == FIRST
            continue
        world.check_delivered_once()
        assert (outcome["status"] == "delivered") == (world.made_by() == SECOND)
    assert finished["delivered"] > 10
    assert finished["already-delivered"] > 1
    assert (finished["failed"] > 0) == (shown == "nothing")


@pytest.mark.parametrize("shown", ["everything", "sizes", "nothing"])
def test_two_runs_at_any_moment_of_each_other_deliver_once(shown):
    """Wherever the second comes in, one of them delivers, and each reports what became of its own."""
    for at in range(1, 100):
        world, waits = World(shown), False

        def come_in(number: int, world: World = world, at: int = at) -> None:
            nonlocal waits
            if number == at:
                try:
                    world.call(SECOND)
                except DeliveryBusyError:
                    waits = True

        assert world.call(FIRST, come_in)
        if waits:
            assert world.call(SECOND)
        if not world.outcome(SECOND):
            assert at > 15
            return
        world.check_delivered_once()
        winner = world.made_by()
        loser = {FIRST: SECOND, SECOND: FIRST}[winner]
        assert world.outcome(winner)["status"] == "delivered"
        assert world.outcome(loser)["status"] in {"already-delivered", "failed"}
        if world.outcome(loser)["status"] == "failed":
            assert world.outcome(loser)["error"] == "SUPERSEDED"
    raise AssertionError("it never ends")


@pytest.mark.parametrize("balance", [200, 1], ids=["same size", "other size"])
@pytest.mark.parametrize("dies_at", [None, 5, 6])
def test_a_slice_that_is_written_again_does_not_change_a_sealed_package(balance, dies_at):
    """A build that was given up and goes on at any moment of the delivery: what was sealed is what gets the name."""
    for at in range(1, 100):
        world, came = World("everything"), False

        def come_in(number: int, world: World = world, at: int = at) -> None:
            nonlocal came
            if number == at:
                came = True
                with suppress(KilledError):
                    world.build(FIRST, Loans(balance), dies_at)

        assert world.call(FIRST, come_in)
        if not came:
            assert at > 15
            return
        world.check_delivered_once()
        assert world.record()["sha256"] == sha256(world.folder.content[NAME]).hexdigest()
    raise AssertionError("it never ends")


def test_two_seals_of_one_run_do_not_both_get_the_name():
    """A second call seals another content before the first has stored its seal, and is ended anywhere."""
    for at, dies_at in product(range(1, 8), range(1, 40)):
        world = World("everything")

        def come_in(number: int, world: World = world, at: int = at, dies_at: int = dies_at) -> None:
            if number == at:
                world.build(FIRST, Loans(200))
                world.dies(FIRST, dies_at)

        for run, step in ((FIRST, come_in), (FIRST, lambda _: None), (SECOND, lambda _: None)):
            with suppress(DeliveryBusyError):
                assert world.call(run, step)
            world.now += timedelta(minutes=21)
        world.check_delivered_once()


def test_a_run_that_settles_and_dies_is_finished_by_itself():
    """Finding out what a dead run did is itself repeated without harm."""
    for at in range(1, 100):
        world = next(world for world in every_death("everything", FIRST) if "publishing" in world.record())
        world.now += timedelta(minutes=21)
        died = world.dies(SECOND, at)
        assert world.call(SECOND)
        world.check_delivered_once()
        assert world.made_by() == FIRST
        if not died:
            assert at > 5
            return
    raise AssertionError("it never ends")


def test_what_is_uncertain_stays_so_when_the_server_refuses_the_next_run():
    """A refusal before it was found out must not make the next run forget that it is uncertain."""
    world = next(world for world in every_death("everything", FIRST) if "publishing" in world.record())
    world.now += timedelta(minutes=21)
    delivery = PackageDelivery(
        plan=Plan.load(world.store, SECOND),
        receiver=RECEIVER,
        on_behalf_of=OTHER,
        provider="9908:983544622",
        partners=world.partners,
        store=world.store,
        clock=lambda: world.now,
        has_time=lambda: True,
        ends=world.now,
    )
    world.folder.connect_error = ReceiverRefusedError("LOGIN", "the server refused the login")
    assert delivery.deliver(world.folder.connect)
    assert world.outcome(SECOND)["error"] == "LOGIN"
    assert world.record()["publishing"]["run"] == FIRST


def test_the_report_says_when_it_is_uncertain_whether_a_package_came():
    """A run that ended between announcing and recording says so, and who finds it out."""
    world = next(world for world in every_death("everything", FIRST) if "publishing" in world.record())
    report_export(run=FIRST, partners=world.partners, store=world.store, press=press(), now=world.now)
    assert world.outcome(FIRST)["error"] == "UNCERTAIN"
    assert "next `gjeldsbro export run` finds out" in world.outcome(FIRST)["reason"]


def test_last_quarters_package_of_the_same_size_is_not_taken_for_this_ones():
    """Of a file that may be read, its end decides, not its size alone."""
    world = next(world for world in every_death("everything", FIRST) if "publishing" in world.record())
    size = world.record()["publishing"]["bytes"]
    world.folder.content = {NAME: b"x" * size}
    world.now += timedelta(minutes=21)
    assert world.call(SECOND)
    assert world.made_by() == SECOND
    assert world.outcome(SECOND)["status"] == "delivered"


def test_an_upload_in_order_goes_on_where_it_stopped(monkeypatch):
    """What was confirmed is not sent again: on a slow server that would take more time than a function has."""
    world = World("everything")
    monkeypatch.setattr(deliver, "_LOOK_AT_TIME", 50)
    delivery = {
        "plan": Plan.load(world.store, FIRST),
        "receiver": RECEIVER,
        "on_behalf_of": OTHER,
        "provider": "9908:983544622",
        "partners": world.partners,
        "store": world.store,
        "clock": lambda: world.now,
        "has_time": lambda: False,
        "ends": world.now,
    }
    while not PackageDelivery(**delivery).deliver(world.folder.connect):
        pass
    assert len(world.folder.history) > 4
    assert world.folder.written == len(world.folder.content[NAME])
    world.check_delivered_once()
