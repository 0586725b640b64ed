"""What a customer owes now: whom the lookup asks, and what stands when somebody does not answer."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.lookup_world import (
    BANK,
    NOW,
    OTHER_BANK,
    PARTNER,
    PERSON,
    STAMP,
    THIRD_BANK,
    LookupWorld,
    at,
    bank,
    loan,
    provider_of,
    server,
)

from gjeldsbro.domain.loans import ChargeCard
from gjeldsbro.domain.register import CurrentLoan
from gjeldsbro.domain.rules import Rule
from gjeldsbro.errors import (
    InstitutionUnavailableError,
    InvalidMessageError,
    NoAnswerInTimeError,
    StoreUnavailableError,
    Violation,
)
from gjeldsbro.services.customer_debt import AskingThreads, CreditorDebt
from gjeldsbro.services.ports import Institution, LookupMode, Provider

PROVIDER = provider_of(BANK)
DOWN = InstitutionUnavailableError("HTTP 503")
TIMED_OUT = NoAnswerInTimeError("no answer in time")


def shown(debts: list[CreditorDebt]) -> list[tuple[str, list[int], bool, str]]:
    """Institution, balances, whether it answered, and the source."""
    return [(debt.institution, [current.loan.balance for current in debt.loans], *debt[2:4]) for debt in debts]


def asked(world: LookupWorld) -> set[tuple[str, str]]:
    """The (institution, provider) that were asked."""
    return {(institution, provider) for institution, provider, _ in world.servers.asked}


@pytest.fixture
def hanging() -> Iterator[LookupWorld]:
    """A world on the real clock, whose server hangs until the test is over."""
    world = LookupWorld(bank(), bank(OTHER_BANK), clock=time.monotonic, fair_seconds=0.001)
    world.store(loan(100))
    world.store(loan(200), of=OTHER_BANK)
    world.answers(loan(20), of=OTHER_BANK)
    world.does(world.servers.hang)
    yield world
    world.servers.closing.set()


# The modes


def test_a_stored_institution_is_not_asked():
    """Use case 1: the register's word is the institution's, and counts as an answer."""
    world = LookupWorld(bank(lookup="stored"))
    world.store(loan(100))
    assert shown(world.found()) == [(BANK, [100], True, "register")]
    assert world.servers.asked == []


@pytest.mark.parametrize("mode", ["live", "both"])
def test_an_institution_that_answers_replaces_what_is_stored(mode: LookupMode):
    """Use cases 2 and 3: dataset and pushes give way, and the answer is as fresh as the lookup."""
    world = LookupWorld(bank(lookup=mode))
    world.store(loan(100, "old"), loan(100, "kept"))
    world.push(loan(300, "pushed", tick=9))
    world.answers(loan(50, "kept"), loan(60, "new"))
    (debt,) = world.found()
    expected = tuple(CurrentLoan(found, STAMP, PROVIDER, "dataset") for found in (loan(50, "kept"), loan(60, "new")))
    assert debt == CreditorDebt(BANK, expected, True, "institution", frozenset({PROVIDER}))
    assert {debt.source_of(current) for current in debt.loans} == {"institution"}


def test_the_register_stands_in_for_an_institution_that_does_not_answer():
    """Use case 3: what is stored, newer pushes included, and that it was not answered."""
    world = LookupWorld(bank())
    world.store(loan(100), loan(7, "b"))
    world.push(loan(90, tick=9))
    world.does(DOWN)
    (debt,) = world.found()
    assert shown([debt]) == [(BANK, [90, 7], False, "register")]
    assert {debt.source_of(current) for current in debt.loans} == {"register"}


def test_what_is_stored_of_a_live_institution_that_can_be_asked_is_never_shown():
    """Use case 2: without its answer nothing is known but that it should have answered."""
    world = LookupWorld(bank(lookup="live"))
    world.store(loan(100))
    world.push(loan(90, tick=9))
    world.does(DOWN)
    assert shown(world.found()) == [(BANK, [], False, "none")]


def test_an_index_names_whom_to_ask():
    """An index's item holds no loans and is reason enough to ask."""
    world = LookupWorld(bank(BANK, server(BANK, dataset="ssn"), lookup="live"))
    world.store()
    world.answers(loan(50))
    assert shown(world.found()) == [(BANK, [50], True, "institution")]


