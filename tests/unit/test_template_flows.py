"""What must hold of the state machines: their tasks, errors, schedules, and what they hand from state to state."""

import json
from typing import Any

import pytest
from tests.cloudformation import (
    ROOT,
    Deployed,
    definition,
    functions,
    lint,
    state_machines,
    states,
    substitutions_used,
)

from gjeldsbro import errors

AWS_ERRORS = {
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Runtime.OutOfMemory",
    "Sandbox.Timedout",
    "States.ALL",
    "States.Timeout",
}
STATES = [(machine, name) for machine in state_machines() for name in states(definition(machine))]
TASKS = [(machine, name) for machine, name in STATES if states(definition(machine))[name]["Type"] == "Task"]
MAPS = [(machine, name) for machine, name in STATES if states(definition(machine))[name]["Type"] == "Map"]


def state(machine: str, name: str) -> dict[str, Any]:
    """One state of a state machine."""
    return states(definition(machine))[name]


def function_of(task: dict[str, Any]) -> str:
    """The logical id of the function that a task calls."""
    return task["Resource"].removeprefix("<").removesuffix(".Arn>")


@pytest.mark.parametrize("machine", state_machines())
def test_the_definition_is_clean_to_cfn_lint(machine: str) -> None:
    """cfn-lint does not open the file behind DefinitionUri: here it sees each definition inline."""
    text = json.dumps(definition(machine)).replace("<", "arn:aws:lambda:eu-north-1:000000000000:function:")
    inline = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {
            "Machine": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {
                    "RoleArn": "arn:aws:iam::000000000000:role/flow",
                    "Definition": json.loads(text.replace(".Arn>", "")),
                },
            },
        },
    }
    assert lint(json.dumps(inline)) == []


@pytest.mark.parametrize("machine", state_machines())
def test_what_is_substituted_is_what_is_used(machine: str) -> None:
    """A substitution that is missing would stay in the text; one too many is a right too many soon."""
    assert substitutions_used(machine) == set(state_machines()[machine]["DefinitionSubstitutions"])


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_a_task_waits_as_long_as_its_function_works(machine: str, name: str) -> None:
    """A task that gave up first would start a second invocation beside one that still works."""
    task = state(machine, name)
    assert task["TimeoutSeconds"] >= functions()[function_of(task)]["Timeout"]


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_a_task_retries_what_passes_and_catches_the_rest(machine: str, name: str) -> None:
    """Each retrier spreads its tries and has a ceiling; what is left goes to a failure path that is named."""
    task = state(machine, name)
    retried = {error for retrier in task["Retry"] for error in retrier["ErrorEquals"]}
    assert {"StoreUnavailableError", "Lambda.TooManyRequestsException"} <= retried
    assert "States.ALL" not in retried
    for retrier in task["Retry"]:
        assert retrier["JitterStrategy"] == "FULL"
        assert retrier["MaxDelaySeconds"] >= retrier["IntervalSeconds"]
    assert [catcher["ErrorEquals"] for catcher in task["Catch"]][-1] == ["States.ALL"]


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_a_function_that_was_ended_is_retried_under_all_names(machine: str, name: str) -> None:
    """A time-out as Step Functions, Lambda's sandbox and AWS's documents call it, and a process that was killed."""
    names = {"States.Timeout", "Sandbox.Timedout", "Runtime.ExitError", "Runtime.OutOfMemory", "Lambda.Unknown"}
    assert any(names <= set(retrier["ErrorEquals"]) for retrier in state(machine, name)["Retry"])
    for retrier in state(machine, name)["Retry"]:
        if names & set(retrier["ErrorEquals"]):
            assert names <= set(retrier["ErrorEquals"])
        if "Lambda.ServiceException" in retrier["ErrorEquals"]:
            assert "Lambda.ClientExecutionTimeoutException" in retrier["ErrorEquals"]


