"""Builds one slice of a quarterly package from a batch of a list's numbers."""

from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3, secretsmanager
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.customer_lookup import CurrentLoansReader
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.settings import Settings


class BuildSettings(Settings):
    """What this function reads from its environment."""

    register_table: str
    partner_table: str
    data_bucket: str
    hash_key_secret: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run", "receiver", "onBehalfOf", "batch"}`` -> ``{}``."""
    settings = BuildSettings.load()
    key = _secrets().hash_key(settings.hash_key_secret)
    register = Register(settings.register_table, dynamodb(), key)
    counts = build_package_slice(
        run=event["run"],
        receiver=event["receiver"],
        on_behalf_of=event["onBehalfOf"],
        batch=event["batch"],
        store=DataStore(settings.data_bucket, s3()),
        loans=CurrentLoansReader(register, Partners(settings.partner_table, dynamodb())),
        key=key,
    )
    logger.info("SLICE_BUILT", extra={"onBehalfOf": event["onBehalfOf"], "batch": event["batch"], **counts})
    return {}


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
