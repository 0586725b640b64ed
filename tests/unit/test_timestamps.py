from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain import timestamps


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("2018-02-05T12:54:12Z", "2018-02-05T12:54:12.0000000Z"),
        ("2018-02-05T12:54:12.1Z", "2018-02-05T12:54:12.1000000Z"),
        ("2018-02-05T12:54:12.1234567Z", "2018-02-05T12:54:12.1234567Z"),
        ("2018-02-05T12:54:12+00:00", "2018-02-05T12:54:12.0000000Z"),
        ("2018-02-05T12:54:12.5+01:00", "2018-02-05T11:54:12.5000000Z"),
        ("2018-12-31T23:30:00-01:30", "2019-01-01T01:00:00.0000000Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.0000000Z"),
    ],
)
def test_forms(text, fixed):
    """Offsets are turned into UTC, and fractions are filled up to seven digits."""
    assert timestamps.normalise(text) == fixed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2018-02-05",
        "2018-02-05T12:54Z",
        "2018-02-05T12:54:12",
        "2018-02-05 12:54:12Z",
        "2018-02-05t12:54:12z",
        "2018-02-05T12:54:12.Z",
        "2018-02-05T12:54:12.12345678Z",
        "2018-02-05T12:54:12,5Z",
        "2018-02-05T12:54:12+0100",
        "2018-02-05T12:54:12+24:00",
        "2018-02-30T12:54:12Z",
        "2023-02-29T00:00:00Z",
        "2018-13-05T12:54:12Z",
        "2018-02-05T24:00:00Z",
        "2018-02-05T12:60:12Z",
        "2018-02-05T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2018-02-05T12:54:12Z\n",
        " 2018-02-05T12:54:12Z",
        "\uff12018-02-05T12:54:12Z",
        "1517835252",
    ],
)
def test_no_timestamps(text):
    """Anything else, dates that do not exist included, is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own texts differ
        timestamps.normalise(text)


moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


@given(moments, moments)
def test_text_order_is_time_order(first, second):
    """Timestamps in the fixed form compare as the moments they stand for."""
    assert (timestamps.from_datetime(first) < timestamps.from_datetime(second)) == (first < second)


@given(moments)
def test_round_trips(moment):
    """A moment survives the fixed form and the short form."""
    fixed = timestamps.from_datetime(moment)
    assert timestamps.to_datetime(fixed) == moment
    assert timestamps.normalise(timestamps.shorten(fixed)) == fixed


@given(st.text("0123456789-:T.Z+ ", max_size=28) | st.from_regex(timestamps.PATTERN, fullmatch=True), st.data())
def test_utc_is_written_in_two_ways(text, data):
    """Z and an offset of nothing say the same of every text, though the first is read in a quicker way."""
    text = text.removesuffix("Z")
    for _ in range(data.draw(st.integers(0, 1))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.sampled_from("0123456789-:T.tz,\u0663\ud800")) + text[place + 1 :]

    def outcome(offset):
        try:
            return timestamps.normalise(text + offset)
        except ValueError:
            return None

    assert outcome("Z") == outcome("+00:00")


def test_shortest_form():
    """What we send has only the fractional digits that say something."""
    assert timestamps.shorten("2018-02-05T12:54:10.0000000Z") == "2018-02-05T12:54:10Z"
    assert timestamps.shorten("2018-02-05T12:54:10.1230000Z") == "2018-02-05T12:54:10.123Z"


def test_seventh_digit_counts():
    """Two timestamps that differ in the seventh digit only are not equal."""
    assert timestamps.normalise("2018-02-05T12:54:12.0000001Z") > timestamps.normalise("2018-02-05T12:54:12.0000000Z")
