"""The functions that somebody waits for, in the real Lambda runtime: cold starts, pushes and lookups."""

import shutil
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.table import Table
from tests.bench.fakes import INSTITUTION_SECONDS
from tests.bench.runtime import Code, Process
from tests.bench.world import INSTITUTIONS, World
from tests.cloudformation import functions

from gjeldsbro_local import deployment

HANDLERS = Path(__file__).parent / "handlers"
COLD_ROUNDS = 7
EVERY_FUNCTION_ROUNDS = 3
WARM_UP = 30
PUSHES = 1000
LOOKUPS = 200
LOOKUPS_PER_SECOND = 50
LOOKUP_SECONDS = 20
PROCESSES = 12
"""Lambda starts as many as are busy at a time: at 50 lookups a second of 120 ms that is six; and room for peaks."""


def cold_starts(world: World, console: Console) -> None:
    """INIT and first answer of the push function beside a naive one, then INIT of every function beside bare boto3."""
    bare, naive, plain = _references(world)
    ours = world.code("ReceivePushFunction")
    kinds = {"ours": ours, "naive": naive, "naive, as `sam build` leaves it": plain}
    runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in kinds}
    for _ in range(COLD_ROUNDS):
        for name, code in kinds.items():
            runs[name].append(_cold(world, code, world.push))
    columns = ("INIT ms", "first answer ms", "CPU ms", "ours / it", "ours / it, CPU")
    table = Table("push", *columns, title="Cold start of a push")
    medians = {name: [statistics.median(part) for part in zip(*found, strict=True)] for name, found in runs.items()}
    init, first, cpu = medians["ours"]
    for name, (its_init, its_first, its_cpu) in medians.items():
        times = (f"{part * 1000:.0f}" for part in (its_init, its_first, its_cpu))
        table.add_row(name, *times, f"{(init + first) / (its_init + its_first):.2f}", f"{cpu / its_cpu:.2f}")
    console.print(table)

    columns = ("INIT ms", "CPU ms", "bare: INIT ms", "CPU ms", "ratio", "ratio, CPU")
    table = Table("function", *columns, title="INIT of each function, beside a bare `import boto3`")
    for function in functions():
        pairs = [_init(world, world.code(function)) + _init(world, bare) for _ in range(EVERY_FUNCTION_ROUNDS)]
        init, cpu, its_init, its_cpu = (statistics.median(part) for part in zip(*pairs, strict=True))
        times = (f"{part * 1000:.0f}" for part in (init, cpu, its_init, its_cpu))
        table.add_row(function.removesuffix("Function"), *times, f"{init / its_init:.2f}", f"{cpu / its_cpu:.2f}")
    console.print(table)


def pushes(world: World, console: Console) -> None:
    """Pushes one after the other through one warm process, ours and the naive one in turn."""
    _, naive, _ = _references(world)
    table = Table("push", "p50 ms", "p99 ms", "requests a second and process", title="Warm pushes")
    with (
        _started(world, world.code("ReceivePushFunction"), "push") as ours,
        _started(world, naive, "naive") as its,
    ):
        kinds = {"ours": ours, "naive": its}
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(WARM_UP + PUSHES):
            for name, process in kinds.items():
                seconds = _answered(process, world.push)
                if number >= WARM_UP:
                    times[name].append(seconds)
    for name, found in times.items():
        table.add_row(name, f"{_percentile(found, 50):.1f}", f"{_percentile(found, 99):.1f}", f"{1 / _mean(found):.0f}")
    console.print(table)


