"""What a lender may send, and the schema that says so."""

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import spec_messages as spec
from tests.spec_messages import encode

from gjeldsbro.domain.rules import Rule
from gjeldsbro.domain.search_messages import PURPOSES, SearchRequest, SearchResponse, parse_search
from gjeldsbro.errors import InvalidMessageError

REQUEST = {"ssn": spec.CUSTOMER, "referenceID": "SAK-2026/1"}
NUMBER = spec.OTHER_CUSTOMER


def parse(message, accepts="synthetic") -> SearchRequest:
    """The request as it is read."""
    return parse_search(message if isinstance(message, bytes) else encode(message), accepts=accepts)


def violations(message) -> list[tuple[str, str]]:
    """Places and rules of a refused request."""
    with pytest.raises(InvalidMessageError) as caught:
        parse(message)
    return list(caught.value.violations)


def refusal(message) -> InvalidMessageError | None:
    """Why the request is refused, or None."""
    try:
        parse(message)
    except InvalidMessageError as exc:
        return exc
    return None


def test_the_least_that_can_be_asked():
    """Number and reference; everything else has a default, as if it were null."""
    request = parse(REQUEST)
    assert request.persons == (spec.CUSTOMER,)
    assert request.reference_id == "SAK-2026/1"
    assert (request.message_to_customer, request.on_behalf_of_organization) == (None, None)
    assert (request.max_time_to_wait, request.purpose) == (3000, "creditApplication")
    optional = ("messageToCustomer", "coBorrowers", "maxTimeToWait", "onBehalfOfOrganization", "purpose")
    assert parse(REQUEST | dict.fromkeys(optional)) == request


def test_all_that_can_be_asked():
    """Every field of the request; what is unknown is ignored, at each level."""
    request = parse(
        REQUEST
        | {
            "messageToCustomer": "Du har søkt om lån hos Testbanken.",
            "coBorrowers": [{"ssn": NUMBER, "name": "x"}],
            "maxTimeToWait": "05000",
            "onBehalfOfOrganization": "0007:5569622441",
            "purpose": "payoutControl",
            "usingOwnNotification": True,
        }
    )
    assert request.persons == (spec.CUSTOMER, NUMBER)
    assert request.message_to_customer == "Du har søkt om lån hos Testbanken."
    assert request.max_time_to_wait == 5000
    assert request.on_behalf_of_organization == "0007:5569622441"
    assert request.purpose == "payoutControl"


@pytest.mark.parametrize("value", [1000, 60000, "1000", "000000060000"])
def test_time_to_wait_in_both_forms_of_a_number(value):
    """A JSON integer or a string of digits, from one second to a minute."""
    assert parse(REQUEST | {"maxTimeToWait": value}).max_time_to_wait == int(value)


