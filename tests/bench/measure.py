"""How a row of the table is measured: our work and its reference in turn, each in fresh processes, as a ratio.

A case is a function ``(folder, …) -> work``: it makes ready outside the measured time and returns the work to time,
which returns what it counted, or nothing of interest. Cases are named ``module.function:argument:…``, of the modules of
this folder.

Absolute seconds depend on the machine and on what else it does; a ratio of two, taken in turn in the same run, does
much less. What else it does only ever adds time: so of several runs the least disturbed one counts, the quickest. Short
works are repeated within their process, too: the first time pays for memory that is new to it.
"""

import gc
import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Work = Callable[[], object]
Case = Callable[..., Work]

ROUNDS = 5
_SECONDS = 900
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


class Counts(dict[str, float]):
    """What a work returns for the table to show, and for aims to judge: names and numbers."""


class Measured(NamedTuple):
    """The quickest runs of one case, and the median of its memory in MiB."""

    cpu: float
    seconds: float
    peak: float
    """The largest that the whole process ever was, interpreter and libraries included."""
    added: float
    """What the work added to the memory that the process had before it."""
    counts: Mapping[str, float]


class Aim(NamedTuple):
    """What is asked of a row: in words, and as a judgement of (ours, the reference)."""

    words: str
    is_met: Callable[[Measured, Measured], bool]


class Row(NamedTuple):
    """A line of the table. ``ours`` and ``other`` name cases; ``by`` is the time that counts.

    Each case runs in ``rounds`` fresh processes, in each of them ``repeats`` times; memory is that of the first time.
    """

    path: str
    ours: str
    reference: str
    other: str
    aims: tuple[Aim, ...] = ()
    by: Literal["cpu", "seconds"] = "cpu"
    rounds: int = ROUNDS
    repeats: int = 1


class Result(NamedTuple):
    """A row, measured."""

    row: Row
    ours: Measured
    other: Measured

    @property
    def speed(self) -> float:
        """Of the reference's, how many times ours: above 1 is faster than it."""
        return float(getattr(self.other, self.row.by) / getattr(self.ours, self.row.by))

    @property
    def memory(self) -> float:
        """The largest memory of the whole process, as a share of the reference's."""
        return self.ours.peak / self.other.peak

    def missed(self) -> list[str]:
        """The aims that are not met, in words."""
        return [aim.words for aim in self.row.aims if not aim.is_met(self.ours, self.other)]


def speed(at_least: float, by: Literal["cpu", "seconds"] = "cpu") -> Aim:
    """At least so many times the reference's speed."""
    return Aim(f"speed at least {at_least:.2g}", lambda ours, other: getattr(other, by) / getattr(ours, by) >= at_least)


def memory(at_most: float) -> Aim:
    """At most this share of the reference's peak memory, both of the whole process."""
    return Aim(f"peak memory at most {at_most:g}", lambda ours, other: ours.peak / other.peak <= at_most)


def count(words: str, is_met: Callable[[Mapping[str, float], Mapping[str, float]], bool]) -> Aim:
    """A judgement of what ours and the reference counted."""
    return Aim(words, lambda ours, other: is_met(ours.counts, other.counts))


def measure_rows(rows: Iterable[Row], folder: Path, tell: Callable[[str], None]) -> list[Result]:
    """Measure each row, ours and its reference in turn, in fresh processes."""
    results = []
    for row in rows:
        tell(f"{row.path} / {row.reference}")
        found: dict[str, list[Measured]] = {row.ours: [], row.other: []}
        for _ in range(row.rounds):
            for case, runs in found.items():
                runs.append(run_case(case, folder, row.repeats))
        results.append(Result(row, _best(found[row.ours]), _best(found[row.other])))
    return results


def run_case(case: str, folder: Path, repeats: int = 1) -> Measured:
    """One case, in a fresh process."""
    command = [sys.executable, "-m", "tests.bench.measure", case, str(folder), str(repeats)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_SECONDS, check=True)
    return Measured(**json.loads(done.stdout.rpartition("\n")[2]))


def _run_here(name: str, folder: Path, repeats: int) -> Measured:
    place, *arguments = name.split(":")
    module, _, function = place.partition(".")
    case: Case = getattr(importlib.import_module(f"tests.bench.{module}"), function)
    work = case(folder, *arguments)
    gc.collect()
    gc.freeze()  # what was made ready, a register of others' items, is not for the work to look through
    peak_before = _kibibytes("VmHWM")
    _CLEAR.write_text(_FORGET_PEAK)  # from here on the peak is that of the work
    before = _kibibytes("VmRSS")
    cpu, seconds, result = _time(work)
    peak = _kibibytes("VmHWM")
    counts = result if isinstance(result, Counts) else Counts()
    del result
    for _ in range(repeats - 1):
        again, seconds_again, _ = _time(work)
        cpu, seconds = min(cpu, again), min(seconds, seconds_again)
    return Measured(cpu, seconds, max(peak, peak_before) / 1024, max(0, peak - before) / 1024, counts)


def _time(work: Work) -> tuple[float, float, object]:
    began, began_cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.process_time() - began_cpu, time.perf_counter() - began, result


def _kibibytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


def _best(runs: Sequence[Measured]) -> Measured:
    return Measured(
        *(min(getattr(run, name) for run in runs) for name in ("cpu", "seconds")),
        *(statistics.median(getattr(run, name) for run in runs) for name in ("peak", "added")),
        Counts({name: min(run.counts[name] for run in runs) for name in runs[0].counts}),
    )


def _main(case: str, folder: str, repeats: str) -> None:
    measured: dict[str, Any] = _run_here(case, Path(folder), int(repeats))._asdict()
    sys.stdout.write("\n" + json.dumps(measured))


if __name__ == "__main__":
    importlib.import_module("tests.bench.measure")._main(*sys.argv[1:])  # whose Counts are those of the cases
