import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import spec_messages as spec
from tests.spec_messages import CHARGE_CARD, NOW, REPAYMENT_LOAN, customer, encode, organization

from gjeldsbro.domain import customer_texts, dataset_page, messages
from gjeldsbro.domain.dataset_page import PageResult
from gjeldsbro.domain.identity_numbers import with_check_digits
from gjeldsbro.domain.rules import Rule
from gjeldsbro.errors import InvalidMessageError, Violation

CUSTOMERS = [number for n in range(60) if (number := with_check_digits(f"{1 + n % 28:02}86{n:05}")) is not None]


def read(page, institution=spec.INSTITUTION, provider=spec.PROVIDER, **options) -> PageResult:
    """The page as it is read."""
    options.setdefault("keep", list)
    body = page if isinstance(page, bytes) else encode(page)
    return dataset_page.read_page(
        body, institution=institution, provider=provider, accepts="synthetic", now=NOW, **options
    )


def outcome_of_message(message):
    """What the reading of a push makes of the same text: the same, whichever way it is read."""
    body = message if isinstance(message, bytes) else encode(message)
    strictly, quickly = (outcome_of_push(body, read) for read in (messages.parse_organization, dataset_page.read_push))
    assert quickly == strictly
    return strictly


def outcome_of_push(body, read):
    """What one way of reading makes of a push."""
    try:
        return list(read(body, accepts="synthetic", now=NOW).customers)
    except InvalidMessageError as exc:
        return list(exc.violations)


def outcome_of_page(page):
    """The same for a page."""
    result = read(page)
    return result.violations or result.kept


@pytest.fixture
def no_strict_reading(monkeypatch):
    """Fails the test when a customer does not come through quickly."""

    def refuse(*_):
        raise AssertionError("read strictly")

    monkeypatch.setattr(dataset_page._PageReader, "_read_strictly", refuse)


def test_empty_page_is_valid():
    """An empty dataset with 200 is valid: institutions hand over that way (design decision 6)."""
    assert read(organization()) == PageResult([], [], 0)


@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"separators": (" ,\t", " :\r\n")}, {"ensure_ascii": False}])
def test_ordinary_pages_are_read_quickly(options, no_strict_reading):
    """A page with all loan types, however it is laid out and escaped, never needs the slow way."""
    page = organization(customer(), customer(REPAYMENT_LOAN, number=spec.OTHER_CUSTOMER))
    assert read(encode(page, **options)).kept == outcome_of_message(page)


def test_colons_in_values_are_read_quickly(no_strict_reading):
    """Colons in names, account ids and timestamps with offsets are not mistaken for something said twice."""
    loan = CHARGE_CARD | {
        "accountID": "1:2:3",
        "accountName": "Kort: \\Gull\\ :",
        "timestamp": "2026-11-22T05:00:00+01:00",
    }
    foreign = "0007:5569622441"
    page = organization(customer(loan, institution=foreign), provider=foreign)
    assert len(read(page, institution=foreign, provider=foreign).kept) == 1


@given(
    st.lists(spec.customers, max_size=3, unique_by=lambda each: each["customerID"]),
    st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False, "separators": (",", ":")}]),
)
def test_valid_customers_read_the_same_both_ways(some, options):
    """A page and a push with the same customers give the same result."""
    page = organization(*some)
    expected = outcome_of_message(page) if some else []
    assert outcome_of_page(encode(page, **options)) == expected


@given(st.lists(spec.customers, min_size=2, max_size=3, unique_by=lambda each: each["customerID"]), st.data())
def test_broken_customers_are_refused_the_same_both_ways(some, data):
    """One changed field gives the same places and rules in a page and in a push, or no violation in both."""
    page = organization(*copy.deepcopy(some))
    broken = data.draw(st.sampled_from(page["customers"]))
    target = data.draw(st.sampled_from([broken, *broken["loans"]]))
    name = data.draw(st.sampled_from([name for name in target if name != "financialInstitutionID"]))
    if data.draw(st.booleans()):
        del target[name]
    else:
        target[name] = data.draw(spec.broken_values)
    outcome = outcome_of_page(page)
    assert outcome == outcome_of_message(page)
    assert "7391" not in repr([each for each in outcome if isinstance(each, tuple)])


@given(spec.customers.filter(lambda each: each["loans"]), st.data())
def test_name_twice_is_never_passed_over(some, data):
    """A name that occurs twice is refused in a page as in a push, even where a colon is escaped."""
    target = data.draw(st.sampled_from([some, *some["loans"]]))
    name = data.draw(st.sampled_from(list(target)))
    value = json.dumps(target[name])
    target["MARK"] = 0
    text = encode(organization(some)).replace(b'"MARK": 0', f'"{name}": {value}'.encode())
    if data.draw(st.booleans()):
        text = text.replace(b'"accountID": "', b'"accountID": "\\u003a').replace(b"*", b"\\u003A")
    outcome = outcome_of_page(text)
    assert [violation.rule for violation in outcome] == [Rule.JSON_NAMES]
    assert outcome == outcome_of_message(text)


