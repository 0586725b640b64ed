"""What stands behind the functions while they are timed: AWS that answers at once, and institutions that take a while.

``python -m tests.bench.fakes WORLD`` runs both until it is ended. The file WORLD says what they hold; a file ``ready``
beside it, that they answer. Writes are answered and forgotten, so that every run finds the same.
"""

import asyncio
import json
import ssl
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

INSTITUTION_SECONDS = 0.1
"""How long each institution takes to answer."""

type Answer = tuple[float, bytes]
"""Seconds to wait, and the body."""


class _Http(asyncio.Protocol):
    """As much of HTTP/1.1 as botocore and http.client speak to a server that always answers 200."""

    def __init__(self, answer: Callable[[bytes, bytes], Answer], media_type: str) -> None:
        self._answer = answer
        self._media_type = media_type.encode()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            start = end + 4
            length = int(_header(head, b"content-length") or 0)
            if len(self._received) < start + length:
                return
            body = self._received[start : start + length]
            self._received = self._received[start + length :]
            seconds, content = self._answer(head, body)
            form = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            whole = form % (self._media_type, len(content), content)
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._transport.write, whole)
            else:
                self._transport.write(whole)


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


class _Aws:
    """DynamoDB's reads from the world; of DynamoDB's writes, Secrets Manager, KMS and EventBridge what is asked for."""

    def __init__(self, world: dict[str, Any]) -> None:
        self._tables = world["tables"]
        self._secrets = world["secrets"]

    def answer(self, head: bytes, body: bytes) -> Answer:
        """One call of an AWS JSON protocol."""
        operation = _header(head, b"x-amz-target").rpartition(b".")[2].decode()
        return 0, json.dumps(self._operation(operation, json.loads(body))).encode()

    def _operation(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        match operation:
            case "GetItem":
                for item in self._items(request, request["Key"]["pk"]["S"]):
                    if item["sk"] == request["Key"]["sk"]:
                        answer = {"Item": item}
            case "Query":
                found = self._query(request)
                answer = {"Items": found, "Count": len(found)}
            case "UpdateItem":
                answer = {"Attributes": {"requests": {"N": "1"}}}
            case "GetSecretValue":
                answer = {"SecretString": self._secrets[request["SecretId"]]}
            case "Encrypt":
                answer = {"CiphertextBlob": b64encode(b"c" * 190).decode(), "KeyId": request["KeyId"]}
            case "PutEvents":
                answer = {"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in request["Entries"]]}
        return answer

    def _query(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        values = request["ExpressionAttributeValues"]
        keys = [value["S"] for value in values.values() if "S" in value]
        prefix = values.get(":prefix", {"S": ""})["S"]
        return [item for key in keys for item in self._items(request, key) if item["sk"]["S"].startswith(prefix)]

    def _items(self, request: dict[str, Any], key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._tables.get(request["TableName"], {}).get(key, [])
        return found


async def serve(world: dict[str, Any], tell: Callable[[], None]) -> None:
    """Run until ended; ``tell`` is called as soon as both answer."""
    answers = {institution: body.encode() for institution, body in world["answers"].items()}

    def institution(head: bytes, _body: bytes) -> Answer:
        return INSTITUTION_SECONDS, answers[head.split(b"/loans/", 1)[1].split(b"/", 1)[0].decode()]

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(world["certificate"], world["key"])
    loop = asyncio.get_running_loop()
    aws = await loop.create_server(
        lambda: _Http(_Aws(world).answer, "application/x-amz-json-1.0"), "127.0.0.1", world["awsPort"]
    )
    institutions = await loop.create_server(
        lambda: _Http(institution, "application/json"), "127.0.0.1", world["institutionPort"], ssl=context
    )
    tell()
    await asyncio.gather(aws.serve_forever(), institutions.serve_forever())


if __name__ == "__main__":
    file = Path(sys.argv[1])
    asyncio.run(serve(json.loads(file.read_text()), file.with_name("ready").touch))
