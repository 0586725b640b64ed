"""AWS in the process that calls it: it answers at once, and counts.

It stands where a request would be sent (botocore's event ``before-send``). All before and after is the client's own
work as in production: parameters checked, serialised and signed, checksums made, answers parsed. So what is measured is
our cost, and neither a network's nor an emulator's.

    aws = Aws(
        tables={"partners": Table(items), "register": Sink()},
        objects=Objects(folder),                 # or Objects(): in memory
        secrets={"hash-key": '{"version": "1", "key": "..."}'},
    )
    aws.install()                                # what gjeldsbro.adapters.aws gives from here on
    aws.attach(boto3.Session()._session)         # any other botocore session, before it makes clients
    aws.counts["dynamodb.BatchWriteItem"]        # calls, by service and operation
    aws.counts["items written"]                  # also: items written in batches, items deleted, items read,
                                                 # bytes sent, bytes received
    aws.counts.clear()

A ``Table`` keeps what is written and knows conditions, updates, queries and scans, as far as our adapters use them. A
``Sink`` takes batches of any size and keeps nothing; what it answers to a Query is for a function to say. Any operation
that is not known here raises NotImplementedError, so nothing is ever sent.

``Aws(weigh=True)`` also counts "write units" and "read units" as DynamoDB bills them, which takes time: not for timing.
``Table.dump`` and ``Objects(folder)`` keep everything, so that each invocation may be measured in a process of its own.
Bytes are those of bodies. All may be called from many threads.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape
from zlib import crc32

import botocore.session
import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from gjeldsbro.adapters import aws as our_clients

Item = dict[str, Any]
"""An item in the wire's form: ``{"pk": {"S": "..."}}``, binaries in base64."""

_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "eu-north-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_SESSION_TOKEN": "test",
}
_KEYS_A_PAGE = 1000


class AwsError(Exception):
    """An error that AWS answers with: its code, and more fields of the answer."""

    def __init__(self, code: str, status: int = 400, **fields: Any) -> None:
        super().__init__(code)
        self.status = status
        self.fields = {"__type": code, "message": code, **fields}


