"""Plans the deliveries of a run: the packages of which every slice was built, receiver by receiver."""

from datetime import UTC, datetime
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.plan import plan_deliveries
from gjeldsbro.settings import Settings


class PlanSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run"}`` -> ``{"run", "bucket", "manifestKey", "receivers"}``."""
    settings = PlanSettings.load()
    planned = plan_deliveries(
        run=event["run"],
        partners=Partners(settings.partner_table, dynamodb()),
        store=DataStore(settings.data_bucket, s3()),
        now=datetime.now(UTC),
    )
    logger.info("DELIVERIES_PLANNED", extra={"receivers": planned["receivers"]})
    return planned
