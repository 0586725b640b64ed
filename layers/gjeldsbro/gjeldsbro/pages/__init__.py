"""Reports as pages: what people on duty read. They need no network and no script, and print (decision record 0024)."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gjeldsbro.pages import charts
from gjeldsbro.services.reports import notification, wording

_TEMPLATES = {"nightly": "night.html.jinja", "export": "export.html.jinja"}


def page(report: dict[str, Any]) -> str:
    """The page of a report, as ``services/reports`` makes it: HTML whose values are escaped, all of them."""
    template = _environment().get_template(_TEMPLATES[report["flow"]])
    return template.render(report=report, charts=charts.of(report))


def _figure(value: int | None) -> str:
    """A number in a table: a dash for 0, so that others stand out, and nothing where there is none."""
    return "" if value is None else wording.number(value) if value else "\N{EN DASH}"


@lru_cache(maxsize=None)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gjeldsbro.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": wording.clock,
        "day": wording.day,
        "figure": _figure,
        "duration": wording.duration,
        "moment": wording.moment,
        "norwegian_clock": wording.norwegian_clock,
        "number": wording.number,
        "reason": wording.reason,
        "short_day": wording.short_day,
        "size": wording.size,
        "spark": charts.sparkline,
        "subject": notification.entry_subject,
    }
    environment.globals |= {"count": wording.count, "seconds_between": wording.seconds_between}
    return environment