class Table:
    """A table with ``pk`` and ``sk``. ``forgets``: writes are answered as if they were kept, and are not."""

    def __init__(self, items: Iterable[Mapping[str, Any]] = (), *, forgets: bool = False) -> None:
        self._partitions: dict[str, dict[str, Item]] = {}
        self._forgets = False
        for item in items:
            self.put(item)
        self._forgets = forgets

    def dump(self) -> list[Item]:
        """All items, for another Table."""
        return [item for partition in self._partitions.values() for item in partition.values()]

    def put(self, item: Mapping[str, Any]) -> None:
        """Store an item, binaries as bytes or in base64."""
        self._put(msgspec.json.decode(msgspec.json.encode(item)))

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer to one request. Raises AwsError."""
        match operation:
            case "GetItem":
                item = self._get(request["Key"])
                return {} if item is None else {"Item": item}
            case "Query" | "Scan":
                return self._find(request)
            case "PutItem" | "UpdateItem" | "DeleteItem":
                self.check(request)
                return self.apply(request)
        raise NotImplementedError(operation)

    def write(self, requests: Iterable[dict[str, Any]]) -> None:
        """The part of a BatchWriteItem that is this table's."""
        for one in requests:
            self.apply(one.get("PutRequest") or one["DeleteRequest"])

    def check(self, request: dict[str, Any]) -> None:
        """Raise ConditionalCheckFailedException unless the request's condition holds."""
        if condition := request.get("ConditionExpression"):
            item = self._get(request.get("Key") or request["Item"])
            if not _condition(condition)(_Scope(item or {}, request)):
                raise AwsError("ConditionalCheckFailedException")

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a put, update or deletion says, whatever its condition says."""
        before = self._get(request.get("Key") or request["Item"])
        if "Item" in request:
            after: Item | None = request["Item"]
        elif "UpdateExpression" in request:
            after = {**request["Key"], **(before or {})}
            changed = _update(request["UpdateExpression"])(_Scope(after, request))
        else:
            after = None
        if after is not None:
            self._put(after)
        elif not self._forgets:
            self._partitions.get(request["Key"]["pk"]["S"], {}).pop(request["Key"]["sk"]["S"], None)
        match request.get("ReturnValues"):
            case "ALL_NEW":
                return {"Attributes": after}
            case "UPDATED_NEW":
                return {"Attributes": {name: value for name, value in (after or {}).items() if name in changed}}
            case "ALL_OLD":
                return {} if before is None else {"Attributes": before}
        return {}

    def _find(self, request: dict[str, Any]) -> dict[str, Any]:
        key, filters = request.get("KeyConditionExpression"), request.get("FilterExpression")
        partition = re.match(r"pk = (:\w+)", key or "")
        if partition:
            name = request["ExpressionAttributeValues"][partition[1]]["S"]
            found: Iterable[Item] = self._partitions.get(name, {}).values()
        else:
            found = chain.from_iterable(partition.values() for partition in self._partitions.values())
        for expression in (key, filters):
            if expression:
                holds = _condition(expression)
                found = [item for item in found if holds(_Scope(item, request))]
        sort_by = "sk" if partition or key is None else "version"  # of the one index that there is
        items = sorted(found, key=lambda item: item.get(sort_by, {}).get("S", ""))
        if "Segment" in request:
            of = request["TotalSegments"]
            items = [item for item in items if crc32(item["pk"]["S"].encode()) % of == request["Segment"]]
        if request.get("ScanIndexForward") is False:
            items.reverse()
        return {"Items": items, "Count": len(items)}

    def _get(self, key: Mapping[str, Any]) -> Item | None:
        return self._partitions.get(key["pk"]["S"], {}).get(key["sk"]["S"])

    def _put(self, item: Item) -> None:
        if not self._forgets:
            self._partitions.setdefault(item["pk"]["S"], {})[item["sk"]["S"]] = item


class Sink:
    """A table that keeps nothing; ``query`` gives the items that it answers to a Query."""

    def __init__(self, query: Callable[[dict[str, Any]], list[Any]] = lambda _: []) -> None:
        self._query = query

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer to one request."""
        if operation not in {"Query", "Scan"}:
            return {}
        items = self._query(request)
        return {"Items": items, "Count": len(items)}


