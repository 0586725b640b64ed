"""After the whole story, nobody's number is where it must not be (decision 15)."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

ELEVEN_DIGITS = re.compile(r"(?<!\d)\d{11}(?!\d)")


class Numbers:
    """The population's identity and account numbers, and how to find them in a text."""

    def __init__(self, identity: Iterable[str], accounts: Iterable[str]) -> None:
        self.identity = set(identity)
        self.accounts = sorted(set(accounts))
        self._accounts = re.compile("|".join(map(re.escape, self.accounts)))

    def in_text(self, text: str) -> set[str]:
        """All of them that a text holds."""
        return self.identity.intersection(ELEVEN_DIGITS.findall(text)) | set(self._accounts.findall(text))


@pytest.fixture(scope="module")
def numbers(parties, looked_up) -> Numbers:
    """Of both nights, of what was pushed or said live, and of the sample events."""
    populations = (parties.first_night, parties.second_night)
    customers = [
        customer
        for population in populations
        for dataset in population.datasets
        for customer in population.customers(*dataset)
    ]
    customers += [customer for message in parties.accepted for customer in message["customers"]]
    later = looked_up.later
    customers += [customer for dataset in later.datasets for customer in later.customers(*dataset)]
    identity = {*parties.first_night.customer_ids, "17912099997"}
    accounts = {loan["accountID"] for customer in customers for loan in customer["loans"]}
    return Numbers(identity, accounts)


@pytest.fixture(scope="module", autouse=True)
def the_whole_story(exported, shown, looked_up, answers) -> None:
    """Everything has happened before anybody searches."""


def test_the_search_finds_what_it_searches(numbers) -> None:
    """A number at the end of a sentence, in a key and in JSON is found: else the tests below say nothing."""
    number, account = next(iter(numbers.identity)), numbers.accounts[0]
    assert numbers.in_text(f"customer {number}.") == {number}
    assert numbers.in_text(json.dumps({f"runs/x/{number}": f"P#{account}"})) == {number, account}


def test_no_number_in_a_log(parties, numbers) -> None:
    """Every line of every log group, and of the local stack's own logs."""
    logs = parties.stack.client("logs")
    codes = set()
    for group in _pages(logs, "describe_log_groups", "logGroups"):
        for event in _pages(logs, "filter_log_events", "events", logGroupName=group["logGroupName"]):
            assert numbers.in_text(event["message"]) == set(), group["logGroupName"]
            codes.update(re.findall(r'"message":"([A-Z_]+)"', event["message"]))
    assert {"PUSH_RECEIVED", "NIGHT_FINISHED", "EXPORT_REPORTED", "CUSTOMER_SHOWN", "TASK_REFUSED"} <= codes
    assert {"LOOKUP_ANSWERED", "LOOKUPS_SHOWN"} <= codes
    for log in parties.stack.logs:
        assert numbers.in_text(log.read_text()) == set(), log.name


def test_no_number_in_an_execution(parties, numbers) -> None:
    """Inputs, outputs and histories of all executions, those of the Distributed Maps' items included."""
    states = parties.stack.client("stepfunctions")
    of_maps = 0
    for output in ("NightlyFetchStateMachineArn", "QuarterlyExportStateMachineArn"):
        arns = [one["executionArn"] for one in _executions(states, stateMachineArn=parties.stack.outputs[output])]
        runs = [run for arn in arns for run in _pages(states, "list_map_runs", "mapRuns", executionArn=arn)]
        items = [one["executionArn"] for run in runs for one in _executions(states, mapRunArn=run["mapRunArn"])]
        assert arns
        of_maps += len(items)
        for arn in {*arns, *items}:
            described = states.describe_execution(executionArn=arn)
            history = {"executionArn": arn, "includeExecutionData": True}
            events = list(_pages(states, "get_execution_history", "events", **history))
            assert events
            assert numbers.in_text(json.dumps([described, events], default=str)) == set(), arn
    assert of_maps >= 5, "two nights, and the export's lists, slices and packages"


def _executions(states: Any, **of: str) -> Iterator[dict[str, Any]]:
    yield from _pages(states, "list_executions", "executions", **of)


@pytest.mark.parametrize("output", ["DataBucketName", "ReportBucketName"])
def test_no_number_in_a_bucket(parties, numbers, output) -> None:
    """Neither in an object's key nor in a report and its page; indexes hold hashes only."""
    s3, bucket = parties.stack.client("s3"), parties.stack.outputs[output]
    keys = [entry["Key"] for entry in _pages(s3, "list_objects_v2", "Contents", Bucket=bucket)]
    assert keys
    assert numbers.in_text("\n".join(keys)) == set()
    for key in keys:
        data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert numbers.in_text(data.decode("latin-1")) == set(), key


def test_no_number_among_partners(parties, numbers) -> None:
    """Institutions, datasets, outcomes, deliveries and the trail, which operators may read."""
    items = list(_items(parties, "PartnerTableName"))
    assert len(items) > 20
    assert numbers.in_text(json.dumps(items, default=str)) == set()


def test_no_number_among_the_records_of_lookups(parties, numbers) -> None:
    """Who was looked up is a keyed hash, also in the references that lenders give; of debt there is nothing."""
    items = list(_items(parties, "LookupTableName"))
    assert len(items) >= 2
    assert numbers.in_text(json.dumps(items, default=str)) == set()


def test_no_number_on_the_bus(looked_up, numbers) -> None:
    """Of whom an event tells is a ciphertext; accounts are not in it at all."""
    assert looked_up.events
    assert numbers.in_text(json.dumps(looked_up.events)) == set()


def test_the_register_holds_no_identity_number(parties, numbers) -> None:
    """Customers are keyed hashes, and account numbers stand in the loans only, never in a key."""
    items = list(_items(parties, "RegisterTableName"))
    assert len(items) > 300
    for item in items:
        keys = {name: value for name, value in item.items() if name != "loans"}
        assert numbers.in_text(json.dumps(keys, default=str)) == set()
        loans = item["loans"]["B"].decode("latin-1")
        assert not numbers.identity & numbers.in_text(loans)


def _items(parties, output: str) -> Iterator[dict[str, Any]]:
    yield from _pages(parties.stack.client("dynamodb"), "scan", "Items", TableName=parties.stack.outputs[output])


def _pages(client: Any, operation: str, name: str, **arguments: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page.get(name, ())