def test_an_institution_without_the_customer_is_not_asked():
    """Nothing stored, nobody to ask: only creditors are asked."""
    for mode in ("live", "both", "stored"):
        world = LookupWorld(bank(lookup=mode))
        assert world.found() == []
        assert world.servers.asked == []


def test_a_live_institution_without_an_index_is_always_asked():
    """While no dataset or list of customers was ever accepted, nobody knows whether it has the customer."""
    world = LookupWorld(bank(lookup="live"), bank(OTHER_BANK, lookup="both"))
    world.partners.as_of.clear()
    world.answers()
    assert shown(world.found()) == [(BANK, [], True, "institution")]
    world.does(DOWN)
    assert shown(world.found()) == [(BANK, [], False, "none")]
    assert asked(world) == {(BANK, PROVIDER)}


def test_an_institution_that_has_lost_its_customer_answers_that():
    """A stale index: the register still has a loan, the institution says none, and that counts."""
    world = LookupWorld(bank())
    world.store(loan(100))
    world.answers()
    assert shown(world.found()) == [(BANK, [], True, "institution")]


@pytest.mark.parametrize(
    "providers",
    [
        pytest.param([server(BANK, url=None)], id="only pushes"),
        pytest.param([server(BANK, url=None, dataset_url="https://fi.example.no/all")], id="only datasets"),
        pytest.param([server(BANK, ended=True)], id="ended"),
    ],
)
def test_an_institution_that_cannot_be_asked_counts_as_stored(providers: list[Provider]):
    """Whatever its mode, the register's word is all that there is, and it is shown."""
    for mode in ("live", "both"):
        world = LookupWorld(bank(BANK, *providers, lookup=mode))
        world.store(loan(100))
        assert shown(world.found()) == [(BANK, [100], True, "register")]


def test_an_ended_institution_is_not_asked():
    """Its data is visible until the night withdraws it; its server is nobody's business any more."""
    world = LookupWorld(bank(ended=True))
    world.store(loan(100))
    assert shown(world.found()) == [(BANK, [100], True, "register")]


def test_an_index_entry_that_nobody_can_be_asked_about_is_a_missing_creditor():
    """The mode was changed before the night brought the loans: that there is debt is known, how much is not."""
    world = LookupWorld(bank(lookup="stored"))
    world.store()
    assert shown(world.found()) == [(BANK, [], False, "none")]


def test_an_index_entry_does_not_stand_in_for_an_answer():
    """Also in mode both, an index's item says nothing about loans."""
    world = LookupWorld(bank())
    world.store()
    world.does(DOWN)
    assert shown(world.found()) == [(BANK, [], False, "none")]


def test_an_institution_that_is_not_set_up_any_more_is_shown_as_stored():
    """Items of which the PartnerTable knows nothing are shown until they are gone."""
    world = LookupWorld()
    world.store(loan(100))
    assert shown(world.found()) == [(BANK, [100], True, "register")]


def test_a_charge_card_without_balance_is_shown_when_the_institution_names_it():
    """A live answer counts as a dataset, and a dataset's card counts always (contract)."""
    world = LookupWorld(bank())
    card = ChargeCard("c", at(1), None, 0, 0, 0)
    world.store(card)
    world.answers(card)
    (debt,) = world.found()
    assert [current.loan for current in debt.loans] == [card]


# Several providers


def two_providers(mode: LookupMode = "both") -> LookupWorld:
    """An institution with a loan at each of two providers, of which the first answers."""
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1), lookup=mode))
    world.store(loan(100, "a"))
    world.store(loan(200, "b"), number=1)
    world.answers(loan(10, "a"))
    world.does(DOWN, number=1)
    return world


def test_an_institution_has_answered_when_all_its_providers_have():
    """One that is down makes the institution missing; what the other said is still its word."""
    world = two_providers()
    (debt,) = world.found()
    assert shown([debt]) == [(BANK, [10, 200], False, "register")]
    assert [debt.source_of(current) for current in debt.loans] == ["institution", "register"]
    world.answers(loan(20, "b"), number=1)
    assert shown(world.found()) == [(BANK, [10, 20], True, "institution")]


def test_a_live_provider_that_is_down_leaves_a_gap():
    """What the other provider answered is shown, and that something is missing."""
    assert shown(two_providers("live").found()) == [(BANK, [10], False, "none")]


ONLY_DATASETS: dict[str, Any] = {"url": None, "dataset_url": "https://fi.example.no/all"}


