"""Checks a receiver's server for an operator: ``gjeldsbro receiver check`` invokes it."""

from contextlib import AbstractContextManager
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, secretsmanager
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.receiver_client import connect
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.export.check_receiver import check_receiver
from gjeldsbro.services.export.ports import Folder
from gjeldsbro.services.ports import Receiver
from gjeldsbro.settings import Settings


class CheckSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"receiver"}`` -> ``{"receiver", "works", "checks": {check: "ok" or why not}}``."""
    settings = CheckSettings.load()
    result = check_receiver(
        receiver=event["receiver"],
        partners=Partners(settings.partner_table, dynamodb()),
        connect=_connect,
    )
    logger.info("RECEIVER_CHECKED", extra={"receiver": result["receiver"], "works": result["works"]})
    return result


def _connect(receiver: Receiver) -> AbstractContextManager[Folder]:
    """With what the secret holds now: what a warm function remembers of it would not be a check."""
    return connect(receiver, Secrets(secretsmanager()).receiver(receiver.secret))
