"""Makes a new key of the keyed hash, and retires old ones: ``gjeldsbro hash-key`` invokes it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, secretsmanager
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import PushIndex
from gjeldsbro.adapters.secrets import HashKeyStore
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.hash_key_rotation import HashKeyRotation
from gjeldsbro.settings import Settings


class RotationSettings(Settings):
    """What this function reads from its environment."""

    register_table: str
    partner_table: str
    hash_key_secret: str
    lookup_retention_days: int


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"action": "status" | "rotate" | "finish", "operator", "reason"}`` -> see ``HashKeyRotation``."""
    settings = RotationSettings.load()
    rotation = HashKeyRotation(
        store=HashKeyStore(settings.hash_key_secret, secretsmanager()),
        partners=Partners(settings.partner_table, dynamodb()),
        pushes=PushIndex(settings.register_table, dynamodb()),
        kept=timedelta(days=settings.lookup_retention_days),
        clock=lambda: datetime.now(UTC),
    )
    who = {name: str(event.get(name) or "") for name in ("operator", "reason")}
    match event.get("action"):
        case "status":
            return rotation.status()
        case "rotate":
            done = rotation.rotate(**who)
        case "finish":
            done = rotation.finish(**who)
        case _:
            raise ConfigurationError("the action is status, rotate or finish")
    logger.info("HASH_KEY_CHANGED", extra={"action": event["action"], **done})
    return done
