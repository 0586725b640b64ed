"""Reading customers as JSON text, hundreds at a time: the quick way of pages and pushes, where time counts.

The texts are decoded together into typed structs, which see to types, lengths and bounds; what else ``fields`` asks is
asked of whole columns: all account ids, all timestamps. So a rule costs a call for hundreds of customers, not for each.
Nothing is said of what is wrong, only that something is, or is out of the ordinary: the quick way may refuse too much,
never too little.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple, Self

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from gjeldsbro.domain import fields, loans
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import are_customer_ids
from gjeldsbro.domain.loans import CustomerLoans, Loan, repeated_loans

_MAX_REMEMBERED = 5_000
"""Distinct texts (timestamps, account names) that are kept, so that equal ones are judged and stored once."""

_ESCAPED_COLON = b"\\u003"
"""How the escape of a colon begins, and that of some other characters, which occur as seldom."""

_Amount = (
    Annotated[int, Meta(ge=0, lt=10**fields.AMOUNT_DIGITS)]
    | Annotated[str, Meta(min_length=1, max_length=fields.AMOUNT_DIGITS)]
)
_Rate = (
    Annotated[int, Meta(ge=0, lt=10**fields.RATE_DIGITS)]
    | Annotated[str, Meta(min_length=1, max_length=fields.RATE_DIGITS)]
)
_Terms = (
    Annotated[int, Meta(ge=0, lt=10**fields.TERMS_DIGITS)]
    | Annotated[str, Meta(min_length=1, max_length=fields.TERMS_DIGITS)]
)
_CoBorrower = Literal["0", "1", "2", 0, 1, 2]
_AccountId = Annotated[str, Meta(min_length=1, max_length=fields.ACCOUNT_ID_LENGTH)]


# The fields of a loan stand in the order of the structs in ``loans``; what is not kept, comes last.
class _Loan(msgspec.Struct, gc=False, kw_only=True, tag_field="type", rename=fields.spec_name):
    account_id: _AccountId
    timestamp: str
    account_name: str | None = None


class _RepaymentLoan(_Loan, gc=False, kw_only=True, tag="repaymentLoan"):
    original_balance: _Amount
    balance: _Amount
    terms: _Terms
    nominal_interest_rate: _Rate
    installment_charges: _Amount
    co_borrower: _CoBorrower
    installment_charge_period: Literal["MONTHLY"]


class _CreditFacility(_Loan, gc=False, kw_only=True, tag="creditFacility"):
    credit_limit: _Amount
    interest_bearing_balance: _Amount
    non_interest_bearing_balance: _Amount
    nominal_interest_rate: _Rate
    installment_charges: _Amount
    co_borrower: _CoBorrower
    installment_charge_period: Literal["MONTHLY"]


class _ChargeCard(_Loan, gc=False, kw_only=True, tag="chargeCard"):
    interest_bearing_balance: _Amount
    non_interest_bearing_balance: _Amount
    co_borrower: _CoBorrower


class _Customer(msgspec.Struct, gc=False, rename=fields.spec_name):
    customer_id: str
    financial_institution_id: str
    loans: Annotated[list[_RepaymentLoan | _CreditFacility | _ChargeCard], Meta(max_length=fields.MAX_LOANS)]


_KINDS: dict[type[_Loan], type[Loan]] = {
    _RepaymentLoan: loans.RepaymentLoan,
    _CreditFacility: loans.CreditFacility,
    _ChargeCard: loans.ChargeCard,
}
_CUSTOMERS = msgspec.json.Decoder(list[_Customer])


class _Remembered[Text](dict[Text, Text]):
    """The answers of ``judge``, which raises for what it refuses."""

    def __init__(self, judge: Callable[[Text], Text]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, text: Text) -> Text:
        answer = self._judge(text)
        if len(self) < _MAX_REMEMBERED:
            self[text] = answer
        return answer


class CustomerTexts:
    """Turns the texts of customers out of one message into what they say."""

    def __init__(self, circumstances: Circumstances, message: bytes) -> None:
        self._accepts = circumstances.accepts
        self._timestamps = _Remembered[str](lambda text: fields.timestamp(text, circumstances.latest))
        self._account_names = _Remembered[str | None](fields.account_name)
        self._institutions = _Remembered[str](fields.institution)
        self._has_escaped_colons = has_escaped_colons(message)

    def read(self, texts: Sequence[msgspec.Raw]) -> list[CustomerLoans] | None:
        """These customers, or None where anything about any of them is wrong or out of the ordinary."""
        try:
            return self._read(b"[%b]" % b",".join(texts))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def _read(self, text: bytes) -> list[CustomerLoans] | None:
        if self._has_escaped_colons and _ESCAPED_COLON in text:
            return None
        customers = _CUSTOMERS.decode(text)
        decoded = [loan for customer in customers for loan in customer.loans]
        by_kind = [
            _Columns.of(kind, [loan for loan in decoded if type(loan) is kind]) for kind in set(map(type, decoded))
        ]
        if text.count(b":") != _colons(customers, by_kind):
            return None
        numbers = [customer.customer_id for customer in customers]
        if not are_customer_ids(numbers, self._accepts):
            return None
        next_of = {columns.kind: self._loans(columns).__next__ for columns in by_kind}
        of_customers = [tuple([next_of[type(loan)]() for loan in customer.loans]) for customer in customers]
        alike = [some for some in of_customers if len(some) > 1 and len({loan.account_id for loan in some}) < len(some)]
        if any(any(repeated_loans(some)) for some in alike):
            return None
        institutions = [self._institutions[customer.financial_institution_id] for customer in customers]
        return list(map(CustomerLoans, numbers, institutions, of_customers))

    def _loans(self, columns: "_Columns") -> Iterator[Loan]:
        """The loans, in the register's form; raises ValueError."""
        return map(
            _KINDS[columns.kind],
            fields.account_ids(columns.account_ids),
            map(self._timestamps.__getitem__, columns.timestamps),
            map(self._account_names.__getitem__, columns.account_names),
            *map(fields.whole_numbers, columns.numbers),
        )


