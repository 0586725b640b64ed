"""What was measured of single customers, rows and numbers: read from the file that ``make bench`` writes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gjeldsbro_cost.usage import pieces

MEASURED = Path(__file__).parents[2] / "docs" / "data" / "country.json"


@dataclass(frozen=True)
class Rates:
    """CPU seconds on the machine of the measurement, and bytes."""

    call: float = 0.005
    """CPU of a call beside what it works on."""
    report: float = 0.05
    """CPU of a report, page and pictures included."""
    fetch_customer: float = 0
    """CPU of a customer of a page: read, checked, keyed, digested, sorted, stored, merged."""
    load_row: float = 0
    """CPU of a row of an index that is compared."""
    load_item: float = 0
    """CPU of an item that is put or deleted."""
    list_number: float = 0
    """CPU of a number of a list."""
    build_number: float = 0
    """CPU of a number of a package: looked up, merged, packed."""
    deliver_byte: float = 0
    """CPU of a byte of a package, without what encrypts it on the way."""
    customer_bytes: float = 0
    """JSON of a customer of a page."""
    record_bytes: float = 0
    """A stored customer in a page's records."""
    item_bytes: float = 0
    """An item of the register."""
    packed_bytes: float = 0
    """A number in a package."""
    dataset_bytes: float = 600
    """A dataset's item in the PartnerTable."""
    institution_bytes: float = 400
    """An institution's item there, with one provider."""

    def datasets_units(self, datasets: int) -> int:
        """Read units of a Query for all datasets."""
        return max(1, pieces(self.dataset_bytes * datasets, 4096))

    def institutions_units(self, institutions: int) -> int:
        """Read units of a Query for all institutions."""
        return max(1, pieces(self.institution_bytes * institutions, 4096))


def measured(file: Path = MEASURED) -> Rates:
    """The rates of the largest rehearsal that was recorded."""
    return rates_of(json.loads(file.read_text(encoding="utf-8"))["sizes"][-1])


def rates_of(size: dict[str, Any]) -> Rates:
    """The rates of one rehearsal.

    Two unknowns of a load, what a row and what an item takes, follow from its two nights: the first writes everything
    and compares with nothing, the second compares everything and writes little.
    """
    first, second, export = (size[name]["functions"] for name in ("first", "second", "export"))
    rows = size["stored"], 2 * size["stored"]
    counts = [night["load_dataset"]["counts"] for night in (first, second)]
    items = [of_night.get("put", 0) + of_night.get("deleted", 0) for of_night in counts]
    cpu = [night["load_dataset"]["cpu"] for night in (first, second)]
    item = (cpu[0] * rows[1] - cpu[1] * rows[0]) / (items[0] * rows[1] - items[1] * rows[0])
    numbers = size["numbers"]
    return Rates(
        fetch_customer=second["fetch_pages"]["cpu"] / size["customers"],
        load_item=item,
        load_row=max(0.0, (cpu[1] - item * items[1]) / rows[1]),
        list_number=export["read_ssn_lists"]["cpu"] / numbers,
        build_number=export["build_slice"]["cpu"] / numbers,
        deliver_byte=export["deliver_package"]["cpu"] / size["packageBytes"],
        customer_bytes=size["pageBytes"] / size["customers"],
        record_bytes=size["recordBytes"] / size["stored"],
        item_bytes=size["itemBytes"] / size["stored"],
        packed_bytes=size["packageBytes"] / numbers,
    )
