"""Records what failed, and closes a night: its report, its record, and the end of its working files."""

import json
from contextlib import suppress
from typing import Any

from gjeldsbro import errors
from gjeldsbro.domain.timestamps import from_datetime, normalise
from gjeldsbro.errors import ConfigurationError, DatasetBusyError, GjeldsbroError
from gjeldsbro.services.night.common import FLOW, Clock, Job, is_closed, leased, manifest_key, outcome, run_folder
from gjeldsbro.services.night.leases import released
from gjeldsbro.services.night.ports import NightRecords, Objects
from gjeldsbro.services.reports.night import NIGHTS, TAKEN, night_report
from gjeldsbro.services.reports.ports import Press
from gjeldsbro.services.reports.publish import earlier_reports, keep, report_key

_OURS = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GjeldsbroError)
)


def record_failure(
    flow: str,
    run: str,
    subject: dict[str, Any],
    error: dict[str, str],
    *,
    records: NightRecords,
    clock: Clock,
) -> None:
    """Store the outcome ``failed`` for a subject of a flow; the rest of the run goes on.

    ``subject`` names a dataset (institution, provider), an institution with its ``datasets``, or for the export a
    receiver, with or without onBehalfOf. ``error`` is what Step Functions caught: ``Error`` and ``Cause``. What has an
    outcome of this run already keeps it.
    """
    fields = reason_of(error)
    if flow == FLOW:
        for dataset in [subject] if "provider" in subject else subject["datasets"]:
            _fail(Job(run, dataset["institution"], dataset["provider"]), fields, records, clock)
        return
    values = {part: subject[part] for part in ("receiver", "onBehalfOf") if subject.get(part)}
    if "receiver" not in values:
        raise ConfigurationError("the subject of a failed export names a receiver")
    now = clock()
    result = {**values, "run": run, "status": "failed", "at": from_datetime(now), **fields}
    if "#".join(values.values()) not in records.outcomes(run):
        records.put_outcome(run, "#".join(values.values()), result, now)


def _fail(job: Job, fields: dict[str, str], records: NightRecords, clock: Clock) -> None:
    now = clock()
    result = outcome(job, "failed", now, **fields)
    dataset = records.dataset(job.institution, job.provider)
    if not is_closed(job, dataset) and dataset.lease is not None and dataset.lease.run == job.run:
        # Whoever was cut off and may still be at work somewhere commits no more, and its lease runs out by itself.
        with suppress(DatasetBusyError), leased(job, records, clock) as dataset:
            if not is_closed(job, dataset):
                records.update_dataset(
                    dataset, job.run, last_run=result, fetch=None, lease=released(dataset.lease, now)
                )
                records.put_outcome(job.run, job.subject, result, now)
                return
    if is_closed(job, dataset):
        assert dataset.last_run is not None
        records.put_outcome(job.run, job.subject, dataset.last_run, now)  # only what follows the end went wrong
    elif job.subject not in records.outcomes(job.run):
        records.put_outcome(job.run, job.subject, result, now)


def reason_of(error: dict[str, str]) -> dict[str, str]:
    """The fields ``error`` and ``reason`` of what Step Functions caught.

    Only errors of ours bring their text along: another one's could hold anything.
    """
    name = error.get("Error", "States.Unknown")
    try:
        cause = json.loads(error.get("Cause", ""))
    except ValueError:
        cause = None
    text = cause.get("errorMessage") if name in _OURS and isinstance(cause, dict) else None
    return {"error": name, "reason": text if isinstance(text, str) and text else name}


def report_night(
    run: str,
    started_at: str,
    *,
    records: NightRecords,
    objects: Objects,
    press: Press,
    clock: Clock,
) -> dict[str, Any]:
    """Write the report of a run, store its record and delete its working files; where the report is, and the counts.

    A dataset that no step gave an outcome has failed. Called again, it finds the manifest gone, answers from the
    report, and deletes what the first call could not.
    """
    try:
        groups = objects.get_json(manifest_key(run))
    except KeyError:
        try:
            report = press.store.get_json(report_key(FLOW, run))
        except KeyError:
            raise ConfigurationError("the run has neither a manifest nor a report") from None
        objects.delete_prefix(run_folder(run))
        return _answer(report)
    now = clock()
    found = records.outcomes(run)
    results = []
    for group in groups:
        for institution in group["institutions"]:
            for planned in institution["datasets"]:
                job = Job(run, planned["institution"], planned["provider"])
                missing = outcome(job, "failed", now, reason="it ended without an outcome")
                results.append(found.get(job.subject) or missing)
    record = records.run(FLOW, run) or {}
    before = normalise(started_at)
    report = night_report(
        run,
        press.stack,
        before,
        from_datetime(now),
        planned=record,
        outcomes=results,
        names={institution.institution: institution.name for institution in records.institutions()},
        datasets=records.datasets(),
        earlier=earlier_reports(press.store, records, FLOW, before=before, days=NIGHTS, most=NIGHTS - 1),
    )
    kept = keep(press, report)
    summary = {name: report[name] for name in ("startedAt", "finishedAt", "statuses", "counts")}
    where = {"reportKey": kept.report, "pageKey": kept.page}
    records.put_run(FLOW, run, {**record, "state": "finished", **where, **summary}, now)
    objects.delete_prefix(run_folder(run))
    return _answer(report)


def _answer(report: dict[str, Any]) -> dict[str, Any]:
    datasets = report["datasets"]
    return {
        "run": report["run"],
        "reportKey": report_key(FLOW, report["run"]),
        "datasets": len(datasets),
        "notLoaded": sum(result["status"] not in TAKEN for result in datasets),
        "written": report["counts"]["written"],
    }
