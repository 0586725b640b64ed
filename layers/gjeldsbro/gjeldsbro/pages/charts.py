"""The pictures of a report, as places in a drawing; the templates draw them as SVG.

All drawings are ``WIDTH`` wide and stretch with the page. y grows downwards, as SVG has it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gjeldsbro.services.reports import wording

WIDTH, HEIGHT = 400, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 4, 12, 22
_SPARK_WIDTH, _SPARK_HEIGHT = 88, 22

STATUSES = ("refused", "held", "failed", "busy")
"""What was not taken, from the bottom of a column upwards."""


class Bar(NamedTuple):
    """A part of a column; ``kind`` says which, ``title`` what it shows."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


class Label(NamedTuple):
    """A text at a place."""

    x: float
    y: float
    text: str


class Chart(NamedTuple):
    """A picture. ``now`` is the newest value in words; ``summary`` says what a reader sees who cannot look."""

    title: str
    now: str
    summary: str
    bars: tuple[Bar, ...]
    line: str
    dots: tuple[tuple[float, float, str], ...]
    rules: tuple[Label, ...]
    ticks: tuple[Label, ...]


class Sparkline(NamedTuple):
    """A line of a few values in a row of a table."""

    width: int
    height: int
    path: str
    end: tuple[float, float]
    title: str


def of(report: dict[str, Any]) -> list[Chart]:
    """The pictures of a report; none while there is nothing to compare it with."""
    return _of_nights(report["trend"]["nights"]) if report["flow"] == "nightly" else _of_quarters(report["trend"])


def _of_nights(nights: list[dict[str, Any]]) -> list[Chart]:
    if len(nights) < 2:
        return []
    days = [wording.short_day(night["startedAt"]) for night in nights]
    missed = [[int(night["statuses"].get(status, 0)) for status in STATUSES] for night in nights]
    total = sum(nights[-1]["statuses"].values())
    return [
        _columns(
            f"Datasets not taken, of {wording.number(total)}",
            days,
            missed,
            STATUSES,
            wording.number,
        ),
        _columns(
            "Time that the night took", days, [[night["seconds"]] for night in nights], ("time",), wording.duration
        ),
        _columns("Customers written", days, [[night["written"]] for night in nights], ("written",), wording.number),
        _line("Customers in use", days, [night["customers"] for night in nights], wording.number),
    ]


def _of_quarters(trend: dict[str, Any]) -> list[Chart]:
    quarters = trend["quarters"]
    if len(quarters) < 2:
        return []
    names = [quarter["quarter"] for quarter in quarters]
    shown: list[tuple[str, str, Callable[[Any], str]]] = [
        ("Packages delivered", "delivered", wording.number),
        ("Customers in packages", "customers", wording.number),
        ("Loans in packages", "loans", wording.number),
        ("Size of packages", "bytes", wording.size),
    ]
    return [
        _columns(title, names, [[quarter[name]] for quarter in quarters], (name,), form) for title, name, form in shown
    ]


def _columns(
    title: str,
    names: Sequence[str],
    columns: Sequence[Sequence[float]],
    kinds: Sequence[str],
    form: Callable[[Any], str],
) -> Chart:
    """Columns of parts that are piled up; each part of a kind that the style sheet colours."""
    sums = [sum(parts) for parts in columns]
    top = _round_up(max(sums), form)
    step = (WIDTH - _LEFT - _RIGHT) / len(columns)
    width = min(step * 0.72, 28)
    bars = []
    for index, parts in enumerate(columns):
        x, y = _LEFT + step * index + (step - width) / 2, float(HEIGHT - _BOTTOM)
        for part, kind in zip(parts, kinds, strict=True):
            height = (HEIGHT - _TOP - _BOTTOM) * part / top
            y -= height
            if part:
                what = f"{form(part)} {kind}" if len(kinds) > 1 else form(part)
                bars.append(Bar(_near(x), _near(y), _near(width), _near(height), kind, f"{names[index]}: {what}"))
    places = [_LEFT + step * (index + 0.5) for index in range(len(columns))]
    return Chart(
        title,
        form(sums[-1]),
        _summary(names, sums, form),
        tuple(bars),
        "",
        (),
        _rules(0, top, form),
        _ticks(places, names),
    )