ODD_VALUES = (
    *(
        "0",
        "-0",
        "1.0",
        "1e2",
        "1E2",
        "-1",
        "1000",
        "1000000",
        "1000000000000",
        "99999999999999999999999",
        "1e999",
        "true",
        "null",
        "[]",
        "{}",
    ),
    *(
        '"0"',
        '"-0"',
        '"1.0"',
        '"1e2"',
        '"007"',
        '"+1"',
        '" 1"',
        '"1 "',
        '"1\\n"',
        '"1,2"',
        '"1_0"',
        '""',
        '"00"',
        '"nei"',
    ),
    *('"\\u0031"', '"\u0663"', '"\u00b2"', '"0000000000001"', '"1000"', '"1000000"', '"999999999999"'),
    *(
        '":"',
        '"::"',
        '"\\u003a"',
        '"\\u003A:"',
        '"\\":1,\\""',
        '"customers"',
        '"\\ud800"',
        '"\\u0007"',
        '"\u2028"',
        '"a\u00a0b"',
    ),
    *(json.dumps("x" * length) for length in (25, 26, 255, 256)),
    *(
        '"2026-11-22T05:06:00Z"',
        '"2026-02-30T05:00:00Z"',
        '"2026-11-22T05:00:00.1234567+01:00"',
        '"2026-11-22t05:00:00z"',
    ),
    *(
        f'"{spec.CUSTOMER}"',
        f'"{spec.OTHER_CUSTOMER}"',
        '"14842249090"',
        '"1484224909\u0661"',
        '"985815534"',
        '"MONTHLY"',
    ),
    *('{"a":[1,":"],"b":2}', '"repaymentLoan"', '"creditFacility"', '"chargeCard"'),
)
"""JSON texts for any place: what a bulk rule could take for something else, or what could hide another fault."""

ODD_NAMES = tuple(
    f'"{name}"'
    for name in (
        *(
            "customerID",
            "financialInstitutionID",
            "loans",
            "type",
            "timestamp",
            "accountID",
            "accountName",
            "coBorrower",
        ),
        *(
            "creditLimit",
            "balance",
            "terms",
            "installmentChargePeriod",
            "accountI\\u0044",
            "accountid",
            "new",
            "a:b",
            "",
        ),
        *("providerID", "customers", "a\\u003ab"),
    )
)


def as_pairs(message):
    """A message as lists of [name, value], both as JSON text, so that a name can come twice."""
    return [
        [
            json.dumps(name),
            [as_pairs(each) for each in value] if isinstance(value, list) else json.dumps(value),
        ]
        for name, value in message.items()
    ]


def as_text(value, comma, colon):
    """The JSON text of what ``as_pairs`` gives."""
    if isinstance(value, str):
        return value
    if value and isinstance(value[0][0], str):
        return "{" + comma.join(f"{name}{colon}{as_text(inside, comma, colon)}" for name, inside in value) + "}"
    return "[" + comma.join(as_text(each, comma, colon) for each in value) + "]"


CHANGES = {
    "value": lambda target, pair, _, value: pair.__setitem__(1, value),
    "name": lambda target, pair, name, _: pair.__setitem__(0, name),
    "another": lambda target, pair, name, value: target.append([name, value]),
    "twice": lambda target, pair, *_: target.append(list(pair)),
    "removed": lambda target, pair, *_: target.remove(pair),
    "reversed": lambda target, *_: target.reverse(),
}


@st.composite
def odd_pages(draw):
    """Pages as text, with some valid customers and some things wrong or out of the ordinary in them."""
    page = as_pairs(organization(*draw(st.lists(spec.customers, min_size=1, max_size=6))))
    listed = page[1][1]
    objects = [page, *listed, *(loan for each in listed for loan in each[2][1])]
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from([each for each in objects if each]))
        change = CHANGES[draw(st.sampled_from(["value", *CHANGES]))]
        pair, name, value = (draw(st.sampled_from(some)) for some in (target, ODD_NAMES, ODD_VALUES))
        change(target, pair, name, value)
    return as_text(page, *draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))).encode()


def assert_same_one_by_one(page):
    """What customers that are read together give, and what each gives that is read strictly."""
    with pytest.MonkeyPatch.context() as patch:
        quickly = read(page)
        patch.setattr(customer_texts.CustomerTexts, "read", lambda *_: None)
        assert quickly == read(page)


