"""Every sample event against its function in the real Lambda runtime."""

import gzip
import json

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.cloudformation import functions
from tests.e2e.lambda_runtime import event_name, role_of

WHAT_COMES_BACK = {
    "receive_push": {"statusCode", "headers", "body", "isBase64Encoded"},
    "check_connection": {"statusCode", "headers", "body", "isBase64Encoded"},
    "refresh_revocations": {"lists", "old"},
    "watch_operations": {"NightOverdue", "InstitutionsMissing", "PackagesOutstanding", "CredentialsExpiring"},
    "search_debt": {"statusCode", "headers", "body", "isBase64Encoded"},
    "show_customer": {"institutions", "institutionsWithDebt"},
    "show_lookups": {"lookups"},
    "rotate_hash_key": {"keys"},
    "check_receiver": {"receiver", "works", "checks"},
    "plan_night": {"run", "bucket", "manifestKey", "institutions"},
    "fetch_pages": {"complete"},
    "judge_institution": {"datasets"},
    "load_dataset": {"complete"},
    "record_failure": set(),
    "report_night": {"run", "reportKey", "datasets", "notLoaded"},
    "plan_export": {"run", "bucket", "manifestKey", "receivers"},
    "read_ssn_lists": {"complete"},
    "plan_packages": {"run", "bucket", "manifestKey", "batches"},
    "build_slice": {"complete"},
    "plan_deliveries": {"run", "bucket", "manifestKey", "receivers"},
    "deliver_package": {"complete"},
    "report_export": {"run", "reportKey", "deliveries", "notDelivered"},
}


@pytest.mark.parametrize("function", functions())
def test_a_sample_event_works(answers, function: str) -> None:
    """The function imports with its own layers only, may do what it does with its own role, and answers."""
    answer = answers[function]
    assert answer.error is None, f"{answer.value}\n{answer.log}"
    assert WHAT_COMES_BACK[event_name(function)] <= answer.value.keys()


@pytest.mark.parametrize(
    "function", ["FetchPagesFunction", "LoadDatasetFunction", "ReadSsnListsFunction", "DeliverPackageFunction"]
)
def test_what_may_take_long_is_done(answers, function: str) -> None:
    """Small samples are complete after one call."""
    assert answers[function].value == {"complete": True}


def test_the_sample_push_is_accepted(answers) -> None:
    """events/receive_push.json is a message that a provider may send."""
    answer = answers["ReceivePushFunction"].value
    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"]).keys() == {"timestamp", "uuid"}


def test_the_sample_lookup_is_answered_and_shown(answers) -> None:
    """events/search_debt.json looks a person without debt up: 204, and events/show_lookups.json shows who did."""
    answer = answers["SearchDebtFunction"].value
    assert (answer["statusCode"], answer["body"]) == (204, ""), answer
    assert "application 2026-117" in [one["referenceID"] for one in answers["ShowLookupsFunction"].value["lookups"]]


def test_the_sample_export_delivers_a_package(answers, second_receiver) -> None:
    """The events of the export, one after the other, put a package on the receiver's server."""
    document = json.loads(gzip.decompress((second_receiver.folder / "985815534.gzip").read_bytes()))
    assert len(document["customers"]) == 20


def test_roles_are_enforced(parties, answers) -> None:
    """Else a right that is missing in the template would fail no test: a role reads what it may and no more."""
    role = role_of(parties.stack, "RecordFailureFunction")
    dynamodb = boto3.client("dynamodb", endpoint_url=parties.stack.endpoint_url, **role)
    key = {"pk": {"S": "DATASET"}, "sk": {"S": "920013015#9908:920013015"}}
    assert "Item" in dynamodb.get_item(TableName=parties.stack.outputs["PartnerTableName"], Key=key)
    with pytest.raises(ClientError, match="AccessDenied"):
        dynamodb.get_item(TableName=parties.stack.outputs["RegisterTableName"], Key=key)
