"""``gjeldsbro receiver``."""

import argparse
import json
from contextlib import suppress
from typing import Any

from gjeldsbro.errors import ConfigurationError
from gjeldsbro.services.ports import Receiver
from gjeldsbro_operator.files import read_receiver
from gjeldsbro_operator.output import Result, Shown
from gjeldsbro_operator.stack import Stack

_CHECKS = {"hostKey": "host key", "readBack": "read back"}
"""Checks whose names read differently to people."""


def put(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Onboard or change a receiver; its credentials go to Secrets Manager."""
    receiver, credentials = read_receiver(arguments.file, stack.output("ReceiverSecretPrefix"))
    before = stack.partners.receiver(receiver.receiver)
    stack.record("receiver put", f"receiver {receiver.receiver}", arguments.reason)
    _put_secret(stack, receiver.secret, credentials)
    stack.partners.put_receiver(receiver)
    state = "created" if before is None else "changed"
    return Result(
        {**_value(receiver), "state": state},
        lines=[f"{receiver.receiver} {receiver.name}: {state}. Try it: gjeldsbro receiver check {receiver.receiver}"],
    )


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
    stack.record("receiver check", f"receiver {arguments.id}")
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
