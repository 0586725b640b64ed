"""The list of an institution's customers (SPEC 4.5): what is read, what is refused, and where."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain import ssn_dataset
from gjeldsbro.domain.rules import Rule
from gjeldsbro.domain.ssn_dataset import read_customer_list
from gjeldsbro_population import Population

FI = "920013015"
SWEDISH = "0007:5569622441"
PROVIDER = "9908:985815534"
NOW = datetime(2026, 11, 23, 5, tzinfo=UTC)
PEOPLE = Population(5, people=5, institutions=1).customer_ids


def document(**changes) -> dict:
    """A right list, with changes; None leaves a name out."""
    whole = {
        "providerID": PROVIDER,
        "financialInstitutionID": FI,
        "timestamp": "2026-11-23T04:00:00Z",
        "customers": list(PEOPLE),
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def read(body: bytes | dict, institution: str = FI, **options):
    """What is read of a body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_customer_list(raw, institution=institution, provider=PROVIDER, accepts="synthetic", now=NOW, **options)


def faults(body: bytes | dict, **options) -> list[tuple[str, str]]:
    """Places and rules; asserts that nothing else came of it."""
    result = read(body, **options)
    assert result.customers == []
    assert result.timestamp == ""
    assert result.total_violations >= len(result.violations) > 0
    return [tuple(violation) for violation in result.violations]


def test_a_list_gives_its_time_and_its_customers_in_order() -> None:
    """Unknown names are ignored, as in messages."""
    for body in (document(), document(comment={"customers": ["x:y"]})):
        result = read(body)
        assert result.timestamp == "2026-11-23T04:00:00.0000000Z"
        assert result.customers == list(PEOPLE)
        assert (result.violations, result.total_violations) == ([], 0)


def test_an_empty_list_is_valid() -> None:
    """An institution that has handed its customers over has none."""
    assert read(document(customers=[])).total_violations == 0


@pytest.mark.parametrize(
    ("ours", "written", "right"),
    [
        (FI, FI, True),
        (FI, f"0192:{FI}", True),
        (FI, f"9908:{FI}", True),
        (FI, f"0007:{FI}", False),
        (FI, "985815534", False),
        (SWEDISH, SWEDISH, True),
        (SWEDISH, "5569622441", True),
        (SWEDISH, "0192:5569622441", False),
        (SWEDISH, "0007:5569622442", False),
        (FI, 920013015, False),
        (FI, [FI], False),
    ],
)
def test_the_institution_may_be_named_with_or_without_its_prefix(ours, written, right) -> None:
    """SPEC 4.5 shows both, its appendix E leaves a foreign one out; another institution's list is refused."""
    body = document(financialInstitutionID=written)
    if right:
        assert read(body, ours).total_violations == 0
    else:
        assert faults(body, institution=ours) == [("/financialInstitutionID", Rule.OTHER_INSTITUTION)]


@pytest.mark.parametrize(
    ("body", "place", "rule"),
    [
        (document(providerID="9908:920013015"), "/providerID", Rule.OTHER_PROVIDER),
        (document(providerID=None), "/providerID", Rule.MANDATORY),
        (document(timestamp=None), "/timestamp", Rule.MANDATORY),
        (document(customers=None), "/customers", Rule.MANDATORY),
        (document(timestamp="2026-11-23T05:06:00Z"), "/timestamp", Rule.FUTURE),
        (document(timestamp="2026-11-23"), "/timestamp", Rule.TIMESTAMP),
        (document(timestamp=1), "/timestamp", Rule.TIMESTAMP),
        (document(customers={"a": 1}), "/customers", Rule.ARRAY),
        (document(customers=[PEOPLE[0], "17912099998"]), "/customers/1", Rule.SYNTHETIC_CUSTOMER_ID),
        (document(customers=[PEOPLE[0], 17912099997]), "/customers/1", Rule.SYNTHETIC_CUSTOMER_ID),
        (document(customers=[None]), "/customers/0", Rule.SYNTHETIC_CUSTOMER_ID),
        (document(customers=["a:b"]), "/customers/0", Rule.SYNTHETIC_CUSTOMER_ID),
        (document(customers=[[PEOPLE[0]]]), "/customers/0", Rule.SYNTHETIC_CUSTOMER_ID),
        (b"[]", "", Rule.OBJECT),
        (b"", "", Rule.JSON),
        (b"{", "", Rule.JSON),
        (b"\xef\xbb\xbf{}", "", Rule.UTF_8),
        (b'{"customers": ["\xff"]}', "", Rule.UTF_8),
        (b"[" * 100_000, "", Rule.JSON_DEPTH),
        (json.dumps(document()).encode()[:-1] + b', "customers": []}', "", Rule.JSON_NAMES),
        (json.dumps(document()).encode()[:-1] + b', "x": 1, "x": 2}', "", Rule.JSON_NAMES),
        (json.dumps(document()).encode()[:-1] + b', "custom\\u0065rs": []}', "", Rule.JSON_NAMES),
    ],
)
def test_a_broken_rule_is_named_with_its_place(body, place, rule) -> None:
    """Whatever is wrong, the place and the rule are said, and never the value."""
    assert faults(body) == [(place, rule)]


def test_all_faults_are_counted_and_the_first_are_listed() -> None:
    """An institution mends a list once, not once for each number."""
    result = read(document(providerID="x", customers=["1", *PEOPLE, "2", "3"]), limit=2)
    assert [violation.place for violation in result.violations] == ["/providerID", "/customers/0"]
    assert result.total_violations == 4


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inside: (
        st.lists(inside) | st.dictionaries(st.sampled_from(["customers", "providerID", "timestamp", "a:b"]), inside)
    ),
)


@given(ANYTHING)
def test_the_quick_way_refuses_whatever_the_strict_one_refuses(extra) -> None:
    """With anything added or put in place of a value, both ways say the same."""
    for body in (document(more=extra), document(customers=[extra]), document(timestamp=extra), document(a=extra, b=1)):
        raw = json.dumps(body).encode()
        whole = read(raw)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ssn_dataset, "_read_quickly", lambda _: None)
            assert read(raw) == whole
