"""What a simulated institution can do wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from gjeldsbro_population.identity import broken

FaultKind = Literal[
    "status",
    "slow",
    "byte-a-second",
    "cut",
    "truncated-json",
    "invalid-json",
    "html",
    "html-as-json",
    "wrong-charset",
    "undeclared-charset",
    "redirect",
    "gzip-bomb",
    "oversized",
    "page-count",
    "repeated-page",
    "blank-page",
    "empty",
    "shrink",
    "duplicate-customer",
    "split-customer",
    "another-institution",
    "another-provider",
    "negative-amount",
    "float-amount",
    "bad-check-digit",
    "co-borrower",
    "quarterly-charges",
    "future-timestamp",
]

Customer = dict[str, Any]

ANOTHER_INSTITUTION = "310000019"
"""A synthetic organisation number with a valid check digit that no population uses."""


class Fault(BaseModel):
    """One misbehaviour of one dataset.

    ``status`` and ``redirect`` answer instead of the data, the latter with 302 to a closed port; ``slow`` waits
    ``seconds`` before it answers, ``byte-a-second`` after each byte; ``cut`` closes the connection in the middle of the
    body; ``truncated-json``, ``invalid-json``, ``html``, ``html-as-json``, ``wrong-charset`` and ``undeclared-charset``
    send another body with status 200; ``gzip-bomb`` and ``oversized`` one with ``megabytes`` blanks, packed or as it
    is; ``page-count`` announces one page more on each page, ``repeated-page`` sends page 0 as every page,
    ``blank-page`` page ``page`` (default 1) without its customers; ``empty`` and ``shrink`` leave out all or every
    second customer. ``duplicate-customer`` repeats the dataset's first customer at its end, ``split-customer`` moves
    all of its loans but one there. The others break one rule at one customer of page ``page`` (default 0).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    status: int = Field(default=503, ge=400, le=599)
    seconds: float = Field(default=1, ge=0)
    megabytes: int = Field(default=200, ge=1)
    page: int | None = Field(default=None, ge=0)
    """Only on this page; for the single-customer and SSN endpoints a fault with a page does not count."""
    times: int | None = Field(default=None, ge=1)
    """Only for so many requests, then the institution behaves again."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """A fault as written on a command line: ``status:503,times=2`` or ``cut,page=1``; raises ValueError."""
        name, *options = text.split(",")
        kind, _, status = name.partition(":")
        values = {"kind": kind} | ({"status": status} if status else {})
        for option in options:
            field, _, value = option.partition("=")
            values[field] = value
        return cls.model_validate(values)

    def matches(self, page: int | None) -> bool:
        """Whether the fault strikes on a request for this page (None: another endpoint)."""
        return self.page is None or self.page == page


def _first_loan(customers: list[Customer], needed: str) -> dict[str, Any] | None:
    return next((loan for customer in customers for loan in customer["loans"] if needed in loan), None)


def _set_in_first_loan(needed: str, value: Callable[[], Any]) -> Callable[[list[Customer]], None]:
    def spoil(customers: list[Customer]) -> None:
        loan = _first_loan(customers, needed)
        if loan is not None:
            loan[needed] = value()

    return spoil


def _spoil_number(customers: list[Customer]) -> None:
    customers[0]["customerID"] = broken(customers[0]["customerID"])


def _spoil_institution(customers: list[Customer]) -> None:
    customers[0]["financialInstitutionID"] = ANOTHER_INSTITUTION


def _spoil_amount(value: object) -> Callable[[list[Customer]], None]:
    def spoil(customers: list[Customer]) -> None:
        loan = _first_loan(customers, "type")
        if loan is not None:
            loan["balance" if "balance" in loan else "interestBearingBalance"] = value

    return spoil


def _tomorrow() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


_SPOILERS: dict[str, Callable[[list[Customer]], None]] = {
    "bad-check-digit": _spoil_number,
    "another-institution": _spoil_institution,
    "negative-amount": _spoil_amount(-100),
    "float-amount": _spoil_amount(100.5),
    "co-borrower": _set_in_first_loan("coBorrower", lambda: 3),
    "quarterly-charges": _set_in_first_loan("installmentChargePeriod", lambda: "QUARTERLY"),
    "future-timestamp": _set_in_first_loan("timestamp", _tomorrow),
}


def spoil(kind: str, customers: list[Customer]) -> list[Customer]:
    """The customers of a page with one rule broken, where the fault is about a rule; the given ones are not touched."""
    spoiler = _SPOILERS.get(kind)
    if spoiler is None or not customers:
        return customers
    copies = [{**customer, "loans": [dict(loan) for loan in customer["loans"]]} for customer in customers]
    spoiler(copies)
    return copies
