"""Reports of a whole register: 170 institutions, five weeks of nights in which things go wrong, and an export."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any

from gjeldsbro.domain.timestamps import from_datetime, to_datetime
from gjeldsbro.services.ports import Dataset
from gjeldsbro.services.reports.export import export_report, last_quarters
from gjeldsbro.services.reports.night import NIGHTS, night_report
from gjeldsbro_population.identity import organisation_number

STACK = "gjeldsbro"
LAST_NIGHT = datetime(2026, 11, 22, 5, 5, tzinfo=UTC)
QUARTER = "2026-4"
_FIRST = ("Nord", "Fjell", "Sjø", "Dal", "Vest", "Skog", "Øy", "Elve", "Fjord", "Strand", "Bygde", "Hav", "Ås")
_SECOND = ("banken AS", "finans AS", "kreditt AS", "kort AS", "sparebank", "lån AS", "kapital Norge AS", "forbruk NUF")

Went = Callable[[Random, str, int], dict[str, Any] | None]
"""What kept a dataset from being taken in a night (0 is the first); None: nothing."""


@lru_cache(maxsize=None)
def institutions(count: int = 170) -> tuple[tuple[str, str, str, int], ...]:
    """Number, provider, name and customers of so many institutions."""
    random = Random(4)
    numbers = Random(5)
    found = []
    for index in range(count):
        number = organisation_number(numbers)
        name = f"{_FIRST[index % len(_FIRST)]}{_SECOND[index // len(_FIRST) % len(_SECOND)]}"
        found.append((number, f"9908:{number}", name, int(10 ** random.uniform(2.2, 5.2))))
    return tuple(found)


VIOLATIONS = [
    {"place": f"page 0 /customers/{number}/loans/0/{field}", "rule": rule}
    for number, field, rule in (
        (17, "timestamp", "must be an ISO 8601 date and time with seconds and offset"),
        (17, "nominalInterestRate", "must be 1 to 6 digits"),
        (204, "balance", "must be 1 to 12 digits"),
        (205, "balance", "must be 1 to 12 digits"),
        (9_118, "coBorrower", "must be 0 or 1"),
    )
]

FAULTS: list[dict[str, Any]] = [
    {
        "status": "refused",
        "reason": "page 0 /customers/17/loans/0/timestamp: must be an ISO 8601 date and time; and 211 more",
        "violations": VIOLATIONS,
        "totalViolations": 212,
    },
    {
        "status": "refused",
        "reason": "page 0: HTTP 403",
        "violations": [{"place": "page 0", "rule": "HTTP 403"}],
        "totalViolations": 1,
    },
    {
        "status": "held",
        "reason": "customers with loans: 1204 after 2711, more than 30 % fewer",
        "customersBefore": 2711,
        "customersNow": 1204,
    },
    {"status": "failed", "error": "InstitutionUnavailableError", "reason": "page 0: HTTP 503"},
    {"status": "failed", "error": "InstitutionUnavailableError", "reason": "page 3: the server is too slow"},
    {"status": "failed", "error": "States.Timeout", "reason": "States.Timeout"},
    {"status": "busy", "reason": "another run works on this dataset"},
]


def some_faults(random: Random, number: str, night: int) -> dict[str, Any] | None:
    """A few at random; in the last night one of each, and one institution is away for nine nights."""
    index = [one[0] for one in institutions()].index(number)
    if index == 40 and night >= NIGHTS - 9:
        return FAULTS[3]
    if night == NIGHTS - 1 and index in (3, 33, 71, 90, 128, 150, 166):
        return FAULTS[(3, 33, 71, 90, 128, 150, 166).index(index)]
    return random.choice(FAULTS) if random.random() < 0.008 and night < NIGHTS - 1 else None


def no_faults(random: Random, number: str, night: int) -> None:
    """All is well."""


def night_reports(count: int = 170, nights: int = NIGHTS, went: Went = some_faults) -> list[dict[str, Any]]:
    """The reports of so many nights, oldest first."""
    random = Random(6)
    in_use: dict[str, Dataset] = {}
    reports: list[dict[str, Any]] = []
    names = {number: name for number, _, name, _ in institutions(count)}
    customers = {number: many for number, _, _, many in institutions(count)}
    for night in range(nights):
        start = LAST_NIGHT - timedelta(days=nights - 1 - night)
        outcomes = []
        for number, provider, _, _ in institutions(count):
            fetched = start + timedelta(seconds=random.uniform(2, 900))
            took = timedelta(seconds=2 + customers[number] / random.uniform(150, 300))
            common = {"institution": number, "provider": provider, "run": f"night-{start:%Y-%m-%d}"}
            fault = went(random, number, night + NIGHTS - nights)
            if fault is not None:
                outcomes.append({**common, **fault, "at": from_datetime(fetched + took)})
                continue
            customers[number] = max(1, int(customers[number] * random.gauss(1.0008, 0.004)))
            many = customers[number]
            changed = int(many * random.uniform(0.01, 0.04)) if night % 7 or random.random() < 0.8 else many
            added, removed = int(many * random.uniform(0, 0.004)), int(many * random.uniform(0, 0.003))
            changes = {"added": added, "changed": changed, "removed": removed}
            outcomes.append(
                {
                    **common,
                    "status": "loaded" if any(changes.values()) else "unchanged",
                    "at": from_datetime(fetched + took),
                    "startedAt": from_datetime(fetched),
                    "customers": many,
                    **changes,
                    "unchanged": many - changed,
                    "written": sum(changes.values()),
                    "bytes": many * 61,
                    "pages": 1 + many // 50_000,
                    "dataset": "loans",
                    "full": False,
                }
            )
            in_use[number] = Dataset(
                number,
                provider,
                as_of=from_datetime(start - timedelta(hours=random.uniform(1, 4))),
                fetch_start=from_datetime(fetched),
                customers=many,
            )
        ended = max((one["at"] for one in outcomes), default=from_datetime(start))
        finished = to_datetime(ended) + timedelta(seconds=random.uniform(4, 40))
        reports.append(
            night_report(
                f"night-{start:%Y-%m-%d}",
                STACK,
                from_datetime(start),
                from_datetime(finished),
                planned={"hold": True},
                outcomes=outcomes,
                names=names,
                datasets=in_use.values(),
                earlier=reports[-(NIGHTS - 1) :],
            )
        )
    return reports


EXPORT_FAULTS: list[dict[str, Any]] = [
    {"status": "refused", "error": "SSN_LIST_NOT_FOUND", "reason": "the receiver was told"},
    {
        "status": "refused",
        "error": "HOST_KEY",
        "reason": "the server's host key is not one of those that were agreed on",
    },
    {"status": "failed", "error": "ReceiverUnavailableError", "reason": "the connection was lost"},
    {
        "status": "failed",
        "error": "InstitutionUnavailableError",
        "reason": "institution 985815534: no answer in time",
    },
    {"status": "failed", "error": "NO_OUTCOME"},
    {"status": "refused", "error": "UNKNOWN_ORGANIZATION", "reason": "the receiver was told"},
]


def export_of(count: int = 40, *, faults: bool = True, again: bool = False) -> dict[str, Any]:
    """The report of a quarter's export of so many packages, after some quarters before it."""
    random = Random(8)
    start = datetime(2026, 10, 1, 7, 0, tzinfo=UTC)
    deliveries = [
        (number, of, name) for number, _, name, _ in institutions(count // 2 + 1) for of in (number, f"9{number[1:]}")
    ]
    deliveries = [
        (receiver, institutions()[index][0] if index % 2 else receiver, name)
        for index, (receiver, _, name) in enumerate(deliveries)
    ]
    deliveries = deliveries[:count]
    quarters: dict[str, dict[str, dict[str, Any]]] = {}
    for at, quarter in enumerate(last_quarters(QUARTER)):
        quarters[quarter] = {}
        for index, (receiver, of, _) in enumerate(deliveries):
            customers = int(20_000 * (1 + index % 9) * (1 + 0.05 * at) * random.uniform(0.97, 1.03))
            if at < 2 or (at < 5 and index > 30):
                continue
            quarters[quarter][f"{receiver}#{of}"] = {
                "customers": customers,
                "loans": int(customers * 1.7),
                "bytes": customers * 48,
                "deliveredAt": from_datetime(start),
                "state": "delivered",
            }
    outcomes, lists, attempts = [], {}, {}
    for index, (receiver, of, _) in enumerate(deliveries):
        subject = f"{receiver}#{of}"
        common = {"receiver": receiver, "onBehalfOf": of, "run": "export-2026-10-01", "quarter": QUARTER}
        fault = EXPORT_FAULTS[index // 7] if faults and index % 7 == 3 and index < 42 else None
        if fault is not None:
            outcomes.append({**common, **fault, "at": from_datetime(start + timedelta(minutes=40))})
            quarters[QUARTER].pop(subject, None)
            continue
        made = quarters[QUARTER][subject]
        if again and index % 3 == 0:
            outcomes.append({**common, "status": "already-delivered", "at": from_datetime(start)})
            continue
        begun = start + timedelta(minutes=41, seconds=20 * index)
        outcomes.append(
            {
                **common,
                "status": "delivered",
                "at": from_datetime(begun),
                "startedAt": from_datetime(begun),
                "finishedAt": from_datetime(begun + timedelta(seconds=made["bytes"] / 900_000)),
                **{name: made[name] for name in ("customers", "loans", "bytes")},
                "sha256": "0" * 64,
            }
        )
        invalid, twice = index % 5 * 3, index % 4
        lists[subject] = {
            "entries": made["customers"] + invalid + twice,
            "numbers": made["customers"],
            "invalid": invalid,
            "duplicates": twice,
        }
        attempts[subject] = 2 if index == 12 else 1
    return export_report(
        "export-2026-10-01",
        STACK,
        QUARTER,
        from_datetime(start),
        from_datetime(start + timedelta(minutes=72)),
        outcomes=outcomes,
        names={receiver: name for receiver, _, name in deliveries},
        lists=lists,
        attempts=attempts,
        expected=[f"{receiver}#{of}" for receiver, of, _ in deliveries],
        quarters=quarters,
    )
