"""Starts ministack with Lambda errors as AWS has them: run by ministack's own interpreter, never imported.

As it comes, ministack gives every exception of a Python function the type ``Runtime.HandlerError``, so that no named
retrier or catcher of a state machine ever matches, and ends the worker process, so that the next call is a cold start.
On AWS the type is the exception's class and the execution environment lives on. Two small changes make it so, and a
self-test at start-up makes sure that they still fit the installed version.
"""

import functools
import io
import sys
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

from ministack import app
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

_SENT = '{"status": "error", "error": str(e), "trace": traceback.format_exc()}'
_SENT_INSTEAD = '{"status": "ok", "raised": [type(e).__name__, str(e), traceback.format_exc()]}'

_SELF_TEST = """
import os
class ExpectedError(Exception): pass
def handler(event, context):
    if event: raise ExpectedError("two\\nlines")
    return os.getpid()
"""

type Answer = dict[str, Any]


class Raised(NamedTuple):
    """What a function raised, on its way from the worker to the answer."""

    error_type: str
    message: str
    trace: str


def name_errors() -> None:
    """Make the workers say what class was raised, and put that into the answer."""
    if lambda_runtime._PYTHON_WORKER_SCRIPT.count(_SENT) != 1:  # noqa: SLF001  # there is no other way in
        sys.exit("this version of ministack has another worker script: the launcher must be fitted to it")
    script = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(_SENT, _SENT_INSTEAD)  # noqa: SLF001  # as above
    lambda_runtime._PYTHON_WORKER_SCRIPT = script  # noqa: SLF001  # as above
    lambda_runtime.Worker.invoke = _with_what_was_raised(lambda_runtime.Worker.invoke)
    lambda_svc._execute_function_warm = _with_error_type(lambda_svc._execute_function_warm)  # noqa: SLF001  # as above


def _with_what_was_raised(invoke: Callable[..., Answer]) -> Callable[..., Answer]:
    @functools.wraps(invoke)
    def wrapper(*args: Any, **kwargs: Any) -> Answer:
        answer = invoke(*args, **kwargs)
        if "raised" in answer:
            answer["result"] = Raised(*answer["raised"])
        return answer

    return wrapper


def _with_error_type(execute: Callable[..., Answer]) -> Callable[..., Answer]:
    @functools.wraps(execute)
    def wrapper(*args: Any, **kwargs: Any) -> Answer:
        answer = execute(*args, **kwargs)
        raised = answer.get("body")
        if not isinstance(raised, Raised):
            return answer
        return {
            "body": {"errorMessage": raised.message, "errorType": raised.error_type},
            "error": True,
            "log": "\n".join(filter(None, [answer.get("log"), raised.trace])),
        }

    return wrapper


def test_itself() -> None:
    """Run a function that raises and one that does not; exit when the error's class or the worker is lost."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("self_test.py", _SELF_TEST)
    function = {
        "code_zip": archive.getvalue(),
        "config": {
            "FunctionName": "self-test",
            "FunctionArn": "arn:aws:lambda:eu-north-1:000000000000:function:self-test",
            "Handler": "self_test.handler",
            "Runtime": "python3.13",
            "Timeout": 20,
        },
    }
    execute = lambda_svc._execute_function_warm  # noqa: SLF001  # the function that is put to the test
    before, raised, after = (execute(function, event, "self-test") for event in (0, 1, 0))
    lambda_runtime.reset()
    expected = {"errorMessage": "two\nlines", "errorType": "ExpectedError"}
    if raised.get("body") != expected or not raised.get("error"):
        sys.exit(f"this version of ministack loses the class of an exception: {raised}")
    if not isinstance(before.get("body"), int) or before.get("body") != after.get("body"):
        sys.exit("this version of ministack ends a worker whose function raised")


if __name__ == "__main__":
    name_errors()
    test_itself()
    app.main()
