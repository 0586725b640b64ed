"""The circuit breaker: whoever keeps failing is left alone, by one shared state, and recovers by itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.services.circuit_breaker import (
    FAILURES,
    FIRST_PAUSE,
    KEPT,
    LEFT_TO_OTHERS,
    LONGEST_PAUSE,
    TRY_TIME,
    BreakerState,
    CircuitBreaker,
    after_failure,
    is_open,
)

FI = "920013015"
PROVIDER = "9908:920013015"
OTHER = "985815534"
START = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class StoreError(Exception):
    """The store cannot be reached. Its text could hold anything."""


@dataclass
class FakeStore:
    """The shared state, each change atomic as in DynamoDB."""

    items: dict[tuple[str, str], BreakerState] = field(default_factory=dict)
    broken: bool = False
    reads: int = 0
    writes: int = 0

    def _touch(self) -> None:
        if self.broken:
            raise StoreError("17912099997")

    def states(self) -> list[BreakerState]:
        """All of it."""
        self._touch()
        self.reads += 1
        return list(self.items.values())

    def add_failure(self, institution: str, provider: str, _now: datetime) -> BreakerState:
        """One more."""
        self._touch()
        self.writes += 1
        before = self.items.get((institution, provider), BreakerState(institution, provider, 0))
        self.items[institution, provider] = replace(before, failures=before.failures + 1)
        return self.items[institution, provider]

    def change(self, state: BreakerState, seen: str | None, _now: datetime) -> bool:
        """On the condition that nobody else has."""
        self._touch()
        self.writes += 1
        before = self.items.get((state.institution, state.provider))
        if before is None or before.until != seen:
            return False
        self.items[state.institution, state.provider] = replace(state, failures=before.failures)
        return True

    def remove(self, institution: str, provider: str) -> BreakerState | None:
        """All that is known of one."""
        self._touch()
        self.writes += 1
        return self.items.pop((institution, provider), None)


@pytest.fixture
def store() -> FakeStore:
    """Empty."""
    return FakeStore()


def process(store: FakeStore, *, kept: timedelta = timedelta()) -> CircuitBreaker:
    """A process's breaker; by default it looks at the store each time."""
    return CircuitBreaker(store, kept=kept)


def fail(breaker: CircuitBreaker, now: datetime, times: int = FAILURES) -> None:
    """So many failures."""
    for _ in range(times):
        breaker.failed(FI, PROVIDER, now)


# What opens and closes it


def test_five_failures_in_a_row_open_it_for_half_a_minute(store) -> None:
    """Whichever process saw them; one fewer, or another institution's, do not count."""
    one, other = process(store), process(store)
    fail(one, START, 2)
    fail(other, START, FAILURES - 3)
    assert one.may_ask(FI, PROVIDER, START)
    fail(one, START, 1)
    for breaker in (one, other, process(store)):
        assert not breaker.may_ask(FI, PROVIDER, START)
        assert not breaker.may_ask(FI, PROVIDER, START + FIRST_PAUSE - SECOND)
        assert breaker.may_ask(OTHER, PROVIDER, START)
        assert breaker.may_ask(FI, "9908:985815534", START)


def test_a_success_in_between_begins_the_count_anew(store) -> None:
    """In a row means in a row; () is an answer like any other."""
    breaker = process(store)
    for _ in range(3):
        fail(breaker, START, FAILURES - 1)
        assert breaker.may_ask(FI, PROVIDER, START)
        breaker.answered(FI, PROVIDER, START)
    assert store.items == {}


def test_after_the_pause_one_caller_tries_and_the_others_go_on_without(store) -> None:
    """Of all processes, also of those that looked at the same moment."""
    breakers = [process(store) for _ in range(5)]
    fail(breakers[0], START)
    due = START + FIRST_PAUSE
    before = store.states()
    store.states = lambda: before  # all of them read before any of them claims
    assert sorted(breaker.may_ask(FI, PROVIDER, due) for breaker in breakers) == [False] * 4 + [True]
    assert not any(breaker.may_ask(FI, PROVIDER, due) for breaker in breakers[1:])


def test_a_good_try_closes_it_for_everybody(store) -> None:
    """Nothing of the failures is left."""
    one, other = process(store), process(store)
    fail(one, START)
    due = START + FIRST_PAUSE
    assert other.may_ask(FI, PROVIDER, due)
    other.answered(FI, PROVIDER, due + SECOND)
    assert store.items == {}
    assert one.may_ask(FI, PROVIDER, due + SECOND)


