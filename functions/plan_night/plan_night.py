"""Lists tonight's datasets and writes the manifest that the state machine's Map reads."""

from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, task
from gjeldsbro.services.night import plan
from gjeldsbro.settings import Settings


class PlanSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Plan a run: {run, startedAt, request: {institution?, hold?, fromScratch?}} -> {bucket, manifestKey, …}."""
    settings = PlanSettings.load()
    return plan.plan_night(
        event["run"],
        event["startedAt"],
        event["request"],
        records=Partners(settings.partner_table, aws.dynamodb()),
        objects=DataStore(settings.data_bucket, aws.s3()),
        clock=lambda: datetime.now(UTC),
    )
