"""Synthetic loans: figures, names and account ids as institutions report them.

A loan is a dict with SPEC's keys (4.2.3-4.2.5), numbers as int (øre, hundredths of a per cent, months), without
``timestamp``: that belongs to the night on which it is extracted.
"""

from random import Random
from typing import Any

from gjeldsbro_population.identity import account_number, luhn_digit
from gjeldsbro_population.institutions import Kind

Loan = dict[str, Any]

LOANS_PER_PERSON = 64
"""Room for account serials of one person; serials stay distinct up to 1.5 million persons."""

SHARED = 40
"""The serial of the one loan that a person can share with a co-borrower; below it is the first night, above later."""

_MIX: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "bank": (
        ("repaymentLoan",),
        ("creditFacility",),
        ("chargeCard",),
        ("repaymentLoan", "creditFacility"),
        ("creditFacility", "creditFacility"),
        ("repaymentLoan", "creditFacility", "chargeCard"),
    ),
    "loans": (("repaymentLoan",), ("repaymentLoan", "repaymentLoan")),
    "cards": (("creditFacility",), ("chargeCard",), ("creditFacility", "chargeCard")),
}
_NAMES: dict[str, tuple[str | None, ...]] = {
    "repaymentLoan": (
        "Forbrukslån",
        "Lån uten sikkerhet",
        "Småbeløpslån",
        "Lån 100 %",
        "Kjøp på avdrag",
        None,
    ),
    "creditFacility": ("Kredittkort", "Gullkort på reise", "Kontokreditt", "Rammelån Æ", "Kort", None),
    "chargeCard": ("Betalingskort", "Bedriftskort", "Månedskort (blå)", None),
}


def loan_types(rng: Random, kind: Kind) -> tuple[str, ...]:
    """Which loans a customer of an institution of this kind has."""
    return rng.choice(_MIX[kind])


def account_id(rng: Random, loan_type: str, institution: int, person: int, ordinal: int) -> str:
    """An account id in one of the shapes that occur; distinct within the customer, but for cards within the FI too."""
    # a bijection of the serial, so that neighbours do not look like neighbours
    serial = ((person * LOANS_PER_PERSON + ordinal) * 73_939_133 + 12_345_679) % 10**8
    if loan_type == "chargeCard" or (loan_type == "creditFacility" and institution % 3 == 0):
        return f"{400000 + institution % 99999:06d}******{serial % 10000:04d}"  # masked as PCI DSS asks
    if institution % 4 == 1:
        return f"{rng.getrandbits(64):016x}{serial:08x}"
    number = account_number(f"{10 + institution % 90}{serial:08d}") if institution % 4 != 3 else None
    if number is not None:
        return number
    kid = f"{institution:05d}{serial:08d}"
    return f"{kid}{luhn_digit(kid)}"


def make_loan(rng: Random, loan_type: str, account: str) -> Loan:
    """A loan of the given type with plausible figures; a few are repaid, closed or unused."""
    loan: Loan = {"type": loan_type, "accountID": account}
    name = rng.choice(_NAMES[loan_type])
    if name is not None:
        loan["accountName"] = name
    unused = rng.random()
    if loan_type == "repaymentLoan":
        original = rng.randrange(10, 600) * 100_000
        loan["originalBalance"] = original
        loan["balance"] = 0 if unused < 0.03 else rng.randrange(1, original)
        loan["terms"] = rng.randrange(1, 181)
    else:
        interest_bearing = 0 if unused < 0.35 else rng.randrange(0, 4_000_000)
        if loan_type == "creditFacility":
            loan["creditLimit"] = 0 if unused < 0.03 else rng.randrange(1, 31) * 500_000
        else:
            interest_bearing = 0
        loan["interestBearingBalance"] = interest_bearing
        loan["nonInterestBearingBalance"] = 0 if unused < 0.3 else rng.randrange(0, 2_500_000)
    if loan_type != "chargeCard":
        loan["nominalInterestRate"] = rng.randrange(590, 2890, 5)
        loan["installmentCharges"] = rng.choice((0, 3000, 3500, 4500, 5000, 6500))
        loan["installmentChargePeriod"] = "MONTHLY"
    loan["coBorrower"] = 0
    return loan


def altered(rng: Random, loan: Loan) -> Loan:
    """The same account a day later with other figures: a payment, a purchase or a new limit."""
    figures = dict(loan)
    if loan["type"] == "repaymentLoan":
        figures["balance"] = loan["balance"] // 2 if loan["balance"] > 1 else loan["originalBalance"] // 2 + 1
        figures["terms"] = max(loan["terms"] - 1, 1)
    elif loan["type"] == "creditFacility" and rng.random() < 0.3:
        figures["creditLimit"] = loan["creditLimit"] + 500_000
    else:
        figures["nonInterestBearingBalance"] = loan["nonInterestBearingBalance"] + rng.randrange(100, 500_000)
    return figures


def repaid(loan: Loan) -> Loan:
    """The loan as it is pushed when it is repaid and closed: every figure 0 (SPEC 6.5, 6.6)."""
    return {key: 0 if isinstance(value, int) else value for key, value in loan.items()}
