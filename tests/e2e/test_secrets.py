"""After the whole story, nothing that is secret stands anywhere but in Secrets Manager."""

import json
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def the_whole_story(exported, shown, looked_up, answers) -> None:
    """Everything has happened before anybody searches."""


@pytest.fixture(scope="module")
def secrets(parties) -> set[str]:
    """What must not be seen: the hash key, private keys line by line, and passwords; certificates are public."""
    client = parties.stack.client("secretsmanager")
    found: set[str] = set()
    for secret in _pages(client, "list_secrets", "SecretList"):
        found |= _secret_texts(json.loads(client.get_secret_value(SecretId=secret["ARN"])["SecretString"]))
    return found


def _secret_texts(value: Any, name: str = "") -> set[str]:
    if isinstance(value, dict):
        return {text for key, part in value.items() for text in _secret_texts(part, key)}
    if isinstance(value, list):
        return {text for part in value for text in _secret_texts(part, name)}
    if name not in {"key", "privateKey", "password", "passphrase"} or not value:
        return set()
    lines = [line for line in value.splitlines() if not line.startswith("-----")]
    return {line for line in lines if len(line) >= 8}


def test_the_search_has_something_to_find(secrets) -> None:
    """The hash key, our client key and receivers' keys are there."""
    assert len([text for text in secrets if len(text) >= 40]) >= 5


def _seen(text: str, secrets: set[str]) -> int:
    """How many secrets a text holds; a failing test must not print them."""
    return sum(secret in text for secret in secrets)


def test_no_secret_in_a_function_or_the_template(parties, secrets) -> None:
    """Neither in an environment variable, nor in what CloudFormation knows of the stack: names and references only."""
    functions = list(_pages(parties.stack.client("lambda"), "list_functions", "Functions"))
    assert len(functions) > 20
    assert _seen(json.dumps(functions, default=str), secrets) == 0
    formation, name = parties.stack.client("cloudformation"), parties.stack.name
    for stage in ("Original", "Processed"):
        template = formation.get_template(StackName=name, TemplateStage=stage)
        assert _seen(json.dumps(template, default=str), secrets) == 0
    assert _seen(json.dumps(formation.describe_stacks(StackName=name), default=str), secrets) == 0


def test_no_secret_in_a_log(parties, secrets) -> None:
    """Every line of every log group, and of the local stack's own logs."""
    logs, lines = parties.stack.client("logs"), 0
    for group in _pages(logs, "describe_log_groups", "logGroups"):
        for event in _pages(logs, "filter_log_events", "events", logGroupName=group["logGroupName"]):
            lines += 1
            assert _seen(event["message"], secrets) == 0, group["logGroupName"]
    assert lines > 100
    for log in parties.stack.logs:
        assert _seen(log.read_text(), secrets) == 0, log.name


def test_no_secret_in_a_table_or_bucket(parties, secrets) -> None:
    """Receivers' credentials are named in the table, not kept there; reports and working files know none."""
    for output in ("PartnerTableName", "RegisterTableName", "LookupTableName"):
        items = _pages(parties.stack.client("dynamodb"), "scan", "Items", TableName=parties.stack.outputs[output])
        assert _seen(json.dumps(list(items), default=str), secrets) == 0, output
    s3 = parties.stack.client("s3")
    for output in ("DataBucketName", "ReportBucketName"):
        bucket = parties.stack.outputs[output]
        for entry in _pages(s3, "list_objects_v2", "Contents", Bucket=bucket):
            data = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            assert _seen(data.decode("latin-1"), secrets) == 0, entry["Key"]


def _pages(client: Any, operation: str, name: str, **arguments: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(name, ())