class Objects:
    """All buckets, as files under ``folder`` or in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._stored: dict[str, int] = {}
        """Sizes by bucket and key."""
        self._data: dict[str, bytearray] = {}
        self._sums: dict[str, str] = {}
        self._uploads = 0
        if folder is not None:
            folder.mkdir(exist_ok=True)
            for file in folder.iterdir():
                if not file.name.startswith("."):
                    self._stored[unquote(file.name)] = file.stat().st_size

    def keys(self, prefix: str = "") -> list[str]:
        """``bucket/key`` of all objects that begin so, sorted."""
        return sorted(name for name in self._stored if name.startswith(prefix))

    def size(self, name: str) -> int:
        """Bytes of an object."""
        return self._stored[name]

    def put(self, name: str, data: bytes, checksum: str | None = None) -> None:
        """Store an object."""
        if self._folder is None:
            self._data[name] = bytearray(data)
        else:
            self._file(name).write_bytes(data)
        self._stored[name] = len(data)
        self._sums.pop(name, None)
        if checksum is not None:
            self._sums[name] = checksum

    def read(self, name: str, first: int = 0, last: int | None = None) -> bytes:
        """An object, or a part of it. Raises KeyError when there is none."""
        last = self._stored[name] - 1 if last is None else last
        if self._folder is None:
            return bytes(memoryview(self._data[name])[first : last + 1])
        with self._file(name).open("rb") as file:
            file.seek(first)
            return file.read(last - first + 1)

    def delete(self, name: str) -> None:
        """Delete an object, if there is such a one."""
        if self._stored.pop(name, None) is not None:
            self._sums.pop(name, None)
            if self._folder is None:
                del self._data[name]
            else:
                self._file(name).unlink()

    # Multipart: parts come in order, so that they need not be stored singly

    def begin(self) -> str:
        """Begin an upload."""
        self._uploads += 1
        name = f".{os.getpid()}-{self._uploads}"
        if self._folder is None:
            self._data[name] = bytearray()
        else:
            self._file(name).touch()
        return name

    def add(self, upload: str, data: bytes) -> None:
        """Add the next part."""
        if self._folder is None:
            self._data[upload] += data
        else:
            with self._file(upload).open("ab") as file:
                file.write(data)

    def end(self, upload: str, name: str) -> None:
        """Make the object appear."""
        if self._folder is None:
            self._data[name] = self._data.pop(upload)
            self._stored[name] = len(self._data[name])
        else:
            self._stored[name] = self._file(upload).rename(self._file(name)).stat().st_size
        self._sums.pop(name, None)

    def abort(self, upload: str) -> None:
        """Drop the parts."""
        if self._folder is None:
            del self._data[upload]
        else:
            self._file(upload).unlink()

    def checksum(self, name: str) -> str | None:
        """CRC-32 in base64 of an object that was stored whole."""
        return self._sums.get(name)

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / (name if name.startswith(".") else quote(name, safe=""))


class Aws:
    """Tables, buckets and secrets of one account."""

    def __init__(
        self,
        tables: Mapping[str, Table | Sink] | None = None,
        objects: Objects | None = None,
        secrets: Mapping[str, str] | None = None,
        *,
        weigh: bool = False,
    ) -> None:
        self.tables = dict(tables or {})
        self.objects = objects or Objects()
        self.secrets = dict(secrets or {})
        self.counts: Counter[str] = Counter()
        self._weigh = weigh
        self._lock = Lock()

    def install(self) -> None:
        """Have our clients ask here, from now on."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        our_clients.forget_clients()
        self.attach(our_clients._session())

    def attach(self, session: botocore.session.Session) -> None:
        """Have the clients ask here that this session is yet to make."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        session.register("before-send", self._send)

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        _, service, operation = event_name.split(".")
        sent = _body(request)
        with self._lock:
            self.counts[f"{service}.{operation}"] += 1
            self.counts["bytes sent"] += len(sent)
            if service == "s3":
                status, headers, body = _S3(self.objects, request, sent).answer(operation)
            else:
                status, body = self.answer(operation, sent)
                headers = {"Content-Type": "application/x-amz-json-1.0", "x-amz-crc32": str(crc32(body))}
            self.counts["bytes received"] += len(body)
        if operation != "HeadObject":
            headers["Content-Length"] = str(len(body))
        return AWSResponse(request.url, status, headers, _Raw(body))

    def answer(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one call of an AWS JSON protocol."""
        try:
            if operation == "BatchWriteItem":
                return 200, self._write_batch(body)
            return 200, msgspec.json.encode(self._operation(operation, msgspec.json.decode(body)))
        except AwsError as exc:
            return exc.status, msgspec.json.encode(exc.fields)

    def _operation(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "TransactWriteItems":
                return self._transact([next(iter(one.values())) for one in request["TransactItems"]])
            case "GetSecretValue":
                return {"SecretString": self.secrets[request["SecretId"]]}
            case "Encrypt":
                return {"CiphertextBlob": b"c" * 190, "KeyId": request["KeyId"]}
            case "PutEvents":
                return {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in request["Entries"]]}
        if "TableName" not in request:
            raise NotImplementedError(operation)
        answer = self.tables[request["TableName"]].answer(operation, request)
        match operation:
            case "GetItem" | "Query" | "Scan":
                items = answer.get("Items", [answer.get("Item", {})])
                self._count_read(operation, items, consistent=bool(request.get("ConsistentRead")))
                answer = _projected(answer, request)
            case "DeleteItem":
                self._count_written("items deleted", [request["Key"]])
            case "PutItem":
                self._count_written("items written", [request["Item"]])
            case "UpdateItem":
                self._count_written("items written", [answer.get("Attributes", request["Key"])])
        return answer

    def _write_batch(self, body: bytes) -> bytes:
        # What is written is counted in the bytes and only read where somebody keeps or weighs it: reading takes longer
        # than all that the client does with it.
        puts, deletions = body.count(b'{"PutRequest": '), body.count(b'{"DeleteRequest": ')
        assert 1 <= puts + deletions <= 25
        self.counts["items written"] += puts
        self.counts["items written in batches"] += puts
        self.counts["items deleted"] += deletions
        if self._weigh or not all(isinstance(table, Sink) for table in self.tables.values()):
            request: dict[str, list[dict[str, Any]]] = msgspec.json.decode(body)["RequestItems"]
            assert sum(map(len, request.values())) == puts + deletions
            for name, requests in request.items():
                table = self.tables[name]
                if isinstance(table, Table):
                    table.write(requests)
                for one in requests:
                    self._weigh_written(one["PutRequest"]["Item"] if "PutRequest" in one else {})
        return b'{"UnprocessedItems":{}}'

    def _transact(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        reasons = []
        for request in requests:
            try:
                self.tables[request["TableName"]].check(request)
                reasons.append({"Code": "None"})
            except AwsError as exc:
                reasons.append({"Code": exc.fields["__type"].removesuffix("Exception")})
        if any(reason["Code"] != "None" for reason in reasons):
            raise AwsError("TransactionCanceledException", CancellationReasons=reasons)
        for request in requests:
            self.tables[request["TableName"]].apply(request)
            self._count_written("items written", [request.get("Item", {}), request.get("Item", {})])  # twice the units
        return {}

    def _count_read(self, operation: str, items: list[Any], *, consistent: bool) -> None:
        self.counts["items read"] += len(items)
        if self._weigh:
            units = -(-max(1, sum(map(_weight, items))) // 4096)
            self.counts["read units"] += units if consistent else units / 2  # type: ignore[assignment]

    def _count_written(self, what: str, items: list[Item]) -> None:
        self.counts[what] += 1
        for item in items:
            self._weigh_written(item)

    def _weigh_written(self, item: Item) -> None:
        if self._weigh:
            self.counts["write units"] += -(-max(1, _weight(item)) // 1024)


type _Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


class _S3:
    """One request of S3."""

    def __init__(self, objects: Objects, request: AWSPreparedRequest, sent: bytes) -> None:
        self._objects = objects
        self._headers = request.headers
        self._sent = sent
        url = urlsplit(request.url)
        bucket, _, rest = str(url.netloc).partition(".s3.")
        path = unquote(url.path).lstrip("/")
        if not rest:  # the bucket is part of the path
            bucket, _, path = path.partition("/")
        self._bucket, self._key = bucket, path
        self._name = f"{bucket}/{path}"
        self._query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}

    def answer(self, operation: str) -> _Answer:
        """The answer."""
        known = {
            "PutObject": self._put,
            "HeadObject": self._head,
            "GetObject": self._get,
            "ListObjectsV2": self._list,
            "DeleteObjects": self._delete,
            "CreateMultipartUpload": self._begin,
            "UploadPart": self._add,
            "CompleteMultipartUpload": self._end,
            "AbortMultipartUpload": self._abort,
        }
        if operation not in known:
            raise NotImplementedError(operation)
        try:
            return known[operation]()
        except KeyError:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"

    def _put(self) -> _Answer:
        data, checksum = _without_chunks(self._sent, self._headers)
        self._objects.put(self._name, data, checksum)
        return 200, {"ETag": '"e"'}, b""

    def _head(self) -> _Answer:
        try:
            return 200, {"Content-Length": str(self._objects.size(self._name)), "ETag": '"e"'}, b""
        except KeyError:
            return 404, {}, b""

    def _get(self) -> _Answer:
        size = self._objects.size(self._name)
        wanted = self._headers.get("Range")
        if wanted is None:
            checksum = self._objects.checksum(self._name)
            return 200, {} if checksum is None else {"x-amz-checksum-crc32": checksum}, self._objects.read(self._name)
        text = wanted.decode() if isinstance(wanted, bytes) else wanted
        first, last = text.removeprefix("bytes=").split("-")
        end = min(int(last), size - 1) if last else size - 1
        if int(first) >= size:
            return 416, {}, b"<Error><Code>InvalidRange</Code><Message>invalid range</Message></Error>"
        part = self._objects.read(self._name, int(first), end)
        return 206, {"Content-Range": f"bytes {first}-{end}/{size}"}, part

    def _list(self) -> _Answer:
        prefix = f"{self._bucket}/{self._query.get('prefix', '')}"
        after = f"{self._bucket}/{self._query.get('continuation-token', '')}"
        found = [name for name in self._objects.keys(prefix) if name > after]
        page = found[:_KEYS_A_PAGE]
        entries = "".join(
            f"<Contents><Key>{escape(quote(name.partition('/')[2]))}</Key><Size>{self._objects.size(name)}</Size></Contents>"
            for name in page
        )
        more = len(found) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1].partition('/')[2])}</NextContinuationToken>" if more else ""
        head = f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        return 200, {}, f"<ListBucketResult>{head}{entries}</ListBucketResult>".encode()

    def _delete(self) -> _Answer:
        for key in ET.fromstring(self._sent).iterfind("{*}Object/{*}Key"):
            self._objects.delete(f"{self._bucket}/{key.text}")
        return 200, {}, b"<DeleteResult></DeleteResult>"

    def _begin(self) -> _Answer:
        upload = self._objects.begin()
        answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        return 200, {}, answer.encode()

    def _add(self) -> _Answer:
        data, _ = _without_chunks(self._sent, self._headers)
        self._objects.add(self._query["uploadId"], data)
        return 200, {"ETag": '"e"'}, b""

    def _end(self) -> _Answer:
        self._objects.end(self._query["uploadId"], self._name)
        return 200, {}, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"

    def _abort(self) -> _Answer:
        self._objects.abort(self._query["uploadId"])
        return 204, {}, b""


