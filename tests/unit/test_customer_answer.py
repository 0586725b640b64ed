"""An institution's answer about one customer: four shapes, one set of rules."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import spec_messages as spec
from tests.spec_messages import CHARGE_CARD, NOW, customer, encode, organization

from gjeldsbro.domain.customer_answer import read_customer_answer
from gjeldsbro.domain.loans import Loan
from gjeldsbro.domain.messages import parse_organization
from gjeldsbro.domain.rules import Rule
from gjeldsbro.errors import InvalidMessageError

FOREIGN = "0007:5569622441"
OTHER_INSTITUTION = "985815534"


def read(answer, institution=spec.INSTITUTION) -> tuple[Loan, ...]:
    """The answer as it is read."""
    body = answer if isinstance(answer, bytes) else encode(answer)
    return read_customer_answer(
        body,
        customer_id=spec.CUSTOMER,
        institution=institution,
        provider=spec.PROVIDER,
        accepts="synthetic",
        now=NOW,
    )


def violations(answer, **options) -> list[tuple[str, str]]:
    """Places and rules of a refused answer."""
    with pytest.raises(InvalidMessageError) as caught:
        read(answer, **options)
    return list(caught.value.violations)


PUSHED = parse_organization(encode(organization(customer())), accepts="synthetic", now=NOW).customers[0].loans


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(organization(customer()), id="SPEC"),
        pytest.param(customer(), id="the customer alone"),
        pytest.param(customer() | {"providerID": spec.PROVIDER}, id="the customer alone, with a provider"),
        pytest.param({"customers": [customer()]}, id="SPEC without a provider"),
    ],
)
def test_loans_are_the_same_in_each_shape(answer):
    """SPEC's message and the bare customer say the same, and as a push or a dataset would."""
    assert read(answer) == PUSHED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(organization(), id="no customers"),
        pytest.param({"customers": []}, id="no customers, no provider"),
        pytest.param(customer() | {"loans": []}, id="no loans"),
        pytest.param(organization(customer() | {"loans": []}), id="no loans within SPEC's message"),
    ],
)
def test_no_debt_in_each_shape(answer):
    """Empty customers and empty loans both mean none."""
    assert read(answer) == ()


@pytest.mark.parametrize("named", [FOREIGN, "5569622441"])
def test_a_foreign_institution_may_leave_its_prefix_out(named):
    """SPEC's own examples do; what is refused of others is named in the same place."""
    for answer in (customer(institution=named), organization(customer(institution=named))):
        assert read(answer, institution=FOREIGN) == PUSHED


@pytest.mark.parametrize("named", ["0008:5569622441", OTHER_INSTITUTION])
def test_another_institutions_customer_is_refused(named):
    """Another prefix is another institution; a number alone stands for no institution but the one that was asked."""
    place = "/customers/0/financialInstitutionID"
    assert violations(organization(customer(institution=named)), institution=FOREIGN) == [
        (place, Rule.OTHER_INSTITUTION)
    ]
    assert violations(customer(institution="5569622441"), institution="0007:5567890123") == [
        ("/financialInstitutionID", Rule.INSTITUTION)
    ]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"{", ("", Rule.JSON), id="not JSON"),
        pytest.param(b"", ("", Rule.JSON), id="nothing"),
        pytest.param(b'{"customers": [], "customers": []}', ("", Rule.JSON_NAMES), id="a name twice"),
        pytest.param([], ("", Rule.OBJECT), id="array"),
        pytest.param(None, ("", Rule.OBJECT), id="null"),
        pytest.param({"customers": None}, ("/customers", Rule.ARRAY), id="customers null"),
        pytest.param(organization(5), ("/customers/0", Rule.OBJECT), id="customer a number"),
        pytest.param(organization(customer(), customer()), ("/customers", Rule.ONE_CUSTOMER), id="two customers"),
        pytest.param(organization() | {"loans": []}, ("", Rule.ONE_SHAPE), id="both shapes"),
        pytest.param(organization() | customer(), ("", Rule.ONE_SHAPE), id="both shapes, whole"),
        pytest.param(organization() | {"customerID": spec.CUSTOMER}, ("", Rule.ONE_SHAPE), id="both shapes, half"),
        pytest.param(
            organization(customer(), provider="9908:985815534"), ("/providerID", Rule.OTHER_PROVIDER), id="provider"
        ),
        pytest.param(organization(provider=None), ("/providerID", Rule.PROVIDER), id="provider null"),
        pytest.param(organization(provider="920013015"), ("/providerID", Rule.PROVIDER), id="provider's form"),
        pytest.param(
            organization(customer(number=spec.OTHER_CUSTOMER)),
            ("/customers/0/customerID", Rule.OTHER_CUSTOMER),
            id="another customer",
        ),
        pytest.param(
            customer(number=spec.OTHER_CUSTOMER), ("/customerID", Rule.OTHER_CUSTOMER), id="another customer alone"
        ),
        pytest.param(
            customer(institution=OTHER_INSTITUTION),
            ("/financialInstitutionID", Rule.OTHER_INSTITUTION),
            id="another institution",
        ),
        pytest.param(
            organization(customer(CHARGE_CARD, CHARGE_CARD)),
            ("/customers/0/loans/1", Rule.LOAN_TWICE),
            id="a loan twice",
        ),
        pytest.param(
            customer(CHARGE_CARD | {"coBorrower": 3}), ("/loans/0/coBorrower", Rule.CO_BORROWER), id="a loan's fault"
        ),
    ],
)
def test_what_is_refused(answer, expected):
    """An answer that is not about the customer, the institution and the provider, or breaks SPEC's rules."""
    assert violations(answer) == [expected]


def test_nothing_is_no_answer():
    """An object without anything in it says neither that there is debt nor that there is none."""
    assert violations({}) == [
        (f"/{name}", Rule.MANDATORY) for name in ("customerID", "financialInstitutionID", "loans")
    ]


@given(spec.customers.map(lambda drawn: drawn | {"customerID": spec.CUSTOMER}), st.booleans())
def test_what_a_dataset_may_say_an_answer_may(drawn, wrapped):
    """The rules are the dataset's own: what passes there passes here, and means the same."""
    message = organization(drawn)
    (expected,) = parse_organization(encode(message), accepts="synthetic", now=NOW).customers
    assert read(message if wrapped else drawn) == expected.loans


@given(
    st.sampled_from(["customerID", "financialInstitutionID", "loans", "customers", "providerID"]),
    spec.broken_values,
    st.booleans(),
)
def test_a_refusal_never_repeats_what_was_sent(name, value, wrapped):
    """Whatever stands where: the error holds places and rules."""
    answer = organization(customer()) if wrapped else customer()
    answer[name] = value
    try:
        read(answer)
    except InvalidMessageError as exc:
        text = str(exc)
        assert spec.SECRET not in text
        assert "7391" not in text
        assert json.dumps(value) in ("null", "true", "false", '""', "[]") or json.dumps(value) not in text
