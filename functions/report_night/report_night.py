"""Writes the night's report, measures it, deletes what the run fetched, and tells the people on duty."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.notifications import Notifications
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.pages import page
from gjeldsbro.services.night import report
from gjeldsbro.services.night.common import FLOW
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
    """Report a run: {run, startedAt} -> {run, reportKey, datasets, notLoaded, written}."""
    settings = ReportSettings.load()
    records = Partners(settings.partner_table, aws.dynamodb())
    reports = DataStore(settings.report_bucket, aws.s3())
    counts = report.report_night(
        event["run"],
        event["startedAt"],
        records=records,
        objects=DataStore(settings.data_bucket, aws.s3()),
        press=Press(reports, page, settings.stack_name),
        clock=lambda: datetime.now(UTC),
    )
    topic = Notifications(settings.alarm_topic, aws.sns())
    told = tell(FLOW, event["run"], store=reports, records=records, topic=topic, now=datetime.now(UTC))
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    metrics.add_metric("DatasetsLoaded", MetricUnit.Count, counts["datasets"] - counts["notLoaded"])
    metrics.add_metric("DatasetsNotLoaded", MetricUnit.Count, counts["notLoaded"])
    metrics.add_metric("CustomersWritten", MetricUnit.Count, counts["written"])
    metrics.add_metric("NotificationsFailed", MetricUnit.Count, int(not told))
    metrics.flush_metrics()
    logger.info("NIGHT_FINISHED", extra=counts)
    return counts
