import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.spec_messages import customer_ids

from gjeldsbro.domain import identity_numbers as numbers
from gjeldsbro.domain.rules import Rule

PUBLISHED_SYNTHETIC = (
    "14842249091",
    "29868099311",
    "17912099997",
    "57912075186",
    "29822099635",
    "69822075096",
    "12829499914",
    "52829400197",
)


def complete(first_nine: str, remainder: int = 0) -> str:
    """The number that begins so; fails the test where there is none."""
    number = numbers.with_check_digits(first_nine, remainder)
    assert number is not None
    return number


def first_issued(date: str, remainder: int = 0) -> str:
    """The first number of a date that exists."""
    return next(filter(None, (numbers.with_check_digits(f"{date}{serial:03}", remainder) for serial in range(1000))))


@pytest.mark.parametrize("number", PUBLISHED_SYNTHETIC)
def test_published_synthetic_numbers_are_synthetic_only(number):
    """Synthetic numbers that NoGI and Skatteetaten publish pass where synthetic ones do, and nowhere as a real one."""
    assert numbers.is_customer_id(number, "synthetic")
    assert not numbers.is_customer_id(number, "production")
    assert numbers.is_customer_id(number, "format")


def test_check_digits_of_published_numbers_are_found_again():
    """The check digits that we compute are those of the published numbers."""
    assert [complete(number[:9]) for number in PUBLISHED_SYNTHETIC] == list(PUBLISHED_SYNTHETIC)


@pytest.mark.parametrize("remainder", [0, 1, 2, 3])
def test_rule_of_2032_is_accepted(remainder):
    """From 2032 the first check digit's remainder may be 0, 1, 2 or 3."""
    assert numbers.is_customer_id(first_issued("158132", remainder), "synthetic")


@pytest.mark.parametrize("remainder", range(4, 10))
def test_other_remainders_are_refused(remainder):
    """No rule allows another remainder of the first check digit."""
    assert not numbers.is_customer_id(first_issued("158132", remainder), "synthetic")


@pytest.mark.parametrize(
    ("date", "production", "synthetic"),
    [
        pytest.param("010100", True, False, id="fodselsnummer"),
        pytest.param("410100", True, False, id="D-number"),
        pytest.param("014100", False, False, id="H-number"),
        pytest.param("414100", False, False, id="D- and H-number"),
        pytest.param("810100", False, False, id="FH-number"),
        pytest.param("910100", False, False, id="FH-number 9"),
        pytest.param("018100", False, True, id="synthetic"),
        pytest.param("418100", False, True, id="synthetic D-number"),
        pytest.param("016600", False, False, id="month + 65"),
        pytest.param("000100", False, False, id="day 0"),
        pytest.param("320100", False, False, id="day 32"),
        pytest.param("720100", False, False, id="D-number of day 32"),
        pytest.param("400100", False, False, id="D-number of day 0"),
        pytest.param("310400", False, False, id="31 April"),
        pytest.param("300200", False, False, id="30 February"),
        pytest.param("310100", True, False, id="31 January"),
        pytest.param("010000", False, False, id="month 0"),
        pytest.param("011300", False, False, id="month 13"),
        pytest.param("019300", False, False, id="synthetic month 13"),
        pytest.param("018000", False, False, id="synthetic month 0"),
        pytest.param("019200", False, True, id="synthetic December"),
        pytest.param("290200", True, False, id="leap day in year 00"),
        pytest.param("290296", True, False, id="leap day in year 96"),
        pytest.param("290297", False, False, id="leap day in year 97"),
        pytest.param("698297", False, False, id="synthetic D-number of a leap day in year 97"),
        pytest.param("698296", False, True, id="synthetic D-number of a leap day in year 96"),
    ],
)
def test_kinds_and_dates(date, production, synthetic):
    """Production takes fodselsnummer and D-numbers of real dates, a test environment their synthetic forms only."""
    number = first_issued(date)
    assert numbers.is_customer_id(number, "production") is production
    assert numbers.is_customer_id(number, "synthetic") is synthetic
    assert numbers.is_customer_id(number, "format")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("1484224909", id="10 digits"),
        pytest.param("148422490910", id="12 digits"),
        pytest.param(" 14842249091", id="blank before"),
        pytest.param("14842249091\n", id="line end after"),
        pytest.param("148422 49091", id="blank inside"),
        pytest.param("148422-9091", id="hyphen"),
        pytest.param("14842249o91", id="letter"),
        pytest.param("148422490\uff191", id="full-width digit"),
        pytest.param("\u0661\u0664\u0668\u0664\u0662\u0662\u0664\u0669\u0660\u0669\u0661", id="Arabic digits"),
        pytest.param("\u00b94842249091", id="superscript"),
    ],
)
@pytest.mark.parametrize("accepts", ["production", "synthetic", "format"])
def test_only_eleven_ascii_digits(text, accepts):
    """Whatever is accepted, it is exactly 11 ASCII digits."""
    assert not numbers.is_customer_id(text, accepts)
    assert numbers.customer_id_fault(text, accepts) is not None


