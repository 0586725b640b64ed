"""Records why a dataset or a delivery failed, for the report of its run."""

from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, task
from gjeldsbro.services.night import report
from gjeldsbro.settings import Settings


class FailureSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Record a failure: {flow, run, subject, error: {Error, Cause}} -> {}."""
    report.record_failure(
        event["flow"],
        event["run"],
        event["subject"],
        event["error"],
        records=Partners(FailureSettings.load().partner_table, aws.dynamodb()),
        clock=lambda: datetime.now(UTC),
    )
    return {}
