"""``gjeldsbro status`` and ``gjeldsbro log``."""

import argparse
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from gjeldsbro.adapters.certificate_dates import good_until
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.watch import Limits, find
from gjeldsbro_operator.output import Result, Shown
from gjeldsbro_operator.stack import Stack

_COLUMNS = ("Runbook entry", "About", "What")
_LINE_PARTS = ("timestamp", "level", "message")
_LEFT_OUT = frozenset({*_LINE_PARTS, "location", "service", "xray_trace_id"})
"""Of a log line, what is shown first, and what says nothing here."""


def status(stack: Stack, _: argparse.Namespace) -> Result:
    """What needs somebody's action now: what the watch finds, and the alarms that are on for other reasons."""
    findings = find(stack.partners, stack.revocations.lists(), good_until, datetime.now(UTC), _limits(stack))
    rows = [tuple(finding) for finding in findings]
    shown = {finding.alarm for finding in findings}
    rows += [row for row in alarms(stack) if row[0] not in shown]
    value = [dict(zip(("alarm", "subject", "what"), row, strict=True)) for row in rows]
    if not rows:
        return Result({"findings": value}, lines=["Nothing needs action."])
    lines = ["docs/runbook.md has an entry of that name for each."]
    return Result({"findings": value}, [Shown("Needs action", _COLUMNS, rows)], lines, ok=False)


def _limits(stack: Stack) -> Limits:
    names = ("NightDeadlineHour", "ExportDeadlineDays", "ExpiryWarningDays", "LoginMaxAgeDays")
    values = {name: stack.parameter(name) for name in names}
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ConfigurationError(f"the stack {stack.name} has no parameter {', '.join(missing)}: deploy it anew")
    return Limits(*(int(value) for value in values.values() if value is not None))


def alarms(stack: Stack) -> list[tuple[str, str, str]]:
    """The stack's alarms that are on: name, since when, and why CloudWatch thinks so."""
    prefix = f"{stack.name}-"
    pages = stack.alarms.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix)
    return [
        (
            name,
            f"since {alarm['StateUpdatedTimestamp'].astimezone(UTC):%Y-%m-%d %H:%M}Z",
            alarm.get("StateReason", ""),
        )
        for page in pages
        for alarm in page["MetricAlarms"]
        if alarm["StateValue"] == "ALARM"
        and "-" not in (name := alarm["AlarmName"].removeprefix(prefix))  # else of a stack whose name begins like ours
    ]


def log(stack: Stack, arguments: argparse.Namespace) -> Result:
    """What a function has logged: event codes and references, as in every log of ours."""
    logical = "".join(part.capitalize() for part in arguments.function.split("_")) + "LogGroup"
    group = stack.resource(logical)
    since = datetime.now(UTC) - timedelta(minutes=arguments.minutes)
    extra: dict[str, Any] = {} if arguments.filter is None else {"filterPattern": json.dumps(arguments.filter)}
    pages = stack.logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000), **extra
    )
    found = [_entry(event["message"]) for page in pages for event in page["events"]]
    entries = [entry for entry in found if "message" in entry]  # not the runtime's own lines about each invocation
    lines = [" ".join([*(str(entry.get(name, "-")) for name in _LINE_PARTS), _rest(entry)]) for entry in entries]
    title = f"{arguments.function}, the last {arguments.minutes} minutes: {len(entries)} lines"
    return Result({"log": entries}, lines=[title, *lines])


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _rest(entry: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in entry.items() if name not in _LEFT_OUT and value is not None)
