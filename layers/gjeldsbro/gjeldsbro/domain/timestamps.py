"""Points in time as SPEC writes them (4.1 DATETIME), kept with all their digits.

Inside the system a timestamp is a string of fixed width, ``2026-11-22T05:00:00.0000000Z``: UTC with seven fractional
digits (institutions send 0 to 7). Such strings compare in time order, in Python and in DynamoDB conditions alike, and
lose nothing; ``datetime`` would drop the seventh digit.
"""

import re
from datetime import UTC, datetime, timedelta

MAX_FUTURE = timedelta(minutes=5)
"""How far a timestamp may lie in the future: clocks differ a little, anything more is a fault (design decision 4)."""

PATTERN = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,7}))?(Z|[+-][0-9]{2}:[0-9]{2})"
"""What may be sent, without anchors; not every text of this form is in the calendar."""

_FORM = re.compile(PATTERN)
_SHAPE = bytes.maketrans(b"123456789", b"000000000")
_UTC_SHAPES = frozenset(f"0000-00-00T00:00:00{'.' * (digits > 0)}{'0' * digits}Z".encode() for digits in range(8))
"""PATTERN in UTC, all digits written as 0: looked up in a third of the time of a match."""


def normalise(text: str) -> str:
    """Turn an ISO 8601 timestamp with an offset into the fixed form.

    Raises ValueError when ``text`` is not a date and time with seconds, 0-7 fractional digits and ``Z`` or an offset.
    """
    if text.encode().translate(_SHAPE) in _UTC_SHAPES:
        seconds, fraction = text[:19], text[20:-1]
        datetime.fromisoformat(seconds)  # is it in the calendar?
        return f"{seconds}.{fraction.ljust(7, '0')}Z"
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO 8601 date and time with offset")
    seconds, fraction, offset = match.groups(default="")
    try:
        moment = datetime.fromisoformat(seconds + offset).astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("outside the calendar") from exc
    return f"{moment.replace(tzinfo=None).isoformat()}.{fraction.ljust(7, '0')}Z"


def from_datetime(moment: datetime) -> str:
    """The fixed form of an aware ``moment``."""
    return normalise(moment.isoformat())


def to_datetime(timestamp: str) -> datetime:
    """An aware datetime of a timestamp in the fixed form; the seventh digit is dropped."""
    return datetime.fromisoformat(timestamp[:26] + "+00:00")


def shorten(timestamp: str) -> str:
    """The form that is shown and sent: as few fractional digits as keep the value."""
    return timestamp[:-1].rstrip("0").removesuffix(".") + "Z"
