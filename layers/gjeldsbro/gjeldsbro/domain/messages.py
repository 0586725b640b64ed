"""SPEC chapter 4 as pydantic models, and the reading of one message with a place for every fault.

The models are the public description of the interface too: the OpenAPI document is generated from them. What a single
field may hold is decided by ``fields`` alone. Fields that SPEC does not have are ignored.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)

from gjeldsbro.domain import fields, loans, strict_json, timestamps
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import CustomerLoans, Message, repeated_loans
from gjeldsbro.domain.rules import BrokenRuleError, Rule
from gjeldsbro.domain.violations import MAX_VIOLATIONS, Violations
from gjeldsbro.errors import InvalidMessageError, Violation


def _circumstances(info: ValidationInfo) -> Circumstances:
    if not isinstance(info.context, Circumstances):
        raise TypeError("SPEC's models are validated with Circumstances as their context")
    return info.context


def _timestamp(value: object, info: ValidationInfo) -> str:
    return fields.timestamp(value, _circumstances(info).latest)


def _customer_id(value: object, info: ValidationInfo) -> str:
    return fields.customer_id(value, _circumstances(info).accepts)


def _not_too_many_loans(value: object) -> object:
    """Before the loans are looked at: a list of a million faults would cost a gigabyte to describe."""
    if isinstance(value, list) and len(value) > fields.MAX_LOANS:
        raise BrokenRuleError(Rule.LOANS)
    return value


# What may be sent is either form of a number; what is shown is a string without leading zeros (design decision 9).
_Digits12 = Annotated[str, Field(pattern="^[0-9]{1,12}$")]
_Digits6 = Annotated[str, Field(pattern="^[0-9]{1,6}$")]
_Digits3 = Annotated[str, Field(pattern="^[0-9]{1,3}$")]
_Integer12 = Annotated[int, Field(ge=0, lt=10**12)]
_Integer6 = Annotated[int, Field(ge=0, lt=10**6)]
_Integer3 = Annotated[int, Field(ge=0, lt=10**3)]
_Shown12 = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,11})$")]
_Shown6 = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,5})$")]
_Shown3 = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,2})$")]
_CoBorrowerForms = Literal["0", "1", "2", 0, 1, 2]
_DateTime = Annotated[str, Field(pattern=f"^{timestamps.PATTERN}$", json_schema_extra={"format": "date-time"})]
_Digits11 = Annotated[str, Field(pattern="^[0-9]{11}$", min_length=11, max_length=11)]
_InstitutionForm = Annotated[str, Field(pattern="^([0-9]{9}|[0-9]{4}:[0-9A-Za-z-]{1,35})$", max_length=40)]
_ProviderForm = Annotated[str, Field(pattern="^[0-9]{4}:[0-9A-Za-z-]{1,35}$", max_length=40)]
_AccountForm = Annotated[str, Field(min_length=1, max_length=fields.ACCOUNT_ID_LENGTH)]
_AccountNameForm = Annotated[str, Field(max_length=fields.ACCOUNT_NAME_LENGTH, pattern=fields.TEXT_PATTERN)] | None

Amount = Annotated[
    int,
    PlainValidator(fields.amount, json_schema_input_type=_Integer12 | _Digits12),
    PlainSerializer(str, return_type=_Shown12),
]
InterestRate = Annotated[
    int,
    PlainValidator(fields.interest_rate, json_schema_input_type=_Integer6 | _Digits6),
    PlainSerializer(str, return_type=_Shown6),
]
Terms = Annotated[
    int,
    PlainValidator(fields.terms, json_schema_input_type=_Integer3 | _Digits3),
    PlainSerializer(str, return_type=_Shown3),
]
CoBorrower = Annotated[
    int,
    PlainValidator(fields.co_borrower, json_schema_input_type=_CoBorrowerForms),
    PlainSerializer(str, return_type=Literal["0", "1", "2"]),
]
InstallmentChargePeriod = Annotated[
    str, PlainValidator(fields.installment_charge_period, json_schema_input_type=Literal["MONTHLY"])
]
Timestamp = Annotated[
    str,
    PlainValidator(_timestamp, json_schema_input_type=_DateTime),
    PlainSerializer(timestamps.shorten, return_type=_DateTime),
]
Received = Annotated[
    str,
    PlainValidator(timestamps.normalise, json_schema_input_type=_DateTime),
    PlainSerializer(timestamps.shorten, return_type=_DateTime),
]
AccountId = Annotated[str, PlainValidator(fields.account_id, json_schema_input_type=_AccountForm)]
AccountName = Annotated[str | None, PlainValidator(fields.account_name, json_schema_input_type=_AccountNameForm)]
CustomerId = Annotated[str, PlainValidator(_customer_id, json_schema_input_type=_Digits11)]
InstitutionId = Annotated[str, PlainValidator(fields.institution, json_schema_input_type=_InstitutionForm)]
ProviderId = Annotated[str, PlainValidator(fields.provider, json_schema_input_type=_ProviderForm)]


class SpecModel(BaseModel):
    """SPEC's names outside, ours inside."""

    model_config = ConfigDict(
        alias_generator=fields.spec_name,
        field_title_generator=lambda name, _: fields.spec_name(name),
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        strict=True,
    )


