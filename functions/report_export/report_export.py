"""Ends a run of the quarterly export: its report, its figures, and the end of everything that it kept."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.metrics import Metrics, MetricUnit

from gjeldsbro.adapters.aws import dynamodb, s3
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.report import report_export
from gjeldsbro.settings import Settings


class ReportSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    stack_name: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run"}`` -> ``{"run", "reportKey", "deliveries", "notDelivered"}``."""
    settings = ReportSettings.load()
    reported = report_export(
        run=event["run"],
        partners=Partners(settings.partner_table, dynamodb()),
        store=DataStore(settings.data_bucket, s3()),
        now=datetime.now(UTC),
    )
    missed = reported["notDelivered"]
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    metrics.add_metric(name="PackagesDelivered", unit=MetricUnit.Count, value=reported["deliveries"] - missed)
    metrics.add_metric(name="PackagesNotDelivered", unit=MetricUnit.Count, value=missed)
    metrics.flush_metrics()
    logger.info("EXPORT_REPORTED", extra={"deliveries": reported["deliveries"], "notDelivered": missed})
    return reported
