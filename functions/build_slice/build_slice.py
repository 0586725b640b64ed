"""Builds one slice of a quarterly package from a batch of a list's numbers, as far as its time goes."""

from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, s3, secretsmanager
from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.customer_client import CustomerClient
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.pace import SharedPace
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.circuit_breaker import CircuitBreaker
from gjeldsbro.services.export.build import build_package_slice
from gjeldsbro.services.export.loans import REQUESTS_PER_SECOND, PackageLoans
from gjeldsbro.settings import Settings


class BuildSettings(Settings):
    """What this function reads from its environment."""

    register_table: str
    partner_table: str
    data_bucket: str
    hash_key_secret: str
    client_certificate_secret: str
    identity_numbers: Accepts
    allow_plain_http: bool


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"run", "receiver", "onBehalfOf", "batch"}`` -> ``{"complete"}``."""
    settings = BuildSettings.load()
    keys = _secrets().hash_keys(settings.hash_key_secret)
    loans = PackageLoans(
        partners=Partners(settings.partner_table, dynamodb()),
        register=Register(settings.register_table, dynamodb(), keys),
        asking=_client(settings),
        breaker=CircuitBreaker(BreakerItems(settings.partner_table, dynamodb())),
        pace=SharedPace(settings.partner_table, dynamodb(), REQUESTS_PER_SECOND),
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    built = build_package_slice(
        run=event["run"],
        receiver=event["receiver"],
        on_behalf_of=event["onBehalfOf"],
        batch=event["batch"],
        store=DataStore(settings.data_bucket, s3()),
        loans=loans,
        keys=keys,
    )
    extra = {"onBehalfOf": event["onBehalfOf"], "batch": event["batch"], **built._asdict()}
    logger.info("SLICE_BUILT", extra=extra)
    return {"complete": built.complete}


@lru_cache(maxsize=1)
def _client(settings: BuildSettings) -> CustomerClient:
    """Kept between invocations, with its connections."""
    return CustomerClient(
        lambda: _secrets().client_certificate(settings.client_certificate_secret),
        accepts=settings.identity_numbers,
        allow_plain_http=settings.allow_plain_http,
    )


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
