"""AWS clients, built once a process, and the DynamoDB item form.

They are botocore's own: of boto3, which wraps them, nothing else is needed, and to import it costs every cold start
(decision record 0020).
"""

import gzip
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import botocore
import botocore.session
import msgspec
from botocore.config import Config
from botocore.loaders import JSONFileLoader, Loader

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=20,
    retries={"mode": "standard", "total_max_attempts": 5},
    max_pool_connections=32,
    user_agent=f"gjeldsbro Botocore/{botocore.__version__}",  # the client's own is put together anew for each request
)
_DYNAMODB_CONFIG = _CONFIG.merge(Config(parameter_validation=False))
"""DynamoDB checks by itself what it is asked, and the client's check before it takes longer than all else of a batch.

Of S3 it stays: an object without a name is its bucket there. The integration tests check DynamoDB's requests too.
"""

_SERVICES: Final = ("dynamodb", "events", "kms", "s3", "secretsmanager", "sns")


class _FileLoader(JSONFileLoader):
    """Reads botocore's descriptions of services with a parser that takes a fifth of the time."""

    def load_file(self, file_path: str) -> Any:
        for ending, open_file in ((".json.gz", gzip.open), (".json", open)):
            try:
                with open_file(file_path + ending, "rb") as file:
                    return msgspec.json.decode(file.read())
            except FileNotFoundError:
                continue
        return None


class _Loader(Loader):
    """Finds the descriptions of the services that we use without looking through those of all others."""

    FILE_LOADER_CLASS = _FileLoader

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - all of ours have every type
        return list(_SERVICES)


@lru_cache(maxsize=None)
def dynamodb() -> "DynamoDBClient":
    """The DynamoDB client of this process."""
    return cast("DynamoDBClient", _session().create_client("dynamodb", config=_DYNAMODB_CONFIG))


@lru_cache(maxsize=None)
def s3() -> "S3Client":
    """The S3 client of this process."""
    return cast("S3Client", _session().create_client("s3", config=_CONFIG))


@lru_cache(maxsize=None)
def secretsmanager() -> "SecretsManagerClient":
    """The Secrets Manager client of this process."""
    return cast("SecretsManagerClient", _session().create_client("secretsmanager", config=_CONFIG))


@lru_cache(maxsize=None)
def events() -> "EventBridgeClient":
    """The EventBridge client of this process."""
    return cast("EventBridgeClient", _session().create_client("events", config=_CONFIG))


@lru_cache(maxsize=None)
def kms() -> "KMSClient":
    """The KMS client of this process."""
    return cast("KMSClient", _session().create_client("kms", config=_CONFIG))


@lru_cache(maxsize=None)
def sns() -> "SNSClient":
    """The SNS client of this process."""
    return cast("SNSClient", _session().create_client("sns", config=_CONFIG))


@lru_cache(maxsize=None)
def _session() -> botocore.session.Session:
    session = botocore.session.get_session()
    session.register_component("data_loader", _Loader())
    return session


def build_at_init(*clients: Callable[[], object]) -> None:
    """Build clients while Lambda starts the process, which has a whole processor then; elsewhere they wait for use."""
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        for client in clients:
            client()


def forget_clients() -> None:
    """Build the clients anew when next asked for: for tests that change where AWS is."""
    for factory in (dynamodb, events, kms, s3, secretsmanager, sns, _session):
        factory.cache_clear()


def to_item(values: dict[str, Any]) -> dict[str, Any]:
    """A DynamoDB item of plain values; those that are None are left out."""
    return {name: _attribute(value) for name, value in values.items() if value is not None}


def from_item(item: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a DynamoDB item: whole numbers as int, binaries as bytes."""
    return {name: _plain(value) for name, value in item.items()}


def _attribute(value: Any) -> dict[str, Any]:
    kind, form = "", value
    match value:
        case str():
            kind = "S"
        case bool():
            kind = "BOOL"
        case int():
            kind, form = "N", str(value)
        case bytes():
            kind = "B"
        case None:
            kind, form = "NULL", True
        case dict():
            kind, form = "M", {name: _attribute(inner) for name, inner in value.items()}
        case list() | tuple():
            kind, form = "L", [_attribute(inner) for inner in value]
        case _:
            raise TypeError(f"no attribute is made of a {type(value).__name__}")
    return {kind: form}


def _plain(attribute: dict[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return int(value)
        case "NULL":
            return None
        case "M":
            return {name: _plain(inner) for name, inner in value.items()}
        case "L":
            return [_plain(inner) for inner in value]
        case _:  # S, BOOL and B are what they say
            return value
