"""Ends a run of the export: says what became of each delivery, and deletes everything else of the run."""

from collections import Counter
from datetime import datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.export import places
from gjeldsbro.services.export.deliver import figures_of
from gjeldsbro.services.export.plan import Plan, blame
from gjeldsbro.services.export.ports import ExportPartners, Store

_DELIVERED = frozenset({"delivered", "already-delivered"})
_UNCERTAIN = (
    "the function ended when it gave the package its name: the next `gjeldsbro export run` finds out whether it did"
)
_NO_DELIVERY = frozenset({"UNKNOWN_ORGANIZATION", "INVALID_ORGANIZATION_NUMBER"})


def report_export(*, run: str, partners: ExportPartners, store: Store, now: datetime) -> dict[str, Any]:
    """Write the report and the run's record, close what was left open, and delete lists, numbers and packages.

    Returns the report's key and how many deliveries there were, and how many of them were not made. A call that is
    repeated after it was done gives the same answer, and deletes what the first could not.
    """
    key = f"reports/export/{run}.json"
    try:
        plan = Plan.load(store, run)
    except KeyError:
        store.delete_prefix(places.run_prefix(run))
        return _summary(store.get_json(key))
    outcomes = partners.outcomes(run)
    for receiver, on_behalf_of in plan.deliveries:
        outcome = outcomes.get(places.subject(receiver, on_behalf_of))
        if outcome is None:
            why = blame(outcomes.get(receiver)) or {
                "error": "NO_OUTCOME",
                "reason": "the run ended before it came to this delivery",
            }
            plan.record(partners, receiver, on_behalf_of, "failed", now, **why)
        _close(partners, plan, receiver, on_behalf_of, outcome or {}, now)
    deliveries = [outcome for subject, outcome in sorted(partners.outcomes(run).items()) if "#" in subject]
    report = {
        "run": run,
        "state": "finished",
        "reportKey": key,
        "quarter": plan.quarter,
        "startedAt": plan.timestamp,
        "finishedAt": from_datetime(now),
        "counts": dict(Counter(entry["status"] for entry in deliveries)),
        "deliveries": deliveries,
    }
    store.put_json(key, report)
    partners.put_run("export", run, {name: value for name, value in report.items() if name != "deliveries"}, now)
    for receiver, on_behalf_of in plan.deliveries:
        store.delete_prefix(plan.package_prefix(receiver, on_behalf_of))
    store.delete_prefix(places.run_prefix(run))
    return _summary(report)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """What the state machine hands out; a list that nobody registered is in the report, but was no delivery."""
    statuses = [entry["status"] for entry in report["deliveries"] if entry.get("error") not in _NO_DELIVERY]
    missed = sum(status not in _DELIVERED for status in statuses)
    counts = {"deliveries": len(statuses), "notDelivered": missed}
    return {"run": report["run"], "reportKey": report["reportKey"], **counts}


def _close(
    partners: ExportPartners, plan: Plan, receiver: str, on_behalf_of: str, outcome: dict[str, Any], now: datetime
) -> None:
    """A delivery that this run claimed and did not make counts as failed.

    One that it made is reported as made, also when the function died before it could say so. One of which that is
    uncertain, because the function died when it gave the package its name, is left for the next run to find out.
    """
    delivery = partners.delivery(receiver, on_behalf_of, plan.quarter) or {}
    if delivery.get("run") != plan.run:
        return
    if delivery["state"] == "delivered" and outcome.get("status") != "delivered":
        plan.record(partners, receiver, on_behalf_of, "delivered", now, **figures_of(delivery))
    if delivery["state"] == "delivering":
        values = {**delivery, "state": "failed"}
        if (delivery.get("publishing") or {}).get("run") == plan.run:
            why = {"error": "UNCERTAIN", "reason": _UNCERTAIN}
            plan.record(partners, receiver, on_behalf_of, "failed", now, **why)
            values |= why
        partners.update_delivery(receiver, on_behalf_of, plan.quarter, plan.run, values)
