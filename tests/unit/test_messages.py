import copy
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import spec_messages as spec
from tests.spec_messages import CHARGE_CARD, CREDIT_FACILITY, NOW, REPAYMENT_LOAN, customer, encode, organization

from gjeldsbro.domain import fields, loans, messages
from gjeldsbro.domain.loans import CustomerLoans
from gjeldsbro.domain.rules import Rule
from gjeldsbro.errors import InvalidMessageError

REPAYMENT, FACILITY, CARD = (
    loans.RepaymentLoan("4001", "2026-11-22T04:10:12.0000000Z", "Forbrukslån", 5000000, 2000000, 20, 1200, 0, 0),
    loans.CreditFacility("4002", "2026-11-22T04:10:12.1230000Z", "Kort", 10000000, 500000, 0, 800, 5000, 2),
    loans.ChargeCard("4003", "2026-11-22T04:10:12.0000000Z", None, 0, 12500, 1),
)


def parse(message, accepts="synthetic", **options) -> messages.Message:
    """The message as it is read."""
    body = message if isinstance(message, bytes) else encode(message)
    return messages.parse_organization(body, accepts=accepts, now=NOW, **options)


def violations(message, **options) -> list[tuple[str, str]]:
    """Places and rules of a refused message."""
    with pytest.raises(InvalidMessageError) as caught:
        parse(message, **options)
    return list(caught.value.violations)


def with_numbers_as_integers(loan):
    """The loan in the form that Norsk Gjeldsinformasjon documents."""
    kept = ("type", "timestamp", "accountID", "accountName", "installmentChargePeriod")
    return {name: value if name in kept else int(value) for name, value in loan.items()}


def test_all_loan_types():
    """A message with one loan of each type is read into the register's form."""
    assert parse(organization(customer())) == messages.Message(
        spec.PROVIDER, (CustomerLoans(spec.CUSTOMER, spec.INSTITUTION, (REPAYMENT, FACILITY, CARD)),)
    )


def test_both_number_forms_give_the_same_loan():
    """Strings with leading zeros and JSON integers say the same (design decision 9)."""
    integers = organization(customer(*map(with_numbers_as_integers, spec.LOANS)))
    assert parse(integers) == parse(organization(customer()))


def test_examples_of_spec():
    """SPEC's own push passes where numbers are only counted; its organisation number has no valid check digit."""
    loan = CREDIT_FACILITY | {"timestamp": "2018-04-09T10:13:12Z", "nominalInterestRate": "000800", "coBorrower": "0"}
    message = organization(customer(loan, number="32021112345"))
    assert parse(message, accepts="format").customers[0].customer_id == "32021112345"
    message["customers"][0]["financialInstitutionID"] = "123456789"
    assert violations(message, accepts="format") == [("/customers/0/financialInstitutionID", Rule.INSTITUTION)]


def test_customer_without_loans():
    """An empty loans array is valid (contract); none at all is not, because a misspelt name would hide debt."""
    message = organization(customer() | {"loans": []})
    assert parse(message).customers[0].loans == ()
    del message["customers"][0]["loans"]
    assert violations(message) == [("/customers/0/loans", Rule.MANDATORY)]


def test_unknown_fields_are_ignored():
    """What SPEC does not have changes nothing, at every level."""
    message = organization(customer(CHARGE_CARD | {"extra": [{"a": "b"}]}) | {"extra": 1.5}) | {"extra": None}
    assert parse(message) == parse(organization(customer(CHARGE_CARD)))


@pytest.mark.parametrize("loan", spec.LOANS, ids=lambda loan: loan["type"])
def test_mandatory_fields_of_loans(loan):
    """Each field of SPEC's tables but accountName is mandatory."""
    for name in loan:
        rest = {key: value for key, value in loan.items() if key != name}
        message = organization(customer(rest))
        if name == "accountName":
            assert parse(message).customers[0].loans[0].account_name is None
        else:
            rule = Rule.LOAN_TYPE if name == "type" else Rule.MANDATORY
            assert violations(message) == [(f"/customers/0/loans/0/{name}", rule)]


