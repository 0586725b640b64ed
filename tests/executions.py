"""Walks executions through a state machine's definition: one task after the other, without threads or waits.

It knows what ``statemachines/`` use of the language: Task, Map (inline, and distributed over a JSON object), Choice,
Pass and Fail; Retry and Catch by error name; JSONPath of dots only. An unknown field fails, so that nothing is passed
over in silence. moto runs the same files (``tests/integration/machines.py``); this is for tests that need many
executions, or that stop between two steps.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Invoke = Callable[[str, dict[str, Any]], Any]
"""Calls a function by its name with an event. What it raises reaches the machine under its class's name."""

_FIELDS = {
    "Task": {"Resource", "Parameters", "TimeoutSeconds", "Retry", "Catch"},
    "Map": {
        "Label",
        "ItemReader",
        "ItemsPath",
        "MaxConcurrency",
        "ToleratedFailurePercentage",
        "ItemProcessor",
        "Catch",
    },
    "Choice": {"Choices", "Default"},
    "Pass": {"Result"},
    "Fail": {"Error", "Cause"},
}
_COMMON = {"Type", "Comment", "ResultPath", "Next", "End"}


class TaskError(Exception):
    """What a task, or a whole execution, failed with: the error's name and its cause, as Step Functions shows them."""

    def __init__(self, error: str, cause: str = "") -> None:
        self.error = error
        self.cause = cause
        super().__init__(f"{error}: {cause}")


def definition_of(machine: str) -> dict[str, Any]:
    """The definition of ``statemachines/<machine>.asl.json``; a task's Resource is its function's name."""
    text = (ROOT / "statemachines" / f"{machine}.asl.json").read_text(encoding="utf-8")
    return definition(text)


def definition(text: str) -> dict[str, Any]:
    """A definition whose substitutions were made."""
    text = re.sub(r"\$\{(\w+)FunctionArn\}", lambda match: snake(match[1]), text)
    found: dict[str, Any] = json.loads(re.sub(r"\$\{\w+\}", "1", text))
    return found


class Execution:
    """One execution: ``invoke`` calls functions, ``read`` gives the JSON document of a bucket's key.

    It starts now: functions go by the clock, and give up what began hours ago.
    """

    def __init__(
        self,
        machine: dict[str, Any],
        name: str,
        invoke: Invoke,
        read: Callable[[str], Any],
        *,
        started_at: str | None = None,
    ) -> None:
        self._machine = machine
        self._invoke = invoke
        self._read = read
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._context = {"Execution": {"Name": name, "StartTime": started_at or now}}
        self.entered: Counter[str] = Counter()
        """How often each state was entered, or tried once more: what Step Functions takes money for."""

    def run(self, request: dict[str, Any] | None = None) -> Any:
        """Walk to the end; the output. Raises TaskError when the execution fails."""
        steps = self.steps(request)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(self, request: dict[str, Any] | None = None) -> Iterator[str]:
        """Walk from task to task; before each one the name of its function comes out."""
        return (yield from self._level(self._machine, request or {}))

    def _level(self, level: dict[str, Any], value: Any) -> Iterator[str]:
        name = level["StartAt"]
        while True:
            state = level["States"][name]
            kind = state["Type"]
            assert set(state) <= _FIELDS[kind] | _COMMON, name
            self.entered[name] += 1
            try:
                match kind:
                    case "Task":
                        value = _placed(state, value, (yield from self._task(name, state, value)))
                    case "Map":
                        yield from self._map(state, value)
                        assert state["ResultPath"] is None, name
                    case "Pass":
                        value = _placed(state, value, state["Result"])
                    case "Fail":
                        raise TaskError(state["Error"], state["Cause"])
            except TaskError as exc:
                catcher = next((rule for rule in state.get("Catch", ()) if _matches(rule, exc.error)), None)
                if catcher is None:
                    raise
                value = _placed(catcher, value, {"Error": exc.error, "Cause": exc.cause})
                name = catcher["Next"]
                continue
            if kind == "Choice":
                name = next((rule["Next"] for rule in state["Choices"] if _holds(rule, value)), state["Default"])
            elif state.get("End"):
                return value
            else:
                name = state["Next"]

    def _task(self, name: str, state: dict[str, Any], value: Any) -> Iterator[str]:
        event = self._filled(state["Parameters"], value) if "Parameters" in state else value
        tries = [0] * len(state.get("Retry", ()))
        while True:
            yield state["Resource"]
            try:
                return json.loads(json.dumps(self._invoke(state["Resource"], json.loads(json.dumps(event)))))
            except Exception as exc:  # noqa: BLE001 - whatever a function raises reaches the machine
                error = exc if isinstance(exc, TaskError) else _as_lambda_says(exc)
            retriers = enumerate(state.get("Retry", ()))
            number = next((number for number, rule in retriers if _matches(rule, error.error)), None)
            if number is None or tries[number] >= state["Retry"][number]["MaxAttempts"]:
                raise error
            tries[number] += 1
            self.entered[name] += 1

    def _map(self, state: dict[str, Any], value: Any) -> Iterator[str]:
        distributed = state["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
        if distributed:
            place = self._filled(state["ItemReader"]["Parameters"], value)
            items = self._read(place["Key"])
        else:
            items = _found(state["ItemsPath"], value)
        for item in items:
            try:
                yield from self._level(state["ItemProcessor"], item)
            except TaskError:
                if not distributed:  # ToleratedFailurePercentage is 100 in all of ours
                    raise

    def _filled(self, template: dict[str, Any], value: Any) -> dict[str, Any]:
        filled = {}
        for name, part in template.items():
            if name.endswith(".$"):
                in_context = part.startswith("$$")
                filled[name[:-2]] = _found(part[1:] if in_context else part, self._context if in_context else value)
            else:
                filled[name] = part
        return filled


def _found(path: str, value: Any) -> Any:
    for name in path.split(".")[1:]:
        if not isinstance(value, dict) or name not in value:
            raise TaskError("States.Runtime", f"there is no {path} in the state's input")
        value = value[name]
    return value


def _placed(rule: dict[str, Any], value: Any, result: Any) -> Any:
    path = rule.get("ResultPath", "$")
    if path is None:
        return value
    if path == "$":
        return result
    name = path.removeprefix("$.")
    assert "." not in name
    return {**value, name: result}


def _matches(rule: dict[str, Any], error: str) -> bool:
    names = rule["ErrorEquals"]
    return error in names or ("States.ALL" in names and error != "States.Runtime")


def _holds(rule: dict[str, Any], value: Any) -> bool:
    found = _found(rule["Variable"], value)
    if "BooleanEquals" in rule:
        return bool(found is rule["BooleanEquals"])
    return bool(found > rule["NumericGreaterThan"])


def _as_lambda_says(exc: Exception) -> TaskError:
    cause = {"errorType": type(exc).__name__, "errorMessage": str(exc)}
    return TaskError(type(exc).__name__, json.dumps(cause))


def snake(name: str) -> str:
    """``PlanNight`` as ``plan_night``: a function's folder, of its name in the template."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
