"""How parts are put together where several functions do it alike."""

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from gjeldsbro.adapters.aws import dynamodb
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.revocations import Revocations
from gjeldsbro.services.front_door import FrontDoor
from gjeldsbro.services.revocation import RevocationCheck
from gjeldsbro.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class FrontDoorSettings(Settings):
    """What every function of the API reads from its environment, for the front door."""

    partner_table: str
    requests_per_caller: int
    revocation_grace_days: int


def front_door() -> FrontDoor:
    """The front door of this process: ``Api(door=front_door)``."""
    return _front_door(FrontDoorSettings.load(), dynamodb())


@lru_cache(maxsize=1)
def _front_door(settings: FrontDoorSettings, client: "DynamoDBClient") -> FrontDoor:
    return FrontDoor(
        revocations=RevocationCheck(
            Revocations(settings.partner_table, client),
            timedelta(days=settings.revocation_grace_days),
        ),
        rates=Partners(settings.partner_table, client),
        requests_per_caller=settings.requests_per_caller,
    )