@settings(max_examples=300)
@given(odd_pages(), st.sampled_from([1, 2, 256]))
def test_together_and_one_by_one_is_the_same(page, together):
    """Whatever is wrong or odd in a page, customers read together give what each gives that is read strictly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_page, "_TOGETHER", together)
        assert_same_one_by_one(page)
    outcome_of_message(page)


@pytest.mark.parametrize("loan", spec.LOANS, ids=lambda loan: loan["type"])
def test_each_field_with_each_odd_value(loan):
    """No value of a field is taken together that is refused alone, and none is read as something else."""
    page = as_pairs(organization(customer(loan)))
    [read_customer] = page[1][1]
    for pair in read_customer[:2] + read_customer[2][1][0]:
        usual = pair[1]
        for pair[1] in ODD_VALUES:
            assert_same_one_by_one(as_text(page, ",", ":").encode())
        pair[1] = usual


def test_only_odd_customers_are_read_strictly(monkeypatch):
    """Customers with something out of the ordinary do not slow down those beside them."""
    odd = CUSTOMERS[10:12]
    page = organization(
        *(customer(CHARGE_CARD, number=number) | ({"new": 1} if number in odd else {}) for number in CUSTOMERS)
    )
    strictly = []
    read_strictly = dataset_page._PageReader._read_strictly
    monkeypatch.setattr(
        dataset_page._PageReader,
        "_read_strictly",
        lambda reader, text, place: strictly.append(place) or read_strictly(reader, text, place),
    )
    assert [each.customer_id for each in read(page).kept] == CUSTOMERS
    assert strictly == ["/customers/10", "/customers/11"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(b"", ("", Rule.JSON), id="empty"),
        pytest.param(b'{"providerID": "9908:920013015", "customers": [', ("", Rule.JSON), id="cut off"),
        pytest.param(encode(organization(customer())) + b"{}", ("", Rule.JSON), id="two documents"),
        pytest.param(b'{"customers": NaN}', ("", Rule.JSON), id="NaN"),
        pytest.param(b"\xef\xbb\xbf{}", ("", Rule.UTF_8), id="byte-order mark"),
        pytest.param(b'{"providerID": "\xff", "customers": []}', ("", Rule.UTF_8), id="provider not UTF-8"),
        pytest.param(b'{"customers": ' + b"[" * 10**6, ("", Rule.JSON_DEPTH), id="deep"),
        pytest.param([], ("", Rule.OBJECT), id="array"),
        pytest.param({"providerID": spec.PROVIDER}, ("/customers", Rule.MANDATORY), id="customers missing"),
        pytest.param(organization() | {"customers": None}, ("/customers", Rule.ARRAY), id="customers null"),
        pytest.param(organization() | {"customers": {}}, ("/customers", Rule.ARRAY), id="customers an object"),
        pytest.param({"customers": [customer()]}, ("/providerID", Rule.MANDATORY), id="provider missing"),
        pytest.param(organization(provider=9908), ("/providerID", Rule.PROVIDER), id="provider a number"),
        pytest.param(organization(provider=[]), ("/providerID", Rule.PROVIDER), id="provider an array"),
        pytest.param(
            organization(provider="9908:985815534"), ("/providerID", Rule.OTHER_PROVIDER), id="other provider"
        ),
        pytest.param(
            organization(customer(institution="985815534")),
            ("/customers/0/financialInstitutionID", Rule.OTHER_INSTITUTION),
            id="other institution",
        ),
        pytest.param(organization(customer(), customer()), ("/customers/1", Rule.CUSTOMER_TWICE), id="customer twice"),
        pytest.param(
            organization(customer(CHARGE_CARD, CHARGE_CARD)),
            ("/customers/0/loans/1", Rule.LOAN_TWICE),
            id="loan twice",
        ),
        pytest.param(
            organization(customer(*(CHARGE_CARD | {"accountID": f"{n}"} for n in range(1001)))),
            ("/customers/0/loans", Rule.LOANS),
            id="1001 loans",
        ),
        pytest.param(
            organization(customer(CHARGE_CARD | {"timestamp": "2026-11-22T05:05:00.0000001Z"})),
            ("/customers/0/loans/0/timestamp", Rule.FUTURE),
            id="future",
        ),
        pytest.param(
            encode(organization(customer(), customer(REPAYMENT_LOAN)), ensure_ascii=False).replace(
                "lån".encode(), b"l\xe5n"
            ),
            ("/customers/0", Rule.UTF_8),
            id="customer in ISO 8859-1",
        ),
        pytest.param(
            b'{"customers": [], ' + encode(organization(customer()))[1:], ("", Rule.JSON_NAMES), id="customers twice"
        ),
        pytest.param(
            b'{"providerID": "x", ' + encode(organization(customer()))[1:], ("", Rule.JSON_NAMES), id="provider twice"
        ),
        pytest.param(
            b'{"providerID": 0, ' + encode(organization(customer()))[1:], ("", Rule.JSON_NAMES), id="wrong, then right"
        ),
        pytest.param(
            encode(organization(), separators=(",", ":"))[:-1] + b',"customers":[]}',
            ("", Rule.JSON_NAMES),
            id="shortest",
        ),
    ],
)
def test_broken_pages(page, expected):
    """Each fault is named at its place, and nothing of the page is kept."""
    result = read(page)
    assert result.violations[0] == expected
    assert result.kept == []


@given(spec.customers, st.data())
def test_the_outside_of_a_push_is_read_the_same_both_ways(some, data):
    """Whatever stands around the customers, or is wrong with it, neither way takes what the other refuses."""
    message = organization(*data.draw(st.sampled_from([[], [some], [some, some]])))
    message["providerID"] = data.draw(st.sampled_from([spec.PROVIDER, "9908:1", "0007:5569622441", 9908, None]))
    text = encode(message)
    for addition in data.draw(
        st.lists(st.sampled_from([b'"a": {"b": 1}', b'"a": "\\u003a"', b'"a": "\\ud800"', b'"b": 1e999']))
    ):
        text = text[:-1] + b", " + addition + b"}"
    outcome_of_message(text)


def test_an_escaped_colon_hides_no_name_of_a_push():
    """A colon too few in the provider does not make up for one too many behind a name that comes twice."""
    text = encode(organization(customer())).replace(b"9908:", b"9908\\u003a", 1)
    assert outcome_of_message(b'{"customers": [], ' + text[1:]) == [("", Rule.JSON_NAMES)]


@pytest.mark.parametrize("institution", ["920013016", "nei", ""])
def test_a_push_names_its_institutions(institution):
    """Nobody has asked for them, as for a page's, so each is judged, in whatever way a push is read."""
    place = "/customers/0/financialInstitutionID"
    assert outcome_of_message(organization(customer(institution=institution))) == [(place, Rule.INSTITUTION)]


