"""An institution's answer about one customer (SPEC 3.1.2 and 6.1).

It comes in four shapes: SPEC's message around one customer, the customer alone (as Norsk Gjeldsinformasjon documents
it), and where there is no debt SPEC's message with empty ``customers``, or a customer with empty ``loans``. A customer
is held to the same rules in all of them, and to those of a dataset.
"""

from collections.abc import Mapping
from datetime import datetime

from gjeldsbro.domain import fields, strict_json
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.loans import Loan
from gjeldsbro.domain.messages import read_customer
from gjeldsbro.domain.rules import BrokenRuleError, Rule
from gjeldsbro.errors import InvalidMessageError, Violation


def read_customer_answer(
    body: bytes, *, customer_id: str, institution: str, provider: str, accepts: Accepts, now: datetime
) -> tuple[Loan, ...]:
    """The loans in the answer of ``provider`` about ``customer_id`` at ``institution``; () for none. ``now`` is aware.

    It must be about that customer and that institution (a foreign one may be named without its ISO 6523 prefix), and
    from that provider where it says so. Raises InvalidMessageError with places and rules.
    """
    answer = strict_json.parse(body)
    if not isinstance(answer, dict):
        raise _fault("", Rule.OBJECT)
    if "providerID" in answer:
        _check_provider(answer["providerID"], provider)
    if "customers" not in answer:
        element, place = answer, ""
    elif answer.keys() & {"customerID", "loans"}:
        raise _fault("", Rule.ONE_SHAPE)
    else:
        customers = answer["customers"]
        if not isinstance(customers, list):
            raise _fault("/customers", Rule.ARRAY)
        if not customers:
            return ()
        if len(customers) > 1:
            raise _fault("/customers", Rule.ONE_CUSTOMER)
        element, place = customers[0], "/customers/0"
    customer = read_customer(_with_prefix(element, institution), place, Circumstances.at(now, accepts))
    if customer.customer_id != customer_id:
        raise _fault(f"{place}/customerID", Rule.OTHER_CUSTOMER)
    if customer.financial_institution_id != institution:
        raise _fault(f"{place}/financialInstitutionID", Rule.OTHER_INSTITUTION)
    return customer.loans


def _check_provider(value: object, provider: str) -> None:
    try:
        named = fields.provider(value)
    except BrokenRuleError as exc:
        raise _fault("/providerID", exc.rule) from None
    if named != provider:
        raise _fault("/providerID", Rule.OTHER_PROVIDER)


def _with_prefix(element: object, institution: str) -> object:
    """The customer with its institution named as we name it, if nothing but a foreign one's prefix is missing."""
    number = institution.rpartition(":")[2]
    if isinstance(element, Mapping) and element.get("financialInstitutionID") == number:
        return {**element, "financialInstitutionID": institution}
    return element


def _fault(place: str, rule: Rule) -> InvalidMessageError:
    return InvalidMessageError([Violation(place, rule)])
