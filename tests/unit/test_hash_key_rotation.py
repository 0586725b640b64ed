"""A new key of the keyed hash: what readers see while datasets and pushes move to it (decision record 0021)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.night_world import FI, PROVIDER, SUCCESSOR, Amounts, DiedError, World, people

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import RepaymentLoan
from gjeldsbro.domain.register import DatasetItem, PushItem, StoredItem, in_force, outdated_pushes
from gjeldsbro.errors import ConfigurationError, StoreUnavailableError
from gjeldsbro.services.night import load
from gjeldsbro.services.ports import Dataset, Provider

A, B, C, D, E, F = people(6)
FIRST = {A: 100, B: 200, C: 300, D: 0}
SECOND = {A: 100, B: 250, D: 400, E: 500}
THIRD = {A: 101, B: 200, E: 500, F: 600}
FOREVER = 10_000
FIRST_UNDER_THE_NEW_KEY = 4
"""The write of a load that stores its list of customers under the new key: before it the dataset has not moved."""


def rotated(amounts: Amounts = FIRST, *providers: Provider) -> World:
    """A world in which a first night has gone well, and there is a new key since."""
    world = World(*providers, max_shrink_percent=100)
    world.serve(amounts)
    world.night("n1")
    world.rotate()
    return world


@contextmanager
def watched(world: World, *nights: Amounts) -> Iterator[None]:
    """Look after every write, with the datasets' records as they are and as they were at any earlier write.

    Of each customer what is seen must be what one of ``nights`` says: never less, and nothing else.
    """
    may_be = {customer: {amounts.get(customer, 0) for amounts in nights} for customer in people(6)}
    read_before: list[list[Dataset]] = [world.records.datasets()]

    def look() -> None:
        now = world.records.datasets()
        if now != read_before[-1]:
            read_before.append(now)
        for records in read_before:
            seen = world.shown(may_be, records)
            wrong = {
                customer: seen.get(customer) for customer in may_be if seen.get(customer, 0) not in may_be[customer]
            }
            assert not wrong

    world.mortality.witness = look
    look()
    yield
    world.mortality.witness = lambda: None


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


def fetched(world: World, run: str, amounts: Amounts) -> None:
    """Fetch a dataset and have it judged."""
    world.serve(amounts, pages=2)
    world.now += timedelta(hours=1)
    world.plan(run)
    world.fetch(run)
    world.judge(run, hold=False)


def versions(world: World) -> set[str]:
    """The versions under which the register has something."""
    return {key[0] for key in world.register.items}


@pytest.mark.parametrize("then", ["retry", "next night", "yet another key", "empty", "clock goes back"])
def test_a_dataset_that_moves_can_die_after_any_write_and_nobody_sees_less(then) -> None:
    """After each write, and whatever comes next: readers see one night or the other, and in the end only the last."""
    for writes in range(1, FOREVER):
        world = rotated()
        fetched(world, "n2", SECOND)
        with watched(world, FIRST, SECOND):
            died = die_after(world, writes, partial(world.load, "n2"))
        world.assert_doubt_is_noted()
        committed = world.dataset().run == "n2"
        before = [SECOND] if committed else [FIRST, SECOND]
        if then == "retry":
            with watched(world, *before):
                world.load("n2")
            world.report("n2")
            world.assert_holds(SECOND)
            assert (world.outcome("n2")["status"], world.outcome("n2")["rekeyed"]) == ("loaded", True)
        else:
            world.report("n2")
            expected: Amounts = {} if then == "empty" else THIRD
            if then == "yet another key":
                world.rotate()
            if then == "clock goes back":
                key = world.hash_keys.keys[-1]
                world.hash_keys = HashKeys.of(world.hash_keys.keys[0], key._replace(since="2027"))
            world.serve(expected, pages=2)
            with watched(world, *before, expected):
                world.night("n3")
            if then == "clock goes back":
                # What had begun to move goes on; what had not stays where it is.
                (used,) = versions(world)
                assert used == ("1" if writes < FIRST_UNDER_THE_NEW_KEY else "2")
                world.hash_keys = HashKeys.of(world.hash_keys.of_version(used)._replace(since=""))
            world.assert_holds(expected)
        if not died:
            break
    assert writes > 20


def test_a_dataset_that_moves_twice_and_dies_each_time_leaves_nothing_behind() -> None:
    """What a load under a key wrote that was replaced before it was committed is deleted with the rest."""
    for first in range(2, 30, 7):
        for second in range(2, 30, 7):
            world = rotated()
            with watched(world, FIRST, SECOND, THIRD):
                for run, amounts, writes in (("n2", SECOND, first), ("n3", THIRD, second)):
                    fetched(world, run, amounts)
                    die_after(world, writes, partial(world.load, run))
                    world.assert_doubt_is_noted()
                    world.rotate()
            world.serve(FIRST)
            with watched(world, FIRST, SECOND, THIRD):
                world.night("n4")
            world.objects.delete_prefix("runs/")
            world.assert_holds(FIRST)
            assert versions(world) == {"4"}
            assert (world.dataset().rekey, world.dataset().retired) == (None, None)


def test_a_fetch_stays_under_the_key_that_it_began_with() -> None:
    """A key that comes into force between two pages is for the next night: rows of two keys cannot be compared."""
    world = World(max_shrink_percent=100)
    world.serve(FIRST, pages=3)
    world.seconds = iter(lambda: 1.0, None)  # a page an invocation
    served = world.served[FI, PROVIDER]
    assert isinstance(served, list)

    def page(number: int):
        if number == 1:
            world.rotate()
        return world_page(number)

    def world_page(number: int):
        world.served[FI, PROVIDER] = served
        try:
            return world.fetch_page(Provider(PROVIDER), FI, number, 1)
        finally:
            world.served[FI, PROVIDER] = page

    world.served[FI, PROVIDER] = page
    world.fetch("n1")
    world.seconds = None
    world.judge("n1", hold=False)
    world.load("n1")
    assert (world.hash_key.version, world.dataset().key_version, versions(world)) == ("2", "1", {"1"})
    world.serve(SECOND)
    world.night("n2")
    world.assert_holds(SECOND)
    assert versions(world) == {"2"}


def test_a_reader_without_the_key_of_a_dataset_fails_and_does_not_say_that_nobody_owes() -> None:
    """Whatever became of the secret, or of what was kept of it: no answer is better than one that hides debt."""
    world = rotated()
    world.serve(SECOND)
    world.night("n2")
    world.hash_keys = HashKeys.of(world.hash_keys.of_version("1"))
    with pytest.raises(StoreUnavailableError, match="newer version of the hash key"):
        world.shown([A], world.records.datasets())


def test_what_lies_under_the_old_key_is_deleted_in_as_many_calls_as_it_takes(monkeypatch) -> None:
    """The commit does not wait for it, each call does a stride at least, and the position is kept."""
    monkeypatch.setattr(load, "STRIDE", 3)
    amounts = {customer: 100 + number for number, customer in enumerate(people(20))}
    world = rotated(amounts)
    fetched(world, "n2", amounts)
    world.seconds = iter(lambda: 1.0, None)
    calls = left = 0
    while not load.load_dataset(load.Job("n2", FI, PROVIDER), world.loader):
        calls += 1
        left += world.dataset().run == "n2"
        world.assert_doubt_is_noted()
    assert (calls, left) == (12, 7 - 1)
    world.report("n2")
    world.assert_holds(amounts)
    assert world.register.deletes == 20


def test_a_provider_that_is_withdrawn_while_it_moves_leaves_nothing() -> None:
    """Whatever versions its items lie under, none is left, nor any file."""
    url = "https://fi.example.no"
    for writes in range(1, 24):
        world = rotated(FIRST, Provider(PROVIDER, url=url), Provider(SUCCESSOR))
        fetched(world, "n2", SECOND)
        died = die_after(world, writes, partial(world.load, "n2"))
        world.report("n2")
        providers = (Provider(PROVIDER, url=url, ended=True), Provider(SUCCESSOR, url=url))
        world.records.of[FI] = load.Institution(FI, "Testbanken", 100, providers)
        world.serve(THIRD, provider=SUCCESSOR)
        world.night("n3")
        world.assert_holds(THIRD, SUCCESSOR)
        assert {key[2] for key in world.register.items} == {SUCCESSOR}
        if not died:
            break
    assert writes > 15


# The rule


def dataset_item(balance: int, provider: str = PROVIDER) -> DatasetItem:
    """What a dataset says."""
    return DatasetItem(FI, provider, (loan(1, balance),))


def loan(tick: int, balance: int, account: str = "a") -> RepaymentLoan:
    """A loan as of a tick."""
    return RepaymentLoan(account, f"2026-11-22T05:{tick:02d}:00.0000000Z", None, 1000, balance, 12, 1020, 0, 0)


def push(tick: int, balance: int = 1, account: str = "a", provider: str = PROVIDER) -> PushItem:
    """A push of a tick."""
    return PushItem(FI, provider, loan(tick, balance, account))


def test_an_item_of_a_dataset_counts_from_its_records_version_on_and_the_newest_wins() -> None:
    """Below the version it is left over; above it tonight's load has written it already."""
    old, new, other = dataset_item(1), dataset_item(2), dataset_item(3, SUCCESSOR)
    stored = [StoredItem(9, old), StoredItem(10, new), StoredItem(9, other)]
    assert in_force(stored, {}) == [new, other]
    assert in_force(stored, {(FI, PROVIDER): 9}) == [new, other]
    assert in_force(stored, {(FI, PROVIDER): 10}) == [new, other]
    assert in_force(stored[:1], {(FI, PROVIDER): 9}) == [old]
    assert in_force(stored[:1], {(FI, PROVIDER): 10}) == []


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from("ab")), max_size=8))
def test_of_pushes_the_newest_about_a_loan_counts_whatever_version_it_lies_under(told) -> None:
    """Nobody moves a push: one under an old key is as good as one under the new."""
    stored = [StoredItem(version, push(tick, tick, account)) for version, tick, account in told]
    newest = {account: max(tick for _, tick, of in told if of == account) for _, _, account in told}
    seen = in_force(stored, {(FI, PROVIDER): 3})
    assert {item.loan.account_id: item.loan.balance for item in seen if isinstance(item, PushItem)} == newest
    assert len(seen) == len(newest)


