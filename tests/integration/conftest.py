"""The stores in moto, as template.yaml makes them, and the environment that the functions read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tests.integration.enforcement import enforced

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.data_store import DataStore
from gjeldsbro.adapters.partners import Partners
from gjeldsbro.adapters.secrets import Secrets
from gjeldsbro_operator import main as command
from gjeldsbro_operator import runs
from gjeldsbro_operator.stack import Stack

_ROLE = "arn:aws:iam::123456789012:role/machine"
ENVIRONMENT = {
    "STACK_NAME": "gjeldsbro-test",
    "REGISTER_TABLE": "register",
    "PARTNER_TABLE": "partners",
    "LOOKUP_TABLE": "lookups",
    "LOOKUP_BUS": "gjeldsbro-test-lookups",
    "LOOKUP_RETENTION_DAYS": "1095",
    "MAX_LOOKUP_SECONDS": "25",
    "DATA_BUCKET": "gjeldsbro-data",
    "REPORT_BUCKET": "gjeldsbro-reports",
    "HASH_KEY_SECRET": "hash-key",
    "CLIENT_CERTIFICATE_SECRET": "client-certificate",
    "IDENTITY_NUMBERS": "synthetic",
    "PROVIDER_ID": "9908:983544622",
    "REQUESTS_PER_CALLER": "600",
    "REVOCATION_GRACE_DAYS": "3",
    "NIGHT_DEADLINE_HOUR": "8",
    "EXPORT_DEADLINE_DAYS": "3",
    "EXPIRY_WARNING_DAYS": "30",
    "LOGIN_MAX_AGE_DAYS": "730",
    "ALLOW_PLAIN_HTTP": "true",
}


@pytest.fixture(autouse=True)
def _rights_are_enforced(request: pytest.FixtureRequest) -> Iterator[None]:
    """What handlers call of AWS is held against their functions' rights."""
    with enforced(request.node.nodeid):
        yield


@contextmanager
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Tables, bucket and secrets in moto, and the functions' environment; state machines run when they are started."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws_clients, "_DYNAMODB_CONFIG", aws_clients._CONFIG)  # every request is checked here
    with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
        aws_clients.forget_clients()
        _create_tables(boto3.client("dynamodb"))
        for bucket in (ENVIRONMENT["DATA_BUCKET"], ENVIRONMENT["REPORT_BUCKET"]):
            boto3.client("s3").create_bucket(
                Bucket=bucket,
                CreateBucketConfiguration={"LocationConstraint": "eu-north-1"},
            )
        secrets = boto3.client("secretsmanager")
        secrets.create_secret(Name="hash-key", SecretString=json.dumps({"version": "1", "key": "k" * 64}))
        secrets.create_secret(Name="client-certificate", SecretString="{}")
        boto3.client("events").create_event_bus(Name=ENVIRONMENT["LOOKUP_BUS"])
        made = {
            "NOTICE_KEY": boto3.client("kms").create_key()["KeyMetadata"]["Arn"],
            "ALARM_TOPIC": boto3.client("sns").create_topic(Name="gjeldsbro-test-alarms")["TopicArn"],
        }
        for name, value in made.items():
            monkeypatch.setenv(name, value)
        yield ENVIRONMENT | made


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The stores of one test."""
    with stores(monkeypatch) as environment:
        yield environment


@pytest.fixture
def partners(aws: dict[str, str]) -> Partners:
    """The PartnerTable."""
    return Partners(aws["PARTNER_TABLE"], aws_clients.dynamodb())


@pytest.fixture
def store(aws: dict[str, str]) -> DataStore:
    """The data bucket."""
    return DataStore(aws["DATA_BUCKET"], aws_clients.s3())


@pytest.fixture
def reports(aws: dict[str, str]) -> DataStore:
    """The report bucket."""
    return DataStore(aws["REPORT_BUCKET"], aws_clients.s3())


@pytest.fixture
def secrets(aws: dict[str, str]) -> Secrets:
    """The secrets."""
    return Secrets(aws_clients.secretsmanager())


@pytest.fixture
def gjeldsbro(
    aws: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs the command on a stack in moto: returns exit status, standard output (parsed with --json) and error."""
    client = boto3.client("stepfunctions")
    outputs = {
        "PartnerTableName": aws["PARTNER_TABLE"],
        "DataBucketName": aws["DATA_BUCKET"],
        "ReportBucketName": aws["REPORT_BUCKET"],
        "PartnerKeyArn": boto3.client("kms").create_key()["KeyMetadata"]["Arn"],
        "ReceiverSecretPrefix": "gjeldsbro-test/receiver/",
        "ClientCertificateSecretName": aws["CLIENT_CERTIFICATE_SECRET"],
        "ShowCustomerFunctionName": "show-customer",
        "CheckReceiverFunctionName": "check-receiver",
        "RefreshRevocationsFunctionName": "refresh-revocations",
        "NoticeQueueUrl": boto3.client("sqs").create_queue(QueueName="notices")["QueueUrl"],
        "DeadLettersUrl": boto3.client("sqs").create_queue(QueueName="dead-letters")["QueueUrl"],
    }
    for name in ("NightlyFetch", "QuarterlyExport"):
        definition = json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
        machine = client.create_state_machine(name=name, definition=definition, roleArn=_ROLE)
        outputs[f"{name}StateMachineArn"] = machine["stateMachineArn"]
    original = Stack._client
    monkeypatch.setattr(
        Stack,
        "_client",
        lambda self, service, *rest: (
            _CloudFormation(outputs) if service == "cloudformation" else original(self, service, *rest)
        ),
    )
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.01)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOGNAME", "kari")

    def run(*arguments, stack=True):
        status = command.main([*(["--stack", "gjeldsbro-test"] if stack else []), *arguments])
        printed = capsys.readouterr()
        return status, json.loads(printed.out) if "--json" in arguments and printed.out else printed.out, printed.err

    return run


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


class _CloudFormation:
    """One deployed stack; moto's own needs half of moto installed."""

    def __init__(self, outputs):
        self.outputs = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]

    def describe_stacks(self, *, StackName):  # noqa: N803 - AWS names it so
        """The stack, or the error that AWS answers for a name that it does not know."""
        if StackName != "gjeldsbro-test":
            error = {"Code": "ValidationError", "Message": f"Stack with id {StackName} does not exist"}
            raise ClientError({"Error": error}, "DescribeStacks")
        values = {
            "IdentityNumbers": "synthetic",
            "RevocationGraceDays": "3",
            "NightDeadlineHour": "8",
            "ExportDeadlineDays": "3",
            "ExpiryWarningDays": "30",
            "LoginMaxAgeDays": "730",
        }
        parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
        return {"Stacks": [{"StackName": StackName, "Outputs": self.outputs, "Parameters": parameters}]}
