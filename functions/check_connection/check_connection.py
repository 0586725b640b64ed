"""Tells institutions and lenders who they are to us, and what has become of their data."""

from typing import Any

from gjeldsbro.adapters.aws import build_at_init, dynamodb
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.api.operations import Operation
from gjeldsbro.api.requests import Request
from gjeldsbro.api.resolver import Api
from gjeldsbro.log import LambdaContext, logger
from gjeldsbro.services.connection_check import ConnectionCheck
from gjeldsbro.settings import Settings
from gjeldsbro.wiring import front_door


class CheckSettings(Settings):
    """What this function reads from its environment."""

    partner_table: str


api = Api(door=front_door)
build_at_init(dynamodb)

CONNECTION = Operation(
    "Check the connection",
    answers={200: "gjeldsbro.domain.connection_messages:ConnectionResponse"},
)


@api.get("/debt-information/v1/connection", CONNECTION)
def check_connection(request: Request) -> dict[str, Any]:
    """Find out who you are to us, and what has become of your data.

    Whoever sets up a connection can try its certificate here before it sends anything. Later the answer tells when we
    last got your data and, when your last dataset was refused or held, why: the places and rules, never a value. You
    are told of your own registrations and deliveries only.
    """
    settings = CheckSettings.load()
    found = ConnectionCheck(Partners(settings.partner_table, dynamodb())).check(request.caller)
    logger.info("CONNECTION_CHECKED", extra={"institutions": len(found["institutions"])})
    return {**request.receipt(), **found}


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway request."""
    return api.handle(event, context)
