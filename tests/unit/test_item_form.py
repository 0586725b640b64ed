"""The DynamoDB item form: what goes in comes out."""

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.adapters.aws import from_item, to_item

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**37), 10**37) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(min_size=1), VALUES))
def test_items_are_those_of_boto3(values) -> None:
    """Our form is the one that everybody else writes and reads, and what we read is what was written."""
    kept = {name: value for name, value in values.items() if value is not None}
    item = to_item(values)

    assert item == {name: TypeSerializer().serialize(value) for name, value in kept.items()}
    assert {name: TypeDeserializer().deserialize(value) for name, value in item.items()} == kept
    assert from_item(item) == kept


def test_what_has_no_form_is_refused() -> None:
    """A float would come back as another number."""
    with pytest.raises(TypeError):
        to_item({"name": 0.1})