def test_format_takes_any_eleven_digits():
    """With `format` nothing but the form counts, so that SPEC's own examples pass."""
    assert numbers.customer_id_fault("32021112345", "format") is None


@pytest.mark.parametrize(
    ("accepts", "rule"),
    [
        ("production", Rule.CUSTOMER_ID),
        ("synthetic", Rule.SYNTHETIC_CUSTOMER_ID),
        ("format", Rule.CUSTOMER_ID_FORM),
    ],
)
def test_fault_names_the_rule(accepts, rule):
    """The fault of a number is the rule of the environment."""
    assert numbers.customer_id_fault("1", accepts) == rule


@given(number=customer_ids, position=st.integers(0, 10), step=st.integers(1, 9))
def test_every_single_digit_error_is_caught(number, position, step):
    """A number with one wrong digit is never accepted, by the old and the 2032 rule together."""
    wrong = str((int(number[position]) + step) % 10)
    assert numbers.is_customer_id(number, "synthetic")
    assert not numbers.is_customer_id(number[:position] + wrong + number[position + 1 :], "synthetic")


@given(st.integers(0, 10**11 - 1))
def test_tables_agree_with_the_definition(value):
    """The look-up tables say what the weighted sums say."""
    text = f"{value:011}"
    digits = [int(digit) for digit in text]
    k1 = sum(d * w for d, w in zip(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1, 0), strict=True)) % 11
    k2 = sum(d * w for d, w in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11
    day, month, year = int(text[:2]), int(text[2:4]), int(text[4:6])
    day -= 40 if day > 40 else 0
    last = (31, 29 if year % 4 == 0 else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    expected = 1 <= month <= 12 and 1 <= day <= last[month - 1] and k1 in (0, 1, 2, 3) and k2 == 0
    assert numbers.is_customer_id(text, "production") == expected


real_ids = st.builds(
    lambda text, month: numbers.with_check_digits(f"{text[:2]}{month:02}{text[4:9]}"), customer_ids, st.integers(1, 12)
).filter(bool)
leap_days = st.builds(
    lambda day, month, rest, remainder: numbers.with_check_digits(f"{day}{month}{rest:05}", remainder),
    st.sampled_from([29, 69]),
    st.sampled_from(["02", "82"]),
    st.integers(0, 99999),
    st.integers(0, 4),
).filter(bool)


@given(
    st.lists(st.one_of(customer_ids, real_ids, leap_days), max_size=20),
    st.none()
    | st.tuples(st.integers(0, 19), st.integers(0, 10), st.sampled_from(["", *"0123456789 a\u0661\u00b2\ud800"])),
    st.sampled_from(["production", "synthetic", "format"]),
)
def test_many_at_once_are_judged_as_each_is(some, change, accepts):
    """Together, numbers are let in if and only if each of them is, also where one character is another or missing."""
    if some and change is not None:
        index, position, character = change
        text = some[index % len(some)]
        some[index % len(some)] = text[:position] + character + text[position + 1 :]
    expected = all(numbers.is_customer_id(text, accepts) for text in some)
    assert numbers.are_customer_ids(some, accepts) == expected


@pytest.mark.parametrize("digits", [["1484224909", "114842249091"], ["148422490911", "4842249091"]])
def test_many_at_once_have_eleven_digits_each(digits):
    """A text that is too short does not take digits from its neighbour."""
    for accepts in ("production", "synthetic", "format"):
        assert not numbers.are_customer_ids(digits, accepts)


KINDS = (("production",), ("synthetic",), ("production", "synthetic"))
SHAPES = st.one_of(
    st.builds(
        lambda day, month, rest, remainder: numbers.with_check_digits(f"{day:02}{month:02}{rest:05}", remainder) or "1",
        st.integers(0, 72),
        st.one_of(st.integers(0, 13), st.integers(80, 93)),
        st.integers(0, 99999),
        st.integers(0, 10),
    ),
    st.integers(0, 10**11 - 1).map("{:011}".format),
    st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), max_size=24),
)


