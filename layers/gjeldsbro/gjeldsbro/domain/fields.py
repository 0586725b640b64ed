"""The rules of SPEC 4.2 for single fields, once each, as plain functions.

Both ways into the system use them: ``messages`` (pydantic, with a pointer to every fault) and ``dataset_page``
(msgspec, for pages of 100 MB). A function takes the value as it came out of the JSON, of whatever type, and returns it
in the form that the system keeps, or raises BrokenRuleError. Datasets go through them millions of times a night: the
common case comes first.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Self, cast

import msgspec

from gjeldsbro.domain import identity_numbers, timestamps
from gjeldsbro.domain.identity_numbers import Accepts
from gjeldsbro.domain.rules import BrokenRuleError, Rule

MAX_LOANS = 1000
"""Loans of one customer at one institution: far beyond any person's, and what keeps one item in DynamoDB's 400 KB."""

AMOUNT_DIGITS, RATE_DIGITS, TERMS_DIGITS = 12, 6, 3
"""SPEC's N12, N6 and N3."""

ACCOUNT_ID_LENGTH = 25
ACCOUNT_NAME_LENGTH = 255
"""SPEC sets no limit; this one keeps a customer small enough to store."""

_CO_BORROWER: dict[str | int, int] = {"0": 0, "1": 1, "2": 2, 0: 0, 1: 1, 2: 2}
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Also the line and paragraph separators, which are line ends, and lone surrogates, which are not text."""

TEXT_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
"""The same for those who read the interface's description; in UTF-8 there are no surrogates anyway."""


class Circumstances(NamedTuple):
    """What the rules depend on beside the message: which customer numbers are let in, and what time it is."""

    accepts: Accepts
    latest: str
    """The latest timestamp that is not in the future, in the fixed form of ``timestamps``."""

    @classmethod
    def at(cls, now: datetime, accepts: Accepts) -> Self:
        """The circumstances at ``now`` (aware)."""
        return cls(accepts, timestamps.from_datetime(now + timestamps.MAX_FUTURE))


def spec_name(name: str) -> str:
    """SPEC's name of one of our attributes: ``customer_id`` is ``customerID``, ``co_borrower`` is ``coBorrower``."""
    first, *others = name.split("_")
    return first + "".join("ID" if other == "id" else other.capitalize() for other in others)


def _number(digits: int, rule: Rule) -> Callable[[object], int]:
    limit = 10**digits

    def number(value: object) -> int:
        if type(value) is str:
            if len(value) <= digits and value.isdigit() and value.isascii():
                return int(value)
        elif type(value) is int and 0 <= value < limit:
            return value
        raise BrokenRuleError(rule)

    return number


# SPEC's format N (4.1): a JSON integer or a string of ASCII digits (design decision 9). Leading zeros count as digits.
amount = _number(AMOUNT_DIGITS, Rule.NUMBER_12)
"""An amount in øre, N12."""

interest_rate = _number(RATE_DIGITS, Rule.NUMBER_6)
"""A nominal interest rate in hundredths of a per cent, N6."""

terms = _number(TERMS_DIGITS, Rule.NUMBER_3)
"""Remaining terms in months, N3."""


def whole_numbers(values: Sequence[int | str]) -> list[int]:
    """Numbers in both forms, at least one, whose lengths and bounds are right already.

    Raises ValueError unless all the strings are made of ASCII digits.
    """
    try:
        texts = "".join(cast("Sequence[str]", values))
    except TypeError:  # an integer is among them
        texts = "".join([value for value in values if type(value) is str]) or "0"
    if not texts.encode().isdigit():
        raise ValueError("not all of them are made of digits")
    try:
        return msgspec.convert(values, list[int], strict=False)  # takes more than digits, but is faster than int()
    except msgspec.ValidationError:  # leading zeros
        return list(map(int, values))


def co_borrower(value: object) -> int:
    """0 for none, 1 for being one, 2 for having one; N1, in both forms of a number."""
    if type(value) is str or type(value) is int:
        known = _CO_BORROWER.get(value)
        if known is not None:
            return known
    raise BrokenRuleError(Rule.CO_BORROWER)


def installment_charge_period(value: object) -> str:
    """MONTHLY: SPEC has institutions recalculate all other periods."""
    if value == "MONTHLY":
        return "MONTHLY"
    raise BrokenRuleError(Rule.INSTALLMENT_CHARGE_PERIOD)


def timestamp(value: object, latest: str) -> str:
    """A point in time in the fixed form of ``timestamps``, not after ``latest`` (the same form)."""
    if type(value) is not str:
        raise BrokenRuleError(Rule.TIMESTAMP)
    try:
        fixed = timestamps.normalise(value)
    except ValueError:
        # Without the cause: its text quotes the value.
        raise BrokenRuleError(Rule.TIMESTAMP) from None
    if fixed > latest:
        raise BrokenRuleError(Rule.FUTURE)
    return fixed


def account_id(value: object) -> str:
    """An accountID, opaque: SPEC says N25 and then allows masked card numbers; letters and digits occur in practice."""
    if type(value) is str and 0 < len(value) <= ACCOUNT_ID_LENGTH and value.isprintable():
        return value
    raise BrokenRuleError(Rule.ACCOUNT_ID)


def account_ids(values: Sequence[str]) -> Sequence[str]:
    """Many accountIDs, whose lengths are right already. Raises ValueError unless all are printable."""
    if not "".join(values).isprintable():
        raise ValueError("not all of them are printable")
    return values


def account_name(value: object) -> str | None:
    """An accountName or, where there is none, None. SPEC says ASCII and shows Norwegian letters: any text will do."""
    if value is None:
        return None
    if type(value) is str and len(value) <= ACCOUNT_NAME_LENGTH and _is_text(value):
        return value
    raise BrokenRuleError(Rule.ACCOUNT_NAME)


def _is_text(value: str) -> bool:
    # isprintable alone would refuse blanks that do not break.
    return value.isprintable() or _CONTROL_CHARACTERS.search(value) is None


def customer_id(value: object, accepts: Accepts) -> str:
    """A customerID: the number of a person that ``accepts`` lets in."""
    if type(value) is not str:
        raise BrokenRuleError(identity_numbers.CUSTOMER_ID_RULES[accepts])
    rule = identity_numbers.customer_id_fault(value, accepts)
    if rule is not None:
        raise BrokenRuleError(rule)
    return value


def institution(value: object) -> str:
    """A financialInstitutionID."""
    if type(value) is str and identity_numbers.institution_fault(value) is None:
        return value
    raise BrokenRuleError(Rule.INSTITUTION)


def provider(value: object) -> str:
    """A providerID."""
    if type(value) is str and identity_numbers.provider_fault(value) is None:
        return value
    raise BrokenRuleError(Rule.PROVIDER)