FIELD_RULES = {
    "type": Rule.LOAN_TYPE,
    "timestamp": Rule.TIMESTAMP,
    "accountID": Rule.ACCOUNT_ID,
    "accountName": Rule.ACCOUNT_NAME,
    "originalBalance": Rule.NUMBER_12,
    "balance": Rule.NUMBER_12,
    "creditLimit": Rule.NUMBER_12,
    "interestBearingBalance": Rule.NUMBER_12,
    "nonInterestBearingBalance": Rule.NUMBER_12,
    "installmentCharges": Rule.NUMBER_12,
    "terms": Rule.NUMBER_3,
    "nominalInterestRate": Rule.NUMBER_6,
    "installmentChargePeriod": Rule.INSTALLMENT_CHARGE_PERIOD,
    "coBorrower": Rule.CO_BORROWER,
}


@pytest.mark.parametrize("loan", spec.LOANS, ids=lambda loan: loan["type"])
def test_each_field_of_a_loan_has_its_rule(loan):
    """A value that fits no field is refused at its place by the field's own rule."""
    for name in loan:
        message = organization(customer(CHARGE_CARD | {"accountID": "1"}, loan | {name: ["x"]}))
        assert violations(message) == [(f"/customers/0/loans/1/{name}", FIELD_RULES[name])]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param([], ("", Rule.OBJECT), id="array"),
        pytest.param("x", ("", Rule.OBJECT), id="string"),
        pytest.param(b"{", ("", Rule.JSON), id="not JSON"),
        pytest.param(organization(), ("/customers", Rule.CUSTOMERS), id="no customers"),
        pytest.param({"providerID": spec.PROVIDER}, ("/customers", Rule.MANDATORY), id="customers missing"),
        pytest.param({"customers": [customer()]}, ("/providerID", Rule.MANDATORY), id="provider missing"),
        pytest.param(organization() | {"customers": {}}, ("/customers", Rule.ARRAY), id="customers an object"),
        pytest.param(organization() | {"customers": None}, ("/customers", Rule.ARRAY), id="customers null"),
        pytest.param(organization(customer(), provider="920013015"), ("/providerID", Rule.PROVIDER), id="provider"),
        pytest.param(organization(customer(), 5), ("/customers/1", Rule.OBJECT), id="customer a number"),
        pytest.param(organization(None), ("/customers/0", Rule.OBJECT), id="customer null"),
        pytest.param(organization(customer(5)), ("/customers/0/loans/0", Rule.OBJECT), id="loan a number"),
        pytest.param(organization(customer([])), ("/customers/0/loans/0", Rule.OBJECT), id="loan an array"),
        pytest.param(organization(customer() | {"loans": None}), ("/customers/0/loans", Rule.ARRAY), id="loans null"),
        pytest.param(
            organization(customer() | {"loans": {}}), ("/customers/0/loans", Rule.ARRAY), id="loans an object"
        ),
        pytest.param(
            organization(customer(number="14842249092")),
            ("/customers/0/customerID", Rule.SYNTHETIC_CUSTOMER_ID),
            id="check digit",
        ),
        pytest.param(
            organization(customer(CHARGE_CARD | {"timestamp": "2026-11-22T05:05:00.0000001Z"})),
            ("/customers/0/loans/0/timestamp", Rule.FUTURE),
            id="future",
        ),
        pytest.param(
            organization(customer(CHARGE_CARD, CHARGE_CARD)),
            ("/customers/0/loans/1", Rule.LOAN_TWICE),
            id="loan twice",
        ),
        pytest.param(organization(customer(), customer()), ("/customers/1", Rule.CUSTOMER_TWICE), id="customer twice"),
        pytest.param(
            organization(customer(*[CHARGE_CARD] * 1001)), ("/customers/0/loans", Rule.LOANS), id="1001 loans"
        ),
        pytest.param(
            encode(organization(customer())).replace(b'"4001"', b'"4001", "terms": "1"'),
            ("/customers/0/loans/0", Rule.JSON_NAMES),
            id="name twice",
        ),
        pytest.param(
            encode(organization(customer())).replace(b'"4001"', b'"\\ud800"'),
            ("/customers/0/loans/0", Rule.JSON_TEXT),
            id="lone surrogate",
        ),
    ],
)
def test_broken_messages(message, expected):
    """Each fault is refused with one violation at its place."""
    assert violations(message) == [expected]