class _Columns(NamedTuple):
    """The values of many loans of one kind, by field."""

    kind: type[_Loan]
    account_ids: Sequence[str]
    timestamps: Sequence[str]
    account_names: Sequence[str | None]
    numbers: Sequence[Sequence[int | str]]

    @classmethod
    def of(cls, kind: type[_Loan], decoded: Sequence[_Loan]) -> Self:
        """The columns of loans of that kind, at least one."""
        account_ids, timestamps, account_names, *others = zip(*map(astuple, decoded), strict=True)
        return cls(kind, account_ids, timestamps, account_names, others[: len(_KINDS[kind].__struct_fields__) - 3])


def has_escaped_colons(text: bytes) -> bool:
    """Whether the text may hold an escaped colon, which ``_colons`` would not see."""
    return b"\\" in text and _ESCAPED_COLON in text


def _colons(customers: Sequence[_Customer], by_kind: Sequence[_Columns]) -> int:
    """How many colons the text of customers has if it holds the decoded names and no others, each once.

    Every colon either follows a name or stands in a value that was decoded (numbers have none). Where the count is
    right, nothing was said twice and nothing was passed over; finding that out in another way means parsing twice. An
    escaped colon could hide one, so texts that may have any are read strictly.
    """
    values = [customer.financial_institution_id for customer in customers]
    names = len(_Customer.__struct_fields__) * len(customers)
    for columns in by_kind:
        account_names = [name for name in columns.account_names if name is not None]
        values += [*columns.account_ids, *columns.timestamps, *account_names]
        # accountName is optional, but the type is there too, which is not among the struct's fields.
        names += len(columns.kind.__struct_fields__) * len(columns.account_ids) + len(account_names)
    return names + "".join(values).count(":")
