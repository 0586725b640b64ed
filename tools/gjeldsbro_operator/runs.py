"""Start a flow, wait for it and show what it did."""

import json
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gjeldsbro_operator.stack import Stack

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Flow:
    """One of the stack's state machines."""

    name: str
    """As the PartnerTable names it."""
    prefix: str
    """Start of the names of the runs that operators start."""
    output: str
    """The stack output with its ARN."""


NIGHTLY = Flow("nightly", "night", "NightlyFetchStateMachineArn")
EXPORT = Flow("export", "export", "QuarterlyExportStateMachineArn")


@dataclass(frozen=True)
class Execution:
    """A started run."""

    run: str
    arn: str


@dataclass(frozen=True)
class Ending:
    """How a run ended: Step Functions' status, its error, and the outcomes by subject."""

    state: str
    error: str | None
    outcomes: dict[str, dict[str, Any]]

    def sentence(self, execution: Execution) -> str:
        """How the run ended, in a line."""
        return f"{execution.run}: {self.state.lower()}" + (f": {self.error}" if self.error else "")


def start(stack: Stack, flow: Flow, request: dict[str, Any], now: datetime | None = None) -> Execution:
    """Start a run; its name is the execution's."""
    run = f"{flow.prefix}-{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{token_hex(2)}"
    answer = stack.state_machines.start_execution(
        stateMachineArn=stack.output(flow.output), name=run, input=json.dumps(request)
    )
    return Execution(run, answer["executionArn"])


def wait(
    stack: Stack,
    execution: Execution,
    what: str,
    expected: Collection[str],
    *,
    show_progress: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Ending:
    """Wait until the run has ended, with a progress bar on standard error.

    ``expected`` are the subjects that will have an outcome, ``what`` names them beside the bar.
    """
    progress = _progress() if show_progress else None
    shown: AbstractContextManager[Any] = progress or nullcontext()
    with shown:
        bar = progress.add_task(what, total=len(expected)) if progress else None
        while True:
            description = stack.state_machines.describe_execution(executionArn=execution.arn)
            ended = description["status"] not in {"RUNNING", "PENDING_REDRIVE"}
            if progress is not None or ended:
                outcomes = stack.partners.outcomes(execution.run)
                if progress is not None and bar is not None:
                    progress.update(bar, completed=len(outcomes.keys() & set(expected)))
            if ended:
                return Ending(description["status"], _error(dict(description)), outcomes)
            sleep(POLL_SECONDS)


def _progress() -> Progress | None:
    """A bar on standard error, or none where nobody would see it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _error(description: dict[str, Any]) -> str | None:
    """Error and cause of a failed execution; both are class names, places and rules, never data."""
    parts = [description[name] for name in ("error", "cause") if description.get(name)]
    return ": ".join(parts) or None