def test_each_failed_try_doubles_the_pause_up_to_ten_minutes(store) -> None:
    """And not more than once a try, however many questions were under way."""
    breaker = process(store)
    fail(breaker, START)
    now, pauses = START, []
    for _ in range(8):
        state = store.items[FI, PROVIDER]
        pauses.append(to_datetime(state.until) - now)
        now = to_datetime(state.until)
        assert breaker.may_ask(FI, PROVIDER, now)
        fail(breaker, now, 3)
    assert [pause.total_seconds() for pause in pauses] == [30, 60, 120, 240, 480, 600, 600, 600]
    assert store.items[FI, PROVIDER].since == from_datetime(START)


def test_questions_that_were_under_way_do_not_make_it_worse(store) -> None:
    """They were put before the pause began, and say nothing new."""
    breaker = process(store)
    fail(breaker, START, FAILURES + 20)
    assert store.items[FI, PROVIDER].until == from_datetime(START + FIRST_PAUSE)


def test_a_question_that_was_under_way_may_close_it(store) -> None:
    """A good answer is a good answer."""
    breaker = process(store)
    fail(breaker, START)
    breaker.answered(FI, PROVIDER, START + SECOND)
    assert breaker.may_ask(FI, PROVIDER, START + SECOND)


def test_a_try_of_which_nothing_is_heard_is_given_to_another(store) -> None:
    """The process may have died, or its lender hung up."""
    one, other = process(store), process(store)
    fail(one, START)
    due = START + FIRST_PAUSE
    assert one.may_ask(FI, PROVIDER, due)
    assert not other.may_ask(FI, PROVIDER, due + TRY_TIME - SECOND)
    assert other.may_ask(FI, PROVIDER, due + TRY_TIME)
    assert not one.may_ask(FI, PROVIDER, due + TRY_TIME)


def test_a_try_is_left_to_callers_with_a_fair_time_for_half_a_minute(store) -> None:
    """A short one's time-out would say nothing; where all are short, one of them tries then, or nobody ever would."""
    short, fair = process(store), process(store)
    fail(short, START)
    due = START + FIRST_PAUSE
    assert not short.may_ask(FI, PROVIDER, due, fair=False)
    assert not short.may_ask(FI, PROVIDER, due + LEFT_TO_OTHERS - SECOND, fair=False)
    assert store.items[FI, PROVIDER].until == from_datetime(due)
    assert fair.may_ask(FI, PROVIDER, due + LEFT_TO_OTHERS - SECOND)
    due += LEFT_TO_OTHERS - SECOND + TRY_TIME
    assert not short.may_ask(FI, PROVIDER, due, fair=False)
    assert short.may_ask(FI, PROVIDER, due + LEFT_TO_OTHERS, fair=False)
    assert not fair.may_ask(FI, PROVIDER, due + LEFT_TO_OTHERS)


def test_short_callers_ask_in_good_times(store) -> None:
    """Also while failures are counted, and when a wrong clock wrote the pause."""
    breaker = process(store)
    assert breaker.may_ask(FI, PROVIDER, START, fair=False)
    fail(breaker, START, FAILURES - 1)
    assert breaker.may_ask(FI, PROVIDER, START, fair=False)
    fail(breaker, START + timedelta(hours=1), 1)
    assert breaker.may_ask(FI, PROVIDER, START, fair=False)


def test_a_success_between_the_last_failure_and_the_opening_keeps_it_closed(store) -> None:
    """The count was of an institution that has just answered."""
    breaker = process(store)
    fail(breaker, START, FAILURES - 1)
    counted = store.add_failure
    store.add_failure = lambda *given: (counted(*given), store.remove(FI, PROVIDER))[0]
    breaker.failed(FI, PROVIDER, START)
    assert store.items == {}
    assert process(store).may_ask(FI, PROVIDER, START)


# What it costs


def test_a_well_institution_costs_a_read_every_five_seconds_and_no_write(store) -> None:
    """However many questions there are."""
    breaker = process(store, kept=KEPT)
    for tenths in range(200):
        now = START + tenths * SECOND / 10
        assert breaker.may_ask(FI, PROVIDER, now)
        breaker.answered(FI, PROVIDER, now)
    assert (store.reads, store.writes) == (4, 0)


def test_the_first_success_after_failures_is_written_and_no_more(store) -> None:
    """One write ends it."""
    breaker = process(store, kept=KEPT)
    fail(breaker, START, 1)
    for _ in range(5):
        breaker.answered(FI, PROVIDER, START)
    assert store.writes == 2


def test_nobody_writes_while_it_is_open(store) -> None:
    """Whoever does not ask has nothing to tell."""
    breaker = process(store, kept=KEPT)
    fail(breaker, START)
    before = store.writes
    for seconds in range(int(FIRST_PAUSE.total_seconds())):
        assert not breaker.may_ask(FI, PROVIDER, START + seconds * SECOND)
    assert store.writes == before


# What goes wrong around it


