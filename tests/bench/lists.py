"""An SSN list, from its bytes to valid numbers, invalid entries and duplicates."""

from collections.abc import Iterator
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

from tests.bench.measure import Row, Work, memory, speed

from gjeldsbro.domain.identity_numbers import with_check_digits
from gjeldsbro.domain.ssn_list import SsnList
from gjeldsbro_population.seeds import stream

NUMBERS = 5_000_000

ROWS = (
    Row(
        "SSN list of 5 million numbers, validated",
        "lists.ours",
        "split into a set",
        "lists.split_into_a_set",
        (speed(1 / 3), memory(0.25)),
    ),
)


def write_data(folder: Path) -> None:
    """Make a list, its numbers in no order: that is the hardest for a processor's caches."""
    numbers = list(islice(valid_numbers(), NUMBERS))
    stream(1, "list").shuffle(numbers)
    (folder / "list.txt").write_text(",".join(numbers), encoding="ascii")


def valid_numbers() -> Iterator[str]:
    """Distinct synthetic numbers, as many people for each date of birth."""
    day = date(1930, 1, 1)
    while True:
        for serial in range(240):
            if (
                number := with_check_digits(f"{day.day:02}{day.month + 80:02}{day.year % 100:02}{serial:03}")
            ) is not None:
                yield number
        day += timedelta(days=1)


def ours(folder: Path) -> Work:
    """An SSN list, validated, duplicates found."""
    path = folder / "list.txt"

    def work() -> object:
        ssn_list = SsnList(path.stat().st_size, "synthetic")
        for piece in _pieces(path):
            ssn_list.feed(piece)
        ssn_list.finish()
        assert ssn_list.numbers == NUMBERS
        return ssn_list

    return work


def split_into_a_set(folder: Path) -> Work:
    """The file, split at commas into a set."""
    path = folder / "list.txt"
    return lambda: set(path.read_text(encoding="ascii").split(","))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
