"""Revocation lists in the PartnerTable: what operators configured, and what was read of each list.

==========================  ======================  ===================================================================
pk                          sk                      what
==========================  ======================  ===================================================================
``REVOCATION``              issuer                  name, address, the issuer's certificate, the list in use, last try
``REVOKED#{issuer}``        chunk, ``0`` to ``f``   digests of serial numbers (domain.revocation), its times
==========================  ======================  ===================================================================

``issuer`` is that of a Caller: the mark of the issuer's name. A chunk is written only over one of an older list or
the same, so that nothing goes back when two runs read at the same time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gjeldsbro.adapters.aws import from_item, to_item
from gjeldsbro.domain.revocation import CHUNKS
from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.services.ports import RevocationList
from gjeldsbro.services.revocation import RevokedChunk

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_LIST = "REVOCATION"
_LONG_AGO = from_datetime(datetime.fromtimestamp(0, UTC))
_IS_THERE = "attribute_exists(pk)"
_IS_NOT_NEWER = " AND (attribute_not_exists(#thisUpdate) OR #thisUpdate <= :thisUpdate)"


class Revocations:
    """Reads and writes revocation lists."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def chunk(self, issuer: str, name: str) -> RevokedChunk | None:
        """As in services.revocation. Eventually consistent: it is kept for minutes, so a second does not matter."""
        key = to_item({"pk": f"REVOKED#{issuer}", "sk": name})
        answer = self._client.get_item(TableName=self._table, Key=key)
        if "Item" not in answer:
            return None
        item = from_item(answer["Item"])
        return RevokedChunk(item["revoked"], to_datetime(item["nextUpdate"]))

    def lists(self) -> list[RevocationList]:
        """All configured lists, by name."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": _LIST}),
        )
        found = [_list_of(from_item(item)) for page in pages for item in page["Items"]]
        return sorted(found, key=lambda one: (one.name, one.issuer))

    def configure(self, configured: RevocationList) -> None:
        """Store what an operator configured, and with it close each chunk that is not there yet.

        A missing chunk means that no list is configured, and lets callers in. So a list is configured together with
        sixteen chunks, in one transaction: empty ones from long ago, which let nobody in (503) until the list's own
        are stored. Those would not all fit into a transaction. What is known of a list that was read before stays.
        """
        values = {"name": configured.name, "url": configured.url, "certificate": configured.certificate}
        own: TransactWriteItemTypeDef = {
            "Update": {
                "TableName": self._table,
                "Key": to_item({"pk": _LIST, "sk": configured.issuer}),
                "UpdateExpression": "SET " + ", ".join(f"#{name} = :{name}" for name in values),
                "ExpressionAttributeNames": {f"#{name}": name for name in values},
                "ExpressionAttributeValues": to_item({f":{name}": value for name, value in values.items()}),
            }
        }
        self._client.transact_write_items(
            TransactItems=[own, *(self._closed(configured.issuer, name) for name in CHUNKS)]
        )

    def _closed(self, issuer: str, name: str) -> "TransactWriteItemTypeDef":
        return {
            "Update": {
                "TableName": self._table,
                "Key": to_item({"pk": f"REVOKED#{issuer}", "sk": name}),
                "UpdateExpression": "SET revoked = if_not_exists(revoked, :none), "
                "nextUpdate = if_not_exists(nextUpdate, :longAgo)",
                "ExpressionAttributeValues": to_item({":none": b"", ":longAgo": _LONG_AGO}),
            }
        }

    def store(self, issuer: str, chunks: Mapping[str, bytes], this_update: datetime, next_update: datetime) -> bool:
        """Store the chunks of a list; False, with some of them stored, when a newer list was stored meanwhile."""
        times = {"thisUpdate": from_datetime(this_update), "nextUpdate": from_datetime(next_update)}
        for name in CHUNKS:
            try:
                self._client.put_item(
                    TableName=self._table,
                    Item=to_item({"pk": f"REVOKED#{issuer}", "sk": name, "revoked": chunks[name], **times}),
                    ConditionExpression="attribute_not_exists(thisUpdate) OR thisUpdate <= :this",
                    ExpressionAttributeValues=to_item({":this": times["thisUpdate"]}),
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def record(self, refreshed: RevocationList) -> None:
        """Store what is known of a list that was read; a newer one that was stored meanwhile stays.

        A list that was removed meanwhile leaves nothing behind.
        """
        values = {
            "thisUpdate": _text(refreshed.this_update),
            "nextUpdate": _text(refreshed.next_update),
            "readAt": _text(refreshed.read_at),
            "checkedAt": _text(refreshed.checked_at),
            "problem": refreshed.problem,
            "digest": refreshed.digest,
            "count": refreshed.count,
        }
        if not self._update(refreshed.issuer, values, _IS_THERE + _IS_NOT_NEWER) and not self._is_there(
            refreshed.issuer
        ):
            self._forget_chunks(refreshed.issuer)

    def record_failure(self, issuer: str, checked_at: datetime, problem: str) -> None:
        """Store why a list could not be read; what is known of the last good one stays."""
        self._update(issuer, {"checkedAt": _text(checked_at), "problem": problem}, _IS_THERE)

    def remove(self, issuer: str) -> None:
        """Forget a list: its issuer's certificates are not checked any more."""
        self._client.delete_item(TableName=self._table, Key=to_item({"pk": _LIST, "sk": issuer}))
        self._forget_chunks(issuer)

    def _forget_chunks(self, issuer: str) -> None:
        for name in CHUNKS:
            self._client.delete_item(TableName=self._table, Key=to_item({"pk": f"REVOKED#{issuer}", "sk": name}))

    def _is_there(self, issuer: str) -> bool:
        key = to_item({"pk": _LIST, "sk": issuer})
        return "Item" in self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)

    def _update(self, issuer: str, values: dict[str, Any], condition: str | None = None) -> bool:
        """Set the values and remove those that are None; False, and nothing changes, when the condition is not met."""
        kept = {name: value for name, value in values.items() if value is not None}
        gone = [f"#{name}" for name, value in values.items() if value is None]
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in kept)
        extra: dict[str, Any] = {} if condition is None else {"ConditionExpression": condition}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=to_item({"pk": _LIST, "sk": issuer}),
                UpdateExpression=f"{expression} REMOVE {', '.join(gone)}" if gone else expression,
                ExpressionAttributeNames={f"#{name}": name for name in values},
                ExpressionAttributeValues=to_item({f":{name}": value for name, value in kept.items()}),
                **extra,
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True


def _list_of(item: dict[str, Any]) -> RevocationList:
    return RevocationList(
        issuer=item["sk"],
        name=item["name"],
        url=item["url"],
        certificate=item["certificate"],
        this_update=_moment(item.get("thisUpdate")),
        next_update=_moment(item.get("nextUpdate")),
        read_at=_moment(item.get("readAt")),
        checked_at=_moment(item.get("checkedAt")),
        problem=item.get("problem"),
        digest=item.get("digest"),
        count=item.get("count"),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else from_datetime(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else to_datetime(text)