class _Raw(BytesIO):
    """The body of an answer as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        """All of it at once."""
        if data := self.read():
            yield data


def _body(request: AWSPreparedRequest) -> bytes:
    body: Any = request.body
    if body is None:
        return b""
    if hasattr(body, "read"):
        return bytes(body.read())
    return body.encode() if isinstance(body, str) else bytes(body)


def _without_chunks(body: bytes, headers: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """The content of a body in S3's chunks, and the checksum that follows them."""
    if "X-Amz-Trailer" not in headers:
        return body, None
    parts, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        length = int(body[at:end], 16)
        at = end + 2
        if not length:
            break
        parts.append(body[at : at + length])
        at += length + 2
    return parts[0] if len(parts) == 1 else b"".join(parts), body[at:].partition(b":")[2].strip().decode()


def _projected(answer: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    if "ProjectionExpression" not in request:
        return answer
    names = request.get("ExpressionAttributeNames", {})
    shown = {names.get(name.strip(), name.strip()) for name in request["ProjectionExpression"].split(",")}
    items = [{name: value for name, value in item.items() if name in shown} for item in answer["Items"]]
    return {**answer, "Items": items}


def _weight(item: Item) -> int:
    """About the bytes of an item as DynamoDB counts them."""
    total = 0
    for name, attribute in item.items():
        ((kind, value),) = attribute.items()
        match kind:
            case "S":
                size = len(value.encode())
            case "B":
                size = len(value) if isinstance(value, bytes) else len(value.rstrip("=")) * 3 // 4
            case "N":
                size = len(value) // 2 + 2
            case "M" | "L":
                size = len(msgspec.json.encode(value)) // 2 + 3
            case _:
                size = 1
        total += len(name) + size
    return total


# Expressions, as far as our adapters use them


class _Scope:
    """What names and values of an expression stand for."""

    def __init__(self, item: Item, request: dict[str, Any]) -> None:
        self.item = item
        self._names = request.get("ExpressionAttributeNames", {})
        self._values = request.get("ExpressionAttributeValues", {})

    def name(self, token: str) -> str:
        return str(self._names.get(token, token))

    def value(self, token: str) -> Any:
        """The attribute of a path or a ``:value``; None when there is none."""
        if token.startswith(":"):
            return self._values[token]
        first, *inner = token.split(".")
        found = self.item.get(self.name(first))
        for name in inner:
            found = (found or {}).get("M", {}).get(self.name(name))
        return found


_TOKEN = re.compile(r"\s*([:#A-Za-z_][\w.#]*|<=|>=|<>|[()=<>,+-])")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda one, other: one == other,
    "<>": lambda one, other: one != other,
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "attribute_exists": lambda value: value is not None,
    "attribute_not_exists": lambda value: value is None,
    "begins_with": lambda value, prefix: value is not None and value["S"].startswith(prefix["S"]),
    "if_not_exists": lambda value, otherwise: otherwise if value is None else value,
}


