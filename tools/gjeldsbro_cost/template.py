"""What template.yaml says of functions and of what costs while nothing happens."""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_TEMPLATE = Path(__file__).parents[2] / "template.yaml"
_FUNCTION = re.compile(
    r"^  (\w+)Function:\n    Type: AWS::Serverless::Function\n(.*?)(?=^  \w+:$)", re.MULTILINE | re.DOTALL
)


class Function(NamedTuple):
    """A function's memory in MB, and the seconds after which it is ended."""

    memory: int
    timeout: int


@lru_cache(maxsize=None)
def functions() -> dict[str, Function]:
    """All functions, by the name of their folder."""
    found = {}
    for name, text in _FUNCTION.findall(_text()):
        memory, timeout = (
            int(re.findall(rf"^      {key}: (\d+)", text, re.MULTILINE)[0]) for key in ("MemorySize", "Timeout")
        )
        found[re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()] = Function(memory, timeout)
    return found


def how_many(kind: str) -> int:
    """Resources of a type."""
    return len(re.findall(rf"^    Type: {re.escape(kind)}$", _text(), re.MULTILINE))


def default(parameter: str) -> int:
    """The default of a numeric parameter."""
    found = re.search(rf"^  {parameter}:\n(?:    .*\n)*?    Default: (\d+)$", _text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@lru_cache(maxsize=None)
def _text() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")
