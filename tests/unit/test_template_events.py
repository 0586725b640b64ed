"""What happens without anybody waiting for it must not get lost: each such step ends in the queue of dead letters."""

from typing import Any

import pytest
from tests.cloudformation import functions, properties, resources, state_machines, statements

DEAD_LETTERS = {"Fn::GetAtt": ["DeadLetters", "Arn"]}


def events() -> dict[str, dict[str, Any]]:
    """Every event of a function or state machine: ``Resource.Event`` to its definition."""
    owners = {**functions(), **state_machines()}
    return {
        f"{owner}.{name}": event for owner, found in owners.items() for name, event in found.get("Events", {}).items()
    }


SCHEDULED = [name for name, event in events().items() if event["Type"] == "ScheduleV2"]
ON_SCHEDULE = sorted({name.partition(".")[0] for name in SCHEDULED} & set(functions()))


def test_only_kinds_of_events_are_used_of_which_a_test_below_knows() -> None:
    """Requests of the API are waited for; what else starts something needs a rule here."""
    assert {event["Type"] for event in events().values()} == {"Api", "ScheduleV2"}


@pytest.mark.parametrize("name", SCHEDULED)
def test_a_start_that_fails_is_tried_for_a_while_and_then_kept(name: str) -> None:
    """A schedule has bounded retries, and hands over what it could not start."""
    schedule = events()[name]["Properties"]
    assert schedule["DeadLetterConfig"] == {"Arn": DEAD_LETTERS}
    assert 60 <= schedule["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 86400
    assert schedule["RetryPolicy"]["MaximumRetryAttempts"] > 0


@pytest.mark.parametrize("function", ON_SCHEDULE)
def test_a_scheduled_function_that_fails_hands_its_work_over(function: str) -> None:
    """Scheduler does not wait for a function: Lambda tries again, and then keeps the request; the role lets it."""
    config = functions()[function]["EventInvokeConfig"]
    assert config["DestinationConfig"]["OnFailure"] == {"Type": "SQS", "Destination": DEAD_LETTERS}
    assert config["MaximumRetryAttempts"] == 2
    rights = statements(function.removesuffix("Function") + "Rights")
    assert (["sqs:SendMessage"], ["<DeadLetters.Arn>"]) in [(one["Action"], one["Resource"]) for one in rights]


@pytest.mark.parametrize("rule", resources("AWS::Events::Rule"))
def test_an_event_that_cannot_be_delivered_is_kept(rule: str) -> None:
    """Every target of a rule has the queue behind it, which lets the rule send."""
    for target in properties(rule)["Targets"]:
        assert target["DeadLetterConfig"] == {"Arn": DEAD_LETTERS}
    allowed = [one for one in statements("DeadLettersPolicy", "PolicyDocument") if one["Effect"] == "Allow"]
    assert {"ArnEquals": {"aws:SourceArn": f"<{rule}.Arn>"}} in [one["Condition"] for one in allowed]


@pytest.mark.parametrize("queue", sorted(set(resources("AWS::SQS::Queue")) - {"DeadLetters"}))
def test_a_message_that_nobody_can_use_is_kept(queue: str) -> None:
    """A queue that is read by others hands over what was taken too often."""
    assert properties(queue)["RedrivePolicy"]["deadLetterTargetArn"] == DEAD_LETTERS


@pytest.mark.parametrize("queue", resources("AWS::SQS::Queue"))
def test_a_queue_keeps_as_long_as_it_can_encrypted_and_over_tls(queue: str) -> None:
    """Fourteen days are the most that SQS gives; a policy refuses whoever does not use TLS."""
    assert properties(queue)["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert properties(queue)["SqsManagedSseEnabled"] is True
    denied = [one for one in statements(f"{queue}Policy", "PolicyDocument") if one["Effect"] == "Deny"]
    assert [one["Condition"] for one in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]


def takers(**parameters: str) -> list[Any]:
    """Who may take notices out of their queue."""
    found = statements("NoticeQueuePolicy", "PolicyDocument", **parameters)
    return [one["Principal"] for one in found if one["Effect"] == "Allow" and "sqs:ReceiveMessage" in one["Action"]]


def test_only_the_notification_service_takes_notices() -> None:
    """The role that may decrypt them may take them; without one nobody may, and they wait."""
    role = "arn:aws:iam::123456789012:role/notices"
    assert takers(NotificationRoleArn=role) == [{"AWS": role}]
    assert takers() == []
