"""A night of an institution that is always asked: the list of its customers, and switching from and to loans."""

from datetime import timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.night_world import ASK, FI, PROVIDER, SUCCESSOR, DiedError, World, list_json, page_json, people

from gjeldsbro.domain.loans import decode_loans
from gjeldsbro.domain.register import DatasetItem, merge
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.night import fetch
from gjeldsbro.services.ports import Provider

A, B, C, D, E, F = people(6)
LOANS = {A: 100, B: 200, C: 300, D: 0}
OTHER_LOANS = {A: 100, C: 250, E: 400}
NAMES = (A, D, E)
NOW = "2026-11-23T04:00:00Z"
URL = "https://fi.example.no"
FOREVER = 10_000


def asked(*customers: str) -> dict[str, int]:
    """What the register must hold after a list of these customers."""
    return dict.fromkeys(customers, ASK)


def listed(body: bytes) -> World:
    """A world whose provider serves this list, after the fetch."""
    world = World()
    world.deliver("ssn")
    world.served_lists[FI, PROVIDER] = body
    world.fetch("n1")
    return world


def test_a_list_of_customers_becomes_an_index_and_nothing_more() -> None:
    """Every customer on it is stored without loans, also one that no dataset would have shown."""
    world = World()
    world.deliver("ssn")
    world.serve_list(NAMES)
    report = world.night("n1")
    world.assert_holds(asked(*NAMES))
    assert world.requests == [(FI, PROVIDER, "list")]
    (outcome,) = report["datasets"]
    assert {name: outcome[name] for name in ("status", "dataset", "customers", "added", "pages")} == {
        "status": "loaded",
        "dataset": "ssn",
        "customers": 3,
        "added": 3,
        "pages": 1,
    }
    items = [DatasetItem(FI, PROVIDER, decode_loans(stored)) for stored in world.register.items.values()]
    assert merge(items, {FI: {PROVIDER: world.dataset().as_of}}).loans == {}


def test_only_new_and_vanished_customers_are_written() -> None:
    """The second list names one more and one less; who stays costs no write."""
    world = World()
    world.deliver("ssn")
    world.serve_list((A, B, C))
    world.night("n1")
    world.register.puts = 0
    world.now += timedelta(hours=1)
    world.serve_list((C, D, A))
    world.night("n2", days=0)
    world.assert_holds(asked(A, C, D))
    assert (world.register.puts, world.register.deletes) == (1, 1)
    assert world.outcome("n2")["unchanged"] == 2


