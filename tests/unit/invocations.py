"""Executions of a state machine whose function invocations can be stopped and ended anywhere, one of them at a time.

Each invocation is a thread that goes on only when it is told to, for so many pauses: others go on meanwhile, or it
never does.
"""

import json
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import cycle
from threading import Semaphore, Thread, current_thread
from typing import Any, Protocol

from gjeldsbro.errors import (
    DeliveryBusyError,
    GjeldsbroError,
    InstitutionUnavailableError,
    ReceiverUnavailableError,
)

INVOCATION_SECONDS = 900
ENDLESS = 1 << 30
REAL_SECONDS = 60
"""How long, by the real clock, an invocation may keep us waiting: what takes longer hangs, or sleeps."""


class KilledError(BaseException):
    """The invocation ended without warning: nothing of ours may catch this."""


class Surroundings(Protocol):
    """What invocations share: who is at work, and the time."""

    current: "Invocation | None"
    now: datetime


@dataclass
class Invocation:
    """One invocation of a function. It pauses wherever others may come in between, if it has a thread to do so."""

    world: Surroundings
    task: "Task"
    skew: timedelta
    ends: datetime
    hurried: bool
    thread: Thread | None = None
    budget: int = ENDLESS
    strike: BaseException | None = None
    done: bool = False
    result: Any = None
    error: BaseException | None = None
    _go: Semaphore = field(default_factory=lambda: Semaphore(0))
    _back: Semaphore = field(default_factory=lambda: Semaphore(0))

    def step(self, budget: int) -> int:
        """Go on for so many pauses; how many were used."""
        assert not self.done, f"{self.task.run}: an invocation that has ended cannot go on"
        if self.thread is None:
            self.thread = Thread(target=self._in_thread, daemon=True)
            self.thread.start()
        self.budget = budget
        self.world.current = self
        self._go.release()
        if not self._back.acquire(timeout=REAL_SECONDS):
            raise AssertionError(f"{self.task.run} did not come back; it is at\n{self._place()}")
        self.world.current = None
        return budget - self.budget

    def run(self) -> None:
        """Do it all without a thread."""
        self.world.current = self
        self._work()
        self.world.current = None

    def pause(self) -> None:
        """Others may go on here; and this may be its end."""
        if self.thread is not None and current_thread() is self.thread:
            self.budget -= 1
            if self.budget <= 0:
                self._back.release()
                self._wait()
            if self.world.now > self.ends:
                raise KilledError
            if self.strike is not None:
                strike, self.strike = self.strike, None
                raise strike

    def _wait(self) -> None:
        """Wait for one's turn; a story that has failed never gives it."""
        if not self._go.acquire(timeout=10 * REAL_SECONDS):
            raise KilledError

    def _place(self) -> str:
        assert self.thread is not None
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "".join(traceback.format_stack(frame))

    def _in_thread(self) -> None:
        self._wait()
        self._work()
        self._back.release()

    def _work(self) -> None:
        try:
            self.result = self.task.call()
        except BaseException as exc:  # noqa: BLE001 - whoever drives this looks at it
            self.error = exc
        self.done = True


@dataclass
class Task:
    """A step of a state machine: what it calls, and how often that is repeated when it was cut off."""

    run: str
    call: Callable[[], Any]
    kills: int = 1
    subject: tuple[str, str] | None = None
    withdraws: bool = False
    step: str = ""


Machine = Generator[Task, tuple[Any, dict[str, str] | None]]


class Execution:
    """A run on its way through its state machine."""

    def __init__(self, world: Surroundings, run: str, machine: Machine, skews: Iterable[int], *, hurried: bool) -> None:
        self.world = world
        self.run = run
        self.done = False
        self.haunted = False
        self._machine = machine
        self._skews = cycle(tuple(skews) or (0,))
        self._hurried = hurried
        self._give_up = False
        self._task = next(machine)
        self._failures: dict[str, int] = {}
        self.invocation = self._invocation()

    def step(self, budget: int) -> None:
        """Go on for so many pauses."""
        while budget > 0 and not self.done:
            budget -= max(1, self.invocation.step(budget))
            if self.invocation.done:
                self._ended()

    def reach(self, step: str) -> None:
        """Go on until such a step begins, or to the end."""
        while not self.done and self._task.step != step:
            self.step(1)

    def finish(self) -> None:
        """Go on to the end."""
        while not self.done:
            if self.invocation.thread is None:
                self.invocation.run()
            else:
                self.invocation.step(ENDLESS)
            self._ended()

    def strike(self, error: BaseException, *, give_up: bool = False) -> None:
        """Have the invocation end with ``error`` where it is; ``give_up``: it is not repeated."""
        self._give_up = give_up
        if self.invocation.thread is None:  # it has not begun
            self.invocation.error, self.invocation.done = error, True
        else:
            self.invocation.strike = error
            self.invocation.step(1)
        if self.invocation.done:
            self._ended()

    def abandon(self) -> None:
        """Somebody stops the execution: nothing of it follows."""
        if self.invocation.thread is not None and not self.invocation.done:
            self.invocation.strike = KilledError()
            self.invocation.step(ENDLESS)
        self.done = True

    def lose(self) -> Invocation | None:
        """The connection to the function is lost: the step is repeated while the function, returned, goes on alone."""
        lost = self.invocation
        if lost.thread is None or not self._task.kills:
            return None
        self.haunted = True
        self.invocation = self._invocation()
        return lost

    def _invocation(self) -> Invocation:
        seconds = timedelta(seconds=INVOCATION_SECONDS)
        skew = timedelta(seconds=next(self._skews))
        return Invocation(self.world, self._task, skew, self.world.now + seconds, self._hurried)

    def _ended(self) -> None:
        """What the state machine does when a function has ended."""
        error = self.invocation.error
        if error is None:
            self._go_on(self.invocation.result, None)
            return
        name = type(error).__name__
        allowed = {"KilledError": self._task.kills, "StoreUnavailableError": 6}.get(name, 0)
        if isinstance(error, InstitutionUnavailableError | ReceiverUnavailableError):
            allowed = 1
        elif isinstance(error, DeliveryBusyError):
            allowed = 5
            self.world.now += timedelta(minutes=5)
        elif not isinstance(error, KilledError | GjeldsbroError):
            raise error
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._failures[name] <= allowed and not self._give_up:
            self.invocation = self._invocation()
        elif isinstance(error, KilledError):
            self._go_on(None, {"Error": "Lambda.Unknown", "Cause": ""})
        else:
            self._go_on(None, {"Error": name, "Cause": json.dumps({"errorMessage": str(error)})})

    def _go_on(self, result: Any, error: dict[str, str] | None) -> None:
        self._failures, self._give_up = {}, False
        try:
            self._task = self._machine.send((result, error))
        except StopIteration:
            self.done = True
        else:
            self.invocation = self._invocation()
