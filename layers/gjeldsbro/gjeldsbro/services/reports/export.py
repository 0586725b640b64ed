"""The report of a quarterly export, made of what the stores know when it ends."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import normalise, to_datetime
from gjeldsbro.services.reports import advice, wording
from gjeldsbro.services.reports.ports import FORM, Report

DELIVERED = frozenset({"delivered", "already-delivered"})

QUARTERS = 8
"""How many quarters a report looks back, its own included."""

_COUNTS = ("customers", "loans", "bytes")
_NOT_DELIVERED = ("refused", "failed")


def export_report(
    run: str,
    stack: str,
    quarter: str,
    started_at: str,
    finished_at: str,
    *,
    outcomes: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
    lists: Mapping[str, Mapping[str, Any]],
    attempts: Mapping[str, int],
    expected: Iterable[str],
    quarters: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> Report:
    """The report of a run.

    By subject (``receiver#onBehalfOf``): ``lists`` are the figures of the lists that were read, ``attempts`` how often
    a package was uploaded, ``expected`` the packages that are owed each quarter, and ``quarters`` the deliveries of the
    last quarters, this one's included, by quarter.
    """
    made_before = quarters.get(quarter, {})
    entries = [
        {
            **outcome,
            **(_figures(made_before.get(subject_of(outcome), {})) if outcome["status"] == "already-delivered" else {}),
            "name": names.get(outcome["receiver"]),
            "list": lists.get(subject_of(outcome)),
            "attempts": attempts.get(subject_of(outcome)),
        }
        for outcome in outcomes
    ]
    entries.sort(key=lambda entry: (entry["status"] in DELIVERED, str(entry["name"] or ""), subject_of(entry)))
    owed = [entry for entry in entries if advice.of_delivery(entry) != "stray"]
    made = [entry for entry in entries if entry["status"] == "delivered"]
    report: Report = {
        "form": FORM,
        "flow": "export",
        "run": run,
        "stack": stack,
        "quarter": quarter,
        "startedAt": normalise(started_at),
        "finishedAt": normalise(finished_at),
        "seconds": round(wording.seconds_between(normalise(started_at), normalise(finished_at)), 3),
        "statuses": dict(Counter(entry["status"] for entry in owed)),
        "counts": {name: sum(int(entry.get(name) or 0) for entry in made) for name in _COUNTS},
        "good": all(entry["status"] in DELIVERED for entry in owed),
        "outstanding": sorted(set(expected) - _delivered(made_before)),
        "problems": _problems(entries, quarter, started_at),
        "deliveries": entries,
    }
    report["sentence"] = _sentence(report)
    return report | {"trend": _trend(quarters)}


def _problems(entries: Iterable[Mapping[str, Any]], quarter: str, started_at: str) -> list[dict[str, Any]]:
    """What to do about each kind of outcome; of an export of another quarter than its own day's, commands name it."""
    found = [(advice.of_delivery(entry), subject_of(entry), entry["receiver"]) for entry in entries]
    problems = advice.problems(found, advice.OF_DELIVERIES)
    if Quarter.parse(quarter) != Quarter.of(to_datetime(normalise(started_at))):
        for step in (step for problem in problems for step in problem["steps"]):
            step["commands"] = [
                re.sub(r"gjeldsbro export (run|status)", rf"\g<0> --quarter {quarter}", command)
                for command in step["commands"]
            ]
    return problems


def subject_of(entry: Mapping[str, Any]) -> str:
    """The name of a delivery in a report."""
    return f"{entry['receiver']}#{entry['onBehalfOf']}"


def _figures(delivery: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a delivery that an earlier run made."""
    return {name: delivery[name] for name in (*_COUNTS, "deliveredAt") if name in delivery}


def last_quarters(quarter: str) -> list[str]:
    """The quarters that a report looks back to, oldest first."""
    found = [Quarter.parse(quarter)]
    while len(found) < QUARTERS:
        found.insert(0, found[0].previous)
    return [str(one) for one in found]


def _delivered(deliveries: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {subject for subject, delivery in deliveries.items() if delivery.get("deliveredAt") is not None}


def _sentence(report: Report) -> str:
    statuses, quarter = report["statuses"], report["quarter"]
    total, delivered = sum(statuses.values()), statuses.get("delivered", 0)
    before = statuses.get("already-delivered", 0)
    missed = total - delivered - before
    if not total:
        return f"There was nothing to deliver for quarter {quarter}."
    if before == total:
        return f"Nothing was left to deliver for quarter {quarter}: the packages were delivered before."
    earlier = f"; {wording.number(before)} had been delivered before" if before else ""
    if not missed:
        which = "The package" if total == 1 else f"All {wording.number(total)} packages"
        if before:
            which = f"All {wording.count(delivered, 'package')} that {'was' if delivered == 1 else 'were'} missing"
        return f"{which} of quarter {quarter} {'was' if delivered == 1 else 'were'} delivered{earlier}."
    parts = [
        f"{wording.number(statuses[status])} {status}"
        for status in (*_NOT_DELIVERED, *sorted(statuses.keys() - {*_NOT_DELIVERED, *DELIVERED}))
        if status in statuses
    ]
    return (
        f"{wording.number(delivered)} of {wording.count(total, 'package')} of quarter {quarter} "
        f"{'was' if delivered == 1 else 'were'} delivered{earlier}. {wording.number(missed)} "
        f"{'was' if missed == 1 else 'were'} not: {', '.join(parts)}."
    )


def _trend(quarters: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What was delivered in each quarter, oldest first, from the first one with a delivery on; and by subject."""
    order = sorted(quarters, key=Quarter.parse)
    while len(order) > 1 and not _delivered(quarters[order[0]]):
        order.pop(0)
    made = {name: {subject: quarters[name][subject] for subject in _delivered(quarters[name])} for name in order}
    return {
        "quarters": [
            {
                "quarter": name,
                "delivered": len(made[name]),
                **{what: sum(int(one.get(what) or 0) for one in made[name].values()) for what in _COUNTS},
            }
            for name in order
        ],
        "customers": {
            subject: [made[name].get(subject, {}).get("customers") for name in order]
            for subject in sorted({subject for name in order for subject in made[name]})
        },
    }