class _Parser:
    """Reads an expression into functions of a scope."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise NotImplementedError(text)

    def take(self, *expected: str) -> str | None:
        """The next token, if it is one of the expected."""
        if self._tokens and (not expected or self._tokens[0] in expected):
            return str(self._tokens.pop(0))
        return None

    def end(self) -> None:
        """All must have been read."""
        if self._tokens:
            raise NotImplementedError(" ".join(self._tokens))

    def condition(self) -> Callable[[_Scope], bool]:
        either = [self._all()]
        while self.take("OR"):
            either.append(self._all())
        return lambda scope: any(one(scope) for one in either)

    def _all(self) -> Callable[[_Scope], bool]:
        each = [self._one()]
        while self.take("AND"):
            each.append(self._one())
        return lambda scope: all(one(scope) for one in each)

    def _one(self) -> Callable[[_Scope], bool]:
        if self.take("NOT"):
            inner = self._one()
            return lambda scope: not inner(scope)
        if self.take("("):
            inner = self.condition()
            assert self.take(")")
            return inner
        left = self.operand()
        if self.take("BETWEEN"):
            low, _, high = self.operand(), self.take("AND"), self.operand()
            least, most = _COMPARISONS[">="], _COMPARISONS["<="]
            return lambda scope: _compared(least, left(scope), low(scope)) and _compared(most, left(scope), high(scope))
        sign = self.take(*_COMPARISONS)
        if sign is None:
            return left
        right, compare = self.operand(), _COMPARISONS[sign]
        return lambda scope: _compared(compare, left(scope), right(scope))

    def operand(self) -> Callable[[_Scope], Any]:
        token = self.take()
        assert token is not None
        if function := _FUNCTIONS.get(token):
            assert self.take("(")
            arguments = [self.operand()]
            while self.take(","):
                arguments.append(self.operand())
            assert self.take(")")
            return lambda scope: function(*(argument(scope) for argument in arguments))
        return lambda scope: scope.value(token)

    def update(self) -> Callable[[_Scope], set[str]]:
        """Changes the scope's item; gives the names of what was changed."""
        steps = []
        while clause := self.take("SET", "REMOVE", "ADD"):
            steps.append(self._step(clause))
            while self.take(","):
                steps.append(self._step(clause))

        def run(scope: _Scope) -> set[str]:
            changes = {name: value for name, value in [step(scope) for step in steps]}  # noqa: C416 - all, then change
            for name, value in changes.items():
                if value is None:
                    scope.item.pop(name, None)
                else:
                    scope.item[name] = value
            return set(changes)

        return run

    def _step(self, clause: str) -> Callable[[_Scope], tuple[str, Any]]:
        """What the step sets a name to; None when it removes it."""
        target = self.take()
        assert target is not None
        assert "." not in target
        if clause == "REMOVE":
            return lambda scope: (scope.name(target), None)
        if clause == "ADD":
            amount = self.operand()
            return lambda scope: (scope.name(target), _sum(scope.value(target) or {"N": "0"}, "+", amount(scope)))
        assert self.take("=")
        value = self.operand()
        sign = self.take("+", "-")
        if sign is None:
            return lambda scope: (scope.name(target), value(scope))
        other = self.operand()
        return lambda scope: (scope.name(target), _sum(value(scope), sign, other(scope)))


def _sum(one: Any, sign: str, other: Any) -> Any:
    return {"N": str(int(one["N"]) + int(f"{sign}1") * int(other["N"]))}


def _compared(compare: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    if one is None or other is None or one.keys() != other.keys():
        return False
    ((kind, left),), ((_, right),) = one.items(), other.items()
    return compare(float(left), float(right)) if kind == "N" else compare(left, right)


@lru_cache(maxsize=None)
def _condition(text: str) -> Callable[[_Scope], bool]:
    parser = _Parser(text)
    condition = parser.condition()
    parser.end()
    return condition


@lru_cache(maxsize=None)
def _update(text: str) -> Callable[[_Scope], set[str]]:
    parser = _Parser(text)
    update = parser.update()
    parser.end()
    return update
