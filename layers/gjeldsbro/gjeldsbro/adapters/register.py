"""The RegisterTable: who has debt where, under keyed hashes (design decisions 3 and 4).

========================  ===============================================  =============================================
pk                        sk                                               attributes
========================  ===============================================  =============================================
version#hash(customerID)  ``D#institution#provider``                       loans, run (that wrote it)
version#hash(customerID)  ``P#institution#provider#type#account hash``     loans (just one), version, pushOf
========================  ===============================================  =============================================

``loans`` is ``domain.loans.encode_loans``. The sparse index ``outstanding-pushes`` (pushOf, version; keys only) finds
the pushes of one provider of one institution, oldest first.
"""

import random
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import batched, chain, islice
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from gjeldsbro.domain.customer_keys import HashKey, HashKeys, partition_key, parts_of_partition_key
from gjeldsbro.domain.loans import account_of, decode_loans, encode_loans
from gjeldsbro.domain.register import MAX_LOANS_BYTES, DatasetItem, PushItem, StoredItem, push_version
from gjeldsbro.errors import DatasetRefusedError, StoreUnavailableError, Violation

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PUSH_INDEX = "outstanding-pushes"
BATCH_SIZE = 25
"""Most items that one BatchWriteItem takes."""
CONCURRENCY = 16
"""Requests at a time of one function: half of the client's connection pool."""
MAX_ATTEMPTS = 20
"""Tries in a row of a batch write of which none takes anything; the waits between them add up to 72 seconds at most.

One that takes something counts anew: a new table takes 4,000 writes a second, and many loads are at it at once.
"""

_THROTTLED = frozenset({"ProvisionedThroughputExceededException", "ThrottlingException"})
_BASE_WAIT = 0.05
_MAX_WAIT = 5.0
_AFTER_ALL_VERSIONS = "~"
"""Sorts after the ``#`` that ends a version's timestamp: ``cover + "~"`` takes in all versions of that instant."""


