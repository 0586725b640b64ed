"""``gjeldsbro dead-letters``: what could not be handed over, and handing it over again.

Four things end in the queue, and each says in its own way what it is:

============================  =======================================================================================
a schedule's start            attributes SCHEDULE_ARN, TARGET_ARN, ERROR_CODE (EventBridge Scheduler)
a scheduled function's work   a record with requestContext and requestPayload (Lambda's destination on failure)
a notice                      attributes RULE_ARN, TARGET_ARN, ERROR_CODE (EventBridge)
a notice taken ten times      the queue that it came from, DeadLetterQueueSourceArn (SQS)
============================  =======================================================================================

A letter is deleted only after it was handed over, so that one may be handed over twice but none is lost; each of the
four may happen twice without harm.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from gjeldsbro.domain.quarter import Quarter
from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.runs import EXPORT, NIGHTLY, start
from gjeldsbro_operator.stack import Stack

MOST = 1000
"""Letters that are looked at: what is beyond them is seen when these are gone."""

SHOWN_ID = 8
"""Characters of a letter's id that tables show; any start of it names a letter."""

_LOOKING_SECONDS = 60
"""For so long nobody else sees the letters that a command looks at."""

_COLUMNS = ("Id", "Since", "What", "Error")


@dataclass(frozen=True)
class Letter:
    """A message of the queue. ``target`` is the ARN of what it was for, None when that cannot be told."""

    id: str
    receipt: str = field(repr=False)
    since: datetime
    target: str | None
    payload: Any = field(repr=False)
    error: str

    @property
    def service(self) -> str:
        """The target's service: states, lambda, sqs; nothing when there is no target."""
        return self.target.split(":")[2] if self.target else ""

    @property
    def what(self) -> str:
        """What did not happen, in words and references."""
        match self.service:
            case "states":
                return f"start of {self.name}"
            case "lambda":
                return f"work of {self.name}"
            case "sqs":
                return f"notice of lookup {self._lookup}"
        return "unknown"

    @property
    def name(self) -> str:
        """The name of the target function or state machine; nothing when there is none."""
        parts = (self.target or "").split(":")
        return parts[6] if len(parts) > 6 else ""

    @property
    def _lookup(self) -> str:
        detail = self.payload.get("detail") if isinstance(self.payload, dict) else None
        return str(detail.get("lookupID")) if isinstance(detail, dict) else "unknown"


def letter_of(message: dict[str, Any]) -> Letter:
    """What a received message says; one that nobody of the four wrote has no target."""
    named = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    system = message.get("Attributes", {})
    body = _json(message["Body"])
    target, payload, error = named.get("TARGET_ARN"), body, ""
    if target:
        error = ": ".join(part for part in (named.get("ERROR_CODE"), named.get("ERROR_MESSAGE")) if part)
    elif isinstance(body, dict) and "requestContext" in body:
        target, payload = body["requestContext"].get("functionArn"), body.get("requestPayload")
        response = body.get("responsePayload") or {}
        error = f"{response.get('errorType', 'error')}: {response.get('errorMessage', '')}".rstrip(": ")
    elif target := system.get("DeadLetterQueueSourceArn"):
        error = "taken again and again, and never deleted"
    since = datetime.fromtimestamp(int(system.get("SentTimestamp", 0)) / 1000, UTC)
    return Letter(message["MessageId"], message["ReceiptHandle"], since, target, payload, error)


def show_all(stack: Stack, _: argparse.Namespace) -> Result:
    """Show what could not be handed over; the exit status is 1 while there is something."""
    with _looking(stack) as letters:
        return _result(letters, [] if letters else ["Nothing: all was handed over."], ok=not letters)


def replay(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Hand letters over again, and delete each that was taken."""
    return _act(stack, arguments, "replay", lambda letter: _hand_over(stack, letter))


def discard(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Delete letters that need not be handed over any more."""
    return _act(stack, arguments, "discard", lambda _: None)


def _act(stack: Stack, arguments: argparse.Namespace, verb: str, act: Callable[[Letter], None]) -> Result:
    done, lines = list[Letter](), list[str]()
    with _looking(stack) as letters:
        chosen = [letter for letter in letters if arguments.all or letter.id.startswith(arguments.id)]
        if not arguments.all and len(chosen) != 1:
            found = f"{len(chosen)} letters are called {arguments.id}"
            raise ConfigurationError(f"{found}: see `gjeldsbro dead-letters list`")
        for letter in sorted(chosen, key=lambda one: one.since):
            stack.record(f"dead-letters {verb}", f"{letter.id} {letter.what}", arguments.reason)
            try:
                act(letter)
            except ConfigurationError as exc:  # the others may still be handed over
                lines.append(f"{letter.id[:SHOWN_ID]}: {exc}")
                continue
            stack.queues.delete_message(QueueUrl=stack.output("DeadLettersUrl"), ReceiptHandle=letter.receipt)
            done.append(letter)
            letters.remove(letter)
    said = {"replay": "Handed over again", "discard": "Discarded"}[verb]
    return _result(done, [f"{said}: {len(done)}. Left: {len(letters)}.", *lines], ok=not lines)


def _hand_over(stack: Stack, letter: Letter) -> None:
    """Do what was to be done. Raises ConfigurationError for what is not this stack's."""
    flows = {stack.output(flow.output): flow for flow in (NIGHTLY, EXPORT)}
    if letter.target in flows:
        flow = flows[letter.target]
        request = dict(letter.payload) if isinstance(letter.payload, dict) else {}
        if flow is EXPORT:  # the quarter that it was to be, whenever this is
            request = {"quarter": str(Quarter.of(letter.since)), **request}
        start(stack, flow, request)
    elif letter.service == "lambda" and letter.name.startswith(f"{stack.name}-"):
        stack.invoke_later(letter.name, letter.payload)
    elif letter.target == stack.queue_arn("NoticeQueueUrl"):
        stack.queues.send_message(QueueUrl=stack.output("NoticeQueueUrl"), MessageBody=json.dumps(letter.payload))
    else:
        raise ConfigurationError("it is for nothing in this stack, and can only be discarded")


@contextmanager
def _looking(stack: Stack) -> Iterator[list[Letter]]:
    """All letters; those still in the list at the end are given back at once."""
    url, letters = stack.output("DeadLettersUrl"), list[Letter]()
    seen = set[str]()
    try:
        while len(letters) < MOST:
            answer = stack.queues.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=_LOOKING_SECONDS,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["SentTimestamp", "DeadLetterQueueSourceArn"],
            )
            found = [letter_of(dict(message)) for message in answer.get("Messages", [])]
            if seen >= {letter.id for letter in found}:
                break  # no more, or those that are visible again after _LOOKING_SECONDS
            letters += [letter for letter in found if letter.id not in seen]
            seen |= {letter.id for letter in found}
        yield letters
    finally:
        for letter in letters:
            with suppress(ClientError):  # it is visible again already, which SQS has several words for
                stack.queues.change_message_visibility(QueueUrl=url, ReceiptHandle=letter.receipt, VisibilityTimeout=0)


def _result(letters: list[Letter], lines: list[str], *, ok: bool = True) -> Result:
    letters = sorted(letters, key=lambda letter: letter.since)
    found = [(letter.id, from_datetime(letter.since), letter.what, letter.error) for letter in letters]
    rows = [(name[:SHOWN_ID], moment(since), what, error) for name, since, what, error in found]
    value = [dict(zip(("id", "since", "what", "error"), values, strict=True)) for values in found]
    return Result({"letters": value}, [Shown("Dead letters", _COLUMNS, rows)] if rows else [], lines, ok)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