@pytest.mark.parametrize("mode", ["live", "both"])
def test_what_is_stored_of_a_provider_that_cannot_be_asked_is_shown_in_every_mode(mode: LookupMode):
    """Nobody else's answer tells of its loans: neither of its dataset's nor of those that it pushed since."""
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1, **ONLY_DATASETS), lookup=mode))
    world.store(loan(7, "old"))
    world.store(loan(200, "b"), number=1)
    world.push(loan(300, "c", tick=9), number=1)
    world.answers()
    (debt,) = world.found()
    assert shown([debt]) == [(BANK, [200, 300], True, "institution")]
    assert {debt.source_of(current) for current in debt.loans} == {"register"}
    world.answers(loan(10, "a"))
    (debt,) = world.found()
    assert [debt.source_of(current) for current in debt.loans] == ["institution", "register", "register"]
    world.does(DOWN)
    assert shown(world.found()) == [
        (BANK, [200, 300], False, "none") if mode == "live" else (BANK, [200, 300, 7], False, "register")
    ]


@pytest.mark.parametrize("mode", ["live", "both"])
def test_a_push_of_one_that_only_pushes_counts_until_all_datasets_are_newer(mode: LookupMode):
    """Design decision 4: any of the institution's datasets may carry the loan, and an answer is a dataset of now."""
    pushes = server(BANK, 2, url=None)
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1, **ONLY_DATASETS), pushes, lookup=mode))
    world.push(loan(100, "p", tick=9), number=2)
    world.answers()
    assert shown(world.found()) == [(BANK, [100], True, "institution")]
    world.partners.known = [bank(BANK, server(BANK), pushes, lookup=mode)]
    del world.partners.as_of[BANK, provider_of(BANK, 1)]
    assert shown(world.found()) == [(BANK, [], True, "institution")]
    world.does(DOWN)
    assert shown(world.found())[0][1:] == ([100], False, "none" if mode == "live" else "register")


@pytest.mark.parametrize("mode", ["live", "both"])
def test_an_index_entry_of_a_provider_that_cannot_be_asked_any_more_is_a_missing_creditor(mode: LookupMode):
    """That there is debt is known, and no answer of another provider says how much."""
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1, **ONLY_DATASETS), lookup=mode))
    world.store(number=1)
    world.answers(loan(10, "a"))
    assert shown(world.found()) == [(BANK, [10], False, "none")]


def test_an_ended_providers_data_is_shown_until_a_successor_that_cannot_be_asked_has_delivered():
    """Also in mode live: the loan may be the successor's, whose dataset is to come, and the night withdraws it then."""
    ended = server(BANK, 1, ended=True)
    world = LookupWorld(bank(BANK, server(BANK), ended, server(BANK, 2, **ONLY_DATASETS), lookup="live"))
    world.store(loan(200, "b"), number=1)
    world.answers(loan(10, "a"))
    assert shown(world.found()) == [(BANK, [10, 200], True, "institution")]
    world.partners.known = [bank(BANK, server(BANK), ended, lookup="live")]
    assert shown(world.found()) == [(BANK, [10], True, "institution")]
    world.does(DOWN)
    assert shown(world.found()) == [(BANK, [], False, "none")]


def test_only_providers_with_the_customer_are_asked():
    """The register knows which of an institution's providers has the customer."""
    world = two_providers()
    world.found(PARTNER)
    assert asked(world) == set()
    world.store(loan(1), person=PARTNER)
    world.found(PARTNER)
    assert asked(world) == {(BANK, PROVIDER)}


def test_a_new_provider_of_an_institution_that_is_not_only_live_is_not_asked():
    """Only mode live asks in the dark: in mode both the night and the pushes are to bring the new provider's loans."""
    world = two_providers()
    del world.partners.as_of[BANK, provider_of(BANK, 1)]
    world.store(loan(1), person=PARTNER)
    world.found(PARTNER)
    assert asked(world) == {(BANK, PROVIDER)}


def test_something_of_a_provider_that_only_pushes_has_all_others_asked():
    """Nobody knows which of the others carries the loan that it told of; their answers cover its push."""
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1), server(BANK, 2, url=None)))
    world.push(loan(100, "a", tick=9), number=2)
    world.answers(loan(10, "a"))
    world.answers(number=1)
    assert shown(world.found()) == [(BANK, [10], True, "institution")]
    assert asked(world) == {(BANK, PROVIDER), (BANK, provider_of(BANK, 1))}