@pytest.mark.parametrize(("machine", "name"), STATES)
def test_every_error_name_exists(machine: str, name: str) -> None:
    """Retriers and catchers match on class names: each is a class of errors.py or a name of AWS."""
    found = state(machine, name)
    for rule in found.get("Retry", []) + found.get("Catch", []):
        for error in rule["ErrorEquals"]:
            kind = getattr(errors, error, None)
            assert error in AWS_ERRORS or (isinstance(kind, type) and issubclass(kind, errors.GjeldsbroError)), error


@pytest.mark.parametrize(("machine", "name"), TASKS)
def test_only_what_passes_by_itself_is_retried(machine: str, name: str) -> None:
    """Of our errors only the retryable ones are retried: the same refusal twice helps nobody."""
    for retrier in state(machine, name)["Retry"]:
        for error in retrier["ErrorEquals"]:
            kind = getattr(errors, error, errors.RetryableError)
            assert issubclass(kind, errors.RetryableError), error


@pytest.mark.parametrize(("machine", "name"), MAPS)
def test_a_map_hands_nothing_on(machine: str, name: str) -> None:
    """No state depends on a Map's output (decision 2): it is dropped, and results are read from the stores."""
    found = state(machine, name)
    assert found["ResultPath"] is None
    if found["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED":
        assert found["ItemReader"]["Resource"] == "arn:aws:states:::s3:getObject"
        assert found["ToleratedFailurePercentage"] == 100.0
        assert "ItemBatcher" not in found
        assert "ResultWriter" not in found


@pytest.mark.parametrize("machine", state_machines())
def test_executions_leave_no_data_in_logs(machine: str) -> None:
    """Of executions only errors are logged, and without their data."""
    logging = state_machines()[machine]["Logging"]
    assert logging["Level"] == "ERROR"
    assert logging["IncludeExecutionData"] is False


@pytest.mark.parametrize(
    ("machine", "event", "expression", "timezone"),
    [
        ("NightlyFetchStateMachine", "EveryNight", "cron(5 5 * * ? *)", "UTC"),
        ("QuarterlyExportStateMachine", "EveryQuarter", "cron(0 9 1 1,4,7,10 ? *)", "Europe/Oslo"),
    ],
)
def test_the_flows_start_by_themselves(machine: str, event: str, expression: str, timezone: str) -> None:
    """Every night shortly after 05:00 UTC (SPEC FUNC-01), and on the first day of a quarter in Norway."""
    schedule = state_machines()[machine]["Events"][event]
    assert schedule["Type"] == "ScheduleV2"
    found = schedule["Properties"]
    assert (found["ScheduleExpression"], found["ScheduleExpressionTimezone"]) == (expression, timezone)
    assert found["State"] == {"Ref": "ScheduleState"}
    assert found["Input"] == "{}", "Scheduler's default notification is no request that a planner knows"
    assert Deployed().resolve(found["Name"]).startswith("<AWS::StackName>-")


def test_the_schedules_are_on_unless_told_otherwise() -> None:
    """A deployment without parameters runs by itself; the local one does not."""
    assert Deployed().parameters["ScheduleState"] == "ENABLED"
    local = (ROOT / "samconfig.toml").read_text().partition("[local.deploy.parameters]")[2]
    assert "ScheduleState=DISABLED" in local


@pytest.mark.parametrize("machine", state_machines())
def test_every_way_leads_somewhere(machine: str) -> None:
    """Each state is reached from the start of its own level, and leads to states of that level only."""
    _check_ways(definition(machine))


def _check_ways(level: dict[str, Any]) -> None:
    found, ahead = set(), [level["StartAt"]]
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        found.add(name)
        here = level["States"][name]
        ahead += [rule["Next"] for rule in here.get("Catch", []) + here.get("Choices", [])]
        ahead += [here[way] for way in ("Next", "Default") if way in here]
        if "ItemProcessor" in here:
            _check_ways(here["ItemProcessor"])
    assert found == set(level["States"])
