"""Measures every quarter of an hour what needs somebody's action: nights, packages, and what is about to expire."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from gjeldsbro.adapters.aws import dynamodb
from gjeldsbro.adapters.certificate_dates import good_until
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.watch import Limits, find, measure
from gjeldsbro.settings import Settings


class WatchSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str
    stack_name: str
    night_deadline_hour: int
    export_deadline_days: int
    expiry_warning_days: int
    login_max_age_days: int


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{}`` -> how many findings there are of each kind that is measured here: ``{"NightOverdue": 0, …}``."""
    settings = WatchSettings.load()
    limits = Limits(
        settings.night_deadline_hour,
        settings.export_deadline_days,
        settings.expiry_warning_days,
        settings.login_max_age_days,
    )
    partners = Partners(settings.partner_table, dynamodb())
    lists = Revocations(settings.partner_table, dynamodb()).lists()
    findings = find(partners, lists, good_until, datetime.now(UTC), limits)
    for finding in findings:
        logger.info("ACTION_NEEDED", extra=finding._asdict())
    figures = measure(findings)
    metrics = Metrics(namespace="gjeldsbro", service=settings.stack_name)
    for name, value in figures.items():
        metrics.add_metric(name, MetricUnit.Count, value)
    metrics.flush_metrics()
    logger.info("WATCHED", extra=figures)
    return figures
