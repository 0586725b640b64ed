"""Ends a run of the export: says what became of each delivery, and deletes everything else of the run."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.deliver import figures_of
from gjeldsbro.services.export.plan import Plan, blame
from gjeldsbro.services.export.ports import ExportPartners, Store
from gjeldsbro.services.reports.export import DELIVERED, export_report, last_quarters
from gjeldsbro.services.reports.ports import Press
from gjeldsbro.services.reports.publish import keep, report_key

_UNCERTAIN = (
    "the function ended when it gave the package its name: the next `gjeldsbro export run` finds out whether it did"
)
FLOW = "export"


def report_export(*, run: str, partners: ExportPartners, store: Store, press: Press, now: datetime) -> dict[str, Any]:
    """Write the report and the run's record, close what was left open, and delete lists, numbers and packages.

    Returns the report's key and how many deliveries there were, and how many of them were not made. A call that is
    repeated after it was done gives the same answer, and deletes what the first could not.

    Raises ConfigurationError for a run that nobody knows.
    """
    try:
        plan = Plan.load(store, run)
    except KeyError:
        try:
            report = press.store.get_json(report_key(FLOW, run))
        except KeyError:
            raise ConfigurationError("the run has neither a plan nor a report") from None
        store.delete_prefix(places.run_prefix(run))
        return _summary(report)
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
    receivers = partners.receivers()
    report = export_report(
        run,
        press.stack,
        plan.quarter,
        plan.timestamp,
        from_datetime(now),
        outcomes=[outcome for subject, outcome in sorted(partners.outcomes(run).items()) if "#" in subject],
        names={receiver.receiver: receiver.name for receiver in receivers},
        lists=_stored(store, plan, _list_figures),
        attempts=_stored(store, plan, _attempts),
        expected=[places.subject(one.receiver, on_behalf_of) for one in receivers for on_behalf_of in one.on_behalf_of],
        quarters={quarter: partners.deliveries(quarter) for quarter in last_quarters(plan.quarter)},
    )
    kept = keep(press, report)
    record = partners.run(FLOW, run) or {}
    summary = {name: report[name] for name in ("quarter", "startedAt", "finishedAt", "counts")}
    where = {"reportKey": kept.report, "pageKey": kept.page}
    values = {**record, "state": "finished", **where, **summary, "statuses": report["statuses"]}
    partners.put_run(FLOW, run, values, now)
    for receiver, on_behalf_of in plan.deliveries:
        store.delete_prefix(plan.package_prefix(receiver, on_behalf_of))
    store.delete_prefix(places.run_prefix(run))
    return _summary(report)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """What the state machine hands out; a list that nobody registered is in the report, but was no delivery."""
    total = sum(report["statuses"].values())
    missed = sum(count for status, count in report["statuses"].items() if status not in DELIVERED)
    run = report["run"]
    return {"run": run, "reportKey": report_key(FLOW, run), "deliveries": total, "notDelivered": missed}


def _stored(store: Store, plan: Plan, read: Callable[[Store, Plan, str, str], Any]) -> dict[str, Any]:
    """What is still stored of each delivery, by subject, where there is something."""
    found = {}
    for receiver, on_behalf_of in plan.deliveries:
        with suppress(KeyError):
            found[places.subject(receiver, on_behalf_of)] = read(store, plan, receiver, on_behalf_of)
    return found


def _list_figures(store: Store, plan: Plan, receiver: str, on_behalf_of: str) -> dict[str, int]:
    state = store.get_json(f"{places.list_prefix(plan.run, receiver, on_behalf_of)}state.json")
    return {name: int(state[name]) for name in ("entries", "numbers", "invalid", "duplicates")}


def _attempts(store: Store, plan: Plan, receiver: str, on_behalf_of: str) -> int:
    return int(store.get_json(f"{plan.package_prefix(receiver, on_behalf_of)}delivery.json")["attempts"])


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
