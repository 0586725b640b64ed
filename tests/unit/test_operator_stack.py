import json

import pytest

from gjeldsbro.errors import ConfigurationError
from gjeldsbro_operator.stack import Stack

LOCAL = {"endpointUrl": "http://127.0.0.1:1", "region": "eu-north-1", "stackName": "gjeldsbro-local", "outputs": {}}


def test_the_local_stack_is_found_from_any_folder_below_its_file(tmp_path, monkeypatch):
    """`make up` writes .local/stack.json at the repository root; an operator may stand deeper."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text(json.dumps(LOCAL))
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs" / "deep")
    stack = Stack(None, local=True)
    assert stack.name == "gjeldsbro-local"
    assert stack.secrets.meta.endpoint_url == LOCAL["endpointUrl"]
    assert stack.secrets.meta.region_name == LOCAL["region"]


def test_another_stack_file_can_be_named_by_the_environment(tmp_path, monkeypatch):
    """GJELDSBRO_STACK_FILE goes before the one of the repository."""
    file = tmp_path / "other.json"
    file.write_text(json.dumps({**LOCAL, "stackName": "another"}))
    monkeypatch.setenv("GJELDSBRO_STACK_FILE", str(file))
    assert Stack(None, local=True).name == "another"


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"region": "eu-north-1"})])
def test_a_stack_file_that_is_none_is_refused(tmp_path, monkeypatch, text):
    """The error names the file."""
    file = tmp_path / "other.json"
    file.write_text(text)
    monkeypatch.setenv("GJELDSBRO_STACK_FILE", str(file))
    with pytest.raises(ConfigurationError, match=r"other\.json is not a local stack file"):
        Stack(None, local=True)
