"""Logging and error handling around every function that Step Functions or an operator invokes.

Log lines are an event code plus fields, and fields are references (institution, run, counts), never personal data
(design decision 15). That is why nothing here logs an event, a result or the text of an unexpected exception: a
``KeyError`` alone may hold an identity number.
"""

import os
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Protocol

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from gjeldsbro.errors import GjeldsbroError, StoreUnavailableError, UnexpectedError

logger = Logger(service=os.environ.get("POWERTOOLS_SERVICE_NAME", "gjeldsbro"))

_PASSING_CODES = frozenset(
    {
        "InternalServerError",
        "InternalError",
        "InternalFailure",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    },
)
_PASSING_REASONS = frozenset({"ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"})
"""Why DynamoDB cancels a transaction that may be taken when it is sent again."""


class LambdaContext(Protocol):
    """What our functions use of the Lambda context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        ...


type TaskHandler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def task(handler: TaskHandler) -> TaskHandler:
    """Wrap the handler of a function that Step Functions or an operator invokes.

    Errors of ``gjeldsbro.errors`` pass through under their own names, on which ``Retry`` and ``Catch`` match. Faults of
    AWS that pass by themselves become StoreUnavailableError; anything else becomes UnexpectedError, which names the
    original class, and the log says where it was raised.
    """

    @wraps(handler)
    def run(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        logger.append_keys(request=context.aws_request_id, run=event.get("run"))
        try:
            return handler(event, context)
        except Exception as exc:  # noqa: BLE001 - the edge: whatever it is, it leaves as an error of ours
            raise known_error(exc) from None
        finally:
            logger.remove_keys(["request", "run"])

    return run


def known_error(exc: Exception) -> GjeldsbroError:
    """Log ``exc`` and turn it into an error of ours, whose text is safe to store, show and log."""
    if isinstance(exc, GjeldsbroError):
        logger.warning("TASK_REFUSED", extra={"error": type(exc).__name__, "reason": str(exc)})
        return exc
    name = type(exc).__name__
    if _passes_by_itself(exc):
        logger.warning("STORE_UNAVAILABLE", extra={"error": name, "code": _code_of(exc)})
        return StoreUnavailableError(f"{name} {_code_of(exc)}".rstrip())
    logger.error("UNEXPECTED_ERROR", extra={"error": name, "code": _code_of(exc), "at": _where(exc)})
    return UnexpectedError(f"{name} {_code_of(exc)}".rstrip())


def _passes_by_itself(exc: Exception) -> bool:
    if isinstance(exc, ClientError):
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = exc.response.get("Error", {}).get("Code")
        return status >= 500 or code in _PASSING_CODES or _may_be_sent_again(exc.response)
    return isinstance(exc, BotoConnectionError | HTTPClientError | IncompleteReadError)


def _may_be_sent_again(response: Mapping[str, Any]) -> bool:
    """Whether this is a cancelled transaction, and nothing but passing reasons cancelled it."""
    reasons = {reason.get("Code", "None") for reason in response.get("CancellationReasons", ())} - {"None"}
    return bool(reasons) and reasons <= _PASSING_REASONS


def _code_of(exc: Exception) -> str:
    if isinstance(exc, ClientError):
        return f"{exc.operation_name}:{exc.response.get('Error', {}).get('Code', '')}"
    return "" if not isinstance(exc, BotoCoreError) else "botocore"


def _where(exc: Exception) -> list[str]:
    """File, line and function of each frame; not the source line, not the exception's text."""
    frames = traceback.extract_tb(exc.__traceback__)
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
