"""JSON without the latitude that parsers differ in: what two readers could understand differently is refused.

The standard library's parser takes NaN, lets the last of two equal names win and keeps half a surrogate pair; each of
these would make a message mean one thing to us and another to its sender.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from gjeldsbro.domain.rules import BrokenRuleError, Rule
from gjeldsbro.errors import InvalidMessageError, Violation

BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Those of UTF-8 and UTF-16."""

MAX_DEPTH = 10
"""Arrays and objects inside each other in a whole message. SPEC 4.2 has five; what is not read may have a few more."""

_MAX_INTEGER_DIGITS = 20
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KNOWN_NAMES = ("customers", "loans", "coBorrowers")
"""Names that a place may hold. Any other name is the sender's text, and could be a value put in the wrong place."""


class _RepeatedNames(dict[str, Any]):
    """An object in which a name occurred twice."""


_NESTED = (dict, list, _RepeatedNames)


def parse(body: bytes, place: str = "") -> Any:
    """The value of a JSON document that lies at ``place`` in a message.

    Raises InvalidMessageError with one violation, at the nearest place that can be named.
    """
    repeated = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        built = dict(pairs)
        if len(built) == len(pairs):
            return built
        repeated = True
        return _RepeatedNames(built)

    # The causes are dropped, because their texts quote the body.
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=build, parse_int=_integer, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise _fault(place, Rule.UTF_8) from None
    except RecursionError:
        raise _fault(place, Rule.JSON_DEPTH) from None
    except ValueError:
        raise _fault(place, Rule.UTF_8 if body.startswith(BYTE_ORDER_MARKS) else Rule.JSON) from None
    levels = MAX_DEPTH - place.count("/")
    if text.count("{") + text.count("[") > levels and _is_deeper(value, levels):
        raise _fault(place, Rule.JSON_DEPTH)
    if repeated or _SURROGATE_ESCAPE.search(text) is not None:
        _check_parts(value, place)
    return value


def _is_deeper(value: object, levels: int) -> bool:
    """Whether more than so many arrays and objects lie inside each other; level by level, whatever their number."""
    level = [value]
    for _ in range(levels):
        inside = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, _NESTED)]
        level = [child for part in inside for child in part if type(child) in _NESTED]
        if not level:
            return False
    return True


def _check_parts(value: object, place: str) -> None:
    for part_place, part in _parts(value, place):
        if isinstance(part, _RepeatedNames):
            raise _fault(part_place, Rule.JSON_NAMES)
        if isinstance(part, str) and _SURROGATE.search(part) is not None:
            raise _fault(part_place, Rule.JSON_TEXT)


def _fault(place: str, rule: Rule) -> InvalidMessageError:
    return InvalidMessageError([Violation(place, rule)])


def _no_constant(_name: str) -> NoReturn:
    raise BrokenRuleError(Rule.JSON)


def _integer(digits: str) -> int | float:
    """An int, or a float where it would be longer than any of SPEC's numbers: converting those takes quadratic time."""
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


def _parts(value: object, place: str) -> Iterator[tuple[str, object]]:
    """All values and names of a document in its order, each with the nearest place that can be named."""
    stack = [(place, value, True)]
    while stack:
        at, part, exact = stack.pop()
        yield at, part
        inside: list[tuple[str, object, bool]] = []
        if isinstance(part, dict):
            for name, child in part.items():
                known = exact and name in _KNOWN_NAMES
                inside.append((at, name, False))
                inside.append((f"{at}/{name}" if known else at, child, known))
        elif isinstance(part, list):
            inside = [(f"{at}/{index}" if exact else at, child, exact) for index, child in enumerate(part)]
        stack.extend(reversed(inside))
