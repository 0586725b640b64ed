"""The alarms and the dashboard: that what they look at is there, that they can go off, and that they say what to do."""

import json
import re
from functools import lru_cache
from typing import Any

import pytest
from tests.cloudformation import ROOT, Deployed, functions, properties, resources, template

from gjeldsbro.services.watch import GAUGES, NIGHT_FROM

STACK = "gjeldsbro-test"
DOMAIN = {"DomainName": "api.example.no", "CertificateArn": "arn:aws:acm:1", "TruststoreUri": "s3://trust/store.pem"}
EVENTS = {
    "DatasetsLoaded",
    "DatasetsNotLoaded",
    "CustomersWritten",
    "PackagesDelivered",
    "PackagesNotDelivered",
    "RevocationListsOld",
    "NotificationsFailed",
}
"""What functions measure when something has happened; tests/integration/test_figures.py sees that they do."""

OF_AWS = {
    ("AWS/States", "ExecutionsFailed"): {"StateMachineArn"},
    ("AWS/ApiGateway", "4XXError"): {"ApiName", "Stage", "Resource", "Method"},
    ("AWS/ApiGateway", "5XXError"): {"ApiName", "Stage", "Resource", "Method"},
    ("AWS/ApiGateway", "Count"): {"ApiName", "Stage", "Resource", "Method"},
    ("AWS/ApiGateway", "Latency"): {"ApiName", "Stage", "Resource", "Method"},
    ("AWS/Lambda", "Throttles"): set(),
    ("AWS/Lambda", "Errors"): set(),
    ("AWS/Lambda", "ConcurrentExecutions"): set(),
    ("AWS/CertificateManager", "DaysToExpiry"): {"CertificateArn"},
    ("AWS/SNS", "NumberOfNotificationsFailed"): {"TopicName"},
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    ("AWS/SQS", "ApproximateAgeOfOldestMessage"): {"QueueName"},
}
"""What AWS documents of its own metrics: the dimensions under which each can be found."""

ALARMS = list(resources("AWS::CloudWatch::Alarm"))


@lru_cache
def deployed() -> Deployed:
    """The template with a domain, as in production."""
    return Deployed(**{"AWS::StackName": STACK, **DOMAIN})


def alarm(name: str) -> dict[str, Any]:
    """An alarm's properties as they are deployed."""
    found: dict[str, Any] = deployed().properties(name)
    return found


def check_metric(namespace: str, metric: str, dimensions: dict[str, str]) -> None:
    """Somebody writes this metric with just these dimensions: another name or dimension would show nothing."""
    if namespace == "gjeldsbro":
        assert metric in EVENTS | set(GAUGES)
        assert dimensions == {"service": STACK}
        return
    assert dimensions.keys() == OF_AWS[namespace, metric]
    if namespace == "AWS/ApiGateway":
        routes = {
            (event["Properties"]["Path"], event["Properties"]["Method"])
            for function in functions().values()
            for event in function.get("Events", {}).values()
            if event["Type"] == "Api"
        }
        assert (dimensions["Resource"], dimensions["Method"]) in routes


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_looks_at_a_metric_that_is_written(name: str) -> None:
    """Namespace, name and dimensions are those under which our functions or AWS write."""
    found = alarm(name)
    dimensions = {one["Name"]: one["Value"] for one in found.get("Dimensions", ())}
    check_metric(found["Namespace"], found["MetricName"], dimensions)


def test_routes_are_measured_one_by_one() -> None:
    """API Gateway writes metrics of a route only where a stage asks for detailed ones."""
    (settings,) = properties("Api")["MethodSettings"]
    assert (settings["ResourcePath"], settings["HttpMethod"], settings["MetricsEnabled"]) == ("/*", "*", True)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_looks_back_no_further_than_cloudwatch_can(name: str) -> None:
    """Periods of less than an hour reach back a day at most, others a week; and the points that it asks for fit in."""
    found = alarm(name)
    reach = found["Period"] * found["EvaluationPeriods"]
    assert reach <= (86400 if found["Period"] < 3600 else 7 * 86400)
    assert found.get("DatapointsToAlarm", 1) <= found["EvaluationPeriods"]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_when_it_begins_and_when_it_ends(name: str) -> None:
    """There is one topic for all of them, and a name that can be read in an e-mail's subject."""
    found = alarm(name)
    assert found["AlarmActions"] == found["OKActions"] == ["<AlarmTopic>"]
    assert found["AlarmName"] == f"{STACK}-{name}"


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_leads_to_its_entry_in_the_runbook(name: str) -> None:
    """Whoever is woken reads what it means, and where it is written what to do; the text fits into an alarm."""
    text = alarm(name)["AlarmDescription"]
    assert text.endswith(f"Runbook: docs/runbook.md#{name.lower()}")
    assert len(text) <= 1024
    assert f"\n### {name}\n" in (ROOT / "docs" / "runbook.md").read_text()


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_that_must_not_be_silent_is_not(name: str) -> None:
    """Nothing measured is nothing wrong only where events are counted; a gauge keeps its state, and absence is told."""
    found = alarm(name)
    counts_absence = found["Statistic"] == "SampleCount"
    if counts_absence:
        assert found["TreatMissingData"] == "breaching"
        assert template()["Resources"][name]["Condition"] == "IsOnSchedule"
        assert found["Period"] * found["EvaluationPeriods"] >= 3600
        assert found["DatapointsToAlarm"] == found["EvaluationPeriods"]
    elif found["MetricName"] in {*GAUGES, "RevocationListsOld", "DaysToExpiry"}:
        assert found["TreatMissingData"] == "ignore"
    else:
        assert found["TreatMissingData"] == "notBreaching"


