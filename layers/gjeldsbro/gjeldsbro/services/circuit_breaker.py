"""Leaves an institution that keeps failing alone for a while, and finds out by itself when it is well again.

Each lookup would otherwise wait for it until its deadline, and the institution would get more questions the worse it
does. After ``FAILURES`` failures in a row nobody asks for half a minute; then one caller tries while the others go on
without: one with a fair time, because what a time-out says depends on how long one waited. If it fails too, the pause
doubles, up to ten minutes; one good answer ends it. The state is shared by all processes: each sees few questions, so
alone none would learn enough. What a process knows of it may be ``KEPT`` old. The decisions are pure functions of the
state and the time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol

from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.log import logger

FAILURES = 5
"""Failures in a row, over all processes, until an institution is left alone."""

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=10)

TRY_TIME = timedelta(seconds=30)
"""How long the one caller that tries has. If nothing is heard of it by then, another may try: it may have died."""

LEFT_TO_OTHERS = timedelta(seconds=30)
"""How long a try is left to callers with a fair time. Then any may try, or nobody would where all waits are short."""

KEPT = timedelta(seconds=5)


@dataclass(frozen=True)
class BreakerState:
    """What is known of a provider that failed lately. Points in time are in the fixed form of ``domain.timestamps``.

    ``failures`` in a row; ``pauses`` in a row, of which the first began at ``since``; nobody asks before ``until``,
    and if ``trying``, that is because one caller tries. Without ``until`` it is asked as usual.
    """

    institution: str
    provider: str
    failures: int
    pauses: int = 0
    since: str | None = None
    until: str | None = None
    trying: bool = False


class BreakerStore(Protocol):
    """The state that all processes share."""

    def states(self) -> list[BreakerState]:
        """Of all providers that failed since they last answered."""
        ...

    def add_failure(self, institution: str, provider: str, now: datetime) -> BreakerState:
        """Count one more failure, and give the state after it."""
        ...

    def change(self, state: BreakerState, seen: str | None, now: datetime) -> bool:
        """Store all but the failures, if ``until`` is still what was ``seen``; False when it is not, or all is gone."""
        ...

    def remove(self, institution: str, provider: str) -> BreakerState | None:
        """Forget a provider's failures, and give what was known of them."""
        ...


def is_open(state: BreakerState, now: datetime) -> bool:
    """Whether nobody is to ask now.

    A pause that is longer than any of ours was written by a clock that is wrong, and does not count.
    """
    return state.until is not None and now < to_datetime(state.until) <= now + LONGEST_PAUSE


def is_left_to_others(state: BreakerState, now: datetime) -> bool:
    """Whether a caller without a fair time is not to try yet, after a pause or a try of which nothing was heard."""
    return state.until is not None and timedelta() <= now - to_datetime(state.until) < LEFT_TO_OTHERS


def after_failure(state: BreakerState, now: datetime) -> BreakerState | None:
    """What becomes of a state in which a failure was just counted; None when nothing else changes."""
    if state.until is None:
        if state.failures < FAILURES:
            return None
    elif is_open(state, now) and not state.trying:
        return None  # asked before the pause began
    pause = min(FIRST_PAUSE * 2 ** min(state.pauses, 10), LONGEST_PAUSE)
    return replace(
        state,
        pauses=state.pauses + 1,
        since=state.since or from_datetime(now),
        until=from_datetime(now + pause),
        trying=False,
    )


def to_try(state: BreakerState, now: datetime) -> BreakerState:
    """The state in which one caller tries."""
    return replace(state, until=from_datetime(now + TRY_TIME), trying=True)


class CircuitBreaker:
    """Fulfils ``services.customer_debt.Breaker``. For all threads of a process; no fault of the store gets out of it.

    When the store cannot be reached the last known state holds, and where a try cannot be claimed everybody tries:
    without the breaker a lookup is slower, without an answer it is worth less.
    """

    def __init__(self, store: BreakerStore, *, kept: timedelta = KEPT) -> None:
        self._store = store
        self._kept = kept
        self._states: dict[tuple[str, str], BreakerState] = {}
        self._read_at: datetime | None = None
        self._lock = Lock()

    def may_ask(self, institution: str, provider: str, now: datetime, *, fair: bool = True) -> bool:
        """Whether to ask this provider now: yes in good times, and after a pause for the one caller that tries.

        ``fair``: the provider will have the time that it must have for a time-out to count against it.
        """
        self._refresh(now)
        state = self._known(institution, provider)
        if state is None or state.until is None:
            return True
        if is_open(state, now) or (not fair and is_left_to_others(state, now)):
            return False
        tried = to_try(state, now)
        won = True
        with _surviving():
            won = self._store.change(tried, state.until, now)
            # Whoever won: for the moment somebody tries.
            self._note(tried)
        return won

    def failed(self, institution: str, provider: str, now: datetime) -> None:
        """It was asked and did not answer as it should: no answer in a fair time, an error, or one that is refused."""
        with _surviving():
            state = self._store.add_failure(institution, provider, now)
            opened = after_failure(state, now)
            if opened is not None and self._store.change(opened, state.until, now):
                logger.warning("BREAKER_OPENED", extra=_shown(opened))
                state = opened
            self._note(state)

    def answered(self, institution: str, provider: str, now: datetime) -> None:
        """It answered; () is an answer too. Costs nothing unless it had failed before."""
        if self._known(institution, provider) is None:
            return
        with _surviving():
            before = self._store.remove(institution, provider)
            with self._lock:
                self._states.pop((institution, provider), None)
            if before is not None and before.until is not None:
                logger.info("BREAKER_CLOSED", extra=_shown(before) | {"at": from_datetime(now)})

    def _known(self, institution: str, provider: str) -> BreakerState | None:
        with self._lock:
            return self._states.get((institution, provider))

    def _note(self, state: BreakerState) -> None:
        with self._lock:
            self._states[state.institution, state.provider] = state

    def _refresh(self, now: datetime) -> None:
        with self._lock:
            # Also after a clock that was set back. While one thread reads, the others go by what was known.
            if self._read_at is not None and abs(now - self._read_at) < self._kept:
                return
            self._read_at = now
        with _surviving():
            states = {(state.institution, state.provider): state for state in self._store.states()}
            with self._lock:
                self._states = states


@contextmanager
def _surviving() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - whatever is wrong with the store, the lookup goes on
        logger.warning("BREAKER_STORE_FAILED", extra={"error": type(exc).__name__})


def _shown(state: BreakerState) -> dict[str, object]:
    return {
        "institution": state.institution,
        "provider": state.provider,
        "failures": state.failures,
        "since": state.since,
        "until": state.until,
    }