def _line(title: str, names: Sequence[str], values: Sequence[float], form: Callable[[Any], str]) -> Chart:
    """A line that need not begin at 0: what matters is how it goes."""
    low, high = _range(values)
    step = (WIDTH - _LEFT - _RIGHT) / len(values)
    points = [
        (_near(_LEFT + step * (index + 0.5)), _near(_height(value, low, high))) for index, value in enumerate(values)
    ]
    dots = tuple((x, y, f"{name}: {form(value)}") for (x, y), name, value in zip(points, names, values, strict=True))
    return Chart(
        title,
        form(values[-1]),
        _summary(names, values, form),
        (),
        _path(points),
        dots,
        _rules(low, high, form),
        _ticks([x for x, _ in points], names),
    )


def sparkline(values: Sequence[int | None]) -> Sparkline | None:
    """A small line of how many customers there were, without those nights of which nothing is known."""
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return None
    low, high = _range([value for _, value in known])
    step = (_SPARK_WIDTH - 6) / (len(values) - 1)
    points = [
        (
            _near(3 + step * index),
            _near(_SPARK_HEIGHT - 3 - (_SPARK_HEIGHT - 6) * (value - low) / (high - low)),
        )
        for index, value in known
    ]
    first, last = known[0][1], known[-1][1]
    title = f"from {wording.number(first)} to {wording.number(last)} customers"
    return Sparkline(_SPARK_WIDTH, _SPARK_HEIGHT, _path(points), points[-1], title)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _height(value: float, low: float, high: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest of an axis: never so near to each other that a small change looks like a large one."""
    low, high = min(values), max(values)
    room = max((high * 0.04 - (high - low)) / 2, (high - low) * 0.08, 0.5)
    return max(0, low - room), high + room


def _round_up(value: float, form: Callable[[Any], str]) -> float:
    """The end of an axis: a number that is easy to halve."""
    units = (60, 120, 240, 600, 1200, 2400, 3600, 7200, 14400, 28800, 43200, 86400) if form is wording.duration else ()
    for unit in units:
        if value <= unit:
            return unit
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next((power * factor for factor in (2, 4, 6, 10) if value <= power * factor), 10 * power)


def _rules(low: float, high: float, form: Callable[[Any], str]) -> tuple[Label, ...]:
    """Horizontal lines with what they stand for: lowest, middle, highest."""
    whole = [low, (low + high) / 2, high]
    return tuple(Label(_LEFT, _near(_height(value, low, high)), _short(value, form)) for value in whole)


def _short(value: float, form: Callable[[Any], str]) -> str:
    """A number for an axis: 4.5 M instead of 4 512 333."""
    if form is not wording.number:
        return form(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            divided = value / (1e3 if unit == "k" else limit)
            return f"{divided:.2f}".rstrip("0").rstrip(".")[:5] + f"\N{NARROW NO-BREAK SPACE}{unit}"
    return f"{value:.0f}" if value >= 10 else f"{value:g}"


def _ticks(places: Sequence[float], names: Sequence[str]) -> tuple[Label, ...]:
    """Names below the picture: the newest, and others as there is room."""
    every = max(1, -(-len(names) // 6))
    return tuple(
        Label(_near(places[index]), HEIGHT - 6, names[index])
        for index in range(len(names))
        if (len(names) - 1 - index) % every == 0
    )


def _summary(names: Sequence[str], values: Sequence[float], form: Callable[[Any], str]) -> str:
    return (
        f"{names[0]} to {names[-1]}: at least {form(min(values))}, at most {form(max(values))}, "
        f"at the end {form(values[-1])}"
    )


def _near(value: float) -> float:
    return round(value, 1)