def test_a_push_that_not_all_datasets_cover_still_counts():
    """A provider that is down may be the one that has not heard of the repayment: the merge rule decides as always."""
    world = LookupWorld(bank(BANK, server(BANK), server(BANK, 1), server(BANK, 2, url=None)))
    world.push(loan(100, "p", tick=9), number=2)
    world.answers(loan(10, "a"))
    world.does(DOWN, number=1)
    (debt,) = world.found()
    assert shown([debt]) == [(BANK, [10, 100], False, "register")]
    assert [debt.source_of(current) for current in debt.loans] == ["institution", "register"]


def test_an_ended_providers_data_gives_way_to_its_successor():
    """When all successors have answered, what the ended provider left behind would be debt twice."""
    ended = server(BANK, ended=True)
    world = LookupWorld(bank(BANK, ended, server(BANK, 1), server(BANK, 2, url=None)))
    world.store(loan(100, "old"))
    world.push(loan(5, "pushed", tick=9), number=2)
    world.answers(loan(90, "renumbered"), number=1)
    assert shown(world.found()) == [(BANK, [90], True, "institution")]
    world.does(DOWN, number=1)
    assert shown(world.found()) == [(BANK, [100, 5], False, "register")]
    assert asked(world) == {(BANK, provider_of(BANK, 1))}


def test_an_ended_providers_data_stands_in_for_a_successor_that_has_not_delivered_yet():
    """In a hand-over the old data is in use until the new provider's first dataset: that is no gap."""
    world = LookupWorld(bank(BANK, server(BANK, ended=True), server(BANK, 1)))
    world.partners.as_of[BANK, provider_of(BANK, 1)] = None
    world.store(loan(100, "old"))
    world.does(DOWN, number=1)
    assert shown(world.found()) == [(BANK, [100], False, "register")]
    world.partners.as_of[BANK, provider_of(BANK)] = None
    assert shown(world.found()) == [(BANK, [100], False, "none")]


# Who does not answer


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DOWN, id="unavailable"),
        pytest.param(InvalidMessageError([Violation("/customers", Rule.ARRAY)]), id="breaks the rules"),
        pytest.param(KeyError(PERSON), id="a fault of ours"),
    ],
)
def test_no_kind_of_error_fails_the_lookup(error: Exception, log_stream):
    """The institution is missing, the others are not; the log names institution and class, and no person."""
    world = LookupWorld(bank(), bank(OTHER_BANK))
    world.store(loan(100))
    world.store(loan(200), of=OTHER_BANK)
    world.does(error)
    world.answers(loan(20), of=OTHER_BANK)
    assert shown(world.found()) == [(BANK, [100], False, "register"), (OTHER_BANK, [20], True, "institution")]
    text = log_stream.getvalue()
    lines = [json.loads(line) for line in text.splitlines()]
    (line,) = [line for line in lines if line["message"] == "CUSTOMER_NOT_ANSWERED"]
    expected = "UnexpectedError" if isinstance(error, KeyError) else type(error).__name__
    assert (line["institution"], line["provider"], line["error"]) == (BANK, PROVIDER, expected)
    assert PERSON not in text
    assert world.breaker.verdicts() == [("failed", BANK, PROVIDER), ("answered", OTHER_BANK, provider_of(OTHER_BANK))]


def test_nobody_waits_for_a_server_that_hangs(hanging, log_stream):
    """At the deadline the lookup goes on with what it has, even if the client does not come back."""
    before = time.monotonic()
    debts = hanging.found(seconds=0.05)
    assert time.monotonic() - before < 2
    assert shown(debts) == [(BANK, [100], False, "register"), (OTHER_BANK, [20], True, "institution")]
    assert ("failed", BANK, PROVIDER) in hanging.breaker.verdicts()
    assert "NoAnswerInTime" in log_stream.getvalue()


def test_hung_threads_do_not_hold_up_the_next_lookup(hanging):
    """Two threads for two institutions: the one that hangs is given up, and the next lookup has two again."""
    hanging.debt = replace(hanging.debt, threads=AskingThreads(2))
    for _ in range(4):
        assert shown(hanging.found(seconds=0.05))[1] == (OTHER_BANK, [20], True, "institution")


def test_threads_are_kept_for_the_next_lookup():
    """While nobody hangs, the same threads ask again."""
    world = LookupWorld(bank(), threads=AskingThreads(1))
    world.store(loan(100))
    seen = set()
    world.does(lambda: (seen.add(threading.get_ident()), ())[1])
    for _ in range(3):
        world.found()
    assert len(seen) == 1