def test_a_list_is_stored_in_parts_and_counted_as_one() -> None:
    """Memory stays flat however long a list is; its places are those of the list."""
    world = World()
    world.deliver("ssn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "LIST_PART", 7)
        world.serve_list(people(30))
        world.night("n1")
        world.assert_holds(asked(*people(30)))
        assert world.outcome("n1")["pages"] == 1
        world.serve_list([*people(30), people(9)[8]])
        world.now += timedelta(hours=1)
        world.night("n2", days=0)
    outcome = world.outcome("n2")
    assert outcome["status"] == "refused"
    (violation,) = outcome["violations"]
    assert violation["place"] == "list /customers/30"
    assert violation["rule"].endswith("came before, as /customers/8")
    world.assert_holds(asked(*people(30)))


def test_the_time_of_the_list_decides_what_it_speaks_for() -> None:
    """An empty list has a time too: unlike a dataset without loans, it says when it was made."""
    world = listed(list_json((A,), timestamp="2026-11-23T03:30:00Z"))
    world.judge("n1")
    world.load("n1")
    assert world.dataset().as_of == "2026-11-23T03:30:00.0000000Z"
    world.now += timedelta(hours=1)
    world.served_lists[FI, PROVIDER] = list_json((), timestamp="2026-11-23T05:10:00Z")
    world.night("n2", days=0, hold=False)
    world.assert_holds({})
    assert world.dataset().as_of == "2026-11-23T05:10:00.0000000Z"


def test_a_refused_list_changes_nothing_and_names_places_only() -> None:
    """As a dataset, it is taken or refused as a whole; the outcome holds no number."""
    world = listed(list_json((A, "14842249092", B, "x"), timestamp=NOW))
    outcome = world.outcome("n1")
    assert (outcome["status"], outcome["dataset"], outcome["totalViolations"]) == ("refused", "ssn", 2)
    assert [violation["place"] for violation in outcome["violations"]] == ["list /customers/1", "list /customers/3"]
    assert "1484224909" not in repr(outcome)
    assert world.objects.stored == {}
    assert world.register.items == {}


def test_a_page_of_loans_is_no_list() -> None:
    """A server that answers the wrong question is refused."""
    world = listed(page_json([]))
    assert world.outcome("n1")["status"] == "refused"


def test_nothing_that_is_kept_or_said_of_a_list_holds_an_identity_number(log_stream) -> None:
    """Rows, records, cursor, outcome and log: keyed hashes and counts only (design decision 15)."""
    world = listed(list_json((A, B, C), timestamp=NOW))
    kept = b"".join([key.encode() + data for key, data in world.objects.stored.items()])
    said = repr(world.records.held) + repr(world.records.outcome_of) + log_stream.getvalue()
    for customer in (A, B, C):
        assert customer.encode() not in kept
        assert customer not in said


def test_a_shrinking_list_is_held_as_a_dataset_is() -> None:
    """Far fewer customers than the last time: an operator looks first."""
    world = World()
    world.deliver("ssn")
    world.serve_list(people(200))
    world.night("n1")
    world.serve_list(people(100))
    world.night("n2")
    outcome = world.outcome("n2")
    assert (outcome["status"], outcome["reason"]) == ("held", "customers: 100 after 200, more than 30 % fewer")
    world.assert_holds(asked(*people(200)))
    world.night("n3", hold=False)
    world.assert_holds(asked(*people(100)))


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


def test_a_list_is_fetched_again_when_the_fetch_died_before_all_of_it_was_stored() -> None:
    """It has no pages: until its parts are all stored, nothing of it counts."""
    for writes in range(1, FOREVER):
        world = World()
        world.deliver("ssn")
        world.serve_list(NAMES)
        died = die_after(world, writes, partial(world.fetch, "n1"))
        world.fetch("n1")
        world.judge("n1")
        world.load("n1")
        world.assert_holds(asked(*NAMES))
        if not died:
            break
    assert writes > 5


@pytest.mark.parametrize("then", ["retry", "next night", "back again"])
@pytest.mark.parametrize("towards", ["ssn", "loans"])
def test_a_switch_ends_right_wherever_its_first_load_dies(towards, then) -> None:
    """Towards lists no loan is left, towards loans no customer is; what is in doubt meanwhile is noted."""

    def deliver(world: World, kind: str, number: int) -> dict[str, int]:
        world.deliver(kind)
        names = ((A, B, C, D), NAMES, (B, F))[number]
        amounts = (LOANS, OTHER_LOANS, {A: 1, F: 2})[number]
        world.serve_list(names)
        world.serve(amounts, pages=2)
        return asked(*names) if kind == "ssn" else amounts

    other = {"ssn": "loans", "loans": "ssn"}[towards]
    for writes in range(1, FOREVER):
        world = World()
        deliver(world, other, 0)
        world.night("n1")
        expected = deliver(world, towards, 1)
        world.now += timedelta(hours=1)
        world.plan("n2")
        world.fetch("n2")
        world.judge("n2", hold=False)
        died = die_after(world, writes, partial(world.load, "n2"))
        world.assert_doubt_is_noted()
        if then == "retry":
            world.load("n2")
            world.report("n2")
        else:
            world.report("n2")
            expected = deliver(world, towards if then == "next night" else other, 2)
            world.night("n3")
        world.assert_holds(expected)
        if not died:
            break
    assert writes > 15


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    nights=st.lists(
        st.tuples(
            st.sampled_from(["loans", "ssn"]),
            st.dictionaries(st.sampled_from(people(12)), st.integers(0, 3), max_size=12),
            st.integers(1, 60),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_any_nights_of_loans_and_lists_with_any_deaths_end_at_the_last_one(nights) -> None:
    """The register is what the last night that went well delivered: of a list customers only, else loans only."""
    world = World(max_shrink_percent=100)
    for number, (kind, amounts, writes) in enumerate(nights):
        world.deliver(kind)
        world.serve(amounts)
        world.serve_list(amounts)
        world.now += timedelta(days=1)
        die_after(world, writes, partial(world.night, f"n{number}", days=0))
        world.assert_doubt_is_noted()
    world.night("last")
    world.objects.delete_prefix("runs/")
    kind, amounts, _ = nights[-1]
    world.assert_holds(asked(*amounts) if kind == "ssn" else amounts)


def test_a_full_night_mends_an_index_too() -> None:
    """The weekly scrub writes every customer of a list anew."""
    world = World()
    world.deliver("ssn")
    world.serve_list(NAMES)
    world.night("n1")
    world.register.items.clear()
    world.serve_list(NAMES)
    world.night("n2", days=9)
    world.assert_holds(asked(*NAMES))


def test_an_ended_provider_of_lists_is_withdrawn_after_its_successors_first_dataset() -> None:
    """Its customers are asked for until then (design decision 6), and gone after."""
    world = World(Provider(PROVIDER, url=URL, dataset="ssn"))
    world.serve_list(NAMES)
    world.night("n1")
    institution = world.records.of[FI]
    ended = Provider(PROVIDER, url=URL, dataset="ssn", ended=True)
    world.records.of[FI] = type(institution)(FI, "Testbanken", providers=(Provider(SUCCESSOR, url=URL), ended))
    world.serve({A: 100, E: 5}, provider=SUCCESSOR)
    world.now += timedelta(hours=1)
    world.night("n2", days=0)
    assert world.balances() == {}
    assert world.balances(SUCCESSOR) == world.expected({A: 100, E: 5})


def test_an_operators_switch_within_a_fetch_fails_that_fetch() -> None:
    """Half a dataset of loans and half a list are neither; the next run begins anew."""
    world = World()
    world.serve(LOANS, pages=3)
    world.seconds = iter(lambda: 100.0, None)
    assert not fetch.fetch_pages(fetch.Job("n1", FI, PROVIDER), "fetch", world.fetcher)
    world.seconds = None
    world.deliver("ssn")
    with pytest.raises(ConfigurationError, match="another kind"):
        world.fetch("n1")