class Loan(SpecModel):
    """What the three types of loan have in common."""

    timestamp: Timestamp = Field(description="When the data was extracted from the institution's system.")
    account_id: AccountId = Field(description="Identifier of the account or loan, unique within the institution.")
    account_name: AccountName = Field(default=None, description="Name of the account or product, for the customer.")
    co_borrower: CoBorrower = Field(description="2: has a co-borrower. 1: is a co-borrower. 0: neither.")


class RepaymentLoan(Loan):
    """A loan that is paid back in terms (SPEC 4.2.3)."""

    type: Literal["repaymentLoan"] = Field(description="Tells it from the other types of loan.")
    original_balance: Amount = Field(description="The amount that was granted, in øre.")
    balance: Amount = Field(description="What is left, in øre; 0 if the institution owes the customer.")
    terms: Terms = Field(description="Remaining terms in months.")
    nominal_interest_rate: InterestRate = Field(description="In hundredths of a per cent: 10.20 % is 1020.")
    installment_charges: Amount = Field(description="Charges a month, in øre.")
    installment_charge_period: InstallmentChargePeriod = Field(description="Always MONTHLY.")

    def to_register(self) -> loans.RepaymentLoan:
        """The loan as the register keeps it."""
        return loans.RepaymentLoan(
            self.account_id,
            self.timestamp,
            self.account_name,
            self.original_balance,
            self.balance,
            self.terms,
            self.nominal_interest_rate,
            self.installment_charges,
            self.co_borrower,
        )


class CreditFacility(Loan):
    """Credit that can be drawn up to a limit and paid back again (SPEC 4.2.4)."""

    type: Literal["creditFacility"] = Field(description="Tells it from the other types of loan.")
    credit_limit: Amount = Field(description="The most that may be drawn, in øre.")
    interest_bearing_balance: Amount = Field(description="In øre; 0 if the institution owes the customer.")
    non_interest_bearing_balance: Amount = Field(description="In øre; 0 if the institution owes the customer.")
    nominal_interest_rate: InterestRate = Field(description="In hundredths of a per cent: 10.20 % is 1020.")
    installment_charges: Amount = Field(description="Charges a month, in øre.")
    installment_charge_period: InstallmentChargePeriod = Field(description="Always MONTHLY.")

    def to_register(self) -> loans.CreditFacility:
        """The loan as the register keeps it."""
        return loans.CreditFacility(
            self.account_id,
            self.timestamp,
            self.account_name,
            self.credit_limit,
            self.interest_bearing_balance,
            self.non_interest_bearing_balance,
            self.nominal_interest_rate,
            self.installment_charges,
            self.co_borrower,
        )


class ChargeCard(Loan):
    """A card whose bill is due as a whole (SPEC 4.2.5)."""

    type: Literal["chargeCard"] = Field(description="Tells it from the other types of loan.")
    interest_bearing_balance: Amount = Field(description="In øre; 0 if the institution owes the customer.")
    non_interest_bearing_balance: Amount = Field(description="In øre; 0 if the institution owes the customer.")

    def to_register(self) -> loans.ChargeCard:
        """The loan as the register keeps it."""
        return loans.ChargeCard(
            self.account_id,
            self.timestamp,
            self.account_name,
            self.interest_bearing_balance,
            self.non_interest_bearing_balance,
            self.co_borrower,
        )


AnyLoan = Annotated[RepaymentLoan | CreditFacility | ChargeCard, Field(discriminator="type")]


class Customer(SpecModel):
    """SPEC 4.2.2: one customer's loans at one institution."""

    customer_id: CustomerId = Field(description="National identity number (fødselsnummer) or D-number.")
    financial_institution_id: InstitutionId = Field(
        description="Organisation number, or for a foreign institution an ISO 6523 prefix, a colon and its id."
    )
    loans: Annotated[list[AnyLoan], Field(max_length=fields.MAX_LOANS), BeforeValidator(_not_too_many_loans)] = Field(
        description="Repayment loans, credit facilities and charge cards, told apart by their type."
    )

    def to_register(self) -> CustomerLoans:
        """The customer as the register keeps it."""
        return CustomerLoans(
            self.customer_id, self.financial_institution_id, tuple(loan.to_register() for loan in self.loans)
        )


