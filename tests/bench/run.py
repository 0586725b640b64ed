"""``make bench``: all parts, or those that are named (``make bench PARTS="pages push"``); ``RECORD=1`` notes the rows.

A part is a module of this folder with ``ROWS`` and ``write_data`` (one table of ratios, see ``measure``), or one of
``ONLINE``: functions in the Lambda runtime that somebody waits for (see ``online``), or ``country``: whole nights and
exports, counted.
"""

import importlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.bench.country import rehearse
from tests.bench.measure import Measured, Result, measure_rows
from tests.bench.online import cold_starts, lookups, pushes
from tests.bench.sizes import package_sizes
from tests.bench.world import world

TABLES = ("pages", "loads", "pushes", "lists", "packages", "transfers")
ONLINE = {"sizes": package_sizes, "cold": cold_starts, "push": pushes, "lookup": lookups}
COUNTRY = "country"
PARTS = (*TABLES, *ONLINE, COUNTRY)
COLUMNS = ("path", "CPU s", "s", "MiB", "reference", "CPU s", "s", "MiB", "speed", "memory", "aim", "")
RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_RECORDED = re.compile(r"(?<=<!-- the table of `make bench RECORD=1` -->\n).*?(?=<!-- end of the table -->)", re.DOTALL)


def main(parts: Sequence[str], *, record: bool) -> None:
    """Measure what was asked for and print tables."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in parts:
            if part in TABLES:
                module = importlib.import_module(f"tests.bench.{part}")
                module.write_data(folder)
                results += measure_rows(module.ROWS, folder, console.log)
    if results:
        console.print(_table(results))
        console.print("Speed is the reference's time divided by ours, memory our process's peak divided by its.")
    if record and results:
        text = RESULTS.read_text(encoding="utf-8")
        others = "" if set(TABLES) <= set(parts) else _RECORDED.findall(text)[0]
        RESULTS.write_text(_RECORDED.sub(lambda _: f"\n{_markdown(results, others)}\n", text), encoding="utf-8")
    if COUNTRY in parts:
        rehearse(console, record=record)
    if online_parts := [part for part in parts if part in ONLINE]:
        with tempfile.TemporaryDirectory() as name, world(Path(name)) as place:
            for part in online_parts:
                ONLINE[part](place, console)


def _cells(result: Result) -> tuple[str, ...]:
    row, missed = result.row, result.missed()
    verdict = "" if not row.aims else f"missed: {', '.join(missed)}" if missed else "met"
    return (
        row.path,
        *_figures(result.ours),
        row.reference,
        *_figures(result.other),
        f"{result.speed:.2f}",
        f"{result.memory:.2f}",
        ", ".join(aim.words for aim in row.aims),
        verdict,
    )


def _figures(measured: Measured) -> Iterator[str]:
    yield f"{measured.cpu:.3f}"
    yield f"{measured.seconds:.3f}"
    counts = "".join(f"; {name} {number:,.10g}" for name, number in measured.counts.items())
    yield f"{measured.peak:.0f} (+{measured.added:.0f}){counts}"


def _table(results: Sequence[Result]) -> Table:
    table = Table(*COLUMNS, title="Benchmarks")
    for result in results:
        table.add_row(*_cells(result))
    return table


def _markdown(results: Sequence[Result], recorded: str) -> str:
    """The table for the results file, with what it was measured on; rows of ``recorded`` stay that are not new."""
    machine = f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_cells(result) for result in results)]
    lines = [*recorded.splitlines(), *(f"| {' | '.join(row)} |" for row in rows)]
    table = {_place(line): line for line in lines if line.startswith("|")}  # in the order in which places came first
    return "\n".join([f"On {machine}, {datetime.now(UTC):%Y-%m-%d}:", "", *table.values(), ""])


def _place(line: str) -> tuple[str, str]:
    cells = line.split(" | ")
    return cells[0], cells[COLUMNS.index("reference")]


if __name__ == "__main__":
    asked = [argument for argument in sys.argv[1:] if argument != "--record"]
    if unknown := set(asked) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    main(asked or PARTS, record="--record" in sys.argv)