@pytest.mark.parametrize("kinds", KINDS, ids=" ".join)
@given(texts=st.lists(SHAPES, max_size=20))
def test_a_set_takes_what_is_a_customer_id_once_and_nothing_else(kinds, texts):
    """Each text is added exactly where `is_customer_id` lets it in and it is new, whatever stands before it."""
    customer_ids, known = numbers.CustomerIdSet(*kinds), set()
    while texts:
        new = customer_ids.add(texts)
        for text in texts[:new]:
            assert any(numbers.is_customer_id(text, kind) for kind in kinds)
            assert text not in known
            known.add(text)
        assert all(
            text in known or not any(numbers.is_customer_id(text, kind) for kind in kinds)
            for text in texts[new : new + 1]
        )
        texts = texts[new + 1 :]


@pytest.mark.parametrize("kinds", KINDS, ids=" ".join)
def test_a_set_tells_all_customer_ids_apart(kinds):
    """No two numbers are taken for one, whatever they differ in."""
    months = [
        month + mark
        for kind in kinds
        for mark in {"production": [0], "synthetic": [80]}[kind]
        for month in range(1, 13)
    ]
    days = [f"{day:02}{month:02}" for month in months for day in (*range(1, 32), *range(41, 72))]
    nines = {f"{day}{year:02}007" for day in days for year in range(0, 100, 9)}
    nines |= {f"{day}96{serial:03}" for day in ("0101", "7112", "0181", "7192") for serial in range(1000)}
    found = [
        number
        for nine in nines
        for remainder in range(4)
        if (number := numbers.with_check_digits(nine, remainder)) is not None
        and any(numbers.is_customer_id(number, kind) for kind in kinds)
    ]
    customer_ids = numbers.CustomerIdSet(*kinds)
    assert customer_ids.add(found) == len(set(found)) == len(found) > 20_000
    assert not any(customer_ids.add([number]) for number in found[::100])


@pytest.mark.parametrize("text", ["920013015", "985815534", "924507500"])
def test_organisation_numbers(text):
    """Nine digits whose check digit is right are an organisation number."""
    assert numbers.organisation_number_fault(text) is None
    assert numbers.institution_fault(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "999888777",
        "123456789",
        "92001301",
        "9200130150",
        "920 013 015",
        "920013015 ",
        "\uff1920013015",
        "",
        "92001301x",
    ],
)
def test_no_organisation_numbers(text):
    """A wrong check digit, another length, blanks and digits of other scripts are refused."""
    assert numbers.organisation_number_fault(text) == Rule.ORGANISATION_NUMBER
    assert numbers.institution_fault(text) == Rule.INSTITUTION


def test_every_single_digit_error_of_an_organisation_number_is_caught():
    """An organisation number with one wrong digit is never accepted."""
    text = "920013015"
    wrong = [text[:i] + d + text[i + 1 :] for i in range(9) for d in "0123456789" if d != text[i]]
    assert not any(numbers.is_organisation_number(each) for each in wrong)


@pytest.mark.parametrize(
    "text",
    [
        "9908:920013015",
        "0192:920013015",
        "9990:924507500",
        "0007:5569622441",
        "0199:5493001KJTIIGC8Y1R12",
        "0204:991-1-6",
    ],
)
def test_providers(text):
    """A providerID is an ISO 6523 prefix, a colon and an id; foreign ids are taken as they are (SPEC appendix E)."""
    assert numbers.provider_fault(text) is None
    assert numbers.institution_fault(text) is None


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("9908:920013015", {"NTRNO-920013015"}),
        ("0192:920013015", {"NTRNO-920013015"}),
        ("9990:920013015", {"NTRNO-920013015"}),
        ("920013015", {"NTRNO-920013015"}),
        ("0007:5569622441", {"NTRSE-5569622441"}),
        ("0199:5493001KJTIIGC8Y1R12", set()),
    ],
)
def test_what_a_certificate_names_an_organisation_as(identifier, expected):
    """A Norwegian or Swedish number is that of the national register; nothing follows from other prefixes."""
    assert numbers.organisation_identifiers(identifier) == expected


@pytest.mark.parametrize(
    "text",
    [
        "NTRNO-920013015",
        "NTRSE-5569622441",
        "VATSE-556962244101",
        "PSDSE-FINA-44059",
        "LEIXG-5493006MHB84DD0ZWV18",
        "NO:NO-920013015",
    ],
)
def test_an_organization_identifier_is_one_of_its_forms(text):
    """A register, its country and a number; of a payment service provider also the authority (EN 319 412-1, 5.1.4)."""
    assert numbers.organisation_identifier_fault(text) is None


