import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain import fields
from gjeldsbro.domain.rules import BrokenRuleError, Rule

LATEST = "2026-11-22T05:05:00.0000000Z"


def broken(check, value, *more) -> Rule:
    """The rule that a value breaks."""
    with pytest.raises(BrokenRuleError) as caught:
        check(value, *more)
    return caught.value.rule


NUMBERS = [
    (fields.amount, 12, Rule.NUMBER_12),
    (fields.interest_rate, 6, Rule.NUMBER_6),
    (fields.terms, 3, Rule.NUMBER_3),
]


@pytest.mark.parametrize(("check", "digits", "rule"), NUMBERS)
def test_numbers_in_both_forms(check, digits, rule):
    """A JSON integer and a string of digits, with and without leading zeros, give the same number."""
    largest = 10**digits - 1
    for value in (0, 7, largest):
        assert check(value) == check(str(value)) == check(str(value).zfill(digits)) == value


@pytest.mark.parametrize(("check", "digits", "rule"), NUMBERS)
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(-1, id="negative"),
        pytest.param("-1", id="negative string"),
        pytest.param("-0", id="minus nothing"),
        pytest.param("+1", id="plus"),
        pytest.param(1.0, id="float"),
        pytest.param("1.0", id="decimal point"),
        pytest.param("1,0", id="decimal comma"),
        pytest.param("1e2", id="exponent"),
        pytest.param(True, id="boolean"),
        pytest.param(None, id="null"),
        pytest.param("", id="empty"),
        pytest.param(" ", id="blank"),
        pytest.param(" 1", id="blank before"),
        pytest.param("1\n", id="line end"),
        pytest.param("1_0", id="underscore"),
        pytest.param("0x1", id="hexadecimal"),
        pytest.param("\u0661", id="Arabic digit"),
        pytest.param("\uff11", id="full-width digit"),
        pytest.param("\u00b2", id="superscript"),
        pytest.param([1], id="array"),
        pytest.param({}, id="object"),
        pytest.param(10**12, id="13 digits"),
        pytest.param("0" * 13, id="13 zeros"),
        pytest.param(10**30, id="31 digits"),
    ],
)
def test_no_numbers(check, digits, rule, value):
    """Anything else is refused by the rule of the field's length."""
    assert broken(check, value) == rule


@pytest.mark.parametrize(("check", "digits", "rule"), NUMBERS)
def test_numbers_with_one_digit_too_many(check, digits, rule):
    """Leading zeros count as digits."""
    assert broken(check, 10**digits) == rule
    assert broken(check, "1".zfill(digits + 1)) == rule


@given(st.lists(st.integers(0, 10**12 - 1) | st.text("0123456789", min_size=1, max_size=12), min_size=1))
def test_many_numbers_at_once(values):
    """Together, numbers in both forms give what each of them gives."""
    assert list(fields.whole_numbers(values)) == [fields.amount(value) for value in values]


@pytest.mark.parametrize(
    "value", ["-1", "-0", "+1", "1.0", "1e2", " ", " 1", "1\n", "1_0", "\u0661", "\uff11", "\u00b2", "\ud800"]
)
@pytest.mark.parametrize("others", [["7"], [7], ["007"], []])
def test_one_of_many_is_no_number(value, others):
    """Anything but digits in one string refuses them all."""
    with pytest.raises(ValueError):  # noqa: PT011 - nothing is said of which one
        fields.whole_numbers([*others, value, *others])


@pytest.mark.parametrize("value", [0, 1, 2, "0", "1", "2"])
def test_co_borrower(value):
    """A co-borrower is 0, 1 or 2, in both forms of a number."""
    assert fields.co_borrower(value) == int(value)


@pytest.mark.parametrize("value", [3, -1, "3", "00", "", None, True, False, 1.0, [], {}, "nei", 10**30])
def test_no_co_borrower(value):
    """NoGI's fourth check: explicitly 0, 1 or 2."""
    assert broken(fields.co_borrower, value) == Rule.CO_BORROWER


