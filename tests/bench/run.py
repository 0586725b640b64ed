"""``make bench``: all parts, or those that are named (``make bench PARTS="cold push"``).

``data``: each row's work and its reference in turn, in fresh processes, as a ratio. ``cold``, ``push`` and ``lookup``:
the functions that somebody waits for (``online``).

Absolute seconds depend on the machine and on what else it does; a ratio of two medians, taken in turn in the same run,
does much less. Peak memory is that of the whole process above the same process before the work.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from tests.bench.cases import CASES, ROWS, write_data
from tests.bench.online import cold_starts, lookups, pushes
from tests.bench.world import world

ONLINE = {"cold": cold_starts, "push": pushes, "lookup": lookups}
PARTS = ("data", *ONLINE)
ROUNDS = 5
_SECONDS = 300


class Measured(NamedTuple):
    """Medians of one case: CPU seconds, and MiB that the work added to the process's peak."""

    seconds: float
    mebibytes: float


def measure(case: str, folder: Path) -> dict[str, float]:
    """Run one case once, in this process."""
    if case == "data":
        write_data(folder)
        return {}
    work = CASES[case](folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    result = work()
    seconds = time.process_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del result
    return {"seconds": seconds, "mebibytes": (after - before) / 1024}


def main(parts: Sequence[str]) -> None:
    """Measure what was asked for and print tables."""
    console = Console()
    if not console.is_terminal:
        console.width = 150
    if "data" in parts:
        _data(console)
    online_parts = [part for part in parts if part in ONLINE]
    if online_parts:
        with tempfile.TemporaryDirectory() as name, world(Path(name)) as place:
            for part in online_parts:
                ONLINE[part](place, console)
    console.print("Ratios are ours divided by the reference: below 1 is faster, or leaner, than it.")


def _data(console: Console) -> None:
    table = Table("What", "CPU s", "MiB", "Reference", "CPU s", "MiB", "time ratio", "memory ratio", title="Benchmarks")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _in_a_fresh_process("data", folder)  # a process's peak counts from its parent's: this one stays small
        for title, ours, reference, other in ROWS:
            runs: dict[str, list[dict[str, float]]] = {ours: [], other: []}
            for _ in range(ROUNDS):
                for case, found in runs.items():
                    found.append(_in_a_fresh_process(case, folder))
            mine, theirs = _median(runs[ours]), _median(runs[other])
            table.add_row(
                title,
                f"{mine.seconds:.3f}",
                f"{mine.mebibytes:.0f}",
                reference,
                f"{theirs.seconds:.3f}",
                f"{theirs.mebibytes:.0f}",
                f"{mine.seconds / theirs.seconds:.2f}",
                f"{mine.mebibytes / theirs.mebibytes:.2f}" if theirs.mebibytes >= 1 else "",
            )
    console.print(table)


def _in_a_fresh_process(case: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.run", "--case", case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _median(runs: list[dict[str, float]]) -> Measured:
    return Measured(
        statistics.median(run["seconds"] for run in runs),
        statistics.median(run["mebibytes"] for run in runs),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        sys.stdout.write(json.dumps(measure(sys.argv[2], Path(sys.argv[3]))))
    elif unknown := set(sys.argv[1:]) - set(PARTS):
        sys.exit(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    else:
        main(sys.argv[1:] or PARTS)