class Register:
    """What is stored of customers, by their numbers, and their pushes. Raises botocore's errors."""

    def __init__(
        self,
        table: str,
        client: "DynamoDBClient",
        keys: HashKeys,
    ) -> None:
        self._table = table
        self._client = client
        self._keys = keys

    # Reading

    @property
    def newest_version(self) -> int:
        """The newest version of the hash key that it asks under."""
        return self._keys.keys[-1].number

    def items_of(self, customer_id: str) -> list[StoredItem]:
        """All that is stored of a customer, in one consistent Query a key. Read the DATASET records before."""
        return self.items_of_many([customer_id])[0]

    def items_of_many(self, customer_ids: Iterable[str]) -> list[list[StoredItem]]:
        """All that is stored of each customer, in their order; CONCURRENCY queries at a time."""
        return list(_in_parallel(self._items_of, customer_ids))

    # Pushes

    def put_pushes(self, pushes: Iterable[tuple[str, PushItem]], key: HashKey) -> int:
        """Store pushes (customerID, push), each unless a newer or the same one is there; how many were stored.

        ``key`` is the one to store them under. Returns only when each of them is in the register or older than what is
        there; after an error, some may be.
        """
        return sum(_in_parallel(lambda push: self._put_push(key, *push), pushes))

    def delete_pushes(self, pushes: Iterable[tuple[str, StoredItem]]) -> int:
        """Delete pushes (customerID, as stored), each if it still is as it was read; how many were deleted."""
        return sum(_in_parallel(lambda push: self._delete_stored(*push), pushes))

    def _items_of(self, customer_id: str) -> list[StoredItem]:
        # One key after the other, the oldest first: what moves meanwhile is under the newer key before it goes from
        # under the older one, so that it is in one of the answers at least.
        return list(chain.from_iterable(self._items_under(key, customer_id) for key in self._keys.readable))

    def _items_under(self, key: HashKey, customer_id: str) -> list[StoredItem]:
        request: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": key.partition_of(customer_id)}},
        }
        found = chain.from_iterable(_pages(self._client.query, request))
        return [StoredItem(key.number, _item(stored)) for stored in found]

    def _put_push(self, key: HashKey, customer_id: str, item: PushItem) -> bool:
        version = {"S": push_version(item.loan)}
        try:
            self._client.put_item(
                TableName=self._table,
                Item={
                    **_push_place(key, customer_id, item),
                    "loans": {"B": encode_loans((item.loan,))},
                    "version": version,
                    "pushOf": {"S": f"{item.institution}#{item.provider}"},
                },
                ConditionExpression="attribute_not_exists(#version) OR #version < :version",
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues={":version": version},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _delete_stored(self, customer_id: str, stored: StoredItem) -> bool:
        assert isinstance(stored.item, PushItem)
        place = _push_place(self._keys.of_version(str(stored.version)), customer_id, stored.item)
        return _delete_push(self._table, self._client, {**place, "version": {"S": push_version(stored.item.loan)}})


class DatasetItems:
    """Writes what datasets say under one version of the hash key, and deletes it; and the pushes that they supersede.

    It is given raw customer keys, and needs no secret. Raises botocore's errors, and StoreUnavailableError for a batch
    tried in vain.
    """

    def __init__(
        self, table: str, client: "DynamoDBClient", version: str, *, wait: Callable[[float], None] = sleep
    ) -> None:
        self._table = table
        self._client = client
        self._version = version
        self._wait = wait

    def write_dataset_items(
        self,
        institution: str,
        provider: str,
        run: str,
        rows: Iterable[tuple[bytes, bytes]],
    ) -> int:
        """Store what a dataset says of customers: rows of (customer key, encoded loans); how many.

        ``rows`` may be a stream of any length; no customer may occur twice in it. Raises DatasetRefusedError for a
        customer whose loans take more than MAX_LOANS_BYTES.
        """
        sort_key = {"S": _dataset_sort_key(institution, provider)}
        return self._write(
            {
                "PutRequest": {
                    "Item": {
                        "pk": {"S": partition_key(self._version, customer_key)},
                        "sk": sort_key,
                        "loans": {"B": _small_enough(loans)},
                        "run": {"S": run},
                    },
                },
            }
            for customer_key, loans in rows
        )

    def delete_dataset_items(self, institution: str, provider: str, customer_keys: Iterable[bytes]) -> int:
        """Delete what a dataset says of customers, whether there is anything or not; how many keys were given."""
        sort_key = {"S": _dataset_sort_key(institution, provider)}
        return self._write(
            {"DeleteRequest": {"Key": {"pk": {"S": partition_key(self._version, customer_key)}, "sk": sort_key}}}
            for customer_key in customer_keys
        )

    def delete_superseded_pushes(
        self, institution: str, provider: str, latest: str, cover: Callable[[], str | None]
    ) -> int:
        """Delete a provider's pushes up to and including ``latest`` and what ``cover`` says; how many were deleted.

        ``cover`` is asked when pushes were found, for each page of the index: what comes after its answer is not among
        them. Each goes only if it is still the version that the index showed: a newer push that came meanwhile stays.
        One that the index does not show yet stays too, counts for no reader, and goes after a later commit.
        """
        request: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": PUSH_INDEX,
            "KeyConditionExpression": "pushOf = :push_of AND #version <= :last",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {
                ":push_of": {"S": f"{institution}#{provider}"},
                ":last": {"S": latest + _AFTER_ALL_VERSIONS},
            },
        }
        deleted = 0
        for page in _pages(self._client.query, request):
            last = cover() if page else None
            if last is not None:
                superseded = [found for found in page if found["version"]["S"] <= last + _AFTER_ALL_VERSIONS]
                deleted += sum(_in_parallel(lambda found: _delete_push(self._table, self._client, found), superseded))
        return deleted

    def dataset_keys(
        self, institution: str, provider: str, segments: Iterable[int], of: int
    ) -> list[list[tuple[str, bytes]]]:
        """What is stored of a dataset: of each of these segments ``of`` all, (key version, customer key) of its items.

        Reads the whole table, segments side by side, under whatever version of the hash key.
        """
        sort_key = {"S": _dataset_sort_key(institution, provider)}

        def keys(segment: int) -> list[tuple[str, bytes]]:
            request: dict[str, Any] = {
                "TableName": self._table,
                "ConsistentRead": True,
                "Segment": segment,
                "TotalSegments": of,
                "FilterExpression": "sk = :sk",
                "ExpressionAttributeValues": {":sk": sort_key},
                "ProjectionExpression": "pk",
                "Select": "SPECIFIC_ATTRIBUTES",  # all that the function's role allows
            }
            found = chain.from_iterable(_pages(self._client.scan, request))
            return [parts_of_partition_key(item["pk"]["S"]) for item in found]

        return list(_in_parallel(keys, segments))

    def _write(self, requests: Iterable[dict[str, Any]]) -> int:
        batches = batched(requests, BATCH_SIZE, strict=False)
        first = list(islice(batches, 2))
        left = _Shared(chain(first, batches))
        writers = CONCURRENCY if len(first) == 2 else 1
        return sum(_in_parallel(self._write_batches, [left] * writers))

    def _write_batches(self, batches: "_Shared[Sequence[dict[str, Any]]]") -> int:
        try:
            return sum(map(self._write_batch, batches))
        except BaseException:
            batches.end()
            raise

    def _write_batch(self, batch: Sequence[dict[str, Any]]) -> int:
        left: Sequence[Any] = batch
        in_vain = 0
        while unprocessed := self._try_batch(left):
            in_vain = in_vain + 1 if len(unprocessed) == len(left) else 0
            if in_vain == MAX_ATTEMPTS:
                raise StoreUnavailableError(f"BatchWriteItem took nothing of a batch in {in_vain} tries")
            left = unprocessed
            longest = min(_MAX_WAIT, _BASE_WAIT * 2**in_vain)
            self._wait(random.uniform(0, longest))  # noqa: S311 - jitter, not a secret
        return len(batch)

    def _try_batch(self, batch: Sequence[Any]) -> Sequence[Any]:
        """What DynamoDB leaves of a batch; when it takes nothing for being asked too much, it says so in an error."""
        try:
            answer = self._client.batch_write_item(RequestItems={self._table: batch})
        except ClientError as exc:
            if exc.response["Error"]["Code"] not in _THROTTLED:
                raise
            return batch
        return answer.get("UnprocessedItems", {}).get(self._table, [])


