"""Delivers one package to its receiver, as far as the time of one invocation goes."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3, secretsmanager
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.receiver_client import connect_with
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.deliver import PackageDelivery
from gjeldsbro.services.export.plan import Plan
from gjeldsbro.services.export.ports import Folder
from gjeldsbro.services.ports import Receiver
from gjeldsbro.settings import Settings

SPARE_MILLISECONDS = 120_000
"""What must be left to send another piece: a slow server may take a minute to confirm it, and the rest is quick."""


class DeliverSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    provider_id: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run", "receiver", "onBehalfOf"}`` -> ``{"complete"}``."""
    settings = DeliverSettings.load()
    ends = datetime.now(UTC) + timedelta(milliseconds=context.get_remaining_time_in_millis())
    store = DataStore(settings.data_bucket, s3())
    delivery = PackageDelivery(
        plan=Plan.load(store, event["run"]),
        receiver=event["receiver"],
        on_behalf_of=event["onBehalfOf"],
        provider=settings.provider_id,
        partners=Partners(settings.partner_table, dynamodb()),
        store=store,
        clock=lambda: datetime.now(UTC),
        has_time=lambda: context.get_remaining_time_in_millis() > SPARE_MILLISECONDS,
        ends=ends,
    )
    complete = delivery.deliver(_connect)
    references = {"receiver": event["receiver"], "onBehalfOf": event["onBehalfOf"]}
    logger.info("PACKAGE_DELIVERY", extra={**references, "complete": complete})
    return {"complete": complete}


def _connect(receiver: Receiver) -> AbstractContextManager[Folder]:
    return connect_with(_secrets(), receiver)


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
