"""A quarterly package, from what is known of its customers to its bytes."""

import gzip
import json
from itertools import batched
from pathlib import Path
from typing import Any

from tests.bench.measure import Row, Work, speed

from gjeldsbro.domain.package import Package, build_slice
from gjeldsbro_population.population import Population
from gjeldsbro_population.writers import page

CUSTOMERS = 20_000

ROWS = (
    Row(
        "package of 20,000 customers", "packages.ours", "gzip of the finished JSON", "packages.gzip_whole", (speed(2),)
    ),
)


def write_data(folder: Path) -> None:
    """Make a package's document."""
    population = Population(1, 30_000, 1)
    institution, provider = population.datasets[0]
    document = json.loads(page(provider, list(population.customers(institution, provider, 0, CUSTOMERS))))
    (folder / "package.json").write_bytes(json.dumps(document, separators=(",", ":")).encode())


def _customers(folder: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((folder / "package.json").read_bytes())
    return list(document["customers"])


def ours(folder: Path) -> Work:
    """Customers to a package, in slices of 5,000."""
    customers = _customers(folder)

    def work() -> object:
        slices = [
            build_slice(group, first=not number) for number, group in enumerate(batched(customers, 5000, strict=False))
        ]
        return Package("9908:920013015", [described for _, described in slices]).size

    return work


def gzip_whole(folder: Path) -> Work:
    """The finished JSON document through the standard library's gzip."""
    document = (folder / "package.json").read_bytes()
    return lambda: gzip.compress(document, mtime=0)