@pytest.mark.parametrize(
    "text",
    ["920013015", "NTRNO-920013016", "NTRNO", "NTRNO-", "ntrno-920013015", "PSDSE-44059", "NTRSE-55 69", "XYZSE-1", ""],
)
def test_anything_else_is_no_organization_identifier(text):
    """Blanks, small letters, a missing part and a wrong Norwegian check digit are refused."""
    assert numbers.organisation_identifier_fault(text) is Rule.ORGANISATION_IDENTIFIER


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("920013015", id="no prefix"),
        pytest.param("9908:920013016", id="wrong check digit"),
        pytest.param("0192:999888777", id="wrong check digit after 0192"),
        pytest.param("9990:123456789", id="wrong check digit after 9990"),
        pytest.param("9908:920 013 015", id="blanks"),
        pytest.param("9908: 920013015", id="blank after the colon"),
        pytest.param("9908920013015", id="no colon"),
        pytest.param("990:920013015", id="prefix of 3 digits"),
        pytest.param("0007:", id="no id"),
        pytest.param("0007:" + "1" * 36, id="id of 36 characters"),
        pytest.param("0007:55#69", id="separator of our keys"),
        pytest.param("0007:55/69", id="separator of our object names"),
        pytest.param("0007:5569622441\n", id="line end"),
        pytest.param("", id="empty"),
    ],
)
def test_no_providers(text):
    """Whatever else is refused, also where it would break our keys and object names."""
    assert numbers.provider_fault(text) == Rule.PROVIDER


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("17912099997", id="plain"),
        pytest.param("12345678901", id="plain, of nobody"),
        pytest.param("sak 179120-99997", id="hyphen"),
        pytest.param("123456 78901", id="six and five, of nobody"),
        pytest.param("179120 999 97", id="three groups"),
        pytest.param("17.91.20 99997", id="date with dots"),
        pytest.param("17/91/20 - 99997", id="date with slashes"),
        pytest.param("1 7 9 1 2 0 9 9 9 9 7", id="every digit alone"),
        pytest.param("1791209-9997", id="another place"),
        pytest.param("171290 999 97", id="three groups, of nobody"),
        pytest.param("17.12.90 99997", id="date with dots, of nobody"),
        pytest.param("17 12 90 99997", id="date with blanks, of nobody"),
        pytest.param("179120\u00a099997", id="blank that does not break"),
        pytest.param("179120\u201399997", id="dash"),
        pytest.param("179120\u201199997", id="hyphen that does not break"),
        pytest.param("\uff11\uff17\uff19\uff11\uff12\uff10\uff19\uff19\uff19\uff19\uff17", id="full width"),
        pytest.param("\u0661\u0667\u0669\u0661\u0662\u0660\u0669\u0669\u0669\u0669\u0667", id="Arabic digits"),
        pytest.param("17912099997x", id="a letter after it"),
        pytest.param("2026-117 17.91.20 99997 22.11", id="between other numbers"),
        pytest.param("c7b1a8d2-5f5c-4a3e-8a3c-0b1f7c9d2e11 17912099997", id="after a UUID"),
    ],
)
def test_a_person_is_found_however_the_number_is_written(text):
    """Digits of any script and width, divided by blanks, dots, slashes and dashes of any kind."""
    assert numbers.mentions_a_person(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("APP-2026-117", id="reference"),
        pytest.param("arn:aws:iam::123456789012:user/kari", id="AWS account"),
        pytest.param("AWS account 1791-2099-9970", id="AWS account, divided"),
        pytest.param("institution 920 013 015", id="organisation number"),
        pytest.param("2026-11-22T06:30:15.123456Z", id="time"),
        pytest.param("20261122063015", id="time without marks"),
        pytest.param("2026-11-22 06.30.15", id="time with dots"),
        pytest.param("22.11.2026-137", id="date and number"),  # with 22.11.20 26137 its check digits would be right
        pytest.param("c7b1a8d2-5f5c-4a3e-8a3c-17912099997a", id="UUID with eleven digits in a row"),
        pytest.param("00017912-0999-4997-8a3c-0b1f7c9d2e11", id="UUID whose digits run on"),
        pytest.param("kunde 1791 2099 998", id="divided, wrong check digits"),
        pytest.param("tlf. 22 11 33 44", id="telephone"),
        pytest.param("", id="empty"),
    ],
)
def test_ordinary_references_are_no_persons(text):
    """Times, UUIDs, accounts and references pass; so does what is divided in odd ways and has wrong check digits."""
    assert not numbers.mentions_a_person(text)