def test_names_of_the_page_inside_customers():
    """`customers` and `providerID` as values or unknown names inside a customer are not the page's own."""
    strange = customer(CHARGE_CARD | {"accountName": "customers", "customers": "x"}) | {"providerID": "customers"}
    assert len(read(organization(strange)).kept) == 1


@pytest.mark.parametrize("levels", [5, 6, 300, 3000])
def test_unknown_fields_may_not_be_deep(levels):
    """A loan lies on the fifth of ten levels; what is ignored in it may fill the other five, in pushes and pages."""
    deep = b"[" * levels + b"]" * levels
    body = encode(organization(customer([CHARGE_CARD]))).replace(b'"type"', b'"new":' + deep + b',"type"', 1)
    if levels > 5:
        assert outcome_of_message(body) == [Violation("", Rule.JSON_DEPTH)]
        assert outcome_of_page(body) == [Violation("/customers/0", Rule.JSON_DEPTH)]
    else:
        assert len(outcome_of_message(body)) == len(outcome_of_page(body)) == 1


def test_unknown_fields_are_ignored():
    """What SPEC does not have changes nothing, at every level."""
    page = organization(customer(CHARGE_CARD | {"extra": {"a": ["b"]}}) | {"extra": 1.5}) | {"extra": None}
    assert read(page).kept == read(organization(customer(CHARGE_CARD))).kept


def test_all_faults_of_all_customers_are_counted():
    """The first faults are listed in order with their customer's place, the rest are counted."""
    page = organization(customer(), *[customer(CHARGE_CARD | {"coBorrower": 3, "timestamp": ""})] * 30)
    result = read(page)
    assert result.total_violations == 60
    assert len(result.violations) == 20
    assert {violation.place for violation in result.violations[:2]} == {
        "/customers/1/loans/0/coBorrower",
        "/customers/1/loans/0/timestamp",
    }
    assert len(read(page, limit=5).violations) == 5


def test_equal_texts_are_kept_once():
    """A dataset has few distinct account names: they are stored once, and so is a timestamp."""
    numbers = [spec.CUSTOMER, spec.OTHER_CUSTOMER]
    first, second = read(organization(*[customer(REPAYMENT_LOAN, number=number) for number in numbers])).kept
    assert first.loans[0].account_name is second.loans[0].account_name
    assert first.loans[0].timestamp is second.loans[0].timestamp


def test_more_texts_than_are_remembered(monkeypatch):
    """Remembering ends at its limit, and reading goes on."""
    monkeypatch.setattr(customer_texts, "_MAX_REMEMBERED", 1)
    some = [CHARGE_CARD | {"accountID": str(n), "accountName": f"Kort {n}"} for n in range(5)]
    [read_customer] = read(organization(customer(*some))).kept
    assert [loan.account_name for loan in read_customer.loans] == [loan["accountName"] for loan in some]