def test_same_account_in_two_types_is_allowed():
    """An account is told apart by its type too."""
    message = organization(customer(CHARGE_CARD, CREDIT_FACILITY | {"accountID": CHARGE_CARD["accountID"]}))
    assert len(parse(message).customers[0].loans) == 2


def test_same_customer_at_two_institutions_is_allowed():
    """A provider reports one customer object per institution (SPEC appendix C, example 2)."""
    message = organization(customer(), customer(institution="985815534"))
    assert [each.financial_institution_id for each in parse(message).customers] == [spec.INSTITUTION, "985815534"]


def test_thousand_loans_are_allowed():
    """The limit on loans is 1,000, and that many are read."""
    message = organization(customer(*[CHARGE_CARD | {"accountID": str(n)} for n in range(1000)]))
    assert len(parse(message).customers[0].loans) == 1000


def test_all_faults_are_listed_in_order():
    """A sender gets every fault at once, in document order."""
    message = organization(
        customer(REPAYMENT_LOAN | {"balance": -1, "terms": "1000"}, CHARGE_CARD | {"coBorrower": 3}),
        5,
        customer(number="x"),
        provider=spec.PROVIDER,
    )
    places = [place for place, _ in violations(message)]
    assert sorted(places[:3]) == [
        "/customers/0/loans/0/balance",
        "/customers/0/loans/0/terms",
        "/customers/0/loans/1/coBorrower",
    ]
    assert places[3:] == ["/customers/1", "/customers/2/customerID"]


def test_faults_beyond_the_limit_are_counted():
    """At most 20 faults are listed, then their number (contract)."""
    with pytest.raises(InvalidMessageError) as caught:
        parse(organization(*[None] * 33))
    assert len(caught.value.violations) == 20
    assert caught.value.total == 33
    assert str(caught.value).endswith("; and 13 more")
    assert len(violations(organization(*[None] * 33), limit=3)) == 3


@given(st.lists(spec.customers, min_size=1, max_size=3, unique_by=lambda each: each["customerID"]))
def test_generated_messages_are_accepted(some):
    """Every message that keeps the rules is read, and says what was sent."""
    message = parse(organization(*some))
    assert [each.customer_id for each in message.customers] == [each["customerID"] for each in some]
    for sent, read in zip(some, message.customers, strict=True):
        for before, after in zip(sent["loans"], read.loans, strict=True):
            assert loans.account_of(after) == (before["type"], before["accountID"])
            assert after.co_borrower == int(before["coBorrower"])
            assert after.account_name == before.get("accountName")


@given(spec.customers, spec.broken_values, st.data())
def test_no_violation_tells_a_value(some, value, data):
    """Whatever is put where, the answer holds places and rules of ours and nothing of the message."""
    message = organization(some)
    target = data.draw(st.sampled_from([message, some, *some["loans"]]))
    target[data.draw(st.sampled_from([*target, spec.SECRET]))] = value
    try:
        parse(message)
    except InvalidMessageError as exc:
        error = exc
    else:
        return
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert "7391" not in str(error)
    known = {*messages.SpecModel.__pydantic_fields__, "customers", "loans", "providerID", "customerID"}
    known |= {"financialInstitutionID", *FIELD_RULES}
    for violation in error.violations:
        assert violation.rule in list(Rule)
        assert all(part.isdigit() or part in known for part in violation.place.split("/")[1:])


