"""A night, a second one with 1 % changed and an export, of more and more customers: what they ask of AWS and take.

Each size in a process of its own. ``docs/data/country.json`` is what the cost model reads (``gjeldsbro_cost``).
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.country import Sizes, list_file
from tests.rehearsal import RECEIVERS, Rehearsal, Tally, rehearsal

from gjeldsbro_cost.main import record as record_page
from gjeldsbro_cost.rates import MEASURED

SIZES = (10_000, 100_000, 1_000_000)
_SECONDS = 3600
_COLUMNS = ("function", "calls", "DynamoDB", "S3", "others", "items", "write units", "read units", "MB", "CPU s")


def rehearse(console: Console, *, record: bool) -> None:
    """Rehearse each size and print its tables."""
    found = []
    for size in SIZES:
        console.log(f"{size:,} customers")
        command = [sys.executable, "-m", "tests.bench.country", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_SECONDS, check=True)
        found.append(json.loads(done.stdout.rpartition("\n")[2]))
        for table in _tables(found[-1]):
            console.print(table)
    if record:
        machine = f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}"
        document = {"machine": machine, "date": f"{datetime.now(UTC):%Y-%m-%d}", "sizes": found}
        MEASURED.parent.mkdir(exist_ok=True)
        MEASURED.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        record_page()


def measure(size: int) -> dict[str, Any]:
    """One size: what each flow did, and the bytes that it had to do with."""
    with tempfile.TemporaryDirectory() as name:
        data, stores = Path(name) / "data", Path(name) / "stores"
        data.mkdir()
        stores.mkdir()
        subprocess.run([sys.executable, "-m", "tests.country", str(data), str(size)], check=True)
        with rehearsal(data, stores) as world:
            found = {"asked": size}
            for night, label in enumerate(("first", "second")):
                found[label] = _flow(world, world.night(label, night))
                datasets = world.datasets(label, Sizes(size).page)
            items, records = world.register.weigh()
            found |= {
                "customers": sum(dataset.customers for dataset in datasets),
                "stored": sum(dataset.stored for dataset in datasets),
                "pageBytes": sum(file.stat().st_size for file in data.glob("*-1-*.json")),
                "itemBytes": items,
                "recordBytes": records,
                "memory": _peak(),
            }
            found["export"] = _flow(world, world.export("export"))
            found["numbers"] = sum(list_file(data, receiver).read_text().count(",") + 1 for receiver in RECEIVERS)
            found["packageBytes"] = sum(outcome["bytes"] for outcome in world.outcomes("export").values())
            return found


def _flow(world: Rehearsal, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    functions = {
        name: {
            "calls": tally.invocations,
            "cpu": round(tally.cpu, 4),
            "requests": dict(tally.requests),
            "counts": dict(tally.counts),
        }
        for name, tally in tallies.items()
    }
    return {"transitions": world.transitions, "functions": functions}


def _peak() -> int:
    """Megabytes that this process had at most, what stands in for AWS included."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10


def _tables(found: Mapping[str, Any]) -> list[Table]:
    what = {
        "first": f"First night of {found['asked']:,} customers",
        "second": "Second night, 1 % changed",
        "export": f"Export of {found['numbers']:,} numbers",
    }
    return [
        _table(f"{title}: {found[name]['transitions']} state transitions", found[name]) for name, title in what.items()
    ]


def _table(title: str, flow: Mapping[str, Any]) -> Table:
    table = Table(*_COLUMNS, title=title)
    total: Counter[str] = Counter()
    for function, did in flow["functions"].items():
        row = Counter({"calls": did["calls"], "CPU s": did["cpu"]})
        for request, times in did["requests"].items():
            service = request.partition(".")[0]
            row[{"dynamodb": "DynamoDB", "s3": "S3"}.get(service, "others")] += times
        counts = did["counts"]
        row["items"] = counts.get("put", 0) + counts.get("deleted", 0)
        row["write units"], row["read units"] = counts.get("write units", 0), counts.get("read units", 0)
        row["MB"] = (counts.get("bytes sent", 0) + counts.get("bytes received", 0)) / 1e6
        total.update(row)
        table.add_row(function, *_cells(row))
    table.add_row("all", *_cells(total))
    return table


def _cells(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name]:,.2f}" if name in {"CPU s", "MB"} else f"{row[name]:,.0f}" for name in _COLUMNS[1:]]


if __name__ == "__main__":
    os.environ["POWERTOOLS_LOG_LEVEL"] = "WARNING"
    sys.stdout.write("\n" + json.dumps(measure(int(sys.argv[1]))))
