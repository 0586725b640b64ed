"""An SSN list, from its bytes to valid numbers, invalid entries and duplicates."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.bench.measure import Row, Work, memory, speed

from gjeldsbro.domain.identity_numbers import is_customer_id
from gjeldsbro.domain.ssn_list import SsnList
from gjeldsbro_population.identity import customer_ids
from gjeldsbro_population.seeds import stream

NUMBERS = 400_000

ROWS = (
    Row(
        "SSN list of 400,000 numbers, validated",
        "lists.ours",
        "split into a set",
        "lists.split_into_a_set",
        (speed(1 / 3), memory(0.25)),
    ),
)


def write_data(folder: Path) -> None:
    """Make a list."""
    numbers = islice(customer_ids(stream(1, "list")), NUMBERS)
    (folder / "list.txt").write_text(",".join(numbers), encoding="ascii")


def ours(folder: Path) -> Work:
    """An SSN list, validated, duplicates found."""
    path = folder / "list.txt"

    def work() -> object:
        ssn_list = SsnList(path.stat().st_size, lambda text: is_customer_id(text, "synthetic"))
        for piece in _pieces(path):
            ssn_list.feed(piece)
        ssn_list.finish()
        assert ssn_list.entries == NUMBERS
        return ssn_list

    return work


def split_into_a_set(folder: Path) -> Work:
    """The file, split at commas into a set."""
    path = folder / "list.txt"
    return lambda: set(next(csv.reader([path.read_text(encoding="ascii")])))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