def test_reading_by_the_documented_model_gives_the_same():
    """The model that documents a message and the reading customer by customer agree."""
    context = fields.Circumstances.at(NOW, "synthetic")
    model = messages.Organization.model_validate(organization(customer()), context=context)
    assert tuple(each.to_register() for each in model.customers) == parse(organization(customer())).customers


def test_models_need_to_know_the_circumstances():
    """Without saying whose numbers are let in, nothing is validated."""
    with pytest.raises(TypeError):
        messages.Organization.model_validate(organization(customer()))


def test_model_is_shown_in_specs_form():
    """What is shown has SPEC's names, strings without leading zeros and UTC with Z."""
    context = fields.Circumstances.at(NOW, "synthetic")
    shown = messages.Customer.model_validate(customer(), context=context).model_dump()
    assert shown["customerID"] == spec.CUSTOMER
    assert shown["loans"][0] == REPAYMENT_LOAN | {"nominalInterestRate": "1200"}
    assert shown["loans"][2]["timestamp"] == "2026-11-22T04:10:12Z"


@given(spec.customers)
def test_schema_accepts_what_we_accept(some):
    """The published schema tells the truth: what we read is valid by it, in both number forms."""
    schema = messages.Organization.model_json_schema()
    jsonschema.Draft202012Validator(schema).validate(organization(some))


@pytest.mark.parametrize("loan", spec.LOANS, ids=lambda loan: loan["type"])
def test_schema_refuses_what_we_refuse(loan):
    """The published schema is not laxer than the rules that a schema can express."""
    validator = jsonschema.Draft202012Validator(messages.Organization.model_json_schema())
    for name, value in loan.items():
        for wrong in (["x"], -1, "x" * 256, 1.5, True):
            assert not validator.is_valid(organization(customer(loan | {name: wrong}))), (name, wrong)
        if name != "accountName":
            rest = {key: kept for key, kept in loan.items() if key != name}
            assert not validator.is_valid(organization(customer(rest))), name
        assert validator.is_valid(organization(customer(loan | {name: value})))
    assert not validator.is_valid(organization())
    assert not validator.is_valid(organization(customer(number="1")))
    assert not validator.is_valid(organization(customer(*[loan] * 1001)))


def test_schema_of_what_is_shown():
    """Shown amounts are strings without leading zeros."""
    schema = messages.ChargeCard.model_json_schema(mode="serialization")
    balance = schema["properties"]["interestBearingBalance"]
    assert (balance["type"], balance["pattern"]) == ("string", "^(0|[1-9][0-9]{0,11})$")


def test_answers():
    """Answers have SPEC's names (4.3 and 4.4), uuid in lower case, and a timestamp with Z."""
    uuid = UUID("01417C61-B9E9-45B4-8F2D-82167D923F8C")
    time = "2018-02-05T12:54:12.0000000Z"
    shown = {"timestamp": "2018-02-05T12:54:12Z", "uuid": "01417c61-b9e9-45b4-8f2d-82167d923f8c"}
    assert messages.SuccessResponse(timestamp=time, uuid=uuid).model_dump(mode="json") == shown
    error = messages.ErrorResponse(error_message="x", timestamp=time, uuid=uuid)
    assert error.model_dump(mode="json") == {"errorMessage": "x"} | shown


def test_ssn_answer():
    """The list of all customers' numbers (4.5) has SPEC's names and rules."""
    context = fields.Circumstances.at(NOW, "synthetic")
    sent = {
        "providerID": spec.PROVIDER,
        "financialInstitutionID": spec.INSTITUTION,
        "timestamp": "2026-11-22T05:00:00Z",
        "customers": [spec.CUSTOMER, spec.OTHER_CUSTOMER],
    }
    assert messages.SsnResponse.model_validate(sent, context=context).model_dump() == sent
    broken = copy.deepcopy(sent) | {"customers": ["x"]}
    with pytest.raises(ValueError, match="SsnResponse"):
        messages.SsnResponse.model_validate(broken, context=context)
