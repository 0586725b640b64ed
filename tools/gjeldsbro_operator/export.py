"""``gjeldsbro export``."""

import argparse
from datetime import UTC, datetime
from typing import Any

from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.errors import ConfigurationError
from gjeldsbro_operator.nightly import outcome_reason
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.runs import EXPORT, Ending, Execution, start, wait
from gjeldsbro_operator.stack import Stack

_GOOD = frozenset({"delivered", "already-delivered"})
_FIGURES = ("customers", "loans", "bytes")
_COLUMNS = ("Receiver", "On behalf of", "Status", "Customers", "Loans", "Bytes", "Why")


def run(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Start the quarterly export for all receivers, or for one."""
    expected = _expected(stack, arguments.receiver)
    if not expected:
        raise ConfigurationError("there are no receivers")
    request: dict[str, Any] = {}
    if arguments.receiver is not None:
        request["receiver"] = arguments.receiver
    if arguments.quarter is not None:
        request["quarter"] = str(arguments.quarter)
    if arguments.again:
        request |= {"again": True, "reason": arguments.reason}
    subject = "all receivers" if arguments.receiver is None else f"receiver {arguments.receiver}"
    quarter = arguments.quarter or Quarter.of(datetime.now(UTC))
    action = "export run again" if arguments.again else "export run"
    stack.record(action, f"{subject}, quarter {quarter}", arguments.reason)
    execution = start(stack, EXPORT, request)
    if not arguments.wait:
        return Result(
            {"run": execution.run, "executionArn": execution.arn, "deliveries": sorted(expected)},
            lines=[f"Started {execution.run}: {len(expected)} deliveries. See `gjeldsbro export status`."],
        )
    ending = wait(stack, execution, "deliveries", expected, show_progress=not arguments.json)
    return _result(execution, expected, ending)


def _expected(stack: Stack, receiver: str | None) -> list[str]:
    """The deliveries that a run is to make."""
    receivers = stack.partners.receivers()
    if receiver is not None:
        receivers = [candidate for candidate in receivers if candidate.receiver == receiver]
        if not receivers:
            raise ConfigurationError(f"there is no receiver {receiver}")
    return [f"{candidate.receiver}#{number}" for candidate in receivers for number in candidate.on_behalf_of]


def _result(execution: Execution, expected: list[str], ending: Ending) -> Result:
    outcomes = {subject: ending.outcomes.get(subject, {"status": "missing"}) for subject in expected}
    outcomes |= {subject: outcome for subject, outcome in ending.outcomes.items() if "#" in subject}
    ok = ending.state == "SUCCEEDED" and all(outcomes[subject].get("status") in _GOOD for subject in expected)
    value = {
        "run": execution.run,
        "state": ending.state,
        "error": ending.error,
        "deliveries": [_named(subject, outcome) for subject, outcome in outcomes.items()],
    }
    lines = [ending.sentence(execution), "`gjeldsbro export status` shows what was delivered this quarter."]
    if any(outcome.get("status") == "already-delivered" for outcome in outcomes.values()):
        lines.append("What was delivered this quarter is not delivered again without --again --reason TEXT.")
    rows = [_row(subject, outcome) for subject, outcome in outcomes.items()]
    return Result(value, [Shown("Deliveries", _COLUMNS, rows)], lines, ok)


def status(stack: Stack, arguments: argparse.Namespace) -> Result:
    """The deliveries of a quarter: what there is, and what is not there yet."""
    quarter = str(arguments.quarter or Quarter.of(datetime.now(UTC)))
    known = stack.partners.deliveries(quarter)
    deliveries: dict[str, dict[str, Any]] = {
        subject: known.get(subject, {"state": "not delivered"}) for subject in {*_expected(stack, None), *known}
    }
    columns = ("Receiver", "On behalf of", "State", "Customers", "Loans", "Bytes", "Run", "Ended", "Why")
    rows = []
    for subject, delivery in sorted(deliveries.items()):
        receiver, _, on_behalf_of = subject.partition("#")
        state = delivery.get("state")
        at = moment(delivery.get("finishedAt"))
        counts = (delivery.get(name) for name in _FIGURES)
        rows.append((receiver, on_behalf_of, state, *counts, delivery.get("run"), at, outcome_reason(delivery)))
    value = {"quarter": quarter, "deliveries": [_named(subject, delivery) for subject, delivery in deliveries.items()]}
    return Result(value, [Shown(f"Deliveries of {quarter}", columns, rows)])


def _named(subject: str, outcome: dict[str, Any]) -> dict[str, Any]:
    receiver, _, on_behalf_of = subject.partition("#")
    return {"receiver": receiver, "onBehalfOf": on_behalf_of, **outcome}


def _row(subject: str, outcome: dict[str, Any]) -> tuple[Any, ...]:
    named = _named(subject, outcome)
    counts = (outcome.get(name) for name in _FIGURES)
    return named["receiver"], named["onBehalfOf"], named.get("status"), *counts, outcome_reason(outcome)
