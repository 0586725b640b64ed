"""The watch as a function and as a command: what it measures, whether an alarm would go off, and what operators see."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from functions.watch_operations import watch_operations
from tests.cloudformation import Deployed
from tests.integration.test_operator_commands import BANK, OTHER, institution_file, receiver_file  # noqa: F401 - fixtures

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.services.ports import Credential, Institution, Provider, Receiver
from gjeldsbro.services.watch import GAUGES
from gjeldsbro.settings import forget_settings
from gjeldsbro_local.certificates import Authority
from gjeldsbro_operator import watch
from gjeldsbro_operator.stack import Stack

CONTEXT = SimpleNamespace(aws_request_id="1", get_remaining_time_in_millis=lambda: 60_000)
LONG_AGO = "2024-01-01T00:00:00.0000000Z"


@pytest.fixture
def needy(partners):
    """A table in which something is found of every kind that the watch measures."""
    providers = (Provider(f"9908:{BANK}", "https://fi.example.no"),)
    partners.put_institution(Institution(BANK, "Testbanken AS", providers=providers))
    partners.put_receiver(Receiver(BANK, "Mottaker AS", (OTHER,), "sftp://x", ("key",), "secret", since={}))
    partners.put_credential(Credential("our client certificate", LONG_AGO, LONG_AGO))
    return partners


@pytest.fixture
def measured(aws, capsys):
    """Runs the function: what it answers, and the figures that it leaves in CloudWatch."""

    def measure() -> tuple[dict[str, int], dict[str, Any]]:
        forget_settings()
        answer = watch_operations.lambda_handler({}, CONTEXT)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
        return answer, json.loads(line)

    return measure


def goes_off(alarm: dict[str, Any], values: list[float]) -> bool:
    """What CloudWatch makes of what was measured in one period of an alarm."""
    of = {"Sum": sum, "Maximum": max, "SampleCount": len}[alarm["Statistic"]]
    if alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold":
        return of(values) >= alarm["Threshold"]
    assert alarm["ComparisonOperator"] == "LessThanThreshold"
    return of(values) < alarm["Threshold"]


def value_of(alarm: dict[str, Any], figures: dict[str, Any]) -> list[float]:
    """What a record in the embedded metric format says to an alarm: nothing, unless all names are the same."""
    (described,) = figures["_aws"]["CloudWatchMetrics"]
    assert alarm["Namespace"] == described["Namespace"]
    assert [sorted(one["Name"] for one in alarm["Dimensions"])] == described["Dimensions"]
    assert all(figures[one["Name"]] == one["Value"] for one in alarm["Dimensions"])
    assert alarm["MetricName"] in {metric["Name"] for metric in described["Metrics"]}
    value = figures[alarm["MetricName"]]
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", GAUGES)
def test_an_alarm_goes_off_when_something_is_found_and_out_when_not(aws, measured, partners, request, name) -> None:
    """Namespace, name, dimensions, statistic and threshold together, on what the function really writes."""
    alarm = Deployed(**{"AWS::StackName": aws["STACK_NAME"]}).properties(name)
    assert not goes_off(alarm, value_of(alarm, measured()[1]))
    if name == "PackagesOutstanding" and not _is_late():
        pytest.skip("no package is late in the first days of a quarter")
    request.getfixturevalue("needy")
    answer, figures = measured()
    assert answer[name] == 1
    assert goes_off(alarm, value_of(alarm, figures))


def _is_late() -> bool:
    now = datetime.now(UTC)
    return now.month % 3 != 1 or now.day > 4


def test_every_run_of_the_watch_is_seen(aws, measured) -> None:
    """Also when nothing is found: an hour without a run is an alarm of its own."""
    alarm = Deployed(**{"AWS::StackName": aws["STACK_NAME"]}).properties("WatchMissing")
    assert not goes_off(alarm, value_of(alarm, measured()[1]))
    assert goes_off(alarm, [])


def test_status_says_that_nothing_needs_action(gjeldsbro) -> None:
    """With exit status 0, for scripts."""
    status, shown, _ = gjeldsbro("status")
    assert (status, shown.strip()) == (0, "Nothing needs action.")


def test_status_shows_what_the_watch_finds_and_what_else_is_on(gjeldsbro, needy, aws) -> None:
    """The same findings; and alarms that go off for other reasons, with CloudWatch's own words."""
    alarms = boto3.client("cloudwatch")
    rest = {"MetricName": "m", "Namespace": "n", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    for name in ("PushesFail", "NightOverdue", "LookupsFail", "test-PushesFail"):  # the last one is another stack's
        full = f"{aws['STACK_NAME']}-{name}"
        alarms.put_metric_alarm(AlarmName=full, Threshold=1, ComparisonOperator="GreaterThanOrEqualToThreshold", **rest)
        if name != "LookupsFail":
            alarms.set_alarm_state(AlarmName=full, StateValue="ALARM", StateReason="3 datapoints")
    status, shown, _ = gjeldsbro("status", "--json")
    assert status == 1
    found = {finding["alarm"]: finding for finding in shown["findings"]}
    assert {"NightOverdue", "InstitutionsMissing", "CredentialsExpiring", "PushesFail"} <= found.keys()
    assert found["PushesFail"]["what"] == "3 datapoints"
    assert not found.keys() & {"LookupsFail", "test-PushesFail"}
    assert len([one for one in shown["findings"] if one["alarm"] == "NightOverdue"]) == 1
    assert found["CredentialsExpiring"]["subject"] == "our client certificate"


def test_status_says_since_when_in_utc() -> None:
    """Wherever the operator is: AWS's libraries may give times by the clock of the machine."""
    since = datetime(2026, 11, 22, 6, 30, tzinfo=timezone(timedelta(hours=1)))
    alarm = {"AlarmName": "s-PushesFail", "StateValue": "ALARM", "StateUpdatedTimestamp": since}
    paginator = SimpleNamespace(paginate=lambda **_: [{"MetricAlarms": [alarm]}])
    stack = SimpleNamespace(name="s", alarms=SimpleNamespace(get_paginator=lambda _: paginator))
    assert watch.alarms(stack) == [("PushesFail", "since 2026-11-22 05:30Z", "")]


def test_a_run_says_whether_it_was_a_whole_night(partners) -> None:
    """Runs are found by when they were started."""
    now = datetime.now(UTC)
    for name, age in (("old", 3), ("new", 1)):
        values = {"startedAt": from_datetime(now - timedelta(days=age)), "state": "finished", "whole": name == "new"}
        partners.put_run("nightly", name, values, now)
    assert {name: run["whole"] for name, run in partners.runs("nightly", now - timedelta(days=2)).items()} == {
        "new": True
    }


def test_a_stored_certificate_is_watched(gjeldsbro, partners, tmp_path) -> None:
    """`certificate put` notes when the first certificate of the chain ends, as nobody can look into the secret."""
    files = Authority.create("CA").issue_client(BANK).write(tmp_path, "client")
    status, shown, _ = gjeldsbro("certificate", "put", str(files.cert_file), str(files.key_file), "--json")
    assert status == 0
    (noted,) = partners.credentials()
    assert noted.subject == "our client certificate"
    assert noted.until is not None
    assert noted.until.startswith(shown["notAfter"])
    assert noted.fingerprint == shown["sha256"]


def test_a_receivers_login_is_as_old_as_its_key(gjeldsbro, partners, receiver_file) -> None:  # noqa: F811
    """Putting a file again does not make an old key young, another key does; and with the receiver its notes go."""
    assert gjeldsbro("receiver", "put", str(receiver_file))[0] == 0
    (login,) = partners.credentials()
    assert login.subject == f"receiver {BANK}: our login"
    partners.put_credential(login._replace(since=LONG_AGO))
    gjeldsbro("receiver", "put", str(receiver_file))
    assert partners.credentials() == [login._replace(since=LONG_AGO)]
    key = login.fingerprint
    partners.put_credential(login._replace(since=LONG_AGO, fingerprint="SHA256:another"))
    text = receiver_file.read_text()
    receiver_file.write_text(f"{text}  hostKeysValidUntil: 2099-01-31\n  loginValidUntil: 2098-01-31\n")
    gjeldsbro("receiver", "put", str(receiver_file))
    login, host_keys = sorted(partners.credentials(), key=lambda one: one.subject, reverse=True)
    assert (login.fingerprint, login.until) == (key, "2098-02-01T00:00:00.0000000Z")
    assert login.since > LONG_AGO
    assert host_keys.until == "2099-02-01T00:00:00.0000000Z"
    receiver_file.write_text(text)
    gjeldsbro("receiver", "put", str(receiver_file))
    assert [one.subject for one in partners.credentials()] == [f"receiver {BANK}: our login"]
    gjeldsbro("receiver", "remove", BANK)
    assert partners.credentials() == []


def test_it_is_kept_since_when_each_party_is_there(gjeldsbro, partners, institution_file, receiver_file) -> None:  # noqa: F811
    """Putting a file again changes nothing of it; a provider that comes back begins anew."""
    gjeldsbro("institution", "put", str(institution_file))
    gjeldsbro("receiver", "put", str(receiver_file))
    institution, receiver = partners.institution(BANK), partners.receiver(BANK)
    (provider,) = institution.providers
    assert provider.since is not None
    assert set(receiver.since) == {BANK, OTHER}
    _, shown, _ = gjeldsbro("institution", "put", str(institution_file), "--json")
    assert shown["state"] == "unchanged"
    gjeldsbro("receiver", "put", str(receiver_file))
    assert (partners.institution(BANK), partners.receiver(BANK)) == (institution, receiver)
    ended = replace(provider, ended=True, since=LONG_AGO)
    partners.put_institution(replace(institution, providers=(ended,)))
    gjeldsbro("institution", "put", str(institution_file))
    assert partners.institution(BANK).providers[0].since > LONG_AGO


def test_what_was_there_before_since_was_kept_stays_long_there(gjeldsbro, partners, institution_file) -> None:  # noqa: F811
    """An institution from an earlier version is not taken for a new one when its file is put again."""
    gjeldsbro("institution", "put", str(institution_file))
    known = partners.institution(BANK)
    partners.put_institution(replace(known, providers=(replace(known.providers[0], since=None),)))
    gjeldsbro("institution", "put", str(institution_file))
    assert partners.institution(BANK).providers[0].since is None


def test_log_shows_what_a_function_said(gjeldsbro, aws, monkeypatch) -> None:
    """Its own lines, in order, without the runtime's; a word narrows them."""
    logs, now = boto3.client("logs"), int(datetime.now(UTC).timestamp() * 1000)
    logs.create_log_group(logGroupName="plan-night")
    logs.create_log_stream(logGroupName="plan-night", logStreamName="s")
    lines = [
        "START RequestId: 1",
        json.dumps({"timestamp": "t1", "level": "INFO", "message": "EXPORT_PLANNED", "run": "r1", "location": "x:1"}),
        json.dumps({"timestamp": "t2", "level": "ERROR", "message": "UNEXPECTED_ERROR", "run": "r2"}),
        json.dumps({"type": "platform.report"}),
    ]
    events = [{"timestamp": now - 1000 + number, "message": line} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName="plan-night", logStreamName="s", logEvents=events)
    monkeypatch.setattr(Stack, "resource", lambda self, name: {"PlanNightLogGroup": "plan-night"}[name])
    status, shown, _ = gjeldsbro("log", "plan_night", "--json")
    assert status == 0
    assert [entry["message"] for entry in shown["log"]] == ["EXPORT_PLANNED", "UNEXPECTED_ERROR"]
    _, shown, _ = gjeldsbro("log", "plan_night", "--filter", "r2", "--json")
    assert [entry["run"] for entry in shown["log"]] == ["r2"]
    _, shown, _ = gjeldsbro("log", "plan_night")
    assert "run=r1" in shown
    assert "location" not in shown
