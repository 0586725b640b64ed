"""The operators' trail is complete: no command changes something, or looks at a person, without leaving one."""

import argparse
import ast
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

from gjeldsbro_operator.main import make_parser

READS = {
    "dead-letters list",
    "export report",
    "export status",
    "hash-key status",
    "institution list",
    "lender list",
    "log",
    "nightly report",
    "nightly status",
    "receiver list",
    "revocation list",
    "status",
    "trail",
}
"""What shows the state of things and no person."""
BY_FUNCTION = {
    "hash-key finish": "rotate_hash_key",
    "hash-key rotate": "rotate_hash_key",
    "lookups": "show_lookups",
    "show-customer": "show_customer",
}
"""What a function does and leaves the trail for, so that nobody gets round it with an invocation of their own."""
WITHOUT_A_STACK = {"check-list", "population"}
"""What works on files."""


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the command line with the function behind it, None where there is none."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path, parser.get_default("command")
    for group in groups:
        for name, below in group.choices.items():
            yield from commands(below, f"{path} {name}".strip())


COMMANDS = {
    name: function for name, function in commands(make_parser()) if name.partition(" ")[0] not in WITHOUT_A_STACK
}
CHANGES = sorted(set(COMMANDS) - READS - set(BY_FUNCTION))


def leaves_a_trail(function: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether ``stack.record`` is called in a function, or in one that it calls in the operator's modules."""
    tree = ast.parse(inspect.getsource(function).lstrip())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    if any(isinstance(call, ast.Attribute) and call.attr == "record" for call in calls):
        return True
    called = [function.__globals__.get(call.id) for call in calls if isinstance(call, ast.Name)]
    called += [
        getattr(function.__globals__.get(call.value.id), call.attr, None)
        for call in calls
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
    ]
    return any(
        leaves_a_trail(one, seen | {function})
        for one in called
        if isinstance(one, FunctionType) and one.__module__.startswith("gjeldsbro_operator") and one not in seen
    )


def test_every_command_is_one_of_those_that_are_known_here() -> None:
    """The lists above name commands that exist, and there are commands that change something."""
    assert set(COMMANDS) >= READS | set(BY_FUNCTION)
    assert {"institution put", "nightly release", "certificate put"} <= set(CHANGES)


@pytest.mark.parametrize("command", CHANGES)
def test_a_command_that_changes_something_leaves_a_trail(command: str) -> None:
    """A new command is taken for one that changes something, until READS says otherwise."""
    assert leaves_a_trail(COMMANDS[command])


@pytest.mark.parametrize("command", sorted(READS))
def test_a_command_that_only_shows_leaves_none(command: str) -> None:
    """The trail says what was done, and is not filled by those who look at it."""
    assert not leaves_a_trail(COMMANDS[command])


@pytest.mark.parametrize("command", [*CHANGES, *BY_FUNCTION])
def test_a_command_that_leaves_a_trail_takes_a_reason(command: str) -> None:
    """Whoever has a reason can give it."""
    parser = make_parser()
    options = {option for name in [command] for option in _options(parser, name.split())}
    assert "--reason" in options


def _options(parser: argparse.ArgumentParser, path: list[str]) -> set[str]:
    for name in path:
        (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = group.choices[name]
    return set(parser._option_string_actions)
