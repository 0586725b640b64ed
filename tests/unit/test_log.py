"""The edge of every function: errors leave under their own names and without personal data."""

import json
from io import StringIO
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from gjeldsbro.errors import DatasetRefusedError, GjeldsbroError, StoreUnavailableError, UnexpectedError, Violation
from gjeldsbro.log import task

NUMBER = "17912099997"


class Context:
    """A Lambda context."""

    aws_request_id = "request-1"

    def get_remaining_time_in_millis(self) -> int:
        """Plenty."""
        return 900_000


def client_error(code: str, status: int) -> ClientError:
    """An AWS error whose message holds what it should not."""
    response: Any = {"Error": {"Code": code, "Message": NUMBER}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutItem")


def cancelled(*reasons: str) -> ClientError:
    """DynamoDB's refusal of a transaction, with a reason for each of its items."""
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": NUMBER},
        "ResponseMetadata": {"HTTPStatusCode": 400},
        "CancellationReasons": [{"Code": reason, "Message": NUMBER} for reason in reasons],
    }
    return ClientError(response, "TransactWriteItems")


@pytest.mark.parametrize(
    ("raised", "leaves"),
    [
        (DatasetRefusedError([Violation("/customers/0", "rule")]), DatasetRefusedError),
        (client_error("ThrottlingException", 400), StoreUnavailableError),
        (client_error("InternalServerError", 500), StoreUnavailableError),
        (cancelled("None", "ThrottlingError"), StoreUnavailableError),
        (cancelled("TransactionConflict", "ProvisionedThroughputExceeded"), StoreUnavailableError),
        (cancelled("ThrottlingError", "ConditionalCheckFailed"), UnexpectedError),
        (cancelled("None", "None"), UnexpectedError),
        (cancelled(), UnexpectedError),
        (EndpointConnectionError(endpoint_url="https://dynamodb"), StoreUnavailableError),
        (client_error("AccessDeniedException", 400), UnexpectedError),
        (KeyError(NUMBER), UnexpectedError),
        (ValueError(f"invalid literal: {NUMBER}"), UnexpectedError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_an_error_leaves_under_the_name_that_retry_and_catch_know(
    raised: Exception,
    leaves: type[GjeldsbroError],
    log_stream: StringIO,
) -> None:
    """Own errors pass, passing faults of AWS are retryable, all else is unexpected; no text or log holds a number."""

    @task
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        raise raised

    with pytest.raises(GjeldsbroError) as caught:
        handler({"run": "night-1", "customerID": NUMBER}, Context())

    assert type(caught.value) is leaves
    logged = log_stream.getvalue()
    assert NUMBER not in str(caught.value) + logged
    assert caught.value.__cause__ is None
    line = json.loads(logged.splitlines()[-1])
    assert line["run"] == "night-1"
    assert line["request"] == "request-1"


def test_an_unexpected_error_says_where_it_was_raised(log_stream: StringIO) -> None:
    """The engineer on duty finds file, line and function in the log, but not the text of the exception."""

    @task
    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return {"x": event["missing"]}

    with pytest.raises(UnexpectedError, match="KeyError"):
        handler({}, Context())

    line = json.loads(log_stream.getvalue())
    assert line["message"] == "UNEXPECTED_ERROR"
    assert any(place.startswith("test_log.py:") and place.endswith(" handler") for place in line["at"])


def test_a_result_passes_unchanged() -> None:
    """A handler that succeeds is not touched."""
    assert task(lambda event, context: {"complete": True})({}, Context()) == {"complete": True}
