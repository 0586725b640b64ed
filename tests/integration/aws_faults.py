"""Faults of AWS, one call at a time: what a test sets befalls the n-th call that our clients make of moto.

A call is one use of a client's method, with all the tries that the client itself makes of it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock, Thread
from types import SimpleNamespace
from typing import Any, NamedTuple, Self

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse

from gjeldsbro.adapters import register

JSON_ERRORS = {
    "throttled": (400, "ThrottlingException"),
    "over capacity": (400, "ProvisionedThroughputExceededException"),
    "failing": (500, "InternalServerError"),
    "away": (503, "ServiceUnavailable"),
}
XML_ERRORS = {
    "forgotten": (404, "NoSuchUpload"),
    "throttled": (503, "SlowDown"),
    "over capacity": (400, "RequestTimeout"),
    "failing": (500, "InternalError"),
    "away": (503, "ServiceUnavailable"),
}


class KilledError(BaseException):
    """The function was ended: no handler of ours sees it."""


class Call(NamedTuple):
    """A call of AWS: its number from 1 on, which try of the client it is, and what is asked of whom."""

    number: int
    attempt: int
    service: str
    operation: str


Answer = Callable[[], AWSResponse]
"""Lets the call take effect and gives its answer."""

Fault = Callable[[Call, AWSPreparedRequest, Answer], AWSResponse]
"""Answers in place of AWS, or raises; may let the call take effect first."""


@dataclass
class AwsFaults:
    """Stands between our clients and moto. ``fault`` is asked about each try; None: all goes well."""

    monkeypatch: pytest.MonkeyPatch
    fault: Fault | None = None
    calls: list[Call] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    counting: bool = True

    def install(self) -> Self:
        """From here to the end of the test. Nothing waits between tries, and nothing runs beside anything else."""
        original = BotocoreStubber.__call__

        def send(stubber: Any, event_name: str, request: AWSPreparedRequest, **rest: Any) -> AWSResponse | None:
            if not self.counting:
                return original(stubber, event_name, request, **rest)
            call = self._count(event_name, request)

            def answer() -> AWSResponse:
                found = original(stubber, event_name, request, **rest)
                assert found is not None
                return found

            return answer() if self.fault is None else self.fault(call, request, answer)

        self.monkeypatch.setattr(BotocoreStubber, "__call__", send)
        self.monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None))
        self.monkeypatch.setattr(register, "_MAX_WAIT", 0.0)
        self.monkeypatch.setattr(register, "_in_parallel", map)
        return self

    def forget(self) -> None:
        """Count from 1 again, and let all go well."""
        self.fault = None
        self.calls.clear()
        self._numbers.clear()

    def elsewhere[R](self, work: Callable[[], R]) -> R:
        """What another process does meanwhile: it is not counted, goes well, and is not of the function at work."""
        found: list[R] = []
        self.counting = False
        thread = Thread(target=lambda: found.append(work()))
        thread.start()
        thread.join()
        self.counting = True
        return found[0]

    def revive(self) -> None:
        """Whoever calls next is another function than the one that died."""
        if isinstance(self.fault, Death):
            self.fault.dead = False

    @property
    def count(self) -> int:
        """Calls so far."""
        return len(self._numbers)

    def _count(self, event_name: str, request: AWSPreparedRequest) -> Call:
        _, service, operation = event_name.split(".")
        with self._lock:
            invocation = _text(request.headers["amz-sdk-invocation-id"])
            number = self._numbers.setdefault(invocation, len(self._numbers) + 1)
            attempt = int(_text(request.headers["amz-sdk-request"]).partition("attempt=")[2].partition(";")[0])
            call = Call(number, attempt, service, operation)
            self.calls.append(call)
        return call


# Faults


def at(number: int, fault: Fault, *, tries: int | None = None) -> Fault:
    """That fault in the n-th call, in its first ``tries`` or in all that the client makes; else all goes well."""

    def decide(call: Call, request: AWSPreparedRequest, answer: Answer) -> AWSResponse:
        if call.number == number and (tries is None or call.attempt <= tries):
            return fault(call, request, answer)
        return answer()

    return decide


def failing(kind: str) -> Fault:
    """The call is answered with an error, or with "refused" not at all, and has had no effect."""

    def answer_with_error(call: Call, request: AWSPreparedRequest, _: Answer) -> AWSResponse:
        if kind == "refused":
            raise EndpointConnectionError(endpoint_url=request.url)
        return error_answer(call, request, kind)

    return answer_with_error


def reset(_: Call, request: AWSPreparedRequest, answer: Answer) -> AWSResponse:
    """The call takes effect, and the connection is closed before the answer."""
    answer()
    raise ConnectionClosedError(endpoint_url=request.url)


def truncated(call: Call, _: AWSPreparedRequest, answer: Answer) -> AWSResponse:
    """The connection is closed in the middle of an object's bytes; other answers are whole."""
    found = answer()
    if call.operation == "GetObject" and found.status_code < 300:
        data = found.raw.read()
        found.headers["Content-Length"] = str(len(data))
        found.raw = MockRawResponse(data[: len(data) // 2])
    return found


def partly_processed(call: Call, request: AWSPreparedRequest, answer: Answer) -> AWSResponse:
    """Of a batch write only the first item is taken; other calls go well."""
    if call.operation != "BatchWriteItem":
        return answer()
    body = json.loads(request.body)
    ((table, items),) = body["RequestItems"].items()
    request.body = json.dumps({**body, "RequestItems": {table: items[:1]}}).encode()
    found = answer()
    document = json.loads(found.raw.read())
    if items[1:]:
        document["UnprocessedItems"] = {table: items[1:]}
    return AWSResponse(found.url, found.status_code, {}, MockRawResponse(json.dumps(document)))


class Death:
    """The function dies after its n-th call, or n-th call of one ``operation``; what it still tries does nothing."""

    def __init__(self, number: int, *, operation: str | None = None) -> None:
        self._number = number
        self._operation = operation
        self._seen = 0
        self.happened = False
        self.dead = False

    def __call__(self, call: Call, _: AWSPreparedRequest, answer: Answer) -> AWSResponse:
        """Die, or be dead."""
        if self.dead:
            raise KilledError
        found = answer()
        if self.happened or call.attempt > 1 or self._operation not in {None, call.operation}:
            return found
        self._seen += 1
        if self._seen < self._number:
            return found
        self.happened = self.dead = True
        raise KilledError


def error_answer(call: Call, request: AWSPreparedRequest, kind: str) -> AWSResponse:
    """An error as that service words it."""
    if call.service == "s3":
        status, code = XML_ERRORS[kind]
        return AWSResponse(
            request.url,
            status,
            {"Content-Type": "application/xml"},
            MockRawResponse(f"<Error><Code>{code}</Code><Message>m</Message></Error>"),
        )
    status, code = JSON_ERRORS[kind]
    document = json.dumps({"__type": code, "message": "m"})
    return AWSResponse(request.url, status, {"Content-Type": "application/x-amz-json-1.0"}, MockRawResponse(document))


def _text(header: str | bytes) -> str:
    return header.decode() if isinstance(header, bytes) else header