def test_giving_up_threads_leaves_other_lookups_their_answers():
    """What another lookup has running, or waiting, in the same threads is still asked."""
    threads = AskingThreads(2)
    hangs, begun, closing = threading.Event(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as lookups:
        hung = lookups.submit(threads.run, lambda _: (hangs.set(), closing.wait(5)), [0], 0.05)
        assert hangs.wait(5)
        other = lookups.submit(threads.run, lambda task: (begun.set(), closing.wait(5), task)[2], [1, 2], 5)
        assert begun.wait(5)
        assert hung.result() == [None]
        closing.set()
        assert [future and future.result() for future in other.result()] == [1, 2]


def test_an_answer_after_the_deadline_changes_nothing(hanging):
    """What has been told is told: the late answer is dropped."""
    debts = hanging.found(seconds=0.02)
    hanging.servers.closing.set()
    time.sleep(0.01)
    assert shown(debts)[0] == (BANK, [100], False, "register")


def test_nobody_is_asked_when_the_time_is_used_up():
    """A deadline that has passed leaves the register; nobody has failed, and no breaker's trial is used up."""
    world = LookupWorld(bank())
    world.store(loan(100))
    assert shown(world.found(seconds=0)) == [(BANK, [100], False, "register")]
    assert world.servers.asked == []
    assert world.breaker.told == []


@pytest.mark.parametrize(("seconds", "verdicts"), [(2.4, []), (2.5, [("failed", BANK, PROVIDER)])])
def test_a_time_out_counts_only_after_about_the_default_wait(seconds, verdicts):
    """Or a lender that waits for a second would have a slower institution left alone for all lenders."""
    world = LookupWorld(bank())
    world.store(loan(100))
    world.does(TIMED_OUT)
    assert shown(world.found(seconds=seconds)) == [(BANK, [100], False, "register")]
    assert world.breaker.verdicts() == verdicts
    assert world.breaker.fair == [bool(verdicts)]


def test_a_client_that_does_not_come_back_counts_as_a_time_out():
    """It tells as little of the institution when the wait was short."""
    world = LookupWorld(bank(), clock=time.monotonic)
    world.store(loan(100))
    world.does(world.servers.hang)
    world.found(seconds=0.05)
    world.servers.closing.set()
    assert world.breaker.verdicts() == []


@pytest.mark.parametrize("error", [DOWN, InvalidMessageError([Violation("/customers", Rule.ARRAY)])])
def test_a_quick_error_counts_however_short_the_wait(error):
    """The institution had the time that it took: more would not have changed its answer."""
    world = LookupWorld(bank())
    world.store(loan(100))
    world.does(error)
    world.found(seconds=0.1)
    assert world.breaker.verdicts() == [("failed", BANK, PROVIDER)]


def test_who_waited_for_a_thread_has_not_failed():
    """Asking is bounded; what was not begun by the deadline is unanswered, nobody's fault, and never asked."""
    world = LookupWorld(bank(), bank(OTHER_BANK), clock=time.monotonic, threads=AskingThreads(1), fair_seconds=0.001)
    world.store(loan(100))
    world.store(loan(200), of=OTHER_BANK)
    world.does(world.servers.hang)
    assert shown(world.found(seconds=0.02)) == [
        (BANK, [100], False, "register"),
        (OTHER_BANK, [200], False, "register"),
    ]
    assert world.breaker.verdicts() == [("failed", BANK, PROVIDER)]
    world.servers.closing.set()
    time.sleep(0.02)
    assert asked(world) == {(BANK, PROVIDER)}


def test_institutions_are_asked_side_by_side():
    """Five institutions that each wait for the other four all answer, and all hear of the same deadline."""
    banks = [str(number) for number in range(5)]
    world = LookupWorld(*(bank(name) for name in banks))
    together = threading.Barrier(5, timeout=5)
    for name in banks:
        world.store(loan(100), of=name)
        world.does(lambda: (together.wait(), (loan(1),))[1], of=name)
    assert shown(world.found(seconds=10)) == [(name, [1], True, "institution") for name in banks]
    assert world.servers.deadlines == {world.clock() + 10}


# The breaker


def test_an_open_breaker_spares_the_institution():
    """It is not asked, and stands as one that does not answer."""
    world = LookupWorld(bank(), bank(OTHER_BANK, lookup="live"))
    world.store(loan(100))
    world.store(loan(100), of=OTHER_BANK)
    world.breaker.open = {(BANK, PROVIDER), (OTHER_BANK, provider_of(OTHER_BANK))}
    assert shown(world.found()) == [(BANK, [100], False, "register"), (OTHER_BANK, [], False, "none")]
    assert world.servers.asked == []
    assert world.breaker.verdicts() == []


def test_a_breaker_that_fails_stops_nothing(log_stream):
    """Without its word everybody is asked."""
    world = LookupWorld(bank())
    world.store(loan(100))
    world.answers(loan(50))
    world.breaker.broken = StoreUnavailableError("throttled")
    assert shown(world.found()) == [(BANK, [50], True, "institution")]
    world.does(DOWN)
    assert shown(world.found()) == [(BANK, [100], False, "register")]


def test_the_breaker_hears_of_a_provider_once_a_lookup():
    """However many persons were asked for; one answer among failures shows that the provider is there."""
    world = LookupWorld(bank())
    for person in (PERSON, PARTNER):
        world.store(loan(100), person=person)
    for partner, verdict in ((DOWN, "failed"), ((loan(1),), "answered")):
        world.breaker.told.clear()
        world.does({PERSON: DOWN, PARTNER: partner})
        world.debt.of_many([PERSON, PARTNER], deadline=world.clock() + 1, now=NOW)
        assert world.breaker.told == [("may ask", BANK, PROVIDER), (verdict, BANK, PROVIDER)]


# Reading


def test_times_are_read_before_items():
    """A dataset that is committed in between has written its items by then."""
    world = LookupWorld(bank())
    world.found()
    assert world.order == ["times", "items"]


def test_institutions_come_by_their_id():
    """Whatever the order in which they are set up, stored, or answer."""
    world = LookupWorld(bank(OTHER_BANK), bank(THIRD_BANK), bank())
    for name in (OTHER_BANK, BANK, THIRD_BANK):
        world.store(loan(1), of=name)
        world.answers(loan(1), of=name)
    assert [debt.institution for debt in world.found()] == sorted([BANK, OTHER_BANK, THIRD_BANK])


def test_each_person_gets_their_own():
    """Several persons in one call, in their order."""
    world = LookupWorld(bank(), bank(OTHER_BANK))
    world.store(loan(1))
    world.store(loan(2), person=PARTNER)
    world.store(loan(3), of=OTHER_BANK, person=PARTNER)
    world.does(DOWN)
    world.answers(loan(30), of=OTHER_BANK)
    first, second = world.debt.of_many([PERSON, PARTNER], deadline=world.clock() + 1, now=NOW)
    assert shown(first) == [(BANK, [1], False, "register")]
    assert shown(second) == [(BANK, [2], False, "register"), (OTHER_BANK, [30], True, "institution")]
    assert world.debt.of_many([], deadline=world.clock() + 1, now=NOW) == []


# Against a plain model

FLAGS = st.booleans()
NAMES = (BANK, OTHER_BANK, THIRD_BANK)
ACTIONS = st.sampled_from(["answers", "answers none", "is down", "breaker open"])


@st.composite
def worlds(draw: Any) -> tuple[LookupWorld, dict[str, Any]]:
    """Up to three institutions with up to three providers in all states, and what each provider does and stores.

    Each provider has its own accounts, and pushes are newer than all datasets: which word is the newest is the merge
    rule's own test. Here it is about whose word counts.
    """
    plans: dict[str, Any] = {}
    institutions: list[Institution] = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1)):
        providers, plan = [], {}
        for number in range(draw(st.integers(1, 3))):
            url = draw(FLAGS)
            dataset_url = draw(FLAGS)
            provider = server(
                name,
                number,
                url="https://fi.example.no/v1" if url else None,
                dataset_url="https://fi.example.no/all" if dataset_url else None,
                ended=draw(FLAGS) and draw(FLAGS),
            )
            providers.append(provider)
            plan[provider.provider] = {
                "committed": draw(FLAGS) if provider.delivers_datasets else False,
                "stored": draw(st.sampled_from(["nothing", "index", "loan"]))
                if provider.delivers_datasets
                else "nothing",
                "pushed": draw(FLAGS),
                "does": draw(ACTIONS),
            }
        mode: LookupMode = draw(st.sampled_from(["live", "stored", "both"]))
        institutions.append(bank(name, *providers, lookup=mode, ended=draw(FLAGS) and draw(FLAGS)))
        plans[name] = plan
    world = LookupWorld(*institutions)
    for institution in institutions:
        name = institution.institution
        for number, provider in enumerate(institution.providers):
            plan = plans[name][provider.provider]
            subject = (name, provider.provider)
            if not plan["committed"]:
                world.partners.as_of.pop(subject, None)
            if plan["stored"] != "nothing":
                world.store(
                    *([loan(1, f"{provider.provider}-stored")] if plan["stored"] == "loan" else []),
                    of=name,
                    number=number,
                )
            if plan["pushed"]:
                world.push(loan(2, f"{provider.provider}-pushed", tick=50), of=name, number=number)
            if plan["does"] == "breaker open":
                world.breaker.open.add(subject)
            elif plan["does"] == "is down":
                world.does(DOWN, of=name, number=number)
            else:
                world.answers(
                    *([loan(3, f"{provider.provider}-live")] if plan["does"] == "answers" else []),
                    of=name,
                    number=number,
                )
    return world, plans


