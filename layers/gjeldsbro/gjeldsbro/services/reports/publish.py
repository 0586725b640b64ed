"""Keeps a run's report as JSON and as a page, finds earlier ones, and tells the people on duty."""

from datetime import datetime, timedelta
from typing import NamedTuple

from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.log import known_error, logger
from gjeldsbro.services.reports.notification import notification
from gjeldsbro.services.reports.ports import FORM, Press, Report, ReportStore, RunRecords, Topic

PAGE_TYPE = "text/html; charset=utf-8"


class Kept(NamedTuple):
    """Where a report is. ``page`` is None when the page could not be made."""

    report: str
    page: str | None


def report_key(flow: str, run: str) -> str:
    """The JSON of a run's report in the report bucket; its page lies beside it."""
    return f"{flow}/{run}.json"


def keep(press: Press, report: Report) -> Kept:
    """Store the page, then the JSON: where that is, the report is complete.

    A report whose page cannot be made is a report nevertheless: the log says why, and the run goes on to its end.
    """
    key = report_key(report["flow"], report["run"])
    page: str | None = key.removesuffix(".json") + ".html"
    try:
        html = press.page(report)
    except Exception as exc:  # noqa: BLE001 - a picture must not keep a run from ending
        known_error(exc)
        page = None
    else:
        assert page is not None
        press.store.put(page, html.encode(), PAGE_TYPE)
    press.store.put_json(key, report)
    return Kept(key, page)


def earlier_reports(
    store: ReportStore, records: RunRecords, flow: str, *, before: str, days: int, most: int
) -> list[Report]:
    """The reports of the flow's whole runs that began in the ``days`` before ``before`` (fixed form), oldest first.

    A run about one institution only is no part of a trend. Reports that have expired are passed over.
    """
    runs = [
        (values["startedAt"], values["reportKey"])
        for values in records.runs(flow, to_datetime(before) - timedelta(days=days)).values()
        if values.get("state") == "finished"
        and values.get("whole", True)
        and values["startedAt"] < before
        and values.get("reportKey", "").startswith(f"{flow}/")
    ]
    reports = []
    for _, key in sorted(runs)[-most:]:
        try:
            report = store.get_json(key)
        except KeyError:
            continue
        if report.get("form") == FORM:
            reports.append(report)
    return reports


def tell(flow: str, run: str, *, store: ReportStore, records: RunRecords, topic: Topic, now: datetime) -> bool:
    """Send the notification of a run that was reported, once; False when it could not be sent.

    That fails nothing: the report is there, and the alarms go off without it.
    """
    record = records.run(flow, run) or {}
    if record.get("notifiedAt") is not None:
        return True
    try:
        report = store.get_json(record["reportKey"])
        subject, text = notification(report, record, bucket=store.bucket, region=topic.region)
        topic.publish(subject, text)
    except Exception as exc:  # noqa: BLE001 - as above: whatever it is, the run has ended well
        known = known_error(exc)
        logger.error("NOTIFICATION_NOT_SENT", extra={"run": run, "error": type(known).__name__, "reason": str(known)})
        return False
    records.put_run(flow, run, {**record, "notifiedAt": from_datetime(now)}, now)
    return True
