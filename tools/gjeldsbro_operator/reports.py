"""``gjeldsbro nightly report`` and ``gjeldsbro export report``."""

import argparse
from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters.partners import RUN_RETENTION
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.reports import wording
from gjeldsbro.services.reports.notification import entry_subject
from gjeldsbro_operator.output import Result, Shown
from gjeldsbro_operator.runs import EXPORT, NIGHTLY, Flow
from gjeldsbro_operator.stack import Stack


def nightly(stack: Stack, arguments: argparse.Namespace) -> Result:
    """What a night has reported."""
    return _report(stack, arguments, NIGHTLY, "datasets")


def export(stack: Stack, arguments: argparse.Namespace) -> Result:
    """What an export has reported."""
    return _report(stack, arguments, EXPORT, "deliveries")


def _report(stack: Stack, arguments: argparse.Namespace, flow: Flow, what: str) -> Result:
    run, record = _run(stack, flow, arguments.run)
    try:
        report = stack.reports.get_json(record["reportKey"])
    except KeyError:
        raise ConfigurationError(
            f"the report of {run} has expired, or was made before there were such reports"
        ) from None
    lines = [report["sentence"]]
    page = record.get("pageKey")
    if arguments.output is not None:
        if page is None:
            raise ConfigurationError(f"the page of {run} could not be made: the log of the report's function says why")
        arguments.output.write_bytes(stack.reports.get(page))
        lines.append(f"The page is in {arguments.output}.")
    elif page is not None:
        lines.append(f"The page: s3://{stack.reports.bucket}/{page}, or --output FILE.")
    return Result(report, _problems(report, what), lines)


def _run(stack: Stack, flow: Flow, name: str | None) -> tuple[str, dict[str, Any]]:
    """A run that has reported: the one of that name, or the last."""
    if name is not None:
        found = stack.partners.run(flow.name, name)
        if found is None:
            raise ConfigurationError(f"nothing is known of a run {name}")
        if found.get("state") != "finished":
            raise ConfigurationError(f"the run {name} has not reported yet")
        return name, found
    runs = stack.partners.runs(flow.name, datetime.now(UTC) - RUN_RETENTION)
    ended = {run: record for run, record in runs.items() if record.get("state") == "finished"}
    if not ended:
        raise ConfigurationError("no run has reported yet")
    last = max(ended, key=lambda run: str(ended[run].get("finishedAt", "")))
    return last, ended[last]


def _problems(report: dict[str, Any], what: str) -> list[Shown]:
    entries = {entry_subject(entry): entry for entry in report[what]}
    return [
        Shown(
            f"{problem['title']} ({len(problem['subjects'])})",
            ("Name", "Who", "Why"),
            [
                (entries[subject]["name"], " / ".join(subject.split("#")), wording.reason(entries[subject]))
                for subject in problem["subjects"]
            ],
        )
        for problem in report["problems"]
    ]
