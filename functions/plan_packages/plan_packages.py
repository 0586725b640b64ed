"""Plans the building of a run's packages: one item for each batch of the lists that were read."""

from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.plan import plan_packages
from gjeldsbro.settings import Settings


class PlanSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run"}`` -> ``{"run", "bucket", "manifestKey", "batches"}``."""
    settings = PlanSettings.load()
    planned = plan_packages(
        run=event["run"],
        partners=Partners(settings.partner_table, dynamodb()),
        store=DataStore(settings.data_bucket, s3()),
    )
    logger.info("PACKAGES_PLANNED", extra={"batches": planned["batches"]})
    return planned
