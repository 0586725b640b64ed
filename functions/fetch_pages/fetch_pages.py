"""Fetches, checks and sorts the pages of one dataset, until all are there or its time is up."""

from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.institution_client import InstitutionClient
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.log import LambdaContext, task
from gjeldsbro.services.night import fetch
from gjeldsbro.services.night.common import Job
from gjeldsbro.settings import Settings


class FetchSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    data_bucket: str
    hash_key_secret: str
    client_certificate_secret: str
    identity_numbers: Accepts
    allow_plain_http: bool


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    return Secrets(aws.secretsmanager())


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Fetch: {run, institution, provider, action: fetch or withdraw, fromScratch?: true} -> {complete}."""
    settings = FetchSettings.load()
    certificate = partial(_secrets().client_certificate, settings.client_certificate_secret)
    tools = fetch.Fetcher(
        records=Partners(settings.partner_table, aws.dynamodb()),
        objects=DataStore(settings.data_bucket, aws.s3()),
        source=InstitutionClient(
            certificate(),
            certificate_anew=partial(certificate, anew=True),
            allow_plain_http=settings.allow_plain_http,
        ),
        hash_keys=_secrets().hash_keys(settings.hash_key_secret),
        accepts=settings.identity_numbers,
        clock=lambda: datetime.now(UTC),
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    job = Job(event["run"], event["institution"], event["provider"])
    return {"complete": fetch.fetch_pages(job, event["action"], tools, scratch=event.get("fromScratch", False))}
