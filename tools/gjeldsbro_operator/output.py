"""What commands show: JSON for programs, tables for people, progress for whoever waits."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from gjeldsbro.domain.timestamps import normalise, to_datetime

_PIPE_WIDTH = 200
"""Columns of a table that goes into a file or pipe, where nobody can widen the window."""


@dataclass(frozen=True)
class Shown:
    """A table: title, column names and rows of plain values (None is shown as a blank)."""

    title: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


@dataclass(frozen=True)
class Result:
    """What a command did: ``value`` for --json, sentences and tables for people; ``ok`` decides the exit status."""

    value: Any
    tables: Sequence[Shown] = ()
    lines: Sequence[str] = field(default=())
    ok: bool = True


def show(result: Result, *, as_json: bool) -> None:
    """Print a result on standard output."""
    if as_json:
        print(json.dumps(result.value, ensure_ascii=False, indent=2))
        return
    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    for shown in result.tables:
        table = Table(title=_cell(shown.title) or None, title_justify="left", header_style="bold")
        for column in shown.columns:
            table.add_column(column, overflow="fold")
        for row in shown.rows:
            table.add_row(*(_cell(value) for value in row))
        console.print(table)
    for line in result.lines:
        console.print(line, markup=False, soft_wrap=True)


def _cell(value: Any) -> str:
    from rich.markup import escape  # noqa: PLC0415

    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return escape("\n".join(map(str, value)))
    return escape(str(value))


def moment(timestamp: str | None) -> str:
    """A timestamp (any of SPEC's forms) to the second, in UTC."""
    if not timestamp:
        return ""
    try:
        return f"{to_datetime(normalise(timestamp)):%Y-%m-%d %H:%M:%SZ}"
    except ValueError:
        return timestamp
