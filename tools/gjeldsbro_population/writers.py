"""Datasets as JSON pages and SSN lists as text, in the forms that institutions use."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any, Literal

from gjeldsbro_population.identity import broken
from gjeldsbro_population.population import Population
from gjeldsbro_population.seeds import stream

Numbers = Literal["strings", "padded", "integers"]
"""How numbers are written: digit strings, digit strings with leading zeros (SPEC's examples), JSON integers."""

_PADDED_WIDTH = {"nominalInterestRate": 6, "terms": 3}


def page(provider: str, customers: Iterable[dict[str, Any]], numbers: Numbers = "strings") -> bytes:
    """One page: a complete JSON document in SPEC 4.2.1's model, UTF-8."""
    listed = [{**customer, "loans": [_wire(loan, numbers) for loan in customer["loans"]]} for customer in customers]
    document = {"providerID": provider, "customers": listed}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _wire(loan: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    if numbers == "integers":
        return loan
    width = _PADDED_WIDTH if numbers == "padded" else {}
    return {
        key: str(value).zfill(width.get(key, 1)) if isinstance(value, int) else value for key, value in loan.items()
    }


def pages(
    population: Population,
    institution: str,
    provider: str,
    *,
    page_size: int | None = None,
    numbers: Numbers = "strings",
) -> Iterator[bytes]:
    """The dataset in pages of ``page_size`` customers (None: one page). An empty dataset is one empty page."""
    customers = population.customers(institution, provider)
    if page_size is None:
        yield page(provider, customers, numbers)
        return
    empty = True
    for batch in batched(customers, page_size, strict=False):
        yield page(provider, batch, numbers)
        empty = False
    if empty:
        yield page(provider, (), numbers)


def folder_name(identifier: str) -> str:
    """A provider or institution id as the name of a file or folder: a colon is not allowed everywhere."""
    return identifier.replace(":", "-")


def write_dataset(
    population: Population,
    institution: str,
    provider: str,
    folder: Path,
    *,
    page_size: int | None = None,
    numbers: Numbers = "strings",
) -> list[Path]:
    """Write the dataset to ``{folder}/{institution}/{provider}/{page:05d}.json``; returns the files."""
    target = folder / folder_name(institution) / folder_name(provider)
    target.mkdir(parents=True, exist_ok=True)
    for left_over in target.glob("*.json"):
        left_over.unlink()
    files = []
    for number, body in enumerate(pages(population, institution, provider, page_size=page_size, numbers=numbers)):
        files.append(target / f"{number:05d}.json")
        files[-1].write_bytes(body)
    return files


def ssn_list(
    numbers: Sequence[str], *, invalid: Sequence[str] | int = 0, duplicates: Sequence[str] | int = 0, seed: int = 0
) -> bytes:
    """An SSN list: comma-separated, in an order that ``seed`` decides.

    ``invalid``: texts to mix in as they are, or how many numbers with a wrong check digit to make. ``duplicates``:
    numbers to list a second time, or how many.
    """
    rng = stream(seed, "ssn-list")
    wrong = [broken(number) for number in numbers[:invalid]] if isinstance(invalid, int) else list(invalid)
    twice = list(numbers[:duplicates]) if isinstance(duplicates, int) else list(duplicates)
    listed = [*numbers, *wrong, *twice]
    rng.shuffle(listed)
    return ",".join(listed).encode()
