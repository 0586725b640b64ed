"""The stores in moto, as template.yaml makes them, and the environment that the functions read."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.secrets import Secrets

ENVIRONMENT = {
    "STACK_NAME": "gjeldsbro-test",
    "REGISTER_TABLE": "register",
    "PARTNER_TABLE": "partners",
    "LOOKUP_TABLE": "lookups",
    "LOOKUP_BUS": "gjeldsbro-test-lookups",
    "LOOKUP_RETENTION_DAYS": "1095",
    "MAX_LOOKUP_SECONDS": "25",
    "DATA_BUCKET": "gjeldsbro-data",
    "HASH_KEY_SECRET": "hash-key",
    "CLIENT_CERTIFICATE_SECRET": "client-certificate",
    "IDENTITY_NUMBERS": "synthetic",
    "PROVIDER_ID": "9908:983544622",
    "REQUESTS_PER_CALLER": "600",
    "REVOCATION_GRACE_DAYS": "3",
    "ALLOW_PLAIN_HTTP": "true",
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Tables, bucket and secrets in moto, and the functions' environment; state machines run when they are started."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        aws_clients.forget_clients()
        _create_tables(boto3.client("dynamodb"))
        boto3.client("s3").create_bucket(
            Bucket=ENVIRONMENT["DATA_BUCKET"],
            CreateBucketConfiguration={"LocationConstraint": "eu-north-1"},
        )
        secrets = boto3.client("secretsmanager")
        secrets.create_secret(Name="hash-key", SecretString=json.dumps({"version": "1", "key": "k" * 64}))
        secrets.create_secret(Name="client-certificate", SecretString="{}")
        boto3.client("events").create_event_bus(Name=ENVIRONMENT["LOOKUP_BUS"])
        key = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
        monkeypatch.setenv("NOTICE_KEY", key)
        yield {**ENVIRONMENT, "NOTICE_KEY": key}


@pytest.fixture
def partners(aws: dict[str, str]) -> Partners:
    """The PartnerTable."""
    return Partners(aws["PARTNER_TABLE"], aws_clients.dynamodb())


@pytest.fixture
def store(aws: dict[str, str]) -> DataStore:
    """The data bucket."""
    return DataStore(aws["DATA_BUCKET"], aws_clients.s3())


@pytest.fixture
def secrets(aws: dict[str, str]) -> Secrets:
    """The secrets."""
    return Secrets(aws_clients.secretsmanager())


def _create_tables(dynamodb: Any) -> None:
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    strings = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "pushOf", "version")]
    for table in ("PARTNER_TABLE", "LOOKUP_TABLE"):
        dynamodb.create_table(
            TableName=ENVIRONMENT[table],
            KeySchema=keys,
            AttributeDefinitions=strings[:2],
            BillingMode="PAY_PER_REQUEST",
        )
    dynamodb.create_table(
        TableName=ENVIRONMENT["REGISTER_TABLE"],
        KeySchema=keys,
        AttributeDefinitions=strings,
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "outstanding-pushes",
                "KeySchema": [
                    {"AttributeName": "pushOf", "KeyType": "HASH"},
                    {"AttributeName": "version", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            },
        ],
    )
