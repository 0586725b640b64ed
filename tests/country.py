"""Pages and lists of as many customers as asked for, of several institutions, on two nights, written as a stream.

Loans are those of the population, given to ever new customers, so that a million take seconds and no memory.
"""

import json
import sys
from collections.abc import Iterator
from itertools import batched, chain, islice, repeat
from pathlib import Path
from random import Random
from typing import NamedTuple

from gjeldsbro_population.identity import customer_ids
from gjeldsbro_population.loans import altered
from gjeldsbro_population.population import Population

SHARES = ((0.7, "920013015"), (0.25, "985815534"), (0.05, "974760673"))
"""What part of all customers each institution has: most belong to a few."""

PAGE = 100_000
"""Customers of a page: some 45 MB, as FUNC-08 asks for."""

NIGHTS = ("2026-10-05T01:30:00Z", "2026-10-06T01:30:00Z")
_KINDS = 2_000
_CUSTOMER = '{"customerID":"%s","financialInstitutionID":"%s","loans":%s}'
_TIME = "@"


class Sizes(NamedTuple):
    """What is written."""

    customers: int
    """Pairs of customer and institution."""
    page: int = PAGE
    changed: int = 100
    """One customer in so many differs on the second night: of five, three have other figures, one is gone, one new."""
    asked: int = 40_000
    """Numbers that a list has at most."""

    def of(self, share: float) -> int:
        """The customers of an institution."""
        return round(self.customers * share)


def provider_of(institution: str) -> str:
    """Each institution delivers its own dataset."""
    return f"9908:{institution}"


def page_file(folder: Path, night: int, institution: str, page: int) -> Path:
    """Where a page is; nights and pages from 0 on."""
    return folder / f"{institution}-{night}-{page:05d}.json"


def list_file(folder: Path, institution: str) -> Path:
    """Where the list of an institution's customers is, which asks for a package of them."""
    return folder / f"{institution}.txt"


def write(folder: Path, sizes: Sizes) -> None:
    """Write everybody's pages of two nights, and lists of the first night's customers."""
    loans, others = _loans()
    for share, institution in SHARES:
        count = sizes.of(share)
        numbers = customer_ids(Random(7))
        with list_file(folder, institution).open("w") as file:
            file.write(",".join(islice(customer_ids(Random(7)), min(count, sizes.asked))))
        first = ((number, loans[at % _KINDS]) for at, number in enumerate(islice(numbers, count)))
        _write_pages(folder, 0, institution, first, sizes.page)
        again = islice(customer_ids(Random(7)), count)
        new = islice(customer_ids(Random(7)), sizes.customers, None)
        _write_pages(folder, 1, institution, _changed(again, new, loans, others, sizes.changed), sizes.page)


def _changed(
    numbers: Iterator[str], new: Iterator[str], loans: list[str], others: list[str], one_in: int
) -> Iterator[tuple[str, str]]:
    touched = 0
    for at, number in enumerate(numbers):
        kind = at % _KINDS
        if at % one_in != one_in - 1 or loans[kind] == "[]":
            yield number, loans[kind]
            continue
        touched += 1
        if touched % 5 == 1:
            continue
        if touched % 5 == 2:
            yield number, loans[kind]
            yield next(new), loans[kind]
        else:
            yield number, others[kind]


def _loans() -> tuple[list[str], list[str]]:
    """The loans of some customers as JSON, as they are and with other figures, with ``_TIME`` for their timestamps."""
    population = Population(3, 6 * _KINDS, 1)
    institution, provider = population.datasets[0]
    customers = [customer["loans"] for customer in population.customers(institution, provider, 0, _KINDS)]
    assert len(customers) == _KINDS
    rng = Random(5)
    later = [[altered(rng, {k: v for k, v in loan.items() if k != "timestamp"}) for loan in held] for held in customers]
    return [_wire(held) for held in customers], [_wire(held) for held in later]


def _wire(loans: list[dict[str, object]]) -> str:
    listed = [{key: str(value) for key, value in {**loan, "timestamp": _TIME}.items()} for loan in loans]
    return json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


def _write_pages(folder: Path, night: int, institution: str, customers: Iterator[tuple[str, str]], size: int) -> None:
    time = f'"{NIGHTS[night]}"'
    head = f'{{"providerID":"{provider_of(institution)}","customers":['
    pages = batched(customers, size, strict=False)
    for page, some in enumerate(chain([next(pages, ())], pages)):
        with page_file(folder, night, institution, page).open("w", encoding="utf-8") as file:
            file.write(head)
            for comma, (number, loans) in zip(chain([""], repeat(",")), some, strict=False):
                file.write(comma + _CUSTOMER % (number, institution, loans.replace(f'"{_TIME}"', time)))
            file.write("]}")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Sizes(int(sys.argv[2])))
