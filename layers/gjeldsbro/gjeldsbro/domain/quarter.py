"""The quarters of the year in which packages are delivered, by the Norwegian calendar."""

import re
from datetime import datetime
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

NORWAY = ZoneInfo("Europe/Oslo")
"""The clock that decides month, year and quarter of a run (contract, "Files on the receiver's server")."""

_FORM = re.compile(r"(20[0-9]{2})-([1-4])")


class Quarter(NamedTuple):
    """A quarter of a year; its text form is ``2026-4``."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year}-{self.number}"

    @property
    def start(self) -> datetime:
        """Its first moment, in Norway."""
        return datetime(self.year, 3 * self.number - 2, 1, tzinfo=NORWAY)

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """The quarter that an aware ``moment`` falls in, in Norway."""
        local = moment.astimezone(NORWAY)
        return cls(local.year, (local.month + 2) // 3)

    @property
    def previous(self) -> Self:
        """The quarter before."""
        return (
            self._replace(year=self.year - 1, number=4) if self.number == 1 else self._replace(number=self.number - 1)
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The quarter of a text such as ``2026-4``. Raises ValueError for anything else."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("a quarter is written like 2026-4")
        return cls(int(match[1]), int(match[2]))


def month_and_year(moment: datetime) -> tuple[int, int]:
    """Month and year of an aware ``moment`` in Norway, as they stand in the names of reports."""
    local = moment.astimezone(NORWAY)
    return local.month, local.year
