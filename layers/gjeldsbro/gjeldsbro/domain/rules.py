"""The rules of SPEC chapter 4, one sentence each: what an answer, a report or a log says when one is broken.

A sentence says what should have been there and where that is written, never what was there. All are printable ASCII,
because they end up in SPEC's ``errorMessage`` (4.4, format TXT).
"""

from enum import StrEnum


class Rule(StrEnum):
    """Every rule that a message or a dataset page can break."""

    UTF_8 = "the body must be UTF-8 without a byte-order mark (SPEC 3.1.2)"
    JSON = "the body must be one well-formed JSON document (SPEC 4.2)"
    JSON_TEXT = "a string must not hold half of a surrogate pair (RFC 8259 section 8.2)"
    JSON_DEPTH = "the body must not be nested deeper than 10 levels (SPEC 4.2 has 5)"
    JSON_NAMES = "a name must not occur twice in one JSON object (RFC 8259 section 4)"
    OBJECT = "must be a JSON object (SPEC 4.2)"
    ARRAY = "must be a JSON array (SPEC 4.2)"
    MANDATORY = "is mandatory (SPEC 4.2)"

    NUMBER_12 = "must be a JSON integer or a string of 1 to 12 digits, not negative (SPEC 4.1, N12)"
    NUMBER_6 = "must be a JSON integer or a string of 1 to 6 digits, not negative (SPEC 4.1, N6)"
    NUMBER_3 = "must be a JSON integer or a string of 1 to 3 digits, not negative (SPEC 4.1, N3)"
    CO_BORROWER = "must be 0, 1 or 2 (SPEC 4.2.3 to 4.2.5)"
    INSTALLMENT_CHARGE_PERIOD = "must be MONTHLY (SPEC 4.2.3 and 4.2.4)"
    TIMESTAMP = "must be an ISO 8601 date and time with seconds and Z or an offset (SPEC 4.1)"
    FUTURE = "must not be more than 5 minutes in the future (SPEC 4.2.3 to 4.2.5: the time of the extract)"
    ACCOUNT_ID = "must be a string of 1 to 25 printable characters (SPEC 4.2.3 to 4.2.5)"
    ACCOUNT_NAME = "must be a string of at most 255 characters without control characters (SPEC 4.2.3 to 4.2.5)"
    LOAN_TYPE = "must be repaymentLoan, creditFacility or chargeCard (SPEC 4.2.3 to 4.2.5)"

    CUSTOMER_ID = "must be a valid national identity number or D-number, a string of 11 digits (SPEC 4.2.2)"
    SYNTHETIC_CUSTOMER_ID = (
        "must be a valid synthetic identity number, a string of 11 digits with 80 added to the month (SPEC 4.2.2)"
    )
    CUSTOMER_ID_FORM = "must be a string of 11 digits (SPEC 4.2.2)"
    ORGANISATION_NUMBER = "must be a Norwegian organisation number: 9 digits with a valid check digit"
    INSTITUTION = "must be a Norwegian organisation number, or an ISO 6523 prefix, a colon and an id (SPEC 4.2.2)"
    PROVIDER = "must be an ISO 6523 prefix, a colon and the organisation's number (SPEC 4.2.1)"
    ORGANISATION_IDENTIFIER = (
        "must be an organizationIdentifier such as NTRSE-5569622441 or PSDSE-FINA-44059 (ETSI EN 319 412-1, 5.1.4)"
    )

    CUSTOMERS = "must hold at least one customer (SPEC 4.2.1)"
    CUSTOMER_TWICE = "must not occur twice for one institution in a message (SPEC appendix C)"
    LOANS = "must hold at most 1000 loans"
    LOAN_TWICE = (
        "must not have the type and accountID of another loan of the customer (SPEC 4.2.3: accountID is unique)"
    )

    OTHER_PROVIDER = "must be the provider that the data was asked of (SPEC 4.2.1)"
    OTHER_INSTITUTION = "must be the institution that the data was asked for (SPEC 3.1.2)"
    OTHER_CUSTOMER = "must be the customer that was asked for (SPEC 6.1)"
    ONE_CUSTOMER = "must hold no more than the one customer that was asked for (SPEC 6.1)"
    ONE_SHAPE = "must be a customer, or an object with customers, not both (SPEC 4.2.1 and 4.2.2)"

    REFERENCE = "must be a string of 1 to 100 printable characters, not only blanks, without an identity number"
    MESSAGE_TO_CUSTOMER = "must be a line of at most 100 printable characters, not blank, without an identity number"
    CO_BORROWERS = "must hold at most 10 co-borrowers"
    CO_BORROWER_TWICE = "must not be the person who is looked up, nor occur twice"
    TIME_TO_WAIT = "must be a JSON integer or a string of digits, 1000 to 60000 (milliseconds)"
    PURPOSE = "must be creditApplication, changeOfTerms, payoutControl, startLoan or creditAssessment"


class BrokenRuleError(ValueError):
    """A value breaks ``rule``. The value itself is not kept."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        super().__init__(rule.value)
