"""Reads the SSN lists of one receiver, as far as the time of one invocation goes."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3, secretsmanager
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.receiver_client import connect_with
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.identity_numbers import Accepts, is_organisation_number
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.plan import Plan
from gjeldsbro.services.export.ports import Folder
from gjeldsbro.services.export.read_lists import ListReader, ListRules
from gjeldsbro.services.ports import Receiver
from gjeldsbro.settings import Settings

SPARE_MILLISECONDS = 300_000
"""What must be left to start another piece of work: judging the longest list that is read takes less."""


class ReadSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    identity_numbers: Accepts


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run", "receiver"}`` -> ``{"complete"}``."""
    settings = ReadSettings.load()
    store = DataStore(settings.data_bucket, s3())
    reader = ListReader(
        plan=Plan.load(store, event["run"]),
        receiver=event["receiver"],
        partners=Partners(settings.partner_table, dynamodb()),
        store=store,
        rules=ListRules(settings.identity_numbers, is_organisation_number),
        clock=lambda: datetime.now(UTC),
        has_time=lambda: context.get_remaining_time_in_millis() > SPARE_MILLISECONDS,
    )
    complete = reader.read(_connect)
    logger.info("SSN_LISTS_READ", extra={"receiver": event["receiver"], "complete": complete})
    return {"complete": complete}


def _connect(receiver: Receiver) -> AbstractContextManager[Folder]:
    return connect_with(_secrets(), receiver)


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
