"""Plans a run of the quarterly export: which packages are to be delivered, and to whom."""

from datetime import datetime
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.plan import plan_export
from gjeldsbro.settings import Settings


class PlanSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run", "startedAt", "request"}`` -> ``{"run", "bucket", "manifestKey", "receivers"}``."""
    settings = PlanSettings.load()
    planned = plan_export(
        run=event["run"],
        started_at=datetime.fromisoformat(event["startedAt"]),
        request=event["request"],
        partners=Partners(settings.partner_table, dynamodb()),
        store=DataStore(settings.data_bucket, s3()),
    )
    logger.info("EXPORT_PLANNED", extra={"receivers": planned["receivers"]})
    return planned
