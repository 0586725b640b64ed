"""Takes pushes of institutions into the register, and answers whatever else is asked of the API."""

from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import build_at_init, dynamodb, secretsmanager
from gjeldsbro.adapters.partner_cache import push_partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.api.operations import Operation
from gjeldsbro.api.requests import Request
from gjeldsbro.api.resolver import Api
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.log import LambdaContext, logger
from gjeldsbro.services.push import PushService, read_message
from gjeldsbro.settings import Settings
from gjeldsbro.wiring import front_door


class PushSettings(Settings):
    """What this function reads from its environment."""

    register_table: str
    partner_table: str
    hash_key_secret: str
    identity_numbers: Accepts


api = Api(door=front_door)
build_at_init(dynamodb, secretsmanager)

PUSH = Operation(
    "Push changes",
    request="gjeldsbro.domain.messages:Organization",
    answers={200: "gjeldsbro.domain.messages:SuccessResponse"},
)


@api.post("/debt-information/v1/loans", PUSH)
def receive_loans(request: Request) -> dict[str, Any]:
    """Tell what has changed at your institutions' customers, as it happens (SPEC 3.1.3).

    The answer 200 means that all of the message is in the register, or is older than what it holds and changed nothing.
    Nothing of a message is used when a part of it is refused. Sending it again changes nothing.
    """
    settings = PushSettings.load()
    message = read_message(request.json_body(), accepts=settings.identity_numbers, now=request.received)
    hash_keys = _secrets().hash_keys(settings.hash_key_secret)
    service = PushService(
        push_partners(settings.partner_table, dynamodb()),
        Register(settings.register_table, dynamodb(), hash_keys),
        hash_keys,
    )
    receipt = service.receive(message, request.caller.organisation, request.received)
    logger.info(
        "PUSH_RECEIVED",
        extra={
            "provider": message.provider,
            "customers": len(message.customers),
            "stored": receipt.stored,
            "unchanged": receipt.unchanged,
        },
    )
    return request.receipt()


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway request."""
    return api.handle(event, context)


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