def others(*numbers) -> list[dict[str, str]]:
    """Co-borrowers with these numbers."""
    return [{"ssn": number} for number in numbers]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"ssn": "14842249092"}, ("/ssn", Rule.SYNTHETIC_CUSTOMER_ID), id="check digit"),
        pytest.param({"ssn": 14842249091}, ("/ssn", Rule.SYNTHETIC_CUSTOMER_ID), id="number as a number"),
        pytest.param({"referenceID": ""}, ("/referenceID", Rule.REFERENCE), id="empty reference"),
        pytest.param({"referenceID": "   "}, ("/referenceID", Rule.REFERENCE), id="blank reference"),
        pytest.param({"referenceID": None}, ("/referenceID", Rule.REFERENCE), id="reference null"),
        pytest.param({"referenceID": "x" * 101}, ("/referenceID", Rule.REFERENCE), id="long reference"),
        pytest.param({"referenceID": "a\nb"}, ("/referenceID", Rule.REFERENCE), id="reference of two lines"),
        pytest.param({"referenceID": f"lån {NUMBER}"}, ("/referenceID", Rule.REFERENCE), id="a person as reference"),
        pytest.param({"referenceID": "179120 999 97"}, ("/referenceID", Rule.REFERENCE), id="a divided person"),
        pytest.param({"referenceID": 12}, ("/referenceID", Rule.REFERENCE), id="a number as reference"),
        pytest.param(
            {"messageToCustomer": "x" * 101}, ("/messageToCustomer", Rule.MESSAGE_TO_CUSTOMER), id="long message"
        ),
        pytest.param({"messageToCustomer": " "}, ("/messageToCustomer", Rule.MESSAGE_TO_CUSTOMER), id="blank message"),
        pytest.param(
            {"messageToCustomer": "a\u2028b"}, ("/messageToCustomer", Rule.MESSAGE_TO_CUSTOMER), id="two lines"
        ),
        pytest.param(
            {"messageToCustomer": f"{NUMBER[:6]} {NUMBER[6:]}"},
            ("/messageToCustomer", Rule.MESSAGE_TO_CUSTOMER),
            id="a person in the message",
        ),
        pytest.param({"coBorrowers": {}}, ("/coBorrowers", Rule.ARRAY), id="co-borrowers an object"),
        pytest.param({"coBorrowers": [NUMBER]}, ("/coBorrowers/0", Rule.OBJECT), id="co-borrower a string"),
        pytest.param({"coBorrowers": [{}]}, ("/coBorrowers/0/ssn", Rule.MANDATORY), id="co-borrower without number"),
        pytest.param(
            {"coBorrowers": others(NUMBER, "1")},
            ("/coBorrowers/1/ssn", Rule.SYNTHETIC_CUSTOMER_ID),
            id="co-borrower's number",
        ),
        pytest.param(
            {"coBorrowers": others(NUMBER, NUMBER)}, ("/coBorrowers/1/ssn", Rule.CO_BORROWER_TWICE), id="twice"
        ),
        pytest.param({"coBorrowers": others(spec.CUSTOMER)}, ("/coBorrowers/0/ssn", Rule.CO_BORROWER_TWICE), id="self"),
        pytest.param({"coBorrowers": [None] * 11}, ("/coBorrowers", Rule.CO_BORROWERS), id="too many"),
        pytest.param({"maxTimeToWait": 999}, ("/maxTimeToWait", Rule.TIME_TO_WAIT), id="too short"),
        pytest.param({"maxTimeToWait": 60001}, ("/maxTimeToWait", Rule.TIME_TO_WAIT), id="too long"),
        pytest.param({"maxTimeToWait": 3000.0}, ("/maxTimeToWait", Rule.TIME_TO_WAIT), id="a float"),
        pytest.param({"maxTimeToWait": True}, ("/maxTimeToWait", Rule.TIME_TO_WAIT), id="a boolean"),
        pytest.param({"maxTimeToWait": "3s"}, ("/maxTimeToWait", Rule.TIME_TO_WAIT), id="a unit"),
        pytest.param(
            {"onBehalfOfOrganization": "920013016"}, ("/onBehalfOfOrganization", Rule.INSTITUTION), id="organisation"
        ),
        pytest.param(
            {"onBehalfOfOrganization": 920013015}, ("/onBehalfOfOrganization", Rule.INSTITUTION), id="as a number"
        ),
        pytest.param({"purpose": "marketing"}, ("/purpose", Rule.PURPOSE), id="purpose"),
        pytest.param({"purpose": ["startLoan"]}, ("/purpose", Rule.PURPOSE), id="purpose an array"),
    ],
)
def test_each_field_has_its_rule(changes, expected):
    """A value that fits no field is refused at its place by the field's own rule."""
    assert violations(REQUEST | changes) == [expected]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", ("", Rule.JSON), id="nothing"),
        pytest.param(b"[" * 100_000, ("", Rule.JSON_DEPTH), id="deep"),
        pytest.param({**REQUEST, "new": [[[[[[[[[[]]]]]]]]]]}, ("", Rule.JSON_DEPTH), id="deep where nothing is read"),
        pytest.param([], ("", Rule.OBJECT), id="array"),
        pytest.param(b'{"ssn": "1", "ssn": "2"}', ("", Rule.JSON_NAMES), id="a name twice"),
        pytest.param(
            b'{"coBorrowers": [{"ssn": "1", "ssn": "2"}]}',
            ("/coBorrowers/0", Rule.JSON_NAMES),
            id="a name twice inside",
        ),
        pytest.param(b'{"referenceID": "\\ud800"}', ("", Rule.JSON_TEXT), id="half a surrogate pair"),
    ],
)
def test_the_outside_of_a_request(body, expected):
    """What is no JSON object, or means different things to different readers."""
    assert violations(body) == [expected]