def test_no_fault_of_the_store_fails_a_lookup(store, log_stream) -> None:
    """It is logged by its class: its text could hold anything. Without the store everybody is asked."""
    breaker = process(store)
    store.broken = True
    assert breaker.may_ask(FI, PROVIDER, START)
    fail(breaker, START)
    breaker.answered(FI, PROVIDER, START)
    assert breaker.may_ask(FI, PROVIDER, START)
    logged = log_stream.getvalue()
    assert "BREAKER_STORE_FAILED" in logged
    assert "StoreError" in logged
    assert "17912099997" not in logged


def test_a_store_that_fails_leaves_the_last_known_state_in_force(store) -> None:
    """For the pause; a try that cannot be claimed is made by everybody."""
    breaker = process(store)
    fail(breaker, START)
    store.broken = True
    assert not breaker.may_ask(FI, PROVIDER, START + SECOND)
    assert breaker.may_ask(FI, PROVIDER, START + FIRST_PAUSE)
    breaker.answered(FI, PROVIDER, START + FIRST_PAUSE)
    store.broken = False
    assert breaker.may_ask(FI, PROVIDER, START + FIRST_PAUSE)


def test_a_store_that_cannot_be_read_is_not_asked_each_time(store) -> None:
    """Each attempt may cost seconds of a lender's wait."""
    breaker = process(store, kept=KEPT)
    attempts: list[int] = []

    def refuse() -> list[BreakerState]:
        attempts.append(1)
        raise StoreError

    store.states = refuse
    for tenths in range(49):
        breaker.may_ask(FI, PROVIDER, START + tenths * SECOND / 10)
    assert len(attempts) == 1


@pytest.mark.parametrize("wrong_by", [timedelta(hours=1), timedelta(days=400), -timedelta(hours=1)])
def test_a_clock_that_is_wrong_does_not_keep_an_institution_away(store, wrong_by) -> None:
    """A pause that is longer than any of ours does not count; neither does a cache from the future."""
    fail(process(store), START + wrong_by)
    assert process(store).may_ask(FI, PROVIDER, START)
    breaker = process(store, kept=KEPT)
    assert breaker.may_ask(FI, PROVIDER, START + wrong_by + LONGEST_PAUSE)
    store.items.clear()
    fail(process(store), START)
    assert not breaker.may_ask(FI, PROVIDER, START)


def test_opening_and_closing_are_logged_once(store, log_stream) -> None:
    """With whom it is about and since when, for the operators."""
    breakers = [process(store) for _ in range(3)]
    for breaker in breakers:
        fail(breaker, START, 3)
    due = START + FIRST_PAUSE
    assert breakers[0].may_ask(FI, PROVIDER, due)
    for breaker in breakers:
        breaker.may_ask(FI, PROVIDER, due)
        breaker.answered(FI, PROVIDER, due + SECOND)
    lines = [json.loads(line) for line in log_stream.getvalue().splitlines()]
    opened, closed = lines
    assert (opened["message"], opened["level"]) == ("BREAKER_OPENED", "WARNING")
    assert (opened["institution"], opened["provider"], opened["failures"]) == (FI, PROVIDER, FAILURES)
    assert opened["until"] == from_datetime(due)
    assert (closed["message"], closed["level"]) == ("BREAKER_CLOSED", "INFO")
    assert (closed["since"], closed["at"]) == (from_datetime(START), from_datetime(due + SECOND))


# Against a plain model


class Model:
    """One institution's breaker as one would explain it: seconds, and no store."""

    def __init__(self) -> None:
        self.failures = 0
        self.pauses = 0
        self.until: float | None = None
        self.trying = False

    def may_ask(self, now: float) -> bool:
        """Yes while it is closed, and once after each pause or lost try."""
        if self.until is None:
            return True
        if now < self.until:
            return False
        self.trying = True
        self.until = now + 30
        return True

    def failed(self, now: float) -> None:
        """Opens after the fifth; a failed try opens it for longer."""
        self.failures += 1
        first = self.until is None and self.failures >= 5
        again = self.until is not None and (self.trying or now >= self.until)
        if first or again:
            self.until = now + min(30 * 2**self.pauses, 600)
            self.pauses += 1
            self.trying = False

    def answered(self) -> None:
        """As new."""
        self.__init__()


