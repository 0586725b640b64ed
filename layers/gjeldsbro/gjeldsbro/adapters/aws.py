"""AWS clients, built once a process, and the DynamoDB item form."""

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=32,
)
_SERIALIZER = TypeSerializer()
_DESERIALIZER = TypeDeserializer()


@lru_cache(maxsize=None)
def dynamodb() -> "DynamoDBClient":
    """The DynamoDB client of this process."""
    return boto3.client("dynamodb", config=_CONFIG)


@lru_cache(maxsize=None)
def s3() -> "S3Client":
    """The S3 client of this process."""
    return boto3.client("s3", config=_CONFIG)


@lru_cache(maxsize=None)
def secretsmanager() -> "SecretsManagerClient":
    """The Secrets Manager client of this process."""
    return boto3.client("secretsmanager", config=_CONFIG)


@lru_cache(maxsize=None)
def events() -> "EventBridgeClient":
    """The EventBridge client of this process."""
    return boto3.client("events", config=_CONFIG)


@lru_cache(maxsize=None)
def kms() -> "KMSClient":
    """The KMS client of this process."""
    return boto3.client("kms", config=_CONFIG)


def forget_clients() -> None:
    """Build the clients anew when next asked for: for tests that change where AWS is."""
    for factory in (dynamodb, s3, secretsmanager, events, kms):
        factory.cache_clear()


def to_item(values: dict[str, Any]) -> dict[str, Any]:
    """A DynamoDB item of plain values; those that are None are left out."""
    return {name: _SERIALIZER.serialize(value) for name, value in values.items() if value is not None}


def from_item(item: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a DynamoDB item: whole numbers as int, binaries as bytes."""
    return {name: _plain(_DESERIALIZER.deserialize(value)) for name, value in item.items()}


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case Binary():
            return bytes(value.value)  # type: ignore[attr-defined]  # the stubs leave it out
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
