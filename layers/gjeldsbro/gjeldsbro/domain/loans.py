"""The three kinds of loan as the register keeps them (SPEC 4.2.3-4.2.5), and what counts as debt.

Amounts are integers in øre, rates in hundredths of a per cent. ``timestamp`` is in the fixed form of
``domain.timestamps``. ``installmentChargePeriod`` is not kept: MONTHLY is the only value that SPEC allows. The structs
encode as arrays, so that most customers fit in one DynamoDB write unit (1 KB). They are left out of garbage collection,
which cannot find anything in them: they hold no cycles, and there are millions of them.
"""

from collections.abc import Iterator
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec.structs import astuple

from gjeldsbro.domain.timestamps import shorten

DIGEST_SIZE = 16
"""Bytes of a content digest: 128 bits, far beyond an accidental collision among 10 million pairs."""

Source = Literal["dataset", "push"]


class RepaymentLoan(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="repaymentLoan"):
    """SPEC 4.2.3."""

    account_id: str
    timestamp: str
    account_name: str | None
    original_balance: int
    balance: int
    terms: int
    nominal_interest_rate: int
    installment_charges: int
    co_borrower: int


class CreditFacility(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="creditFacility"):
    """SPEC 4.2.4."""

    account_id: str
    timestamp: str
    account_name: str | None
    credit_limit: int
    interest_bearing_balance: int
    non_interest_bearing_balance: int
    nominal_interest_rate: int
    installment_charges: int
    co_borrower: int


class ChargeCard(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="chargeCard"):
    """SPEC 4.2.5."""

    account_id: str
    timestamp: str
    account_name: str | None
    interest_bearing_balance: int
    non_interest_bearing_balance: int
    co_borrower: int


Loan = RepaymentLoan | CreditFacility | ChargeCard

_TYPES = {kind: str(kind.__struct_config__.tag) for kind in (RepaymentLoan, CreditFacility, ChargeCard)}
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[Loan, ...])
_EMPTY_DIGEST = blake2b(digest_size=DIGEST_SIZE)
"""Copied for each digest: making one takes half as long again."""

_ACCOUNT = itemgetter(0, 1)


class CustomerLoans(msgspec.Struct, frozen=True, gc=False):
    """One customer at one institution, validated: an element of SPEC's ``customers`` (4.2.2)."""

    customer_id: str
    financial_institution_id: str
    loans: tuple[Loan, ...]


class Message(NamedTuple):
    """A valid message: who delivers it, and what it says."""

    provider: str
    customers: tuple[CustomerLoans, ...]


def loan_type(loan: Loan) -> str:
    """SPEC's name of the loan's type."""
    return _TYPES[type(loan)]


def account_of(loan: Loan) -> tuple[str, str]:
    """What tells the loans of one customer at one institution apart: (type, accountID)."""
    return _TYPES[type(loan)], loan.account_id


def is_debt(loan: Loan, source: Source) -> bool:
    """Whether a loan is shown as debt (contract, "What counts as debt").

    A repaymentLoan while its balance is not 0; a creditFacility while its limit or a balance is not 0 (an unused limit
    is debt: act § 15); a chargeCard always, except that a push with both balances 0 hides it.
    """
    match loan:
        case RepaymentLoan():
            return loan.balance != 0
        case CreditFacility():
            return bool(loan.credit_limit or loan.interest_bearing_balance or loan.non_interest_bearing_balance)
        case ChargeCard():
            return source == "dataset" or bool(loan.interest_bearing_balance or loan.non_interest_bearing_balance)


def encode_loans(loans: tuple[Loan, ...]) -> bytes:
    """The loans of one customer as they are stored."""
    return _ENCODER.encode(loans)


def decode_loans(stored: bytes) -> tuple[Loan, ...]:
    """What ``encode_loans`` was given."""
    return _DECODER.decode(stored)


def content_digest(*loans: Loan) -> bytes:
    """A digest of everything but the timestamps, the same in whatever order the loans come.

    Two nights' data of a customer with equal digests say the same, and nothing is written (design decision 5).
    """
    # In the form that the loans themselves are encoded in.
    contents = [(_TYPES[type(loan)], loan.account_id, "", *astuple(loan)[2:]) for loan in loans]
    if len(contents) > 1:
        contents.sort(key=_ACCOUNT)
    digest = _EMPTY_DIGEST.copy()
    digest.update(_ENCODER.encode(contents))
    return digest.digest()


def to_wire(loan: Loan, *, timestamp: str, account_id: str, with_name: bool = False) -> dict[str, Any]:
    """The loan in SPEC 4.2's model, numbers as strings without leading zeros (design decision 9).

    ``timestamp`` (fixed form) and ``account_id`` are given by the caller: readers show the effective time, and packages
    and lookups never show a real account id (design decision 11).
    """
    wire: dict[str, Any] = {"type": loan_type(loan), "timestamp": shorten(timestamp), "accountID": account_id}
    if with_name and loan.account_name is not None:
        wire["accountName"] = loan.account_name
    match loan:
        case RepaymentLoan():
            wire["originalBalance"] = str(loan.original_balance)
            wire["balance"] = str(loan.balance)
            wire["terms"] = str(loan.terms)
        case CreditFacility():
            wire["creditLimit"] = str(loan.credit_limit)
    if not isinstance(loan, RepaymentLoan):
        wire["interestBearingBalance"] = str(loan.interest_bearing_balance)
        wire["nonInterestBearingBalance"] = str(loan.non_interest_bearing_balance)
    if not isinstance(loan, ChargeCard):
        wire["nominalInterestRate"] = str(loan.nominal_interest_rate)
        wire["installmentCharges"] = str(loan.installment_charges)
        wire["installmentChargePeriod"] = "MONTHLY"
    wire["coBorrower"] = str(loan.co_borrower)
    return wire


def repeated_loans(customer_loans: tuple[Loan, ...]) -> Iterator[int]:
    """The positions of loans that have the type and accountID of an earlier one: the register could keep only one."""
    seen = set()
    for index, loan in enumerate(customer_loans):
        account = account_of(loan)
        if account in seen:
            yield index
        seen.add(account)
