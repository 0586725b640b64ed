"""Writes the differences of one dataset to the register and commits it."""

from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import DatasetItems
from gjeldsbro.log import LambdaContext, task
from gjeldsbro.services.night import load
from gjeldsbro.services.night.common import Job
from gjeldsbro.settings import Settings


class LoadSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    register_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Load a dataset: {run, institution, provider} -> {complete}."""
    settings = LoadSettings.load()
    tools = load.Loader(
        records=Partners(settings.partner_table, aws.dynamodb()),
        objects=DataStore(settings.data_bucket, aws.s3()),
        # The rows hold customer keys, so that only the version is needed here, and no secret.
        register=lambda version: DatasetItems(settings.register_table, aws.dynamodb(), version),
        clock=lambda: datetime.now(UTC),
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    return {"complete": load.load_dataset(Job(event["run"], event["institution"], event["provider"]), tools)}
