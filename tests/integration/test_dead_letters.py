"""``gjeldsbro dead-letters`` on moto's queues, with messages in the forms in which AWS sends them."""

import json
import re

import boto3
import pytest
from botocore.exceptions import ClientError
from tests.spec_messages import CUSTOMER

from gjeldsbro_operator.dead_letters import letter_of
from gjeldsbro_operator.stack import Stack

SCHEDULE = "arn:aws:scheduler:eu-north-1:123456789012:schedule/default/gjeldsbro-test-quarterly-export"
RULE = "arn:aws:events:eu-north-1:123456789012:rule/gjeldsbro-test-lookups/notices"
FUNCTION = "arn:aws:lambda:eu-north-1:123456789012:function:gjeldsbro-test-RefreshRevocationsFunction-1AB"
NOTICE = {"source": "gjeldsbro", "detail": {"lookupID": "5d0e9f3c", "customer": {"ciphertext": "AQICAHh"}}}


def attributes(**values: str) -> dict:
    """Message attributes as SQS wants them."""
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


@pytest.fixture
def queue(gjeldsbro):
    """Puts a message into the queue of dead letters."""
    client = boto3.client("sqs")
    url = client.get_queue_url(QueueName="dead-letters")["QueueUrl"]

    def put(body, **values: str) -> str:
        sent = client.send_message(QueueUrl=url, MessageBody=json.dumps(body), MessageAttributes=attributes(**values))
        return sent["MessageId"]

    return put


@pytest.fixture
def functions(monkeypatch):
    """What functions were asked to do later: (name, payload)."""
    asked = []
    monkeypatch.setattr(Stack, "invoke_later", lambda self, function, payload: asked.append((function, payload)))
    return asked


def notices() -> list[dict]:
    """What is in the queue of the notification service."""
    client = boto3.client("sqs")
    url = client.get_queue_url(QueueName="notices")["QueueUrl"]
    found = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


def machine(name: str) -> str:
    """The ARN of a state machine of the stack."""
    return f"arn:aws:states:eu-north-1:123456789012:stateMachine:{name}"


def started(name: str) -> list[dict]:
    """The requests of a state machine's executions."""
    client = boto3.client("stepfunctions")
    executions = client.list_executions(stateMachineArn=machine(name))["executions"]
    return [
        json.loads(client.describe_execution(executionArn=execution["executionArn"])["input"])
        for execution in executions
    ]


def test_nothing_to_hand_over_is_good_news(gjeldsbro) -> None:
    """Without dead letters the list says so and its exit status is 0."""
    status, out, _ = gjeldsbro("dead-letters", "list")
    assert (status, out.strip()) == (0, "Nothing: all was handed over.")


def test_each_letter_says_what_did_not_happen_and_why(gjeldsbro, queue) -> None:
    """A start, a function's work and a notice are told apart; the exit status is 1 while there is one."""
    queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"), ERROR_CODE="AccessDenied", ERROR_MESSAGE="no")
    failed = {"errorType": "StoreUnavailableError", "errorMessage": "ClientError Query:ThrottlingException"}
    record = {"requestContext": {"functionArn": FUNCTION}, "requestPayload": {}, "responsePayload": failed}
    queue(record)
    queue(NOTICE, RULE_ARN=RULE, TARGET_ARN="arn:aws:sqs:eu-north-1:123456789012:notices", ERROR_CODE="NO_PERMISSIONS")
    status, out, _ = gjeldsbro("dead-letters", "list", "--json")
    assert status == 1
    assert [(letter["what"], letter["error"]) for letter in out["letters"]] == [
        ("start of NightlyFetch", "AccessDenied: no"),
        (
            "work of gjeldsbro-test-RefreshRevocationsFunction-1AB",
            "StoreUnavailableError: ClientError Query:ThrottlingException",
        ),
        ("notice of lookup 5d0e9f3c", "NO_PERMISSIONS"),
    ]


def test_looking_takes_nothing_away(gjeldsbro, queue) -> None:
    """Whoever looks again at once, or replays, finds the same letters."""
    queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"), ERROR_CODE="AccessDenied")
    first = gjeldsbro("dead-letters", "list", "--json")
    assert gjeldsbro("dead-letters", "list", "--json") == first


def test_looking_ends_when_it_takes_longer_than_the_letters_are_put_aside(gjeldsbro, queue, monkeypatch) -> None:
    """Then the queue gives the same letters again, and takes none of them back; they are shown once."""
    monkeypatch.setattr("gjeldsbro_operator.dead_letters._LOOKING_SECONDS", 0)
    sent = queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"), ERROR_CODE="AccessDenied")
    status, out, _ = gjeldsbro("dead-letters", "list", "--json")
    assert (status, [letter["id"] for letter in out["letters"]]) == (1, [sent])


def test_more_letters_than_one_answer_holds_are_all_seen(gjeldsbro, queue) -> None:
    """SQS gives at most ten messages at a time."""
    sent = {queue(NOTICE, RULE_ARN=RULE, TARGET_ARN="arn:aws:sqs:eu-north-1:123456789012:notices") for _ in range(23)}
    _, out, _ = gjeldsbro("dead-letters", "list", "--json")
    assert {letter["id"] for letter in out["letters"]} == sent


