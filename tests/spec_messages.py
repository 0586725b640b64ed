"""Messages of SPEC 4.2 for tests: plain ones, generated ones, and ways to break them.

All identity numbers are synthetic: month + 80.
"""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from gjeldsbro.domain.identity_numbers import with_check_digits

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
INSTITUTION = "920013015"
PROVIDER = "9908:920013015"
CUSTOMER = "14842249091"
OTHER_CUSTOMER = "29868099311"

REPAYMENT_LOAN = {
    "type": "repaymentLoan",
    "timestamp": "2026-11-22T04:10:12Z",
    "accountID": "4001",
    "accountName": "Forbrukslån",
    "originalBalance": "5000000",
    "balance": "2000000",
    "terms": "20",
    "nominalInterestRate": "001200",
    "installmentCharges": "0",
    "installmentChargePeriod": "MONTHLY",
    "coBorrower": "0",
}
CREDIT_FACILITY = {
    "type": "creditFacility",
    "timestamp": "2026-11-22T04:10:12.123Z",
    "accountID": "4002",
    "accountName": "Kort",
    "creditLimit": "10000000",
    "interestBearingBalance": "500000",
    "nonInterestBearingBalance": "0",
    "nominalInterestRate": "000800",
    "installmentCharges": "5000",
    "installmentChargePeriod": "MONTHLY",
    "coBorrower": "2",
}
CHARGE_CARD = {
    "type": "chargeCard",
    "timestamp": "2026-11-22T05:10:12+01:00",
    "accountID": "4003",
    "interestBearingBalance": "0",
    "nonInterestBearingBalance": "12500",
    "coBorrower": "1",
}
LOANS = (REPAYMENT_LOAN, CREDIT_FACILITY, CHARGE_CARD)


def customer(*loans: Any, number: Any = CUSTOMER, institution: Any = INSTITUTION) -> dict[str, Any]:
    """A customer with these loans, or with one of each type."""
    return {"customerID": number, "financialInstitutionID": institution, "loans": list(loans or LOANS)}


def organization(*customers: Any, provider: Any = PROVIDER) -> dict[str, Any]:
    """A message with these customers."""
    return {"providerID": provider, "customers": list(customers)}


def encode(message: Any, **options: Any) -> bytes:
    """The JSON text of a message."""
    return json.dumps(message, **options).encode()


def numbers(digits: int) -> st.SearchStrategy[int | str]:
    """Numbers of at most so many digits, in either form, with and without leading zeros."""
    value = st.one_of(st.sampled_from([0, 1, 10**digits - 1]), st.integers(0, 10**digits - 1))
    text = st.builds(lambda n, width: str(n).zfill(width), value, st.integers(1, digits))
    return st.one_of(value, text)


def _timestamp(second: int, fraction: str, offset: str) -> str:
    return f"2026-11-21T23:{second // 60:02}:{second % 60:02}{'.' if fraction else ''}{fraction}{offset}"


timestamps = st.builds(
    _timestamp,
    st.integers(0, 3599),
    st.text("0123456789", max_size=7),
    st.sampled_from(["Z", "+00:00", "+01:00", "-04:00"]),
)
account_names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)
account_ids = st.text("0123456789abcdef* :ÆØÅ", min_size=1, max_size=25)
co_borrowers = st.sampled_from([0, 1, 2, "0", "1", "2"])
customer_ids = st.builds(
    lambda day, month, rest, remainder: with_check_digits(f"{day:02}{month:02}{rest:05}", remainder),
    st.one_of(st.integers(1, 28), st.integers(41, 68)),
    st.integers(81, 92),
    st.integers(0, 99999),
    st.integers(0, 3),
).filter(bool)

_COMMON = {"timestamp": timestamps, "accountID": account_ids, "coBorrower": co_borrowers}
_INTEREST = {
    "nominalInterestRate": numbers(6),
    "installmentCharges": numbers(12),
    "installmentChargePeriod": st.just("MONTHLY"),
}
_BALANCES = {"interestBearingBalance": numbers(12), "nonInterestBearingBalance": numbers(12)}
_OPTIONAL = {"accountName": st.one_of(st.none(), account_names)}
loans = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("repaymentLoan"), **_COMMON, **_INTEREST}
        | {"originalBalance": numbers(12), "balance": numbers(12), "terms": numbers(3)},
        optional=_OPTIONAL,
    ),
    st.fixed_dictionaries(
        {"type": st.just("creditFacility"), **_COMMON, **_INTEREST, **_BALANCES, "creditLimit": numbers(12)},
        optional=_OPTIONAL,
    ),
    st.fixed_dictionaries({"type": st.just("chargeCard"), **_COMMON, **_BALANCES}, optional=_OPTIONAL),
)
customers = st.builds(
    lambda number, some: {"customerID": number, "financialInstitutionID": INSTITUTION, "loans": some},
    customer_ids,
    st.lists(loans, max_size=4, unique_by=lambda loan: (loan["type"], loan["accountID"])),
)

SECRET = "Hemmelig7391"
"""Put into messages wherever text can stand; no violation may repeat it."""

BROKEN_VALUES = (
    SECRET,
    "",
    " 1",
    "+1",
    "-1",
    "1e3",
    "1_0",
    "\u0663",
    "1.0",
    "12345678901234",
    "\x07" + SECRET,
    "2999-01-01T00:00:00Z",
)
broken_values = st.one_of(
    st.sampled_from(BROKEN_VALUES),
    st.sampled_from([None, True, False, -739157391, 739157391739157391, 7391.7391, 1e300]),
    st.builds(list),
    st.just({SECRET: SECRET}),
    st.just([SECRET]),
)
