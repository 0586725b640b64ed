"""``gjeldsbro hash-key``."""

import argparse
from typing import Any

from gjeldsbro_operator.output import Result, Shown, moment
from gjeldsbro_operator.stack import Stack

_FUNCTION = "RotateHashKeyFunctionName"
_COLUMNS = ("Version", "State", "From", "Retired", "Datasets under it", "Pushes under it")


def status(stack: Stack, _: argparse.Namespace) -> Result:
    """Which keys there are, and what lies under each."""
    told = stack.invoke(_FUNCTION, {"action": "status"})
    rows = [
        (
            key["version"],
            key["state"],
            moment(key["from"]),
            moment(key["retiredAt"]),
            key["datasets"],
            [f"{subject}: {count}" for subject, count in key["pushes"].items()],
        )
        for key in told["keys"]
    ]
    return Result(told, [Shown("Versions of the hash key", _COLUMNS, rows)])


def rotate(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Make a new key. The function leaves the trail; nobody sees the key."""
    told = _change(stack, "rotate", arguments)
    lines = [
        f"Version {told['version']} is in force from {moment(told['from'])}. Each dataset moves to it with its next "
        "night; `hash-key status` shows what is left, and `hash-key finish` ends the old one."
    ]
    return Result(told, lines=lines)


def finish(stack: Stack, arguments: argparse.Namespace) -> Result:
    """Retire the old keys that nothing of the register is under. The function leaves the trail."""
    told = _change(stack, "finish", arguments)
    lines = [f"Retired: version {', '.join(told['retired'])}."]
    if told["left"]:
        lines.append(f"Still used: version {', '.join(told['left'])}; see `hash-key status`.")
    return Result(told, lines=lines, ok=not told["left"])


def _change(stack: Stack, action: str, arguments: argparse.Namespace) -> Any:
    return stack.invoke(_FUNCTION, {"action": action, "operator": stack.operator, "reason": arguments.reason})
