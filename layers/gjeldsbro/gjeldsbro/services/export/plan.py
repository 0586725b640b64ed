"""What a run of the export is to do: which deliveries, then which batches to build, then which packages to deliver."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self

from gjeldsbro.domain.quarter import Quarter, month_and_year
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.export import places
from gjeldsbro.services.export.ports import ExportPartners, Store
from gjeldsbro.services.ports import Receiver

_REQUEST = {"receiver": str, "quarter": str, "again": bool, "reason": str}


class Plan(NamedTuple):
    """A run's plan. ``month`` and ``year`` name the reports, ``timestamp`` (fixed form) stands in every package."""

    run: str
    quarter: str
    month: int
    year: int
    timestamp: str
    again: bool
    reason: str | None
    deliveries: list[list[str]]
    """Pairs of receiver and organisation on whose behalf."""

    @classmethod
    def load(cls, store: Store, run: str) -> Self:
        """The plan of a run that was planned."""
        return cls(**store.get_json(places.plan_key(run)))

    def of_receiver(self, receiver: str) -> list[str]:
        """The organisations that this run makes packages for, of one receiver."""
        return [on_behalf_of for planned, on_behalf_of in self.deliveries if planned == receiver]

    def record(
        self,
        partners: ExportPartners,
        receiver: str,
        on_behalf_of: str,
        status: str,
        now: datetime,
        **fields: Any,
    ) -> None:
        """Store what became of a delivery: references and figures only. ``error`` is a code, ``reason`` a sentence."""
        outcome = {
            "receiver": receiver,
            "onBehalfOf": on_behalf_of,
            "run": self.run,
            "quarter": self.quarter,
            "status": status,
            "at": from_datetime(now),
            **fields,
        }
        partners.put_outcome(self.run, places.subject(receiver, on_behalf_of), outcome, now)

    def package_prefix(self, receiver: str, on_behalf_of: str) -> str:
        """Where this run keeps a package."""
        return places.package_prefix(self.quarter, receiver, on_behalf_of, self.run)


def plan_export(
    *,
    run: str,
    started_at: datetime,
    request: Mapping[str, Any],
    partners: ExportPartners,
    store: Store,
) -> dict[str, Any]:
    """Plan a run: what was delivered this quarter is not delivered again, unless the request says so with a reason.

    ``request`` may hold ``receiver``, ``quarter`` (``2026-4``; else the one that ``started_at`` falls in), ``again``
    and ``reason``. Raises ConfigurationError when it does not make sense. Returns where the map over receivers finds
    its items, and how many there are.
    """
    quarter, again, reason = _checked(request, started_at)
    month, year = month_and_year(started_at)
    timestamp = from_datetime(started_at.replace(microsecond=0))
    plan = Plan(run, quarter, month, year, timestamp, again, reason, [])
    for receiver in _receivers(partners, request.get("receiver")):
        for on_behalf_of in receiver.on_behalf_of:
            delivery = partners.delivery(receiver.receiver, on_behalf_of, quarter) or {}
            if delivery.get("deliveredAt") is not None and not again:
                plan.record(partners, receiver.receiver, on_behalf_of, "already-delivered", started_at)
            else:
                plan.deliveries.append([receiver.receiver, on_behalf_of])
    store.put_json(places.plan_key(run), plan._asdict())
    values = {"state": "running", "startedAt": timestamp, "quarter": quarter}
    partners.put_run("export", run, values, started_at)
    receivers = list(dict.fromkeys(receiver for receiver, _ in plan.deliveries))
    items = [{"run": run, "receiver": receiver} for receiver in receivers]
    return _manifest(store, run, "receivers", items)


def plan_packages(*, run: str, partners: ExportPartners, store: Store) -> dict[str, Any]:
    """Plan the building: one item for each batch of each list that was read and reported."""
    plan, outcomes = Plan.load(store, run), partners.outcomes(run)
    items = [
        {"run": run, "receiver": receiver, "onBehalfOf": on_behalf_of, "batch": batch}
        for receiver, on_behalf_of in plan.deliveries
        if places.subject(receiver, on_behalf_of) not in outcomes
        for batch in range(batches_of(store, run, receiver, on_behalf_of))
    ]
    return _manifest(store, run, "batches", items)


def plan_deliveries(*, run: str, partners: ExportPartners, store: Store, now: datetime) -> dict[str, Any]:
    """Plan the deliveries: one item for each receiver with the packages of which every slice was built.

    A package that lacks a slice, and a list that was never read, is recorded as failed.
    """
    plan, outcomes = Plan.load(store, run), partners.outcomes(run)
    ready: dict[str, list[dict[str, str]]] = {}
    for receiver, on_behalf_of in plan.deliveries:
        if places.subject(receiver, on_behalf_of) in outcomes:
            continue
        batches = batches_of(store, run, receiver, on_behalf_of)
        built = len(slice_descriptions(store, plan.package_prefix(receiver, on_behalf_of)))
        if batches and built == batches:
            item = {"run": run, "receiver": receiver, "onBehalfOf": on_behalf_of}
            ready.setdefault(receiver, []).append(item)
            continue
        error = "INCOMPLETE" if batches else "SSN_LIST_NOT_READ"
        blamed = blame(outcomes.get(receiver)) or {"error": error, "reason": f"{built} of {batches} slices were built"}
        plan.record(partners, receiver, on_behalf_of, "failed", now, **blamed)
    items = [{"run": run, "receiver": receiver, "deliveries": deliveries} for receiver, deliveries in ready.items()]
    return _manifest(store, run, "deliveries", items) | {"receivers": len(items)}


def batches_of(store: Store, run: str, receiver: str, on_behalf_of: str) -> int:
    """Into how many batches a list was read; 0 while it was not both read and reported."""
    try:
        state = store.get_json(f"{places.list_prefix(run, receiver, on_behalf_of)}state.json")
    except KeyError:
        return 0
    return int(state["batches"]) if state["phase"] == "reported" else 0


def blame(of_receiver: Mapping[str, Any] | None) -> dict[str, Any]:
    """What stopped a whole receiver, as fields of the outcome of one of its deliveries; empty when nothing did."""
    return {name: value for name, value in (of_receiver or {}).items() if name in {"error", "reason"}}


def slice_descriptions(store: Store, prefix: str) -> list[str]:
    """The keys of the descriptions of a package's slices, in their order: a slice that has one was built."""
    return [key for key in store.keys(f"{prefix}slices/") if key.endswith(".json")]


def _checked(request: Mapping[str, Any], started_at: datetime) -> tuple[str, bool, str | None]:
    wrong = [name for name, value in request.items() if not isinstance(value, _REQUEST.get(name, ()))]
    if wrong:
        raise ConfigurationError(f"the request holds what an export does not know, or in a wrong form: {sorted(wrong)}")
    again, reason = request.get("again", False), request.get("reason")
    if again and not (reason or "").strip():
        raise ConfigurationError("a second delivery in a quarter needs a reason")
    try:
        quarter = Quarter.parse(request["quarter"]) if "quarter" in request else Quarter.of(started_at)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from None
    return str(quarter), again, reason


def _receivers(partners: ExportPartners, asked: str | None) -> list[Receiver]:
    if asked is None:
        return partners.receivers()
    receiver = partners.receiver(asked)
    if receiver is None:
        raise ConfigurationError("there is no such receiver")
    return [receiver]


def _manifest(store: Store, run: str, step: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    key = places.manifest_key(run, step)
    store.put_json(key, items)
    return {"run": run, "bucket": store.bucket, "manifestKey": key, step: len(items)}
