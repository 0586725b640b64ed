"""The circuit breaker's items in the PartnerTable: pk ``BREAKER``, sk ``institution#provider``."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gjeldsbro.adapters.aws import from_item, to_item
from gjeldsbro.services.circuit_breaker import BreakerState

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RETENTION = timedelta(days=7)
"""After the last change: of a provider that nobody has asked since, or that is no more."""

_PARTITION = "BREAKER"
_NAMES = {"#until": "until", "#since": "since", "#pauses": "pauses", "#trying": "trying", "#expires": "expires"}


class BreakerItems:
    """Fulfils ``services.circuit_breaker.BreakerStore``: every change is one atomic update of one item."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def states(self) -> list[BreakerState]:
        """Of all providers that failed since they last answered."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": _PARTITION}),
        )
        return [_state_of(from_item(item)) for page in pages for item in page["Items"]]

    def add_failure(self, institution: str, provider: str, now: datetime) -> BreakerState:
        """Count one more failure, and give the state after it."""
        answer = self._client.update_item(
            TableName=self._table,
            Key=_key(institution, provider),
            UpdateExpression="ADD failures :one SET #expires = :expires",
            ExpressionAttributeNames={"#expires": "expires"},
            ExpressionAttributeValues=to_item({":one": 1, ":expires": _expires(now)}),
            ReturnValues="ALL_NEW",
        )
        return _state_of(from_item(answer["Attributes"]))

    def change(self, state: BreakerState, seen: str | None, now: datetime) -> bool:
        """Store all but the failures, if ``until`` is still what was ``seen``; False when it is not, or all is gone."""
        condition = "attribute_not_exists(#until)" if seen is None else "#until = :seen"
        values = {
            ":until": state.until,
            ":since": state.since,
            ":pauses": state.pauses,
            ":trying": state.trying,
            ":expires": _expires(now),
            ":seen": seen,
        }
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(state.institution, state.provider),
                UpdateExpression="SET " + ", ".join(f"{name} = :{plain}" for name, plain in _NAMES.items()),
                # A success in between has removed the item: then there is nothing to pause for.
                ConditionExpression=f"attribute_exists(failures) AND {condition}",
                ExpressionAttributeNames=_NAMES,
                ExpressionAttributeValues=to_item(values),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def remove(self, institution: str, provider: str) -> BreakerState | None:
        """Forget a provider's failures, and give what was known of them."""
        answer = self._client.delete_item(
            TableName=self._table, Key=_key(institution, provider), ReturnValues="ALL_OLD"
        )
        return _state_of(from_item(answer["Attributes"])) if "Attributes" in answer else None


def _key(institution: str, provider: str) -> dict[str, Any]:
    return to_item({"pk": _PARTITION, "sk": f"{institution}#{provider}"})


def _expires(now: datetime) -> int:
    return int((now + RETENTION).timestamp())


def _state_of(item: dict[str, Any]) -> BreakerState:
    institution, _, provider = item["sk"].partition("#")
    return BreakerState(
        institution,
        provider,
        failures=item.get("failures", 0),
        pauses=item.get("pauses", 0),
        since=item.get("since"),
        until=item.get("until"),
        trying=item.get("trying", False),
    )
