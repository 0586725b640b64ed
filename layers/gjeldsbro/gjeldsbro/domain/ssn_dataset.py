"""Reading the list of an institution's customers (SPEC 4.5): up to millions of numbers in one body, without pages.

As with pages of loans, msgspec reads what is in order, and anything out of the ordinary is read again by the standard
library's parser under our strict rules, which has the last word. So the quick way may refuse too much, never too
little.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from gjeldsbro.domain import fields, strict_json
from gjeldsbro.domain.fields import Circumstances
from gjeldsbro.domain.identity_numbers import (
    CUSTOMER_ID_RULES,
    Accepts,
    is_customer_id,
    may_mean_institution,
)
from gjeldsbro.domain.rules import BrokenRuleError, Rule
from gjeldsbro.domain.violations import MAX_VIOLATIONS, Violations
from gjeldsbro.errors import InvalidMessageError, Violation

_ESCAPED_COLON = b"\\u003"
"""How the escape of a colon begins (see ``dataset_page``)."""


class CustomerList(NamedTuple):
    """What a list says: when it was made (fixed form), and whose customers they are, in its order.

    With violations (the first of them, and their total) there are neither.
    """

    timestamp: str
    customers: list[str]
    violations: list[Violation]
    total_violations: int


class _List(msgspec.Struct, gc=False, rename=fields.spec_name):
    provider_id: str
    financial_institution_id: str
    timestamp: str
    customers: list[str]


_LIST = msgspec.json.Decoder(_List)
_NAMES = tuple(fields.spec_name(name) for name in _List.__struct_fields__)


def read_customer_list(
    body: bytes,
    *,
    institution: str,
    provider: str,
    accepts: Accepts,
    now: datetime,
    limit: int = MAX_VIOLATIONS,
) -> CustomerList:
    """Read the list that ``provider`` delivers of ``institution``'s customers (SPEC 3.1.2 and 4.5).

    A foreign institution's id may lack its prefix, as in SPEC's appendix E. A list without customers is valid, as a
    page without any is. That a customer comes twice is not noticed here. ``now`` is aware.
    """
    violations = Violations(limit)
    read = _read_quickly(body)
    if read is None:
        try:
            read = _read_strictly(body)
        except InvalidMessageError as exc:
            return CustomerList("", [], list(exc.violations[:limit]), exc.total)
    circumstances = Circumstances.at(now, accepts)
    if read.provider_id != provider:
        violations.add(Violation("/providerID", Rule.OTHER_PROVIDER))
    if not may_mean_institution(read.financial_institution_id, institution):
        violations.add(Violation("/financialInstitutionID", Rule.OTHER_INSTITUTION))
    timestamp = ""
    try:
        timestamp = fields.timestamp(read.timestamp, circumstances.latest)
    except BrokenRuleError as exc:
        violations.add(Violation("/timestamp", exc.rule))
    rule = CUSTOMER_ID_RULES[accepts]
    customers: list[str] = []
    for number, customer in enumerate(read.customers):
        if type(customer) is str and is_customer_id(customer, accepts):
            customers.append(customer)
        else:
            violations.add(Violation(f"/customers/{number}", rule))
    if violations:
        return CustomerList("", [], violations.first, violations.total)
    return CustomerList(timestamp, customers, [], 0)


class _Anything(NamedTuple):
    """A document with SPEC 4.5's four names, their values not looked at, but that ``customers`` is an array."""

    provider_id: object
    financial_institution_id: object
    timestamp: object
    customers: Sequence[object]


def _read_quickly(body: bytes) -> _Anything | None:
    """The document, or None where anything about it is wrong or out of the ordinary."""
    try:
        read = _LIST.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    # Every colon either follows one of the four names or stands in a value: otherwise something was said twice, or
    # passed over. An escaped one could hide in a name.
    texts = (read.provider_id, read.financial_institution_id, read.timestamp)
    if body.count(b":") != len(_NAMES) + sum(text.count(":") for text in texts) or _ESCAPED_COLON in body:
        return None
    return _Anything(*texts, read.customers)


def _read_strictly(body: bytes) -> _Anything:
    """The document; raises InvalidMessageError when its outside is broken."""
    document = strict_json.parse(body)
    if not isinstance(document, dict):
        raise InvalidMessageError([Violation("", Rule.OBJECT)])
    missing = [Violation(f"/{name}", Rule.MANDATORY) for name in _NAMES if name not in document]
    if missing:
        raise InvalidMessageError(missing)
    read = _Anything(*(document[name] for name in _NAMES))
    if not isinstance(read.customers, list):
        raise InvalidMessageError([Violation("/customers", Rule.ARRAY)])
    return read
