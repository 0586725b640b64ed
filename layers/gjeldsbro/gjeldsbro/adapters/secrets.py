"""What Secrets Manager keeps: the key of the keyed hash, our client certificate, and the receivers' credentials.

Values are cached for a few minutes, so that a rotated secret is used soon and a busy function does not ask each time.
Nothing of them is ever logged or raised.
"""

import json
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.timestamps import normalise
from gjeldsbro.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

CACHE_SECONDS = 300
_MIN_HASH_SECRET = 32


class ClientCertificate(NamedTuple):
    """Our certificate chain and private key for calls to institutions, both PEM."""

    certificate: str
    private_key: str


class ReceiverSecret(NamedTuple):
    """How we log in at a receiver: a password, or a private key (OpenSSH or PEM) with or without a passphrase."""

    password: str | None
    private_key: str | None
    passphrase: str | None


class Secrets:
    """Reads and caches secrets; raises ConfigurationError when one is missing or not in its form."""

    def __init__(self, client: "SecretsManagerClient") -> None:
        self._client = client
        self._cache: dict[str, tuple[float, dict[str, Any]]] = {}

    def hash_keys(self, secret_id: str) -> HashKeys:
        """The keys of the keyed hash: ``{"keys": [{"version": "1", "key": "…", "from"?, "retiredAt"?}, …]}``.

        A key has at least 32 characters, a version is a whole number. ``{"version", "key"}``, as a new stack has it, is
        the one key.
        """
        values = self._read(secret_id)
        try:
            keys = [_hash_key(**one) for one in values.get("keys", [values])]
        except (KeyError, TypeError, ValueError):
            keys = []
        if not keys or len({key.number for key in keys}) < len(keys):
            raise ConfigurationError("the hash key secret is not of the form {keys: [{version, key, from}]}")
        return HashKeys.of(*keys)

    def client_certificate(self, secret_id: str, *, anew: bool = False) -> ClientCertificate | None:
        """Our client certificate, or None while no operator has stored one; ``anew``: not from the cache."""
        values = self._read(secret_id, anew=anew)
        certificate, private_key = values.get("certificate"), values.get("privateKey")
        if not certificate and not private_key:
            return None
        if not isinstance(certificate, str) or not isinstance(private_key, str):
            raise ConfigurationError("the client certificate secret is not of the form {certificate, privateKey}")
        return ClientCertificate(certificate, private_key)

    def receiver(self, secret_id: str, *, anew: bool = False) -> ReceiverSecret:
        """A receiver's credentials: ``{"password"?, "privateKey"?, "passphrase"?}``; ``anew``: not from the cache."""
        values = self._read(secret_id, anew=anew)
        secret = ReceiverSecret(values.get("password"), values.get("privateKey"), values.get("passphrase"))
        if secret.password is None and secret.private_key is None:
            raise ConfigurationError("the receiver's secret holds neither a password nor a private key")
        return secret

    def _read(self, secret_id: str, *, anew: bool = False) -> dict[str, Any]:
        cached = None if anew else self._cache.get(secret_id)
        if cached is not None and monotonic() - cached[0] < CACHE_SECONDS:
            return cached[1]
        try:
            text = self._client.get_secret_value(SecretId=secret_id)["SecretString"]
        except self._client.exceptions.ResourceNotFoundException:
            raise ConfigurationError("a secret does not exist") from None
        try:
            values = json.loads(text)
        except ValueError:
            raise ConfigurationError("a secret is not a JSON object") from None
        if not isinstance(values, dict):
            raise ConfigurationError("a secret is not a JSON object")
        self._cache[secret_id] = (monotonic(), values)
        return values


class HashKeyStore:
    """The secret with the hash keys, for the one function that may replace it."""

    def __init__(self, secret_id: str, client: "SecretsManagerClient") -> None:
        self._secret_id = secret_id
        self._client = client

    def read(self) -> HashKeys:
        """The keys as they are now. Raises ConfigurationError as ``Secrets`` does."""
        return Secrets(self._client).hash_keys(self._secret_id)

    def replace(self, keys: HashKeys) -> None:
        """Store the keys in place of what was there. Raises botocore's errors."""
        self._client.put_secret_value(SecretId=self._secret_id, SecretString=_hash_keys_text(keys))


def _hash_keys_text(keys: HashKeys) -> str:
    values = [
        {
            "version": key.version,
            "key": key.secret.decode(),
            **({"from": key.since} if key.since else {}),
            **({"retiredAt": key.retired_at} if key.retired_at else {}),
        }
        for key in keys.keys
    ]
    return json.dumps({"keys": values})


def _hash_key(**values: Any) -> HashKey:
    """A key as it stands in the secret. Raises KeyError, TypeError or ValueError when it is not of that form."""
    version, secret = values["version"], values["key"]
    since, retired_at = values.get("from"), values.get("retiredAt")
    if len(secret) < _MIN_HASH_SECRET or str(int(version)) != version:
        raise ValueError
    return HashKey(
        version,
        secret.encode(),
        "" if since is None else normalise(since),
        None if retired_at is None else normalise(retired_at),
    )
