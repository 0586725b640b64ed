"""``gjeldsbro receiver``."""

import argparse
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import Credential, Receiver
from gjeldsbro_operator.files import DescribedReceiver, read_receiver
from gjeldsbro_operator.output import Result, Shown
from gjeldsbro_operator.stack import Stack

_CHECKS = {"hostKey": "host key", "readBack": "read back"}
"""Checks whose names read differently to people."""


def put(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Onboard or change a receiver; its credentials go to Secrets Manager."""
    described = read_receiver(arguments.file, stack.output("ReceiverSecretPrefix"))
    before = stack.partners.receiver(described.receiver.receiver)
    now = from_datetime(datetime.now(UTC))
    known = {} if before is None else {one: before.since.get(one) for one in before.on_behalf_of}
    since = {one: when for one in described.receiver.on_behalf_of if (when := known.get(one, now)) is not None}
    receiver = replace(described.receiver, since=since)
    stack.record("receiver put", f"receiver {receiver.receiver}", arguments.reason)
    _put_secret(stack, receiver.secret, described.credentials)
    stack.partners.put_receiver(receiver)
    _note_until_when(stack, described, now)
    state = "created" if before is None else "changed"
    return Result(
        {**_value(receiver), "state": state},
        lines=[f"{receiver.receiver} {receiver.name}: {state}. Try it: gjeldsbro receiver check {receiver.receiver}"],
    )


def _note_until_when(stack: Stack, described: DescribedReceiver, now: str) -> None:
    """Note since and until when login and host keys are good: nobody can look at the secret any more."""
    login, host_keys = _noted(described.receiver.receiver)
    known = next((one for one in stack.partners.credentials() if one.subject == login), None)
    same = known is not None and known.fingerprint is not None and known.fingerprint == described.login_fingerprint
    since = known.since if known is not None and same else now
    stack.partners.put_credential(Credential(login, since, described.login_until, described.login_fingerprint))
    if described.host_keys_until is None:
        stack.partners.remove_credential(host_keys)
    else:
        stack.partners.put_credential(Credential(host_keys, now, described.host_keys_until))


def _noted(receiver: str) -> tuple[str, str]:
    """What a receiver's login and its host keys are called among the credentials."""
    return f"receiver {receiver}: our login", f"receiver {receiver}: its host keys"


def _put_secret(stack: Stack, name: str, credentials: dict[str, str]) -> None:
    """Store a secret under the stack's key, in place of what was there, or was about to be deleted."""
    text = json.dumps(credentials)
    client = stack.secrets
    try:
        client.create_secret(Name=name, SecretString=text, KmsKeyId=stack.output("PartnerKeyArn"))
    except (client.exceptions.ResourceExistsException, client.exceptions.InvalidRequestException):
        if "DeletedDate" in client.describe_secret(SecretId=name):
            client.restore_secret(SecretId=name)
        client.put_secret_value(SecretId=name, SecretString=text)


def show_all(stack: Stack, _: argparse.Namespace) -> Result:
    """List the receivers."""
    receivers = stack.partners.receivers()
    columns = ("Receiver", "Name", "On behalf of", "Server", "Host keys", "Reads back")
    rows = [
        (r.receiver, r.name, r.on_behalf_of, r.url, [_kind(k) for k in r.host_keys], r.read_back) for r in receivers
    ]
    return Result({"receivers": [_value(receiver) for receiver in receivers]}, [Shown("Receivers", columns, rows)])


def check(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Let the stack connect to a receiver's server, and say step by step what works."""
    if stack.partners.receiver(arguments.id) is None:
        raise ConfigurationError(f"there is no receiver {arguments.id}")
    stack.record("receiver check", f"receiver {arguments.id}", arguments.reason)
    checked = stack.invoke("CheckReceiverFunctionName", {"receiver": arguments.id})
    rows = [(_CHECKS.get(check, check), result) for check, result in checked["checks"].items()]
    return Result(checked, [Shown(f"Receiver {arguments.id}", ("Check", "Result"), rows)], ok=bool(checked["works"]))


def remove(stack: Stack, arguments: argparse.Namespace) -> Result:
    """End a receiver: no more packages; its credentials are deleted after a week."""
    receiver = stack.partners.receiver(arguments.id)
    if receiver is None:
        raise ConfigurationError(f"there is no receiver {arguments.id}")
    stack.record("receiver remove", f"receiver {arguments.id}", arguments.reason)
    stack.partners.remove_receiver(arguments.id)
    for subject in _noted(arguments.id):
        stack.partners.remove_credential(subject)
    with suppress(stack.secrets.exceptions.ResourceNotFoundException):
        stack.secrets.delete_secret(SecretId=receiver.secret, RecoveryWindowInDays=7)
    return Result({"receiver": arguments.id, "state": "removed"}, lines=[f"{arguments.id} {receiver.name}: removed"])


def _kind(host_key: str) -> str:
    kind, _, key = host_key.partition(" ")
    return f"{kind} …{key[-12:]}"


def _value(receiver: Receiver) -> dict[str, Any]:
    return {
        "receiver": receiver.receiver,
        "name": receiver.name,
        "onBehalfOf": list(receiver.on_behalf_of),
        "sftp": {
            "url": receiver.url,
            "hostKeys": list(receiver.host_keys),
            "secret": receiver.secret,
            "readBack": receiver.read_back,
        },
    }
