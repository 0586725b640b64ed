"""Numbers and times as people read them, for sentences, pages and notifications alike."""

from collections.abc import Mapping
from typing import Any, Final

from gjeldsbro.domain.quarter import NORWAY
from gjeldsbro.domain.timestamps import to_datetime

_THIN = "\N{NARROW NO-BREAK SPACE}"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def number(value: int) -> str:
    """4512333 -> 4 512 333, with spaces at which no line breaks."""
    return f"{value:,}".replace(",", _THIN)


def count(value: int, one: str, many: str | None = None) -> str:
    """1 -> 1 dataset, 170 -> 170 datasets."""
    return f"{number(value)} {one if value == 1 else many or f'{one}s'}"


def size(value: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    amount, units = float(value), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    digits = 0 if units[0] == "bytes" or amount >= 100 else 1
    return f"{amount:.{digits}f}{_THIN}{units[0]}"


def duration(seconds: float) -> str:
    """Seconds as 42 s, 31 min or 2 h 5 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole}{_THIN}s"
    minutes = round(whole / 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}{_THIN}h" if hours else "", f"{minutes}{_THIN}min" if minutes else ""]
    return " ".join(filter(None, parts))


def day(timestamp: str) -> str:
    """A day in Norway: Sunday 22 November 2026."""
    local = to_datetime(timestamp).astimezone(NORWAY)
    return f"{_DAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]} {local.year}"


def short_day(timestamp: str) -> str:
    """A day in Norway: 22 Nov."""
    local = to_datetime(timestamp).astimezone(NORWAY)
    return f"{local.day} {_MONTHS[local.month - 1][:3]}"


def clock(timestamp: str) -> str:
    """A time of day in UTC: 05:05."""
    return f"{to_datetime(timestamp):%H:%M}"


def norwegian_clock(timestamp: str) -> str:
    """A time of day in Norway: 06:05."""
    return f"{to_datetime(timestamp).astimezone(NORWAY):%H:%M}"


def moment(timestamp: str) -> str:
    """A point in time in UTC: 22 Nov 05:05."""
    at = to_datetime(timestamp)
    return f"{at.day} {_MONTHS[at.month - 1][:3]} {at:%H:%M}"


def seconds_between(start: str, end: str) -> float:
    """Seconds from one timestamp (fixed form) to another; 0 when a clock went back meanwhile."""
    return max(0.0, (to_datetime(end) - to_datetime(start)).total_seconds())


def reason(outcome: Mapping[str, Any]) -> str:
    """Why an outcome is as it is, in words also where it has only the name of an error."""
    error, text = str(outcome.get("error", "")), str(outcome.get("reason", ""))
    parts = [_LISTS.get(error, ""), text if text != error else _ERRORS.get(error, error)]
    return "; ".join(filter(None, parts)) or _ERRORS.get(error, error) or "nothing is known of it"


_LISTS: Final = {
    "SSN_LIST_NOT_FOUND": "there is no list",
    "WRONG_FILE_NAME": "there is a file whose name is not that of a list",
    "UNKNOWN_ORGANIZATION": "there is a list of an organisation that the receiver is not registered for",
    "INVALID_ORGANIZATION_NUMBER": "there is a list whose name is no organisation number",
    "SSN_LIST_UNREADABLE": "the list cannot be read",
    "SSN_LIST_EMPTY": "the list is empty",
    "SSN_LIST_TOO_LARGE": "the list is too large",
    "NO_VALID_NUMBERS": "no number in the list is valid",
}
"""The contract's errors of lists; the reason beside them says whether the receiver was told."""

_ERRORS: Final = {
    "NO_OUTCOME": "the run ended before anything was recorded of it",
    **dict.fromkeys(
        ("States.Timeout", "Sandbox.Timedout", "Lambda.Unknown"),
        "a function was ended before it was done, and so was its second try",
    ),
    "Lambda.TooManyRequestsException": "AWS would not start more functions at once",
}
