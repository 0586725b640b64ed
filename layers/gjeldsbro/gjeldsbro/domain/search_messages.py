"""What a lender sends to look a person up, and what it is told: the messages of ``POST /debt-search/v1/search``.

Like ``messages``, these models are the public description too. The answer's models have no room for what a lender may
not be told (design decision 11): a creditor's id, a real account id, an account's name.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from gjeldsbro.domain import fields, strict_json
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import Accepts, mentions_a_person
from gjeldsbro.domain.messages import (
    Amount,
    CoBorrower,
    CustomerId,
    InstallmentChargePeriod,
    InterestRate,
    Received,
    Response,
    SpecModel,
    Terms,
    violations_of,
)
from gjeldsbro.domain.package import ACCOUNT_DIGITS
from gjeldsbro.domain.purposes import PURPOSES, Purpose
from gjeldsbro.domain.rules import BrokenRuleError, Rule
from gjeldsbro.domain.violations import MAX_VIOLATIONS, Violations
from gjeldsbro.errors import InvalidMessageError, Violation

MAX_CO_BORROWERS = 10
MIN_WAIT, MAX_WAIT, DEFAULT_WAIT = 1000, 60_000, 3000
"""Milliseconds."""

_TEXT_LENGTH = 100
NOT_BLANK = "[^ ]"
"""A pattern that is searched for: the blank is the only blank character that is printable."""


def _text(value: object, rule: Rule) -> str:
    if type(value) is not str or len(value) > _TEXT_LENGTH or not value.strip() or not value.isprintable():
        raise BrokenRuleError(rule)
    if mentions_a_person(value):
        raise BrokenRuleError(rule)
    return value


def _reference(value: object) -> str:
    return _text(value, Rule.REFERENCE)


def _message_to_customer(value: object) -> str | None:
    return None if value is None or value == "" else _text(value, Rule.MESSAGE_TO_CUSTOMER)


def _time_to_wait(value: object) -> int:
    if value is None:
        return DEFAULT_WAIT
    try:
        number = fields.amount(value)  # a JSON integer or a string of digits, as all of SPEC's numbers
    except BrokenRuleError:
        raise BrokenRuleError(Rule.TIME_TO_WAIT) from None
    if not MIN_WAIT <= number <= MAX_WAIT:
        raise BrokenRuleError(Rule.TIME_TO_WAIT)
    return number


def _purpose(value: object) -> Purpose:
    if value is None:
        return "creditApplication"
    if type(value) is str and value in PURPOSES:
        return value
    raise BrokenRuleError(Rule.PURPOSE)


def _organisation(value: object) -> str | None:
    return None if value is None else fields.institution(value)


def _co_borrowers(value: object) -> object:
    if value is None:
        return []
    if isinstance(value, list) and len(value) > MAX_CO_BORROWERS:
        raise BrokenRuleError(Rule.CO_BORROWERS)
    return value


_Text = Annotated[str, Field(min_length=1, max_length=_TEXT_LENGTH, pattern=NOT_BLANK)]
_OptionalText = Annotated[str, Field(max_length=_TEXT_LENGTH, pattern=f"^$|{NOT_BLANK}")] | None
_WaitForms = (
    Annotated[int, Field(ge=MIN_WAIT, le=MAX_WAIT)]
    | Annotated[str, Field(pattern="^(0{0,8}[1-9][0-9]{3}|0{0,7}([1-5][0-9]{4}|60000))$")]
    | None
)
_OrganisationForm = Annotated[str, Field(pattern="^([0-9]{9}|[0-9]{4}:[0-9A-Za-z-]{1,35})$", max_length=40)] | None


class SearchedCoBorrower(SpecModel):
    """Somebody who applies together with the person who is looked up."""

    ssn: CustomerId = Field(description="National identity number (fødselsnummer) or D-number.")


_CoBorrowersForm = Annotated[list[SearchedCoBorrower], Field(max_length=MAX_CO_BORROWERS)] | None


class SearchRequest(SpecModel):
    """Who is looked up, by whom and what for. Fields that may be left out may also be null."""

    ssn: CustomerId = Field(description="National identity number (fødselsnummer) or D-number.")
    reference_id: Annotated[str, PlainValidator(_reference, json_schema_input_type=_Text)] = Field(
        description="The lender's own reference, by which the lookup can be traced. No identity number."
    )
    message_to_customer: Annotated[
        str | None, PlainValidator(_message_to_customer, json_schema_input_type=_OptionalText)
    ] = Field(default=None, description="A line for the notice that the person gets. No identity number.")
    co_borrowers: Annotated[
        list[SearchedCoBorrower],
        BeforeValidator(_co_borrowers, json_schema_input_type=_CoBorrowersForm),
    ] = Field(default=[], description="Who applies together with the person: each once, and not the person.")
    max_time_to_wait: Annotated[int, PlainValidator(_time_to_wait, json_schema_input_type=_WaitForms)] = Field(
        default=DEFAULT_WAIT, description="How long institutions may take to answer, in milliseconds."
    )
    on_behalf_of_organization: Annotated[
        str | None, PlainValidator(_organisation, json_schema_input_type=_OrganisationForm)
    ] = Field(default=None, description="The organisation that the lender acts for, when it is not itself.")
    purpose: Annotated[Purpose, PlainValidator(_purpose, json_schema_input_type=Purpose | None)] = Field(
        default="creditApplication", description="What the debt is looked up for (act § 12)."
    )

    @property
    def persons(self) -> tuple[str, ...]:
        """Everybody who is looked up; the person first."""
        return (self.ssn, *(other.ssn for other in self.co_borrowers))


class _DisclosedLoan(SpecModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    timestamp: Received = Field(description="When this answer was made: the same for all loans.")
    account_id: Annotated[str, Field(pattern=f"^[0-9]{{{ACCOUNT_DIGITS}}}$")] = Field(
        description="Stands for the account within this lender's answers about the person in one quarter."
    )
    co_borrower: CoBorrower = Field(description="2: has a co-borrower. 1: is a co-borrower. 0: neither.")


class DisclosedRepaymentLoan(_DisclosedLoan):
    """SPEC 4.2.3 without the account's name."""

    type: Literal["repaymentLoan"]
    original_balance: Amount = Field(description="The amount that was granted, in øre.")
    balance: Amount = Field(description="What is left, in øre.")
    terms: Terms = Field(description="Remaining terms in months.")
    nominal_interest_rate: InterestRate = Field(description="In hundredths of a per cent: 10.20 % is 1020.")
    installment_charges: Amount = Field(description="Charges a month, in øre.")
    installment_charge_period: InstallmentChargePeriod = Field(description="Always MONTHLY.")


