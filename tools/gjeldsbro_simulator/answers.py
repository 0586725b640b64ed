"""Requests and answers as plain values."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4


class Request(NamedTuple):
    """A request that was read whole; header names in lower case, ``query`` as it came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """An answer and how it is sent: after ``delay`` seconds, slowly, or cut off in the middle."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content_type: str = "application/json"
    delay: float = 0.0
    seconds_a_byte: float = 0.0
    cut: bool = False

    @classmethod
    def of(cls, document: Any, status: int = 200) -> "Answer":
        """An answer with a JSON document."""
        return cls(status, json.dumps(document, ensure_ascii=False).encode())


class SpecError(Exception):
    """Something that is answered in SPEC 4.4's error model."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def answer(self) -> Answer:
        """The error as it is sent."""
        document = {
            "errorMessage": self.message,
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "uuid": str(uuid4()),
        }
        return Answer.of(document, self.status)