class BreakerAndModel(RuleBasedStateMachine):
    """Three processes that share a store, one of them new every now and then, against the model of one."""

    @initialize()
    def begin(self) -> None:
        """Nothing has happened."""
        self.store = FakeStore()
        self.processes = [process(self.store) for _ in range(3)]
        self.model = Model()
        self.seconds = 0.0

    @property
    def now(self) -> datetime:
        """The time in the breaker's form."""
        return START + timedelta(seconds=self.seconds)

    def tell(self, number: int, *, good: bool) -> None:
        """Tell a process how a question ended."""
        # A process that answers has looked at the store for its question.
        breaker = self.processes[number]
        if good:
            breaker._refresh(self.now)
            breaker.answered(FI, PROVIDER, self.now)
            self.model.answered()
        else:
            breaker.failed(FI, PROVIDER, self.now)
            self.model.failed(self.seconds)

    @rule(number=st.integers(0, 2), takes=st.integers(0, 40), good=st.booleans())
    def ask(self, number: int, takes: int, good: bool) -> None:
        """A lookup, from its beginning to its end."""
        expected = self.model.may_ask(self.seconds)
        assert self.processes[number].may_ask(FI, PROVIDER, self.now) == expected
        if expected:
            self.seconds += takes
            self.tell(number, good=good)

    @rule(number=st.integers(0, 2), good=st.booleans())
    def end_of_a_question_of_before(self, number: int, good: bool) -> None:
        """It was put at some time, and ends now."""
        self.tell(number, good=good)

    @rule(number=st.integers(0, 2))
    def a_lender_hangs_up(self, number: int) -> None:
        """Nothing is heard of the question."""
        assert self.processes[number].may_ask(FI, PROVIDER, self.now) == self.model.may_ask(self.seconds)

    @rule(seconds=st.one_of(st.integers(0, 700), st.sampled_from([30, 60, 120, 240, 480, 600])))
    def wait(self, seconds: int) -> None:
        """Time goes by."""
        self.seconds += seconds

    @rule(number=st.integers(0, 2))
    def start_a_process_anew(self, number: int) -> None:
        """It remembers nothing."""
        self.processes[number] = process(self.store)

    @invariant()
    def never_longer_than_ten_minutes(self) -> None:
        """Whatever happened."""
        if not hasattr(self, "store"):
            return
        for state in self.store.items.values():
            assert state.until is None or to_datetime(state.until) <= self.now + LONGEST_PAUSE


TestBreakerAndModel = BreakerAndModel.TestCase
TestBreakerAndModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@dataclass
class Life:
    """Lookups one after another in several processes with caches, at an institution that is down at times."""

    is_down: Callable[[float], bool]
    processes: int = 4
    every: float = 0.5
    answer_takes: float = 0.2
    asked_at: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """So many seconds of lookups."""
        store = FakeStore()
        breakers = [CircuitBreaker(store) for _ in range(self.processes)]
        at, turn = 0.0, 0
        while at < seconds:
            breaker = breakers[turn % len(breakers)]
            if breaker.may_ask(FI, PROVIDER, START + timedelta(seconds=at)):
                self.asked_at.append(at)
                done = START + timedelta(seconds=at + self.answer_takes)
                (breaker.failed if self.is_down(at) else breaker.answered)(FI, PROVIDER, done)
            at += self.every
            turn += 1


def test_an_institution_that_is_down_for_hours_is_hardly_asked() -> None:
    """Out of 28,800 lookups: the first five and what caches let through, then the tries, one at a time."""
    life = Life(lambda _: True)
    life.run(4 * 3600)
    first = [at for at in life.asked_at if at < 30]
    later = [at for at in life.asked_at if at >= 30]
    assert FAILURES <= len(first) <= FAILURES + KEPT.total_seconds() / life.every
    assert len(later) <= 30
    assert min(after - before for before, after in pairwise(later)) >= 30


@given(
    outages=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 2000)), max_size=3),
    processes=st.integers(1, 6),
    every=st.sampled_from([0.5, 2.0, 7.0]),
)
@settings(max_examples=25, deadline=None)
def test_it_recovers_by_itself_from_whatever_happened(outages, processes, every) -> None:
    """When the last outage is over, everybody asks again after the longest pause at the latest, and goes on asking."""
    well_from = max((begins + lasts for begins, lasts in outages), default=0)
    life = Life(
        lambda at: any(begins <= at < begins + lasts for begins, lasts in outages), processes=processes, every=every
    )
    again = well_from + LONGEST_PAUSE.total_seconds() + KEPT.total_seconds() + 2 * processes * every
    life.run(again + 100 * every)
    asked = [at for at in life.asked_at if at >= again]
    assert len(asked) >= 100


# The pure functions


@given(failures=st.integers(1, 10_000), pauses=st.integers(0, 10_000))
def test_no_count_makes_a_pause_longer_than_the_longest(failures, pauses) -> None:
    """Powers of two grow beyond what a timedelta can hold."""
    state = BreakerState(FI, PROVIDER, failures, pauses, from_datetime(START), from_datetime(START), trying=True)
    opened = after_failure(state, START)
    assert opened is not None
    assert is_open(opened, START)
    assert to_datetime(opened.until or "") - START <= LONGEST_PAUSE
