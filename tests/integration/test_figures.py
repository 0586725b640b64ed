"""The figures that the reporting functions leave in CloudWatch, and the alarms on them."""

import json
from types import SimpleNamespace

import pytest
from functions.plan_export import plan_export
from functions.plan_night import plan_night
from functions.report_export import report_export
from functions.report_night import report_night
from tests.cloudformation import Deployed

from gjeldsbro.settings import forget_settings

CONTEXT = SimpleNamespace(aws_request_id="1", get_remaining_time_in_millis=lambda: 60_000)
START = {"run": "r1", "startedAt": "2026-10-01T07:00:00.000Z", "request": {}}


@pytest.mark.parametrize(
    ("plan", "report", "alarm"),
    [
        (plan_night, report_night, "DatasetsNotLoaded"),
        (plan_export, report_export, "PackagesNotDelivered"),
    ],
)
def test_an_alarm_counts_what_its_function_reports(aws, capsys, plan, report, alarm) -> None:
    """Name, namespace and dimensions are those of the metric, or the alarm would wait for ever."""
    forget_settings()
    plan.lambda_handler(START, CONTEXT)
    capsys.readouterr()
    report.lambda_handler({"run": "r1", "startedAt": START["startedAt"]}, CONTEXT)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    figures = json.loads(line)
    (described,) = figures["_aws"]["CloudWatchMetrics"]
    found = Deployed(**{"AWS::StackName": aws["STACK_NAME"]}).properties(alarm)
    assert found["Namespace"] == described["Namespace"]
    assert found["MetricName"] in {metric["Name"] for metric in described["Metrics"]}
    assert [sorted(dimension["Name"] for dimension in found["Dimensions"])] == described["Dimensions"]
    for dimension in found["Dimensions"]:
        assert dimension["Value"] == figures[dimension["Name"]]