class DisclosedCreditFacility(_DisclosedLoan):
    """SPEC 4.2.4 without the account's name."""

    type: Literal["creditFacility"]
    credit_limit: Amount = Field(description="The most that may be drawn, in øre.")
    interest_bearing_balance: Amount = Field(description="In øre.")
    non_interest_bearing_balance: Amount = Field(description="In øre.")
    nominal_interest_rate: InterestRate = Field(description="In hundredths of a per cent: 10.20 % is 1020.")
    installment_charges: Amount = Field(description="Charges a month, in øre.")
    installment_charge_period: InstallmentChargePeriod = Field(description="Always MONTHLY.")


class DisclosedChargeCard(_DisclosedLoan):
    """SPEC 4.2.5 without the account's name."""

    type: Literal["chargeCard"]
    interest_bearing_balance: Amount = Field(description="In øre.")
    non_interest_bearing_balance: Amount = Field(description="In øre.")


DisclosedLoan = Annotated[
    DisclosedRepaymentLoan | DisclosedCreditFacility | DisclosedChargeCard, Field(discriminator="type")
]


class LoanEntry(SpecModel):
    """A loan; or, without one, a creditor that did not answer and whose loans are not known."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    source: Literal["institution", "register", "none"] = Field(
        description="institution: its own answer just now. register: what is stored of it. none: not known."
    )
    loan: DisclosedLoan | None = Field(description="null if, and only if, the source is none.")


class CreditorEntry(SpecModel):
    """One creditor, which is not named: the order of the entries means nothing."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    answered: bool = Field(description="Whether its loans are complete and as fresh as they are meant to be.")
    source: Literal["institution", "register", "none"] = Field(
        description=(
            "institution: it answered just now. register: from what is stored, because it did not answer or is never "
            "asked. none: it did not answer, and what it would have said is not stored."
        )
    )
    number_of_loans: int = Field(ge=0, description="How many of the loans are of this creditor.")


class PersonDebt(SpecModel):
    """What is known of one person's debt."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    ssn: str = Field(description="The person's number, as it was asked for.")
    loans: list[LoanEntry] = Field(description="All loans, in an order that means nothing.")
    creditors: list[CreditorEntry] = Field(description="Creditors with loans, and those that did not answer.")
    number_of_creditors_answered: int = Field(ge=0, description="How many of the creditors answered.")
    number_ofcreditors_missing: int = Field(ge=0, description="How many of the creditors did not answer.")


class SearchResponse(PersonDebt, Response):
    """The answer to a lookup: the person's debt, and that of the co-borrowers if there were any."""

    reference_id: str = Field(description="The lender's reference, as it was sent.")
    co_borrowers: list[PersonDebt] = Field(
        default=[],
        exclude_if=lambda persons: not persons,
        description="The co-borrowers' debt in the order in which they were asked for; only if there were any.",
    )


def parse_search(body: bytes, *, accepts: Accepts, limit: int = MAX_VIOLATIONS) -> SearchRequest:
    """Read a lender's request. Raises InvalidMessageError with the first ``limit`` faults and their number."""
    message = strict_json.parse(body)
    violations = Violations(limit)
    try:
        request = SearchRequest.model_validate(message, context=Circumstances(accepts, latest=""))
    except ValidationError as exc:
        violations.add(*violations_of(exc, ""))
        raise InvalidMessageError(violations.first, violations.total) from None  # its text quotes the message
    seen = {request.ssn}
    for index, other in enumerate(request.co_borrowers):
        if other.ssn in seen:
            violations.add(Violation(f"/coBorrowers/{index}/ssn", Rule.CO_BORROWER_TWICE))
        seen.add(other.ssn)
    if violations:
        raise InvalidMessageError(violations.first, violations.total)
    return request
