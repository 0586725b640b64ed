"""Quarters by the Norwegian calendar."""

from datetime import UTC, datetime

import pytest

from gjeldsbro.domain.quarter import Quarter, month_and_year


@pytest.mark.parametrize(
    ("moment", "quarter", "month"),
    [
        (datetime(2026, 10, 1, 4, tzinfo=UTC), "2026-4", (10, 2026)),
        (datetime(2026, 9, 30, 21, 59, 59, tzinfo=UTC), "2026-3", (9, 2026)),
        (datetime(2026, 9, 30, 22, tzinfo=UTC), "2026-4", (10, 2026)),
        (datetime(2026, 12, 31, 22, 59, tzinfo=UTC), "2026-4", (12, 2026)),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), "2027-1", (1, 2027)),
        (datetime(2026, 3, 31, 21, 59, tzinfo=UTC), "2026-1", (3, 2026)),
        (datetime(2026, 3, 31, 22, tzinfo=UTC), "2026-2", (4, 2026)),
    ],
)
def test_quarter_and_month_follow_the_clock_in_oslo(moment, quarter, month):
    """Around midnight it is Oslo's date that counts, in summer time and in winter time."""
    assert str(Quarter.of(moment)) == quarter
    assert month_and_year(moment) == month


@pytest.mark.parametrize("text", ["2026-4", "2027-1"])
def test_quarter_is_read_as_it_is_written(text):
    """The text form goes both ways."""
    assert str(Quarter.parse(text)) == text


@pytest.mark.parametrize("text", ["2026-0", "2026-5", "2026-04", "26-4", "2026", "2026-4 ", "\uff12026-4", ""])
def test_anything_else_is_no_quarter(text):
    """Only year, dash and a digit from 1 to 4 make a quarter."""
    with pytest.raises(ValueError, match="2026-4"):
        Quarter.parse(text)
