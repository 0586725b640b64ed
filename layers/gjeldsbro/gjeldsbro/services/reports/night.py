"""The report of a night, made of what the stores know when it ends."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gjeldsbro.domain.timestamps import normalise
from gjeldsbro.services.ports import Dataset
from gjeldsbro.services.reports import advice, wording
from gjeldsbro.services.reports.ports import FORM, Report

TAKEN = frozenset({"loaded", "unchanged"})
"""Statuses after which the register shows what the institution delivered."""

NIGHTS = 35
"""How many whole nights a report looks back, its own included."""

_COUNTS = ("customers", "added", "changed", "removed", "unchanged", "written", "bytes")
_NOT_TAKEN = ("refused", "held", "failed", "busy")


def night_report(
    run: str,
    stack: str,
    started_at: str,
    finished_at: str,
    *,
    planned: Mapping[str, Any],
    outcomes: Iterable[Mapping[str, Any]],
    names: Mapping[str, str],
    datasets: Iterable[Dataset],
    earlier: Sequence[Report],
) -> Report:
    """The report of a run.

    ``planned`` is what the plan noted of the run: ``institution`` when it is about one only, and ``hold``. ``outcomes``
    are those of its datasets, ``datasets`` what is in use after it. ``earlier`` are the reports of whole nights before
    it, oldest first; of them it takes what became of each dataset, and the names of institutions that are gone.
    """
    in_use = {f"{dataset.institution}#{dataset.provider}": dataset for dataset in datasets}
    known = _names(earlier) | dict(names)
    entries = [
        {
            **outcome,
            "name": known.get(outcome["institution"]),
            "inUse": _in_use(in_use.get(subject_of(outcome))),
            "missed": _missed(outcome, in_use.get(subject_of(outcome)), earlier),
        }
        for outcome in outcomes
    ]
    entries.sort(key=lambda entry: (entry["status"] in TAKEN, str(entry["name"] or ""), subject_of(entry)))
    statuses = Counter(entry["status"] for entry in entries)
    report: Report = {
        "form": FORM,
        "flow": "nightly",
        "run": run,
        "stack": stack,
        "institution": planned.get("institution"),
        "hold": planned.get("hold", True),
        "startedAt": normalise(started_at),
        "finishedAt": normalise(finished_at),
        "seconds": round(wording.seconds_between(normalise(started_at), normalise(finished_at)), 3),
        "statuses": dict(statuses),
        "counts": {name: sum(int(entry.get(name) or 0) for entry in entries) for name in _COUNTS},
        "inUse": sum(dataset.customers for dataset in in_use.values()),
        "good": all(status in TAKEN for status in statuses),
        "problems": advice.problems(
            [(advice.of_dataset(entry), subject_of(entry), entry["institution"]) for entry in entries],
            advice.OF_DATASETS,
        ),
        "datasets": entries,
    }
    report["sentence"] = _sentence(report)
    return report | {"trend": _trend(report, earlier)}


def subject_of(entry: Mapping[str, Any]) -> str:
    """The name of a dataset in a report."""
    return f"{entry['institution']}#{entry['provider']}"


def _in_use(dataset: Dataset | None) -> dict[str, Any] | None:
    """What readers see of a dataset after the run; None when nothing was accepted yet, or it was withdrawn."""
    if dataset is None or dataset.fetch_start is None:
        return None
    return {"customers": dataset.customers, "asOf": dataset.as_of, "fetchedAt": dataset.fetch_start}


def _missed(outcome: Mapping[str, Any], dataset: Dataset | None, earlier: Sequence[Report]) -> int:
    """How many whole nights in a row, this run included, brought nothing: those since the fetch that is in use."""
    if outcome["status"] in TAKEN:
        return 0
    since = "" if dataset is None or dataset.fetch_start is None else dataset.fetch_start
    subject = subject_of(outcome)
    nights = [
        report["startedAt"]
        for report in earlier
        if report["startedAt"] > since and any(subject_of(entry) == subject for entry in report["datasets"])
    ]
    return 1 + len(nights)


def _names(earlier: Sequence[Report]) -> dict[str, str]:
    return {
        entry["institution"]: entry["name"] for report in earlier for entry in report["datasets"] if entry.get("name")
    }


def _sentence(report: Report) -> str:
    entries = report["datasets"]
    taken = sum(entry["status"] in TAKEN for entry in entries)
    of_one = report["institution"] is not None
    if not entries:
        return "There was nothing to fetch."
    if taken == len(entries):
        which = "The dataset was taken" if taken == 1 else f"All {wording.number(taken)} datasets were taken"
        written = wording.count(report["counts"]["written"], "customer was written", "customers were written")
        return f"{which}, and {written if report['counts']['written'] else 'nothing had changed'}."
    parts = [
        f"{wording.number(report['statuses'][status])} {status}"
        for status in (*_NOT_TAKEN, *sorted(report["statuses"].keys() - {*_NOT_TAKEN, *TAKEN}))
        if status in report["statuses"]
    ]
    missed = len(entries) - taken
    if of_one and missed == len(entries) == 1:
        return f"The dataset was not taken: {entries[0]['status']}. What was there before stays in use."
    return (
        f"{wording.number(taken)} of {wording.number(len(entries))} datasets were taken, {wording.number(missed)} "
        f"{'was' if missed == 1 else 'were'} not: {', '.join(parts)}. What was there before stays in use."
    )


def _trend(report: Report, earlier: Sequence[Report]) -> dict[str, Any]:
    """The last whole nights, oldest first, and the customers in use after each of them by dataset."""
    nights = [*earlier, report] if report["institution"] is None else list(earlier)
    nights = nights[-NIGHTS:]
    customers = []
    for night in nights:
        found = {subject_of(entry): entry for entry in night["datasets"]}
        customers.append({subject: (entry.get("inUse") or {}).get("customers") for subject, entry in found.items()})
    return {
        "nights": [
            {
                "run": night["run"],
                "startedAt": night["startedAt"],
                "seconds": night["seconds"],
                "statuses": night["statuses"],
                "written": night["counts"]["written"],
                "customers": night["inUse"],
            }
            for night in nights
        ],
        "customers": {
            subject: [of_night.get(subject) for of_night in customers]
            for subject in sorted({subject for of_night in customers for subject in of_night})
        },
    }
