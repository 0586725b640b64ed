"""Writes the night's report, measures it, and deletes what the run fetched."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.night import report
from gjeldsbro.settings import Settings


class ReportSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    stack_name: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Report a run: {run, startedAt} -> {run, reportKey, datasets, notLoaded, written}."""
    settings = ReportSettings.load()
    counts = report.report_night(
        event["run"],
        event["startedAt"],
        records=Partners(settings.partner_table, aws.dynamodb()),
        objects=DataStore(settings.data_bucket, aws.s3()),
        clock=lambda: datetime.now(UTC),
    )
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    metrics.add_metric("DatasetsLoaded", MetricUnit.Count, counts["datasets"] - counts["notLoaded"])
    metrics.add_metric("DatasetsNotLoaded", MetricUnit.Count, counts["notLoaded"])
    metrics.add_metric("CustomersWritten", MetricUnit.Count, counts["written"])
    metrics.flush_metrics()
    logger.info("NIGHT_FINISHED", extra=counts)
    return counts