def test_what_is_measured_by_the_clock_is_missed_when_it_is_not() -> None:
    """Each function that measures on a schedule writes a metric whose absence is an alarm."""
    missed = {found["MetricName"] for found in map(alarm, ALARMS) if found["Statistic"] == "SampleCount"}
    assert missed == {GAUGES[0], "RevocationListsOld"}


def test_every_gauge_and_every_failure_has_an_alarm() -> None:
    """Nothing is measured that nobody is told of."""
    told = {found["MetricName"] for found in map(alarm, ALARMS)}
    assert {*GAUGES, "DatasetsNotLoaded", "PackagesNotDelivered", "RevocationListsOld", "NotificationsFailed"} <= told
    failing = {
        dimension["Value"]
        for found in map(alarm, ALARMS)
        if found["MetricName"] == "ExecutionsFailed"
        for dimension in found["Dimensions"]
    }
    assert failing == {f"<{name}>" for name in resources("AWS::Serverless::StateMachine")}


def test_the_watch_looks_more_often_than_its_alarms_ask() -> None:
    """A period without a measurement would keep an alarm from going off, or from going out."""
    (event,) = functions()["WatchOperationsFunction"]["Events"].values()
    schedule = event["Properties"]
    assert schedule["ScheduleExpression"] == "cron(0/15 * * * ? *)"
    assert (schedule["State"], schedule["Input"]) == ({"Ref": "ScheduleState"}, "{}")
    assert {alarm(name)["Period"] for name in GAUGES} == {15 * 60}


def test_a_night_begins_after_datasets_are_ready_and_before_its_deadline() -> None:
    """What the watch takes for the day's night is what the schedule starts, and there is time for it."""
    (event,) = template()["Resources"]["NightlyFetchStateMachine"]["Properties"]["Events"].values()
    minute, hour = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", event["Properties"]["ScheduleExpression"]).groups()
    assert event["Properties"]["ScheduleExpressionTimezone"] == "UTC"
    assert (int(hour), int(minute)) >= (NIGHT_FROM.hour, NIGHT_FROM.minute)
    parameter = template()["Parameters"]["NightDeadlineHour"]
    assert int(hour) < parameter["MinValue"] <= parameter["Default"]


def test_the_dashboard_shows_all_alarms_and_only_what_is_written() -> None:
    """One page in CloudWatch: every alarm, and figures that exist under just these dimensions."""
    widgets = json.loads(deployed().properties("Dashboard")["DashboardBody"])["widgets"]
    (alarms,) = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    assert sorted(arn.rpartition(f":{STACK}-")[2] for arn in alarms) == sorted(ALARMS)
    assert all(
        arn.startswith("arn:<AWS::Partition>:cloudwatch:<AWS::Region>:<AWS::AccountId>:alarm:") for arn in alarms
    )
    for widget in widgets:
        assert widget["x"] + widget["width"] <= 24
        for namespace, metric, *rest in widget["properties"].get("metrics", ()):
            pairs = [part for part in rest if isinstance(part, str)]
            check_metric(namespace, metric, dict(zip(pairs[::2], pairs[1::2], strict=True)))


def test_widgets_of_the_dashboard_do_not_overlap() -> None:
    """CloudWatch would move them, and the page would look otherwise than it was laid out."""
    widgets = json.loads(deployed().properties("Dashboard")["DashboardBody"])["widgets"]
    cells = [
        (x, y)
        for widget in widgets
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(set(cells)) == len(cells)


def test_a_revocation_list_that_is_old_is_not_a_refresh_that_is_missing() -> None:
    """Both look at one metric: the one at its value, the other at whether it is written."""
    missing, old = alarm("RevocationRefreshMissing"), alarm("RevocationListsOld")
    assert missing["MetricName"] == old["MetricName"]
    assert (missing["Statistic"], old["Statistic"], old["Threshold"]) == ("SampleCount", "Maximum", 1)
