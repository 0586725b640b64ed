"""What each error is on the wire: one table, one body (SPEC 4.4)."""

import re
from typing import NamedTuple

from gjeldsbro.errors import (
    GjeldsbroError,
    InvalidMessageError,
    MessageTooLargeError,
    NotAuthenticatedError,
    NotEntitledError,
    RefusedError,
    RetryableError,
    TooManyRequestsError,
)

RETRY_AFTER_SECONDS = 30
"""When to send again after 500 and 503: a throttled table has usually scaled by then."""

_LATER = {"Retry-After": str(RETRY_AFTER_SECONDS)}

_NOT_TXT = re.compile(r"[^ -~]")


class UnknownPathError(RefusedError):
    """There is nothing at this path."""


class UnknownMethodError(RefusedError):
    """The path exists, the method does not. ``allowed`` lists those that do."""

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"the method must be {' or '.join(allowed)}")


class UnsupportedMediaTypeError(RefusedError):
    """The body is not what this API reads."""


class ErrorAnswer(NamedTuple):
    """An error as the caller sees it."""

    status: int
    message: str
    headers: dict[str, str]


STATUSES: tuple[tuple[type[GjeldsbroError], int], ...] = (
    (InvalidMessageError, 400),
    (NotAuthenticatedError, 401),
    (NotEntitledError, 403),
    (UnknownPathError, 404),
    (UnknownMethodError, 405),
    (MessageTooLargeError, 413),
    (UnsupportedMediaTypeError, 415),
    (TooManyRequestsError, 429),
    (RetryableError, 503),
)
"""The first that fits counts; an error of any other type is ours to mend: 500."""


def error_answer(error: GjeldsbroError) -> ErrorAnswer:
    """The answer for an error. The texts of errors that only we can mend stay inside."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    match status:
        case 500:
            return ErrorAnswer(500, "internal error; send the message again later", _LATER)
        case 503:
            return ErrorAnswer(503, "temporarily unavailable; send again", _LATER)
    headers: dict[str, str] = {}
    if isinstance(error, UnknownMethodError):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after)
    return ErrorAnswer(status, as_txt(str(error)), headers)


def as_txt(text: str) -> str:
    """``text`` in SPEC 4.1's format TXT: printable ASCII, anything else as a question mark."""
    return _NOT_TXT.sub("?", text)