def test_a_push_under_an_old_key_is_outdated_by_a_newer_word_under_another() -> None:
    """It would be a history of debt; under the same key a put replaces it, and another provider's word is its own."""
    old, kept, foreign = (
        StoredItem(1, push(1)),
        StoredItem(1, push(1, account="b")),
        StoredItem(1, push(1, 1, "a", SUCCESSOR)),
    )
    stored = [old, kept, foreign]
    assert outdated_pushes(stored, [push(2)], 2) == [old]
    assert outdated_pushes(stored, [push(2)], 1) == []
    assert outdated_pushes([*stored, StoredItem(2, push(2))], [], 2) == [old]  # the sender repeats after a failure
    assert outdated_pushes([StoredItem(2, push(1)), StoredItem(1, push(2))], [], 2) == [StoredItem(2, push(1))]
    assert outdated_pushes([StoredItem(2, push(1)), StoredItem(1, push(1))], [], 2) == [StoredItem(1, push(1))]


def test_versions_are_ordered_as_numbers_and_come_into_force_at_their_time() -> None:
    """The tenth key is newer than the ninth, and is used for writing when all readers have it."""
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    ninth = HashKey("9", b"k" * 32, retired_at="2026-11-22T13:00:00.0000000Z")
    tenth = HashKey("10", b"n" * 32, "2026-11-22T12:30:00.0000000Z")
    keys = HashKeys.of(tenth, ninth)
    assert (keys.at(at), keys.at(at + timedelta(minutes=30))) == (ninth, tenth)
    assert keys.at(datetime(2020, 1, 1, tzinfo=UTC)) == ninth
    assert keys.readable == (tenth,)
    with pytest.raises(ConfigurationError):
        keys.of_version("1")