class Expected(NamedTuple):
    """What the model says of one institution."""

    asked: set[str]
    accounts: set[str]
    answered: bool
    source: str


def expected_of(institution: Institution, plan: dict[str, Any]) -> Expected:
    """The plain model: sets of providers, no items, no times."""
    here = {provider.provider: provider for provider in institution.providers}
    in_register = {name for name in here if plan[name]["stored"] != "nothing" or plan[name]["pushed"]}
    in_index_only = {name for name in here if plan[name]["stored"] == "index"}
    committed = {name for name in here if plan[name]["committed"]}
    silent = institution.ended or institution.lookup == "stored"
    reachable = {name for name, provider in here.items() if provider.url and not provider.ended and not silent}
    to_ask = reachable if in_register - reachable else in_register
    if institution.lookup == "live":
        to_ask = to_ask | reachable - committed
    answered = {name for name in to_ask if plan[name]["does"].startswith("answers")}
    missing = to_ask - answered
    delivering = {name for name, provider in here.items() if provider.delivers_datasets and not provider.ended}
    ended = {name for name, provider in here.items() if provider.ended}
    out_of_date = answered | (ended if to_ask and delivering <= answered else set())
    hidden = out_of_date
    if to_ask and institution.lookup == "live":
        hidden = reachable | (ended if delivering <= reachable else set())
    uncovered = bool((delivering | committed) - out_of_date) or not answered
    accounts = {f"{name}-live" for name in answered if plan[name]["does"] == "answers"}
    for name in here.keys() - hidden:
        if plan[name]["stored"] == "loan":
            accounts.add(f"{name}-stored")
        if plan[name]["pushed"] and (uncovered or name in delivering | committed):
            accounts.add(f"{name}-pushed")
    if in_index_only - hidden:
        return Expected(to_ask, accounts, False, "none")
    if not to_ask:
        return Expected(to_ask, accounts, True, "register")
    if not missing:
        return Expected(to_ask, accounts, True, "institution")
    unheard_of = here.keys() - in_register - committed
    unknown = missing & (in_index_only | (set() if ended & committed else unheard_of))
    known = institution.lookup == "both" and not unknown
    return Expected(to_ask, accounts, False, "register" if known else "none")


@given(worlds())
def test_every_world_is_looked_up_as_the_plain_model_says(drawn):
    """Whatever institutions are set up as, have stored and do: asked, shown, answered and source are the model's."""
    world, plans = drawn
    found = {
        debt.institution: ({current.loan.account_id for current in debt.loans}, debt.answered, debt.source)
        for debt in world.found()
    }
    expected = {}
    for institution in world.partners.known:
        name, plan = institution.institution, plans[institution.institution]
        model = expected_of(institution, plan)
        if model.asked or model.accounts or not model.answered:
            expected[name] = model[1:]
        heard = {provider for of, provider in asked(world) if of == name}
        assert heard == {provider for provider in model.asked if plan[provider]["does"] != "breaker open"}
    assert found == expected


def test_the_key_of_the_register_is_the_persons():
    """The register is asked by keyed hash; only institutions hear the number."""
    world = LookupWorld(bank())
    world.register.items = {PERSON: []}
    world.store(loan(1))
    world.answers()
    world.found()
    assert world.servers.asked == [(BANK, PROVIDER, PERSON)]
