"""AWS clients and the DynamoDB item form: ours are leaner than boto3's, and the same."""

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ParamValidationError
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.adapters import aws
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


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
@pytest.mark.parametrize("service", aws._SERVICES)
def test_services_are_described_as_botocore_reads_them(service: str, kind: str) -> None:
    """The quicker loader leaves nothing out."""
    assert aws._Loader().load_service_model(service, kind) == Loader().load_service_model(service, kind)


def test_clients_are_patient_alike_and_s3_is_asked_for_nothing_odd(monkeypatch) -> None:
    """DynamoDB's requests are not checked before they are sent; an object without a name would be its bucket."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    aws.forget_clients()
    factories = (aws.dynamodb, aws.events, aws.kms, aws.s3, aws.secretsmanager, aws.sns)
    configs = [factory().meta.config for factory in factories]

    assert {(config.read_timeout, config.retries["total_max_attempts"]) for config in configs} == {(20, 5)}
    with pytest.raises(ParamValidationError):
        aws.s3().put_object(Bucket="bucket", Key="", Body=b"")
    aws.forget_clients()


@pytest.mark.parametrize(("variables", "built"), [({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}, 1), ({}, 0)])
def test_clients_are_built_early_in_lambda_only(monkeypatch, variables, built) -> None:
    """Elsewhere, as in tests, where AWS is may not be known when a module is imported."""
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    calls: list[int] = []

    aws.build_at_init(lambda: calls.append(1))

    assert len(calls) == built
