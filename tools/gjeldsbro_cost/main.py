"""``python -m gjeldsbro_cost.main``: the tables of docs/costs.md; with ``--record`` it writes them there."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gjeldsbro_cost import country
from gjeldsbro_cost.country import Run, Share, s3_reads, s3_writes
from gjeldsbro_cost.rates import Rates, measured
from gjeldsbro_cost.usage import Work

PAGE: Final = Path(__file__).parents[2] / "docs" / "costs.md"
_RECORDED = re.compile(
    r"(?<=<!-- tables of `python -m gjeldsbro_cost.main` -->\n).*?(?=<!-- end of the tables -->)", re.DOTALL
)

UNCHANGED = Share("nothing changed", 0.0)
ORDINARY = Share("1 % changed", 0.01)
BUSY = Share("5 % changed", 0.05)
FULL = Share("1 % changed, all written in full", 0.01, full=True)
FIRST = Share("first load", 1.0, first=True)


def tables(rates: Rates) -> str:
    """All tables, as Markdown."""
    sizes = country.sizes()
    runs = {share.name: country.a_night(share, rates, sizes) for share in (UNCHANGED, ORDINARY, BUSY, FULL, FIRST)}
    export = country.an_export(rates, sizes)
    ordinary, full = runs[ORDINARY.name], runs[FULL.name]
    average = country.weekly(ordinary, full)
    double = country.grown(ORDINARY, rates, 2)
    standing = country.standing(rates)
    month = country.NIGHTS_A_MONTH * sum(average.values()) + export.sum() / 3 + sum(standing.values())
    return "\n\n".join(
        [
            f"{country.INSTITUTIONS} institutions with {country.PAIRS:,} customers, the largest with {sizes[0]:,}:",
            _runs([*runs.values(), double, export]),
            "What is paid for, in euro. An average night has a seventh of the datasets written in full:",
            _euro(
                [
                    *((run.name, run.euro()) for run in runs.values()),
                    ("average night", average),
                    ("export", export.euro()),
                ]
            ),
            "A month, in euro:",
            _table(
                ["", "euro"],
                [
                    [
                        f"{country.NIGHTS_A_MONTH} nights with 1 % changed",
                        _money(country.NIGHTS_A_MONTH * sum(average.values())),
                    ],
                    ["a third of a quarter's export", _money(export.sum() / 3)],
                    *([name, _money(amount)] for name, amount in standing.items()),
                    ["**all of it**", f"**{_money(month)}**"],
                    [
                        "beside it, if a fixed address is wanted: a NAT gateway",
                        _money(country.network(ordinary, export)),
                    ],
                ],
            ),
        ]
    )


def _runs(runs: Sequence[Run]) -> str:
    rows = [
        ["", *(run.name for run in runs)],
        ["function calls", *(f"{run.flow.total().calls:,}" for run in runs)],
        ["state transitions", *(f"{run.flow.transitions:,}" for run in runs)],
        ["items of the register written or deleted", *(f"{_items(run):,}" for run in runs)],
        ["DynamoDB write units", *(f"{run.flow.total().write_units:,.0f}" for run in runs)],
        ["DynamoDB read units", *(f"{run.flow.total().read_units:,.0f}" for run in runs)],
        [
            "S3 requests: PUT and LIST, GET and HEAD",
            *(f"{s3_writes(total):,}, {s3_reads(total):,}" for total in _totals(runs)),
        ],
        ["Lambda, GB-seconds", *(f"{run.gb_seconds:,.0f}" for run in runs)],
        ["JSON fetched, packages delivered, GB", *(_gigabytes(total) for total in _totals(runs))],
        ["functions at work at once", *(f"{run.at_once}" for run in runs)],
        ["from start to end", *(_minutes(run.seconds) for run in runs)],
        ["the largest institution or package", *(_minutes(run.largest) for run in runs)],
        ["**euro**", *(f"**{_money(run.sum())}**" for run in runs)],
    ]
    return _table(rows[0], rows[1:])


def _totals(runs: Iterable[Run]) -> list[Work]:
    return [run.flow.total() for run in runs]


def _gigabytes(total: Work) -> str:
    return f"{total.fetched / 1e9:,.1f}, {total.delivered / 1e9:,.1f}"


def _items(run: Run) -> int:
    total = run.flow.total()
    return total.written + total.deleted


def _euro(columns: Sequence[tuple[str, dict[str, float]]]) -> str:
    rows = [[what, *(_money(amounts[what]) for _, amounts in columns)] for what in columns[0][1]]
    total = ["**together**", *(f"**{_money(sum(amounts.values()))}**" for _, amounts in columns)]
    return _table(["", *(name for name, _ in columns)], [*rows, total])


def _money(amount: float) -> str:
    return f"{amount:,.2f}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f} min"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def record() -> None:
    """Write the tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_RECORDED.sub(lambda _: f"\n{tables(measured())}\n\n", page), encoding="utf-8")


def main() -> None:
    """Print the tables, or write them into the page."""
    if "--record" in sys.argv[1:]:
        record()
    else:
        sys.stdout.write(f"{tables(measured())}\n")


if __name__ == "__main__":
    main()
