"""A pace for requests to one provider that all functions share: an item of the PartnerTable says when it is free next.

pk ``PACE``, sk providerID: ``nextAt`` in milliseconds since 1970. Each request takes the next place in the row and
moves ``nextAt`` on by one interval, in one atomic update; nobody holds anything that would have to be given back.
"""

from typing import TYPE_CHECKING, Any

from gjeldsbro.adapters.aws import from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PARTITION = "PACE"
_KEPT_SECONDS = 24 * 3600
_TRIES = 3
"""Another function may get in between two updates. Whoever still has no turn then asks again a moment later."""


class SharedPace:
    """Fulfils ``services.export.loans.Pace``."""

    def __init__(self, table: str, client: "DynamoDBClient", requests_per_second: float) -> None:
        self._table = table
        self._client = client
        self._interval = max(1, round(1000 / requests_per_second))

    def turn(self, provider: str, now: float, latest: float) -> float | None:
        """When the next request may be sent, in seconds since 1970; None when that would be after ``latest``."""
        at, last = round(now * 1000), round(latest * 1000)
        for _ in range(_TRIES):
            # Others wait: behind them. Nobody does: now.
            behind = self._take(
                provider, at, "nextAt + :interval", "nextAt BETWEEN :now AND :last", {":now": at, ":last": last}
            )
            if behind is not None:
                return behind / 1000
            free = self._take(
                provider, at, ":now + :interval", "attribute_not_exists(nextAt) OR nextAt < :now", {":now": at}
            )
            if free is not None:
                return free / 1000
        return None

    def _take(self, provider: str, now: int, value: str, condition: str, values: dict[str, int]) -> int | None:
        """The place that was taken, or None when the condition does not hold."""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": _PARTITION, "sk": provider}),
                UpdateExpression=f"SET nextAt = {value}, expires = :expires",
                ConditionExpression=condition,
                ExpressionAttributeValues=to_item(
                    {**values, ":interval": self._interval, ":expires": now // 1000 + _KEPT_SECONDS}
                ),
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return None
        taken: Any = from_item(answer["Attributes"])["nextAt"]
        return int(taken) - self._interval