class Envelope(SpecModel):
    """The outside of a message, its customers not looked at."""

    provider_id: ProviderId
    customers: list[Any]


class Organization(SpecModel):
    """SPEC 4.2.1: the message that is pushed, and a page of a dataset."""

    provider_id: ProviderId = Field(
        description="Who delivers the data, according to ISO 6523: the organisation that its certificate names."
    )
    customers: list[Customer] = Field(
        min_length=1, description="Each customer once per institution; at most 1,000 in a push."
    )


class Response(SpecModel):
    """What we answer: made by our names, shown by SPEC's."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    timestamp: Received = Field(description="When the message was received.")
    uuid: UUID = Field(description="Identifier of the message.", json_schema_extra={"maxLength": 36})


class SuccessResponse(Response):
    """The message was received, and is dealt with (SPEC 4.3)."""


class ErrorResponse(Response):
    """What is wrong (SPEC 4.4)."""

    error_message: str = Field(description="What is wrong, in printable ASCII.")


class SsnResponse(SpecModel):
    """SPEC 4.5: the numbers of all customers of an institution."""

    provider_id: ProviderId = Field(description="Who delivers the data, according to ISO 6523.")
    financial_institution_id: InstitutionId = Field(description="The institution whose customers these are.")
    timestamp: Timestamp = Field(description="When the data was extracted from the institution's system.")
    customers: list[CustomerId] = Field(description="National identity numbers and D-numbers.")


def parse_organization(body: bytes, *, accepts: Accepts, now: datetime, limit: int = MAX_VIOLATIONS) -> Message:
    """Read a message of SPEC 4.2 (a push).

    ``now`` is aware. Raises InvalidMessageError with the first ``limit`` faults and their number; a message whose
    outside is broken says only that.
    """
    circumstances = Circumstances.at(now, accepts)
    violations = Violations(limit)
    envelope = read_envelope(strict_json.parse(body))
    if not envelope.customers:
        raise InvalidMessageError([Violation("/customers", Rule.CUSTOMERS)])
    # Customer by customer: what describes the faults is then never larger than the worst customer.
    customers: dict[tuple[str, str], CustomerLoans] = {}
    for index, element in enumerate(envelope.customers):
        place = f"/customers/{index}"
        try:
            customer = read_customer(element, place, circumstances)
        except InvalidMessageError as exc:
            violations.take(exc)
            continue
        if customers.setdefault((customer.customer_id, customer.financial_institution_id), customer) is not customer:
            violations.add(Violation(place, Rule.CUSTOMER_TWICE))
    if violations:
        raise InvalidMessageError(violations.first, violations.total)
    return Message(envelope.provider_id, tuple(customers.values()))


def read_envelope(data: object) -> Envelope:
    """Read the outside of a message; raises InvalidMessageError."""
    try:
        return Envelope.model_validate(data)
    except ValidationError as exc:
        # Without the cause: its text quotes the message.
        raise InvalidMessageError(list(violations_of(exc, ""))) from None


def read_customer(element: object, place: str, circumstances: Circumstances) -> CustomerLoans:
    """Read an element of ``customers`` that lies at ``place``; raises InvalidMessageError with all its faults."""
    try:
        customer = Customer.model_validate(element, context=circumstances).to_register()
    except ValidationError as exc:
        raise InvalidMessageError(list(violations_of(exc, place))) from None
    repeated = list(repeated_loans(customer.loans))
    if repeated:
        raise InvalidMessageError([Violation(f"{place}/loans/{index}", Rule.LOAN_TWICE) for index in repeated])
    return customer


_PYDANTIC_RULES = {
    "missing": Rule.MANDATORY,
    "model_type": Rule.OBJECT,
    "model_attributes_type": Rule.OBJECT,
    "list_type": Rule.ARRAY,
    "union_tag_not_found": Rule.LOAN_TYPE,
    "union_tag_invalid": Rule.LOAN_TYPE,
}
_LOAN_TYPES = ("repaymentLoan", "creditFacility", "chargeCard")


def violations_of(error: ValidationError, place: str) -> Iterator[Violation]:
    """Pydantic's faults as places and rules of ours: its own texts quote the message."""
    for fault in error.errors(include_url=False, include_input=False):
        # Pydantic puts the discriminator's value into the location of everything inside a loan.
        location = "".join(f"/{part}" for part in fault["loc"] if part not in _LOAN_TYPES)
        if fault["type"].startswith("union_tag"):
            location += "/type"
        yield Violation(place + location, _rule_of(fault["type"], fault.get("ctx", {}).get("error")))


def _rule_of(kind: str, cause: object) -> Rule:
    return cause.rule if isinstance(cause, BrokenRuleError) else _PYDANTIC_RULES[kind]
