"""A page of a dataset as a user of pydantic would write it: a model with types only, and one with SPEC's rules.

The rules are pydantic's own wherever it has them, which is fastest for it. Timestamps become datetimes and lose their
seventh digit; that nothing is said twice, what may stand in texts, and the institution's number are not checked.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from gjeldsbro.domain.fields import spec_name
from gjeldsbro.domain.identity_numbers import is_customer_id


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=spec_name)


class _BareLoan(_Model):
    type: str
    timestamp: AwareDatetime
    account_id: str
    co_borrower: int
    account_name: str | None = None
    original_balance: int = 0
    balance: int = 0
    terms: int = 0
    credit_limit: int = 0
    interest_bearing_balance: int = 0
    non_interest_bearing_balance: int = 0
    nominal_interest_rate: int = 0
    installment_charges: int = 0
    installment_charge_period: str = ""


class _BareCustomer(_Model):
    customer_id: str
    financial_institution_id: str
    loans: list[_BareLoan]


class BarePage(_Model):
    """SPEC 4.2.1, types only."""

    provider_id: str
    customers: list[_BareCustomer]


def _customer_id(text: str) -> str:
    if not is_customer_id(text, "synthetic"):
        raise ValueError("no customerID")
    return text


_Amount = Annotated[int, Field(ge=0, lt=10**12)]
_Rate = Annotated[int, Field(ge=0, lt=10**6)]
_Terms = Annotated[int, Field(ge=0, lt=10**3)]


class _Loan(_Model):
    timestamp: AwareDatetime
    account_id: Annotated[str, StringConstraints(min_length=1, max_length=25)]
    co_borrower: Annotated[int, Field(ge=0, le=2)]
    account_name: Annotated[str, StringConstraints(max_length=255)] | None = None


class _RepaymentLoan(_Loan):
    type: Literal["repaymentLoan"]
    original_balance: _Amount
    balance: _Amount
    terms: _Terms
    nominal_interest_rate: _Rate
    installment_charges: _Amount
    installment_charge_period: Literal["MONTHLY"]


class _CreditFacility(_Loan):
    type: Literal["creditFacility"]
    credit_limit: _Amount
    interest_bearing_balance: _Amount
    non_interest_bearing_balance: _Amount
    nominal_interest_rate: _Rate
    installment_charges: _Amount
    installment_charge_period: Literal["MONTHLY"]


class _ChargeCard(_Loan):
    type: Literal["chargeCard"]
    interest_bearing_balance: _Amount
    non_interest_bearing_balance: _Amount


class _Customer(_Model):
    customer_id: Annotated[str, AfterValidator(_customer_id)]
    financial_institution_id: str
    loans: list[Annotated[_RepaymentLoan | _CreditFacility | _ChargeCard, Field(discriminator="type")]]


class Page(_Model):
    """SPEC 4.2.1, with its rules."""

    provider_id: str
    customers: list[_Customer]