def test_installment_charge_period():
    """MONTHLY is the only period that SPEC allows."""
    assert fields.installment_charge_period("MONTHLY") == "MONTHLY"
    for value in ("QUARTERLY", "HALF-YEARLY", "YEARLY", "monthly", "MONTHLY ", "", None, 1, []):
        assert broken(fields.installment_charge_period, value) == Rule.INSTALLMENT_CHARGE_PERIOD


def test_timestamp_up_to_the_latest():
    """A timestamp may be as late as the latest, not a tenth of a microsecond later."""
    assert fields.timestamp("2026-11-22T05:05:00Z", LATEST) == LATEST
    assert fields.timestamp("2026-11-22T06:05:00+01:00", LATEST) == LATEST
    assert broken(fields.timestamp, "2026-11-22T05:05:00.0000001Z", LATEST) == Rule.FUTURE


@pytest.mark.parametrize(
    "value", ["", "2026-11-22", "2026-11-22T05:00:00", "2026-13-01T00:00:00Z", None, 1700000000, []]
)
def test_no_timestamp(value):
    """What is not a date and time with an offset is refused."""
    assert broken(fields.timestamp, value, LATEST) == Rule.TIMESTAMP


@pytest.mark.parametrize("value", ["1", "1234 56** **** 7890", "a" * 25, "507f1f77bcf86cd799439011", "ÆØÅ"])
def test_account_id(value):
    """An accountID is opaque: numbers, masked card numbers and letters occur."""
    assert fields.account_id(value) == value


@pytest.mark.parametrize("value", ["", "a" * 26, "1\n", "1\x00", "1\u200b", "\ud800", None, 4001, True, []])
def test_no_account_id(value):
    """Empty, longer than 25, not printable, or not a string."""
    assert broken(fields.account_id, value) == Rule.ACCOUNT_ID


@pytest.mark.parametrize("value", [None, "", "Kort", "Forbrukslån 100%", "Kort\u00a0Gull", "Kort 💳", "x" * 255])
def test_account_name(value):
    """An accountName is optional and may be any text, blanks that do not break included."""
    assert fields.account_name(value) == value


@pytest.mark.parametrize(
    "value", ["x" * 256, "a\tb", "a\nb", "a\x00", "a\x7f", "a\x85", "a\u2028b", "\udc00", 1, False, []]
)
def test_no_account_name(value):
    """Control characters, line ends of all kinds, half a surrogate pair, and what is not a string are refused."""
    assert broken(fields.account_name, value) == Rule.ACCOUNT_NAME


@pytest.mark.parametrize("value", [None, 14842249091, True, [], {}])
def test_ids_are_strings(value):
    """Identifiers are strings; a customerID as a JSON integer would have lost its leading zero."""
    assert broken(fields.customer_id, value, "synthetic") == Rule.SYNTHETIC_CUSTOMER_ID
    assert broken(fields.institution, value) == Rule.INSTITUTION
    assert broken(fields.provider, value) == Rule.PROVIDER


def test_ids():
    """Valid identifiers are returned as they came."""
    assert fields.customer_id("14842249091", "synthetic") == "14842249091"
    assert fields.institution("920013015") == "920013015"
    assert fields.provider("9908:920013015") == "9908:920013015"
    assert broken(fields.customer_id, "14842249091", "production") == Rule.CUSTOMER_ID


@pytest.mark.parametrize(
    ("ours", "spec"),
    [
        ("customer_id", "customerID"),
        ("financial_institution_id", "financialInstitutionID"),
        ("non_interest_bearing_balance", "nonInterestBearingBalance"),
        ("loans", "loans"),
    ],
)
def test_names(ours, spec):
    """Our attribute names turn into SPEC's."""
    assert fields.spec_name(ours) == spec


@pytest.mark.parametrize("rule", list(Rule))
def test_rules_are_printable_ascii(rule):
    """SPEC's errorMessage takes printable ASCII only."""
    assert rule.isascii()
    assert rule.isprintable()