def lookups(world: World, console: Console) -> None:
    """Lookups at five institutions: one after the other, then 50 a second."""
    code = world.code("SearchDebtFunction")
    with _started(world, code, "lookup") as process:
        for _ in range(WARM_UP):
            _answered(process, world.lookup)
        times = [_answered(process, world.lookup) for _ in range(LOOKUPS)]
    over = [seconds - INSTITUTION_SECONDS for seconds in times]
    title = f"Lookups, {len(INSTITUTIONS)} institutions that take {INSTITUTION_SECONDS * 1000:.0f} ms"
    table = Table("lookups", "p50 ms", "p99 ms", "overhead p50 ms", "overhead p99 ms", "a second", title=title)
    table.add_row(
        "one process, one after the other",
        *(f"{_percentile(part, share):.1f}" for part in (times, over) for share in (50, 99)),
        f"{1 / _mean(times):.1f}",
    )
    times = _at_a_rate(world, code)
    over = [seconds - INSTITUTION_SECONDS for seconds in times]
    table.add_row(
        f"{PROCESSES} processes, {LOOKUPS_PER_SECOND} a second",
        *(f"{_percentile(part, share):.1f}" for part in (times, over) for share in (50, 99)),
        f"{len(times) / LOOKUP_SECONDS:.1f}",
    )
    console.print(table)


def _at_a_rate(world: World, code: Code) -> list[float]:
    """Seconds from the moment that each lookup was due until it was answered; who is due does not wait for others."""
    idle: SimpleQueue[Process] = SimpleQueue()
    started = [_started(world, code, f"lookup-{number}") for number in range(PROCESSES)]

    def look_up(due: float) -> float:
        process = idle.get()
        try:
            _answered(process, world.lookup)
        finally:
            idle.put(process)
        return time.perf_counter() - due

    try:
        with ThreadPoolExecutor(LOOKUPS_PER_SECOND * 2) as pool:
            for process in started:
                for _ in range(3):
                    _answered(process, world.lookup)
                idle.put(process)
            begin = time.perf_counter()
            waiting = []
            for number in range(LOOKUPS_PER_SECOND * LOOKUP_SECONDS):
                due = begin + number / LOOKUPS_PER_SECOND
                time.sleep(max(0.0, due - time.perf_counter()))
                waiting.append(pool.submit(look_up, due))
            return [future.result() for future in waiting]
    finally:
        for process in started:
            process.end()


def _references(world: World) -> tuple[Code, Code, Code]:
    """Bare boto3; the naive push with bytecode; and the same as ``sam build`` leaves it, without."""
    layer = deployment.BUILD / "GjeldsbroLayer" / "python"
    compiled, plain = world.folder / "naive", world.folder / "plain"
    if not compiled.exists():
        shutil.copytree(HANDLERS, compiled)
        deployment.add_bytecode(compiled)
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(HANDLERS, plain, ignore=without)
        shutil.copytree(layer, plain / "layer", ignore=without)
    return (
        Code("bare.lambda_handler", compiled, ()),
        Code("naive.lambda_handler", compiled, (layer,)),
        Code("naive.lambda_handler", plain, (plain / "layer",)),
    )


def _started(world: World, code: Code, name: str) -> Process:
    return Process(code, world.environment, world.runtime, world.folder / f"{name}.log")


def _cold(world: World, code: Code, event: bytes) -> tuple[float, float, float]:
    """Seconds of the INIT phase, seconds from its end to the first answer, and CPU seconds of both."""
    with _started(world, code, "cold") as process:
        seconds = _answered(process, event)
        init = process.init_seconds()
        return init, seconds - init, process.cpu_seconds()


def _init(world: World, code: Code) -> tuple[float, float]:
    """Seconds and CPU seconds of the INIT phase."""
    with _started(world, code, "init") as process, ThreadPoolExecutor(1) as pool:
        # Some functions work for a while on no event at all: nobody waits for their answers.
        pool.submit(process.invoke, b"{}")
        try:
            return process.init_seconds(), process.cpu_seconds()
        finally:
            process.end()


def _answered(process: Process, event: bytes) -> float:
    seconds, answer = process.invoke(event)
    assert answer.get("statusCode") == 200, answer
    return seconds


def _percentile(seconds: Sequence[float], share: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(seconds, n=100, method="inclusive")[share - 1] * 1000


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)
