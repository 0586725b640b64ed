"""Ends a run of the quarterly export: its report, its figures, the end of all that it kept, and who is told."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.metrics import Metrics, MetricUnit

from gjeldsbro.adapters.aws import dynamodb, s3, sns
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.notifications import Notifications
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.pages import page
from gjeldsbro.services.export.report import FLOW, report_export
from gjeldsbro.services.reports.ports import Press
from gjeldsbro.services.reports.publish import tell
from gjeldsbro.settings import Settings


class ReportSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    report_bucket: str
    alarm_topic: str
    stack_name: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run"}`` -> ``{"run", "reportKey", "deliveries", "notDelivered"}``."""
    settings = ReportSettings.load()
    partners = Partners(settings.partner_table, dynamodb())
    reports = DataStore(settings.report_bucket, s3())
    now = datetime.now(UTC)
    reported = report_export(
        run=event["run"],
        partners=partners,
        store=DataStore(settings.data_bucket, s3()),
        press=Press(reports, page, settings.stack_name),
        now=now,
    )
    topic = Notifications(settings.alarm_topic, sns())
    told = tell(FLOW, event["run"], store=reports, records=partners, topic=topic, now=now)
    missed = reported["notDelivered"]
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    metrics.add_metric(name="PackagesDelivered", unit=MetricUnit.Count, value=reported["deliveries"] - missed)
    metrics.add_metric(name="PackagesNotDelivered", unit=MetricUnit.Count, value=missed)
    metrics.add_metric(name="NotificationsFailed", unit=MetricUnit.Count, value=int(not told))
    metrics.flush_metrics()
    logger.info("EXPORT_REPORTED", extra={"deliveries": reported["deliveries"], "notDelivered": missed})
    return reported
