"""``gjeldsbro nightly``."""

import argparse
from datetime import UTC, datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import Dataset
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.runs import NIGHTLY, Ending, Execution, start, wait
from gjeldsbro_operator.stack import Stack

_GOOD = frozenset({"loaded", "unchanged"})
_COLUMNS = ("Institution", "Provider", "Status", "Customers", "Added", "Changed", "Removed", "Unchanged", "Why")


def run(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Start a fetch of all institutions, or of one."""
    request: dict[str, Any] = {} if arguments.institution is None else {"institution": arguments.institution}
    action = "nightly run"
    if arguments.from_scratch:
        if arguments.reason is None:
            raise ConfigurationError("--from-scratch needs a --reason")
        request["fromScratch"] = True
        action = "nightly run --from-scratch"
    expected = _expected(stack, arguments.institution)
    if not expected:
        who = "no institution" if arguments.institution is None else f"no provider of {arguments.institution}"
        raise ConfigurationError(f"there is nothing to fetch: {who} delivers datasets")
    stack.record(action, _subject(arguments.institution), arguments.reason)
    return run_for(stack, arguments, request)


def release(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Fetch a held institution again without the hold."""
    datasets = stack.partners.datasets(arguments.id)
    if not any(dataset.held for dataset in datasets):
        raise ConfigurationError(f"nothing of institution {arguments.id} is held")
    stack.record("nightly release", _subject(arguments.id), arguments.reason)
    return run_for(stack, arguments, {"institution": arguments.id, "hold": False})


def run_for(stack: Stack, arguments: argparse.Namespace, request: dict[str, Any]) -> Result:
    """Start a run with this request and, if the operator waits, show what it did."""
    expected = _expected(stack, request.get("institution"))
    execution = start(stack, NIGHTLY, request)
    if not arguments.wait:
        return Result(
            {"run": execution.run, "executionArn": execution.arn, "datasets": sorted(expected)},
            lines=[f"Started {execution.run}: {len(expected)} datasets. See `gjeldsbro nightly status`."],
        )
    ending = wait(stack, execution, "datasets", expected, show_progress=not arguments.json)
    return _result(execution, expected, ending)


def _expected(stack: Stack, institution: str | None) -> list[str]:
    """The subjects of a run's outcomes, as its planner will make them: what is fetched and what is withdrawn."""
    institutions = stack.partners.institutions()
    if institution is not None:
        institutions = [candidate for candidate in institutions if candidate.institution == institution]
        if not institutions:
            raise ConfigurationError(f"there is no institution {institution}")
    return [
        f"{candidate.institution}#{provider.provider}"
        for candidate in institutions
        for provider in candidate.providers
        if provider.ended or candidate.ended or provider.delivers_datasets
    ]


def _result(execution: Execution, expected: list[str], ending: Ending) -> Result:
    outcomes = {subject: ending.outcomes.get(subject, {"status": "missing"}) for subject in expected}
    outcomes |= {subject: outcome for subject, outcome in ending.outcomes.items() if "#" in subject}
    ok = ending.state == "SUCCEEDED" and all(outcome.get("status") in _GOOD for outcome in outcomes.values())
    value = {
        "run": execution.run,
        "state": ending.state,
        "error": ending.error,
        "datasets": [_named(subject, outcome) for subject, outcome in outcomes.items()],
    }
    lines = [ending.sentence(execution), f"`gjeldsbro nightly status --run {execution.run}` shows this again."]
    rows = [_row(subject, outcome) for subject, outcome in outcomes.items()]
    return Result(value, [Shown("Datasets", _COLUMNS, rows)], lines, ok)


def _named(subject: str, outcome: dict[str, Any]) -> dict[str, Any]:
    institution, _, provider = subject.partition("#")
    return {"institution": institution, "provider": provider, **outcome}


def _row(subject: str, outcome: dict[str, Any]) -> tuple[Any, ...]:
    named = _named(subject, outcome)
    status = f"{named['status']} (withdrawn)" if outcome.get("withdrawn") else named.get("status")
    counts = (outcome.get(name) for name in ("customers", "added", "changed", "removed", "unchanged"))
    return (named["institution"], named["provider"], status, *counts, outcome_reason(outcome))


def outcome_reason(outcome: dict[str, Any]) -> str | None:
    """Why an outcome is not a success, as far as it says."""
    parts = dict.fromkeys(str(outcome[name]) for name in ("error", "reason") if outcome.get(name))
    return ": ".join(parts) or None


def status(stack: Stack, arguments: argparse.Namespace) -> Result:
    """The last run of each dataset, or everything that one run did."""
    if arguments.run is not None:
        found = stack.partners.outcomes(arguments.run)
        outcomes = {subject: outcome for subject, outcome in found.items() if "#" in subject}
        if not outcomes:
            raise ConfigurationError(f"nothing is known of a nightly run {arguments.run}")
        return Result(
            {
                "run": arguments.run,
                "summary": stack.partners.run(NIGHTLY.name, arguments.run),
                "datasets": [_named(subject, outcome) for subject, outcome in outcomes.items()],
            },
            [Shown(arguments.run, _COLUMNS, [_row(subject, outcome) for subject, outcome in outcomes.items()])],
        )
    names = {institution.institution: institution.name for institution in stack.partners.institutions()}
    datasets = stack.partners.datasets()
    columns = ("Institution", "Name", "Provider", "As of", "Customers", "Last run", "At", "Status", "Held", "Why")
    rows = [_status_row(dataset, names) for dataset in datasets]
    value = {"datasets": [_status_value(dataset, names) for dataset in datasets]}
    return Result(value, [Shown("Last run of each dataset", columns, rows)])


def _status_value(dataset: Dataset, names: dict[str, str]) -> dict[str, Any]:
    return {
        "institution": dataset.institution,
        "name": names.get(dataset.institution),
        "provider": dataset.provider,
        "asOf": dataset.as_of,
        "customers": dataset.customers,
        "held": dataset.held,
        "lease": None if dataset.lease is None else {"run": dataset.lease.run, "until": dataset.lease.until},
        "lastRun": dataset.last_run,
    }


def _status_row(dataset: Dataset, names: dict[str, str]) -> tuple[Any, ...]:
    last = dataset.last_run or {}
    working = dataset.lease is not None and dataset.lease.until > from_datetime(datetime.now(UTC))
    return (
        dataset.institution,
        names.get(dataset.institution),
        dataset.provider,
        moment(dataset.as_of),
        dataset.customers,
        dataset.lease.run if dataset.lease is not None and working else last.get("run"),
        moment(last.get("at")),
        "at work" if working else last.get("status"),
        "held" if dataset.held else None,
        outcome_reason(last),
    )


def _subject(institution: str | None) -> str:
    return "all institutions" if institution is None else f"institution {institution}"
