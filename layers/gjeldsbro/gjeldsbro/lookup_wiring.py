"""How a lookup is put together: for the function that lenders call, and for whoever needs one without HTTP."""

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from gjeldsbro.adapters import aws
from gjeldsbro.adapters.announcements import Announcements
from gjeldsbro.adapters.breaker_items import BreakerItems
from gjeldsbro.adapters.customer_client import CustomerClient
from gjeldsbro.adapters.kept_connections import KeptConnections
from gjeldsbro.adapters.lookups import LookupRecorder
from gjeldsbro.adapters.partner_cache import CachedPartners
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.register import Register
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.services.circuit_breaker import CircuitBreaker
from gjeldsbro.services.customer_debt import CustomerDebt
from gjeldsbro.services.debt_lookup import DebtLookup
from gjeldsbro.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


CONNECTIONS = KeptConnections()
"""To institutions. They outlive an invocation, like all that ``_Kept`` holds."""


class LookupSettings(Settings):
    """What a lookup reads from its environment."""

    register_table: str
    partner_table: str
    lookup_table: str
    lookup_bus: str
    notice_key: str
    hash_key_secret: str
    client_certificate_secret: str
    identity_numbers: Accepts
    allow_plain_http: bool
    lookup_retention_days: int
    max_lookup_seconds: int


class _Kept:
    """What outlives an invocation: caches, and who asks institutions."""

    def __init__(self, settings: LookupSettings, client: "DynamoDBClient") -> None:
        partners = Partners(settings.partner_table, client)
        self.secrets = Secrets(aws.secretsmanager())
        self.partners = CachedPartners(partners)
        self.client = CustomerClient(
            lambda: self.secrets.client_certificate(settings.client_certificate_secret),
            accepts=settings.identity_numbers,
            allow_plain_http=settings.allow_plain_http,
            connections=CONNECTIONS,
        )
        self.breaker = CircuitBreaker(BreakerItems(settings.partner_table, client))


@lru_cache(maxsize=1)
def _kept(settings: LookupSettings, client: "DynamoDBClient") -> _Kept:
    return _Kept(settings, client)


def customer_debt(settings: LookupSettings) -> CustomerDebt:
    """Finds out what customers owe now."""
    kept = _kept(settings, aws.dynamodb())
    register = Register(settings.register_table, aws.dynamodb(), kept.secrets.hash_keys(settings.hash_key_secret))
    return CustomerDebt(kept.partners, register, kept.client, kept.breaker)


def debt_lookup(settings: LookupSettings) -> DebtLookup:
    """Looks the persons of one request up, for a lender."""
    kept = _kept(settings, aws.dynamodb())
    retention = timedelta(days=settings.lookup_retention_days)
    return DebtLookup(
        lenders=kept.partners,
        debts=customer_debt(settings),
        records=LookupRecorder(settings.lookup_table, aws.dynamodb(), retention),
        announcements=Announcements(settings.lookup_bus, settings.notice_key, aws.events(), aws.kms()),
        hash_keys=kept.secrets.hash_keys(settings.hash_key_secret),
    )
