"""Settings: what is missing stops the function, and no value is ever said."""

import pytest

from gjeldsbro.errors import ConfigurationError
from gjeldsbro.settings import Settings


class Example(Settings):
    """The settings of a function."""

    register_table: str
    allow_plain_http: bool = False


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field is read from the variable of its name in upper case."""
    monkeypatch.setenv("REGISTER_TABLE", "table-1")
    monkeypatch.setenv("ALLOW_PLAIN_HTTP", "true")

    settings = Example.load()

    assert (settings.register_table, settings.allow_plain_http) == ("table-1", True)
    assert Example.load() is settings


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no default that could point at another table."""
    monkeypatch.delenv("REGISTER_TABLE", raising=False)

    with pytest.raises(ConfigurationError, match="REGISTER_TABLE"):
        Example.load()


def test_all_that_is_wrong_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever deploys mends all variables in one go."""
    monkeypatch.delenv("REGISTER_TABLE", raising=False)
    monkeypatch.setenv("ALLOW_PLAIN_HTTP", "perhaps")

    with pytest.raises(ConfigurationError, match="ALLOW_PLAIN_HTTP, REGISTER_TABLE"):
        Example.load()


def test_a_wrong_value_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, not what it holds."""
    monkeypatch.setenv("REGISTER_TABLE", "table-1")
    monkeypatch.setenv("ALLOW_PLAIN_HTTP", "secret-value")

    with pytest.raises(ConfigurationError) as caught:
        Example.load()

    assert "ALLOW_PLAIN_HTTP" in str(caught.value)
    assert "secret-value" not in str(caught.value)
    assert caught.value.__cause__ is None