class _Shared[T]:
    """Gives each element to one of several threads.

    Threads that take the next one by themselves cost less than handing each over: that takes as long as a request.
    """

    def __init__(self, elements: Iterator[T]) -> None:
        self._elements = elements
        self._lock = Lock()
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        with self._lock:
            if self._ended:
                raise StopIteration
            return next(self._elements)

    def end(self) -> None:
        """Give no more: after an error the others finish what they have, and that is all."""
        self._ended = True


class PushIndex:
    """The index of pushes that no dataset has superseded."""

    def __init__(self, table: str, client: "DynamoDBClient") -> None:
        self._table = table
        self._client = client

    def versions(self) -> Iterator[tuple[str, str]]:
        """Of each push: the version of the hash key that it lies under, and ``institution#provider``."""
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table, IndexName=PUSH_INDEX, ProjectionExpression="pk, pushOf"
        )
        for page in pages:
            for found in page["Items"]:
                yield found["pk"]["S"].partition("#")[0], found["pushOf"]["S"]


def _pages(call: Callable[..., Any], request: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    while True:
        page = call(**request)
        yield page["Items"]
        if not (last := page.get("LastEvaluatedKey")):
            return
        request = {**request, "ExclusiveStartKey": last}


def _push_place(key: HashKey, customer_id: str, item: PushItem) -> dict[str, Any]:
    # The customer is part of the account's hash: the two borrowers of one account must not be seen to share it.
    customer_key = key.customer_key(customer_id)
    loan_type, account_id = account_of(item.loan)
    account = key.account_key(customer_key.hex(), item.institution, account_id)
    name = urlsafe_b64encode(account).rstrip(b"=").decode()
    sort_key = f"P#{item.institution}#{item.provider}#{loan_type}#{name}"
    return {"pk": {"S": key.partition_key(customer_key)}, "sk": {"S": sort_key}}


def _delete_push(table: str, client: "DynamoDBClient", found: dict[str, Any]) -> bool:
    """Delete a push if it still is the version that was found."""
    try:
        client.delete_item(
            TableName=table,
            Key={"pk": found["pk"], "sk": found["sk"]},
            ConditionExpression="#version = :seen",
            ExpressionAttributeNames={"#version": "version"},
            ExpressionAttributeValues={":seen": found["version"]},
        )
    except client.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _in_parallel[T, R](work: Callable[[T], R], inputs: Iterable[T]) -> Iterator[R]:
    """The results of ``work`` on each input, in order; never more than twice CONCURRENCY inputs are taken ahead.

    A single input, as most pushes and lookups have, is worked on without a thread: to start one takes longer.
    """
    rest = iter(inputs)
    first = list(islice(rest, 2))
    if len(first) < 2:
        yield from map(work, first)
        return
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        ahead: deque[Future[R]] = deque()
        for value in chain(first, rest):
            ahead.append(pool.submit(work, value))
            if len(ahead) >= 2 * CONCURRENCY:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _dataset_sort_key(institution: str, provider: str) -> str:
    return f"D#{institution}#{provider}"


def _small_enough(loans: bytes) -> bytes:
    if len(loans) > MAX_LOANS_BYTES:
        raise DatasetRefusedError([Violation("", f"one customer's loans must take at most {MAX_LOANS_BYTES} bytes")])
    return loans


def _item(stored: dict[str, Any]) -> DatasetItem | PushItem:
    kind, institution, provider = stored["sk"]["S"].split("#")[:3]
    loans = decode_loans(stored["loans"]["B"])
    return DatasetItem(institution, provider, loans) if kind == "D" else PushItem(institution, provider, loans[0])
