"""Fetches the authorities' revocation lists: each hour all of them, and for ``gjeldsbro revocation``."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from gjeldsbro.adapters.aws import dynamodb
from gjeldsbro.adapters.crl import issuer_of, read_list
from gjeldsbro.adapters.crl_client import fetch_list
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.ports import RevocationList
from gjeldsbro.services.refresh_revocations import RefreshRevocations, is_old, summary_of
from gjeldsbro.settings import Settings

NEEDED_MILLISECONDS = 60_000
"""What one more list may take; those that are left are the first of the next hour."""


class RefreshSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    stack_name: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{}``, ``{"issuers": [...]}`` or ``{"put": {name, url, certificate}}`` -> ``{"lists": [...], "old"}``."""
    settings = RefreshSettings.load()
    revocations = Revocations(settings.partner_table, dynamodb())
    use_case = RefreshRevocations(revocations, fetch_list, read_list, lambda: datetime.now(UTC))
    done = []
    if "put" in event:
        new = event["put"]
        issuer = issuer_of(new["certificate"])
        done.append(use_case.put(RevocationList(issuer, new["name"], new["url"], new["certificate"])))
    else:
        for refreshed in use_case.refresh(event.get("issuers")):
            done.append(refreshed)
            if context.get_remaining_time_in_millis() < NEEDED_MILLISECONDS:
                break
    old = sum(is_old(found, datetime.now(UTC)) for found in revocations.lists())
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    metrics.add_metric("RevocationListsOld", MetricUnit.Count, old)
    metrics.flush_metrics()
    statuses = [refreshed.status for refreshed in done]
    logger.info("REVOCATIONS_REFRESHED", extra={"statuses": statuses, "old": old})
    return {"lists": [summary_of(refreshed) for refreshed in done], "old": old}
