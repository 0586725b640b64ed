"""Reading a page of a dataset, up to 100 MB and more, where time and memory count; and a push, where a cold start does.

The page is split into the text of its customers without looking inside them; each is decoded into typed structs and put
through the plain functions of ``fields``. Whatever does not come through cleanly is read again by ``messages``, which
has the last word and names the places. So the quick way may refuse too much, never too little.

``messages`` is imported at the first fault: its models take pydantic, and with it a good part of a cold start (decision
record 0020).
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from gjeldsbro.domain import fields, loans, strict_json
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import CustomerLoans, Loan, Message, repeated_loans
from gjeldsbro.domain.rules import Rule
from gjeldsbro.domain.violations import MAX_VIOLATIONS, Violations
from gjeldsbro.errors import InvalidMessageError, Violation

_MAX_REMEMBERED = 20_000
"""Distinct texts (timestamps, account names) that are kept, so that equal ones are judged and stored once."""


_ESCAPED_COLON = b"\\u003"
"""How the escape of a colon begins, and that of some other characters, which occur as seldom."""


class PageResult(NamedTuple):
    """What a page says. With violations (the first of them, and their total) there are no customers."""

    customers: list[CustomerLoans]
    violations: list[Violation]
    total_violations: int


class _RepaymentLoan(msgspec.Struct, gc=False, tag_field="type", tag="repaymentLoan", rename=fields.spec_name):
    timestamp: str
    account_id: str
    original_balance: int | str
    balance: int | str
    terms: int | str
    nominal_interest_rate: int | str
    installment_charges: int | str
    installment_charge_period: str
    co_borrower: int | str
    account_name: str | None = None


class _CreditFacility(msgspec.Struct, gc=False, tag_field="type", tag="creditFacility", rename=fields.spec_name):
    timestamp: str
    account_id: str
    credit_limit: int | str
    interest_bearing_balance: int | str
    non_interest_bearing_balance: int | str
    nominal_interest_rate: int | str
    installment_charges: int | str
    installment_charge_period: str
    co_borrower: int | str
    account_name: str | None = None


class _ChargeCard(msgspec.Struct, gc=False, tag_field="type", tag="chargeCard", rename=fields.spec_name):
    timestamp: str
    account_id: str
    interest_bearing_balance: int | str
    non_interest_bearing_balance: int | str
    co_borrower: int | str
    account_name: str | None = None


_AnyLoan = _RepaymentLoan | _CreditFacility | _ChargeCard


class _Customer(msgspec.Struct, gc=False, rename=fields.spec_name):
    customer_id: str
    financial_institution_id: str
    loans: list[_AnyLoan]


class _Page(msgspec.Struct, rename=fields.spec_name):
    provider_id: str
    customers: list[msgspec.Raw]


_PAGE = msgspec.json.Decoder(_Page)
_CUSTOMER = msgspec.json.Decoder(_Customer)
_PAGE_NAMES = tuple(fields.spec_name(name) for name in _Page.__struct_fields__)
_MANDATORY_NAMES = {
    # accountName is optional, but the type is there too, which is not among the struct's fields.
    kind: len(kind.__struct_fields__)
    for kind in (_RepaymentLoan, _CreditFacility, _ChargeCard)
}


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


def read_page(
    body: bytes,
    *,
    institution: str,
    provider: str,
    accepts: Accepts,
    now: datetime,
    limit: int = MAX_VIOLATIONS,
) -> PageResult:
    """Read one page of the dataset that ``provider`` delivers for ``institution`` (SPEC 3.1.2 and 4.2).

    A page without customers is valid: institutions hand over to each other that way. ``now`` is aware. The first
    ``limit`` faults are listed; a page whose outside is broken says only that.
    """
    violations = Violations(limit)
    customers: list[CustomerLoans] = []
    try:
        page = _open_page(body)
    except InvalidMessageError as exc:
        return PageResult(customers, list(exc.violations[:limit]), exc.total)
    if page.provider_id != provider:
        violations.add(Violation("/providerID", Rule.OTHER_PROVIDER))
    reader = _CustomerReader(Circumstances.at(now, accepts), has_escaped_colons=_ESCAPED_COLON in body)
    seen = set()
    for index, raw in enumerate(page.customers):
        customer = reader.read_quickly(raw)
        if customer is None:
            try:
                customer = reader.read_strictly(raw, f"/customers/{index}")
            except InvalidMessageError as exc:
                violations.take(exc)
                continue
        if customer.financial_institution_id != institution:
            violations.add(Violation(f"/customers/{index}/financialInstitutionID", Rule.OTHER_INSTITUTION))
        elif customer.customer_id in seen:
            violations.add(Violation(f"/customers/{index}", Rule.CUSTOMER_TWICE))
        else:
            seen.add(customer.customer_id)
            if not violations:
                customers.append(customer)
    if violations:
        customers = []
    return PageResult(customers, violations.first, violations.total)


def read_push(body: bytes, *, accepts: Accepts, now: datetime) -> Message:
    """Read a message of SPEC 4.2 that was pushed. ``now`` is aware; raises InvalidMessageError as ``messages`` does."""
    message = _read_push_quickly(body, Circumstances.at(now, accepts))
    if message is None:
        from gjeldsbro.domain.messages import parse_organization  # noqa: PLC0415 - see above

        message = parse_organization(body, accepts=accepts, now=now)
    return message


def _read_push_quickly(body: bytes, circumstances: Circumstances) -> Message | None:
    """The message, or None where anything about it is wrong or out of the ordinary."""
    try:
        page = _PAGE.decode(body)
        provider = fields.provider(page.provider_id)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    colons = sum(bytes(raw).count(b":") for raw in page.customers) + provider.count(":") + len(_PAGE_NAMES)
    if body.count(b":") != colons or _ESCAPED_COLON in body:  # see _colons
        return None
    reader = _CustomerReader(circumstances, has_escaped_colons=False)
    customers: dict[tuple[str, str], CustomerLoans] = {}
    for raw in page.customers:
        customer = reader.read_quickly(raw)
        if customer is None:
            return None
        customers[customer.customer_id, customer.financial_institution_id] = customer
    return Message(provider, tuple(customers.values())) if 0 < len(customers) == len(page.customers) else None


def _open_page(body: bytes) -> _Page:
    """The page with its customers as text; raises InvalidMessageError."""
    try:
        page = _PAGE.decode(body)
    except msgspec.ValidationError:
        _explain(body)
        raise
    except RecursionError:
        raise InvalidMessageError([Violation("", Rule.JSON_DEPTH)]) from None
    except UnicodeDecodeError:
        raise InvalidMessageError([Violation("", Rule.UTF_8)]) from None
    except msgspec.DecodeError:
        rule = Rule.UTF_8 if body.startswith(strict_json.BYTE_ORDER_MARKS) else Rule.JSON
        raise InvalidMessageError([Violation("", rule)]) from None
    for name in _PAGE_NAMES:
        quoted = b'"%s"' % name.encode()
        found = body.count(quoted)
        # The name may occur inside customers too. Only when there is more than one is it worth looking.
        if found > 1 and found - sum(bytes(raw).count(quoted) for raw in page.customers) > 1:
            raise InvalidMessageError([Violation("", Rule.JSON_NAMES)])
    return page


def _explain(body: bytes) -> None:
    """Raise InvalidMessageError for a page that is JSON, but not an object with the names and types of SPEC 4.2.1."""
    try:
        outside = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidMessageError([Violation("", Rule.OBJECT)]) from None
    data: dict[str, object] = {}
    for name in _PAGE_NAMES:
        if name in outside:
            # Customers are not looked at here: an empty array stands for any array.
            is_array = bytes(memoryview(outside[name])[:1]) == b"["
            data[name] = [] if is_array else strict_json.parse(bytes(outside[name]), f"/{name}")
    from gjeldsbro.domain.messages import read_envelope  # noqa: PLC0415 - see above

    read_envelope(data)


class _CustomerReader:
    """Turns the text of customers into loans."""

    def __init__(self, circumstances: Circumstances, *, has_escaped_colons: bool) -> None:
        self._circumstances = circumstances
        self._has_escaped_colons = has_escaped_colons
        self._timestamps = _Remembered[str](lambda text: fields.timestamp(text, circumstances.latest))
        self._account_names = _Remembered[str | None](fields.account_name)
        self._institutions = _Remembered[str](fields.institution)

    def read_strictly(self, raw: msgspec.Raw, place: str) -> CustomerLoans:
        """Read the customer that lies at ``place``; raises InvalidMessageError with all its faults."""
        from gjeldsbro.domain.messages import read_customer  # noqa: PLC0415 - see above

        return read_customer(strict_json.parse(bytes(raw), place), place, self._circumstances)

    def read_quickly(self, raw: msgspec.Raw) -> CustomerLoans | None:
        """The customer, or None where anything about it is wrong or out of the ordinary."""
        try:
            return self._read(bytes(raw))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def _read(self, text: bytes) -> CustomerLoans | None:
        decoded = _CUSTOMER.decode(text)
        if len(decoded.loans) > fields.MAX_LOANS or text.count(b":") != _colons(decoded):
            return None
        if self._has_escaped_colons and _ESCAPED_COLON in text:
            return None
        customer_loans = tuple([self._loan(loan) for loan in decoded.loans])
        if len(customer_loans) > 1 and any(repeated_loans(customer_loans)):
            return None
        return CustomerLoans(
            fields.customer_id(decoded.customer_id, self._circumstances.accepts),
            self._institutions[decoded.financial_institution_id],
            customer_loans,
        )

    def _loan(self, loan: _AnyLoan) -> Loan:
        # Positional arguments, in the order of the structs in ``loans``: by name they take twice the time.
        if isinstance(loan, _CreditFacility):
            fields.installment_charge_period(loan.installment_charge_period)
            return loans.CreditFacility(
                fields.account_id(loan.account_id),
                self._timestamps[loan.timestamp],
                self._account_names[loan.account_name],
                fields.amount(loan.credit_limit),
                fields.amount(loan.interest_bearing_balance),
                fields.amount(loan.non_interest_bearing_balance),
                fields.interest_rate(loan.nominal_interest_rate),
                fields.amount(loan.installment_charges),
                fields.co_borrower(loan.co_borrower),
            )
        if isinstance(loan, _RepaymentLoan):
            fields.installment_charge_period(loan.installment_charge_period)
            return loans.RepaymentLoan(
                fields.account_id(loan.account_id),
                self._timestamps[loan.timestamp],
                self._account_names[loan.account_name],
                fields.amount(loan.original_balance),
                fields.amount(loan.balance),
                fields.terms(loan.terms),
                fields.interest_rate(loan.nominal_interest_rate),
                fields.amount(loan.installment_charges),
                fields.co_borrower(loan.co_borrower),
            )
        return loans.ChargeCard(
            fields.account_id(loan.account_id),
            self._timestamps[loan.timestamp],
            self._account_names[loan.account_name],
            fields.amount(loan.interest_bearing_balance),
            fields.amount(loan.non_interest_bearing_balance),
            fields.co_borrower(loan.co_borrower),
        )


def _colons(decoded: _Customer) -> int:
    """How many colons the text of a customer has if it holds the decoded names and no others, each once.

    Every colon either follows a name or stands in a value that was decoded (numbers have none). Where the count is
    right, nothing was said twice and nothing was passed over; finding that out in another way means parsing twice. An
    escaped colon could hide one, so texts that may have any are read strictly.
    """
    colons = len(_Customer.__struct_fields__) + decoded.financial_institution_id.count(":")
    for loan in decoded.loans:
        colons += _MANDATORY_NAMES[type(loan)] + loan.timestamp.count(":") + loan.account_id.count(":")
        if loan.account_name is not None:
            colons += 1 + loan.account_name.count(":")
    return colons
