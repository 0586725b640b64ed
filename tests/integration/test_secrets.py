"""Secrets on moto."""

import json
from typing import Any

import pytest

from gjeldsbro.adapters import aws as aws_clients
from gjeldsbro.adapters.secrets import ClientCertificate, ReceiverSecret, Secrets
from gjeldsbro.errors import ConfigurationError


def put(name: str, value: Any) -> None:
    """Store a secret, new or not."""
    client = aws_clients.secretsmanager()
    text = value if isinstance(value, str) else json.dumps(value)
    if name in {secret["Name"] for secret in client.list_secrets()["SecretList"]}:
        client.put_secret_value(SecretId=name, SecretString=text)
    else:
        client.create_secret(Name=name, SecretString=text)


def test_the_hash_key_carries_its_version(secrets: Secrets) -> None:
    """The version is part of every partition key from the first day."""
    assert [key.partition_key(bytes(32))[:2] for key in secrets.hash_keys("hash-key").readable] == ["1#"]


@pytest.mark.parametrize("value", [{}, {"version": "1"}, {"version": "1", "key": "short"}, [], "text", '"text"'])
def test_a_hash_key_that_is_not_one_stops_the_function(secrets: Secrets, value: Any) -> None:
    """A register keyed with a missing or guessable key would be worse than none."""
    put("hash-key", value)

    with pytest.raises(ConfigurationError):
        secrets.hash_keys("hash-key")


def test_a_missing_secret_is_the_operators_business(secrets: Secrets) -> None:
    """A secret that does not exist is a configuration error and names no value."""
    with pytest.raises(ConfigurationError):
        secrets.receiver("gjeldsbro-test/receiver/920013015")


def test_the_client_certificate_may_be_missing_but_not_half(secrets: Secrets) -> None:
    """Until an operator stores a certificate there is none; half of one is a fault."""
    assert secrets.client_certificate("client-certificate") is None
    put("half", {"certificate": "PEM"})
    with pytest.raises(ConfigurationError):
        secrets.client_certificate("half")
    put("whole", {"certificate": "PEM", "privateKey": "KEY"})
    assert secrets.client_certificate("whole") == ClientCertificate("PEM", "KEY")


def test_a_receiver_has_a_password_or_a_key(secrets: Secrets) -> None:
    """A secret without either cannot log in anywhere."""
    put("password", {"password": "p"})
    put("neither", {"passphrase": "p"})

    assert secrets.receiver("password") == ReceiverSecret("p", None, None)
    with pytest.raises(ConfigurationError):
        secrets.receiver("neither")


def test_a_rotated_secret_is_read_anew_after_the_cache_time(
    secrets: Secrets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within the cache time a secret is asked for once; afterwards its new value is used."""
    clock = 0.0
    monkeypatch.setattr("gjeldsbro.adapters.secrets.monotonic", lambda: clock)
    put("receiver", {"password": "old"})
    assert secrets.receiver("receiver").password == "old"
    put("receiver", {"password": "new"})

    clock = 299.0
    assert secrets.receiver("receiver").password == "old"
    clock = 301.0
    assert secrets.receiver("receiver").password == "new"
