"""The LookupTable: who looked whom up, for the person's right to know (decision record 0018).

==========================  =================  =====================================================================
pk                          sk                 attributes
==========================  =================  =====================================================================
keyed hash of customerID    ``at#lookup id``   lookupID, lender, onBehalfOf?, referenceID, purpose, role, creditors
                                               (each: institution, answered, source), expires
==========================  =================  =====================================================================

The partition key is the register's. There is no debt in it, and no number of loans.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gjeldsbro.adapters.aws import from_item, to_item
from gjeldsbro.domain.timestamps import to_datetime
from gjeldsbro.services.lookup_records import AskedCreditor, LookupRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef


_NEW = "attribute_not_exists(pk)"
"""A PutItem would replace a record under the same key: the right to put must not be one to change (0018)."""


class LookupRecorder:
    """Records lookups (``services.debt_lookup.LookupRecords``); each goes when ``retention`` has passed."""

    def __init__(self, table: str, client: "DynamoDBClient", retention: timedelta) -> None:
        self._table = table
        self._client = client
        self._retention = retention

    def record(self, records: Sequence[LookupRecord]) -> None:
        """Record all persons of one lookup: all of them or none.

        Raises botocore's errors; also when a record is there already, which no two lookups may cause.
        """
        items = [self._item(record) for record in records]
        if len(items) == 1:  # a transaction takes twice as long
            self._client.put_item(TableName=self._table, Item=items[0], ConditionExpression=_NEW)
            return
        puts: list[TransactWriteItemTypeDef] = [
            {"Put": {"TableName": self._table, "Item": item, "ConditionExpression": _NEW}} for item in items
        ]
        self._client.transact_write_items(TransactItems=puts)

    def _item(self, record: LookupRecord) -> dict[str, Any]:
        return to_item(
            {
                "pk": record.customer,
                "sk": f"{record.at}#{record.lookup_id}",
                "lookupID": record.lookup_id,
                "lender": record.lender,
                "onBehalfOf": record.on_behalf_of,
                "referenceID": record.reference,
                "purpose": record.purpose,
                "role": record.role,
                "creditors": [creditor._asdict() for creditor in record.creditors],
                "expires": int((to_datetime(record.at) + self._retention).timestamp()),
            }
        )


class LookupHistory:
    """Reads the record of lookups."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def of(self, customer: str, now: datetime) -> list[LookupRecord]:
        """All lookups under one of a person's keys that are still kept, the newest first. Raises botocore's errors."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            ConsistentRead=True,
            ScanIndexForward=False,
            KeyConditionExpression="pk = :pk",
            FilterExpression="expires > :now",  # DynamoDB takes days to delete what has expired
            ExpressionAttributeValues=to_item({":pk": customer, ":now": int(now.timestamp())}),
        )
        return [_record(from_item(item)) for page in pages for item in page["Items"]]


def _record(item: dict[str, Any]) -> LookupRecord:
    return LookupRecord(
        customer=item["pk"],
        lookup_id=item["lookupID"],
        at=item["sk"].partition("#")[0],
        lender=item["lender"],
        on_behalf_of=item.get("onBehalfOf"),
        reference=item["referenceID"],
        purpose=item["purpose"],
        role=item["role"],
        creditors=tuple(AskedCreditor(**creditor) for creditor in item["creditors"]),
    )
