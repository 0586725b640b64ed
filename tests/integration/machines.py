"""Runs the state machines of ``statemachines/`` in moto, with the real handlers behind their tasks.

moto executes a machine in a thread of its own; its Lambda would want Docker, so invocations go straight to the
handlers. What a handler raises reaches the machine as Lambda would pass it on: under the class's name.
"""

import importlib.util
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 120
_ROLE = "arn:aws:iam::123456789012:role/machine"
_FUNCTION = "arn:aws:lambda:eu-north-1:123456789012:function:"

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]


class Context:
    """A Lambda context with ``seconds`` left."""

    aws_request_id = "00000000-0000-4000-8000-000000000000"

    def __init__(self, seconds: float = 900) -> None:
        self.ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        return int((self.ends - time.monotonic()) * 1000)


def handler_of(function: str) -> Handler:
    """The handler of ``functions/<function>/<function>.py``, imported as Lambda does: by its file."""
    file = ROOT / "functions" / function / f"{function}.py"
    spec = importlib.util.spec_from_file_location(f"functions_{function}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler: Handler = module.lambda_handler
    return handler


class Machine:
    """A state machine in moto. ``calls`` are the (function, event, result) of its tasks, in the order they ended.

    Nobody waits between two tries of a task: ``pauses`` are the seconds that the machine would have waited.
    """

    def __init__(
        self,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
        *,
        handlers: dict[str, Handler] | None = None,
        seconds: float = 900,
        concurrency: int = 2,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        text = (ROOT / "statemachines" / f"{name}.asl.json").read_text(encoding="utf-8")
        functions = {_snake(logical): logical for logical in re.findall(r"\$\{(\w+)FunctionArn\}", text)}
        self._handlers = {function: handler_of(function) for function in functions if function not in (handlers or {})}
        self._handlers |= handlers or {}
        self._seconds = seconds
        self.calls: list[tuple[str, dict[str, Any], Any]] = []
        for function, logical in functions.items():
            text = text.replace(f"${{{logical}FunctionArn}}", f"{_FUNCTION}{function}")
        text = text.replace("${MaxConcurrency}", str(concurrency)).replace("${RetrySeconds}", "1")
        assert "${" not in text
        self.pauses: list[float] = []
        self._pause = pause
        monkeypatch.setattr(retrier_decl, "time", SimpleNamespace(sleep=self._between_tries))
        monkeypatch.setattr(lambda_eval_utils, "execute_lambda_function_integration", self._invoke)
        self._client = boto3.client("stepfunctions")
        created = self._client.create_state_machine(name=name, definition=text, roleArn=_ROLE)
        self.arn = created["stateMachineArn"]

    def _between_tries(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._pause()

    def run(self, run: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start an execution named ``run`` and wait for its end; its description, with ``output`` parsed."""
        started = self._client.start_execution(stateMachineArn=self.arn, name=run, input=json.dumps(request or {}))
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            described: dict[str, Any] = self._client.describe_execution(executionArn=started["executionArn"])
            if described["status"] != "RUNNING":
                return {**described, "output": json.loads(described.get("output") or "null")}
            time.sleep(0.05)
        raise TimeoutError(f"the execution {run} did not end")

    def _invoke(self, env: Any, parameters: dict[str, Any], **_: Any) -> None:
        function = parameters["FunctionName"].rpartition(":")[2]
        event = json.loads(parameters["Payload"])
        try:
            result = self._handlers[function](event, Context(self._seconds))
        except Exception as exc:
            payload = {"errorType": type(exc).__name__, "errorMessage": str(exc)}
            self.calls.append((function, event, payload))
            raise lambda_eval_utils.LambdaFunctionErrorException("Unhandled", json.dumps(payload)) from exc
        result = json.loads(json.dumps(result))
        self.calls.append((function, event, result))
        env.stack.append({"Payload": result, "StatusCode": 200})


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
