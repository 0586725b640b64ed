"""The data bucket: runs' working files, dataset indexes and packages; and the report bucket.

Reads are ranged and writes are multipart, so that memory stays flat whatever an object's size.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import batched
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, FlexibleChecksumError, HTTPClientError, IncompleteReadError

from gjeldsbro.errors import StoreUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_SIZE = 8 << 20
"""Bytes of a part of a multipart upload; S3 refuses parts under 5 MiB, but for the last."""

READ_TRIES = 4
"""How often an object is asked for whose bytes break off."""

_BROKEN_OFF = (IncompleteReadError, FlexibleChecksumError, HTTPClientError)
_DELETE_AT_ONCE = 1000
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


class DataStore:
    """The objects of one bucket, by key."""

    def __init__(self, bucket: str, client: "S3Client") -> None:
        self.bucket = bucket
        self._client = client

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store an object whole. Browsers show it by its type."""
        self._client.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def put_json(self, key: str, value: Any) -> None:
        """Store a JSON document."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType="application/json")

    def get(self, key: str) -> bytes:
        """An object whole. Raises KeyError when there is none."""
        return self._read(key)

    def get_json(self, key: str) -> Any:
        """A JSON document. Raises KeyError when there is none."""
        return json.loads(self.get(key))

    def open(self, key: str, *, start: int = 0, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of an object from ``start``, in ranged reads of ``chunk`` bytes.

        No connection stays open between the reads, so many objects can be read side by side. Raises KeyError when
        there is no such object.
        """
        size = self.size(key)
        for offset in range(start, size, chunk):
            last = min(offset + chunk, size) - 1
            yield self._read(key, Range=f"bytes={offset}-{last}")

    def _read(self, key: str, **part: Any) -> bytes:
        """An object, or the ``Range`` of it. The client tries a request again, but no body that breaks off."""
        for _ in range(READ_TRIES):
            with _missing_as_key_error(key):
                answer = self._client.get_object(Bucket=self.bucket, Key=key, **part)
            with suppress(*_BROKEN_OFF):
                return answer["Body"].read()
        raise StoreUnavailableError("S3 broke off in every try")

    def size(self, key: str) -> int:
        """Bytes of an object. Raises KeyError when there is none."""
        with _missing_as_key_error(key):
            return self._client.head_object(Bucket=self.bucket, Key=key)["ContentLength"]

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.size(key)
        except KeyError:
            return False
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys under a prefix, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects, whether they exist or not; returns how many were named.

        Raises StoreUnavailableError when S3 reports a key that it could not delete: nothing may stay behind unseen.
        """
        count = 0
        for group in batched(keys, _DELETE_AT_ONCE, strict=False):
            answer = self._client.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": [{"Key": key} for key in group], "Quiet": True},
            )
            if answer.get("Errors"):
                raise StoreUnavailableError(f"S3 did not delete {len(answer['Errors'])} objects")
            count += len(group)
        return count

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything under a prefix; returns how many objects that were."""
        return self.delete(list(self.keys(prefix)))

    @contextmanager
    def writer(self, key: str) -> Iterator["Writer"]:
        """Write an object piece by piece. It appears, whole, when the block ends without an error; else not at all."""
        writer = Writer(self._client, self.bucket, key)
        try:
            yield writer
            writer.complete()
        except Exception:
            with suppress(Exception):  # the error that ends the block is the one to tell; parts go by themselves
                writer.abort()
            raise


class Writer:
    """Collects pieces into parts; a small object becomes one plain put."""

    def __init__(self, client: "S3Client", bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._buffer = bytearray()
        self._upload: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= PART_SIZE:
            self._send(bytes(self._buffer[:PART_SIZE]))
            del self._buffer[:PART_SIZE]

    def complete(self) -> None:
        """Make the object appear."""
        if self._upload is None:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
            )
        except self._client.exceptions.NoSuchUpload:
            # The client repeats a call whose answer was lost, and the first may have ended the upload. Written anew,
            # the object is the same.
            raise StoreUnavailableError("S3 does not know the upload any more") from None

    def abort(self) -> None:
        """Drop what was sent."""
        if self._upload is not None:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload)

    def _send(self, data: bytes) -> None:
        if self._upload is None:
            self._upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
        number = len(self._parts) + 1
        answer = self._client.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload,
            PartNumber=number,
            Body=data,
        )
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})


@contextmanager
def _missing_as_key_error(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        if exc.response["Error"]["Code"] in _MISSING:
            raise KeyError(key) from exc
        raise
