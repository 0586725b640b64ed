"""Shows an operator what the register holds of one person: ``gjeldsbro show-customer`` invokes it."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from gjeldsbro.adapters.aws import dynamodb, secretsmanager
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.log import LambdaContext, logger, task
from gjeldsbro.services.show_customer import ShowCustomer
from gjeldsbro.settings import Settings


class ShowSettings(Settings):
    """What this function reads from its environment."""

    register_table: str
    partner_table: str
    hash_key_secret: str
    identity_numbers: Accepts


@task
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """``{"customerID", "operator", "reason"?}`` -> see ``ShowCustomer.show``."""
    settings = ShowSettings.load()
    hash_keys = _secrets().hash_keys(settings.hash_key_secret)
    use_case = ShowCustomer(
        Partners(settings.partner_table, dynamodb()),
        Register(settings.register_table, dynamodb(), hash_keys),
        hash_keys,
        settings.identity_numbers,
    )
    shown = use_case.show(
        str(event.get("customerID") or ""),
        operator=str(event.get("operator") or ""),
        reason=None if event.get("reason") is None else str(event["reason"]),
        now=datetime.now(UTC),
    )
    logger.info("CUSTOMER_SHOWN", extra={"institutions": len(shown["institutionsWithDebt"])})
    return shown


@lru_cache(maxsize=None)
def _secrets() -> Secrets:
    """Kept between invocations, because it caches."""
    return Secrets(secretsmanager())