def test_a_night_that_could_not_be_started_is_started(gjeldsbro, queue) -> None:
    """Replay starts the flow with the schedule's request, deletes the letter and leaves a trail."""
    letter = queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"), ERROR_CODE="AccessDenied")
    status, _, _ = gjeldsbro("dead-letters", "replay", letter[:8], "--reason", "the role is mended")
    assert status == 0
    assert started("NightlyFetch") == [{}]
    assert gjeldsbro("dead-letters", "list")[0] == 0
    _, trail, _ = gjeldsbro("trail", "--json")
    assert [entry["action"] for entry in trail["trail"]] == ["dead-letters replay"]


def test_a_late_export_is_that_of_the_quarter_in_which_it_was_due(gjeldsbro, queue) -> None:
    """Whenever it is replayed, the packages are those of the quarter whose schedule failed."""
    queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("QuarterlyExport"), ERROR_CODE="AccessDenied")
    assert gjeldsbro("dead-letters", "replay", "--all")[0] == 0
    (request,) = started("QuarterlyExport")
    assert re.fullmatch(r"20\d\d-[1-4]", request["quarter"])


def test_a_functions_work_is_asked_for_again(gjeldsbro, queue, functions) -> None:
    """What Lambda gave up is handed to the function with the request that it had."""
    queue({"requestContext": {"functionArn": f"{FUNCTION}:$LATEST"}, "requestPayload": {"issuer": "a"}})
    assert gjeldsbro("dead-letters", "replay", "--all")[0] == 0
    assert functions == [("gjeldsbro-test-RefreshRevocationsFunction-1AB", {"issuer": "a"})]


def test_a_notice_gets_back_into_its_queue(gjeldsbro, queue) -> None:
    """The notification service gets the event as EventBridge would have brought it."""
    queue(NOTICE, RULE_ARN=RULE, TARGET_ARN="arn:aws:sqs:eu-north-1:123456789012:notices", ERROR_CODE="NO_PERMISSIONS")
    assert gjeldsbro("dead-letters", "replay", "--all")[0] == 0
    assert notices() == [NOTICE]


def test_a_notice_that_was_taken_in_vain_says_whence_it_came() -> None:
    """SQS moves what was taken too often and names the queue in an attribute, which moto leaves out."""
    source = "arn:aws:sqs:eu-north-1:123456789012:notices"
    letter = letter_of(
        {
            "MessageId": "a1",
            "ReceiptHandle": "r1",
            "Body": json.dumps(NOTICE),
            "Attributes": {"SentTimestamp": "1795327200000", "DeadLetterQueueSourceArn": source},
        }
    )
    assert (letter.target, letter.payload, letter.what) == (source, NOTICE, "notice of lookup 5d0e9f3c")
    assert letter.error == "taken again and again, and never deleted"


@pytest.mark.parametrize(
    "values",
    [
        {"TARGET_ARN": "arn:aws:states:eu-north-1:123456789012:stateMachine:another"},
        {"TARGET_ARN": "arn:aws:lambda:eu-north-1:123456789012:function:another"},
        {"TARGET_ARN": "arn:aws:sqs:eu-north-1:123456789012:another"},
        {},
    ],
)
def test_what_is_not_of_this_stack_is_not_handed_over(gjeldsbro, queue, functions, values) -> None:
    """A message that somebody else put there starts nothing; it stays until it is discarded, and holds nothing up."""
    strange = queue({"note": "whatever"}, **values)
    queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"))
    status, out, _ = gjeldsbro("dead-letters", "replay", "--all")
    assert status == 1
    assert f"{strange[:8]}: it is for nothing in this stack" in out
    assert started("NightlyFetch") == [{}]
    assert (functions, notices()) == ([], [])
    assert gjeldsbro("dead-letters", "discard", strange[:8], "--reason", "not ours")[0] == 0
    assert gjeldsbro("dead-letters", "list")[0] == 0


def test_a_letter_that_was_not_taken_stays(gjeldsbro, queue, monkeypatch) -> None:
    """When handing over fails the letter is still there: nothing is lost by trying."""

    def down(*_, **__):
        raise ClientError({"Error": {"Code": "ExecutionLimitExceeded", "Message": "later"}}, "StartExecution")

    letter = queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"))
    with monkeypatch.context() as patched:
        patched.setattr("gjeldsbro_operator.dead_letters.start", down)
        assert gjeldsbro("dead-letters", "replay", letter)[0] == 1
    _, out, _ = gjeldsbro("dead-letters", "list", "--json")
    assert [found["id"] for found in out["letters"]] == [letter]


def test_an_unknown_letter_is_an_error(gjeldsbro, queue) -> None:
    """An id that names none, or several, does nothing."""
    queue({}, SCHEDULE_ARN=SCHEDULE, TARGET_ARN=machine("NightlyFetch"))
    status, _, err = gjeldsbro("dead-letters", "replay", "zzzz")
    assert (status, "0 letters are called zzzz" in err) == (1, True)
    assert started("NightlyFetch") == []


def test_nothing_of_a_notice_is_shown_but_the_lookup(gjeldsbro, queue) -> None:
    """Neither a ciphertext nor, were it ever there, a person's number comes on the screen."""
    event = {**NOTICE, "detail": {**NOTICE["detail"], "ssn": CUSTOMER}}
    queue(event, RULE_ARN=RULE, TARGET_ARN="arn:aws:sqs:eu-north-1:123456789012:notices")
    for shown in (gjeldsbro("dead-letters", "list")[1], json.dumps(gjeldsbro("dead-letters", "list", "--json")[1])):
        assert CUSTOMER not in shown
        assert "AQICAHh" not in shown