def test_all_faults_are_named_at_once():
    """In document order, and counted beyond twenty."""
    assert violations({"purpose": 1}) == [
        ("/ssn", Rule.MANDATORY),
        ("/referenceID", Rule.MANDATORY),
        ("/purpose", Rule.PURPOSE),
    ]


FIELDS = [
    "ssn",
    "referenceID",
    "messageToCustomer",
    "coBorrowers",
    "maxTimeToWait",
    "onBehalfOfOrganization",
    "purpose",
]


@given(st.sampled_from(FIELDS), st.one_of(spec.broken_values, st.builds(list, st.just([{"ssn": spec.SECRET}]))))
def test_a_refusal_never_repeats_what_was_sent(name, value):
    """Whatever stands where: the error holds places and rules."""
    text = str(refusal(REQUEST | {name: value}))
    assert spec.SECRET not in text
    assert "7391" not in text


REQUEST_SCHEMA = jsonschema.Draft202012Validator(SearchRequest.model_json_schema())
VALUES = {
    "ssn": spec.customer_ids,
    "referenceID": st.text(st.characters(exclude_categories=["C", "Z", "N"]), min_size=1, max_size=100),
}
OPTIONAL = {
    "messageToCustomer": st.one_of(st.none(), st.just(""), st.just("Takk")),
    "coBorrowers": st.one_of(st.none(), st.lists(st.fixed_dictionaries({"ssn": spec.customer_ids}), max_size=10)),
    "maxTimeToWait": st.one_of(
        st.none(), st.integers(1000, 60000), st.builds(lambda n: str(n).zfill(12), st.integers(1000, 60000))
    ),
    "onBehalfOfOrganization": st.sampled_from([None, "920013015", "0007:5569622441"]),
    "purpose": st.sampled_from([None, *PURPOSES]),
}


@given(st.fixed_dictionaries(VALUES, optional=OPTIONAL))
def test_what_is_taken_fits_the_schema(message):
    """The OpenAPI document describes no less than is accepted."""
    refused = refusal(message)
    assert refused is None or {rule for _, rule in refused.violations} == {Rule.CO_BORROWER_TWICE}
    assert REQUEST_SCHEMA.is_valid(message)


@given(
    st.sampled_from(["maxTimeToWait", "purpose", "coBorrowers"]),
    st.one_of(
        spec.broken_values,
        st.integers(),
        st.from_regex("[0-9]{1,13}", fullmatch=True),
        st.lists(st.none(), max_size=12),
    ),
)
def test_what_fits_the_schema_is_taken(name, value):
    """Nor more, where no check digit decides: a value that the document allows is no fault."""
    message = REQUEST | {name: value}
    assert REQUEST_SCHEMA.is_valid(message) == (refusal(message) is None)


def test_the_answers_schema_has_no_room_for_a_creditor():
    """No name of the answer, at any depth, is one of those that design decision 11 keeps back."""
    schema = SearchResponse.model_json_schema(mode="serialization")
    names = {name for model in [schema, *schema["$defs"].values()] for name in model["properties"]}
    assert not {"financialInstitutionID", "providerID", "accountName", "institution"} & names
    assert names >= {"numberOfCreditorsAnswered", "numberOfcreditorsMissing", "referenceID", "coBorrowers", "accountID"}
