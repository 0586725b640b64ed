"""Decides which of an institution's fetched datasets may be loaded."""

from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, task
from gjeldsbro.services.night import judge
from gjeldsbro.settings import Settings


class JudgeSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Judge an institution: {run, institution, hold, datasets} -> {datasets, withdrawals} to load."""
    settings = JudgeSettings.load()
    return dict(
        judge.judge_institution(
            event["run"],
            event["institution"],
            [dataset["provider"] for dataset in event["datasets"]],
            hold=event["hold"],
            records=Partners(settings.partner_table, aws.dynamodb()),
            objects=DataStore(settings.data_bucket, aws.s3()),
            clock=lambda: datetime.now(UTC),
        ),
    )
