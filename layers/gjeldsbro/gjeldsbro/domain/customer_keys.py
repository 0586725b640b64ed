"""Keyed hashes that stand for persons and accounts (design decision 3).

Without the key, which only the functions' roles can read, the register's keys cannot be turned into persons: there are
few enough identity numbers that an unkeyed hash of all of them takes seconds.

There may be several keys, because rotating one takes days (decision record 0021): what is written is written under the
key in force, and what is read is asked for under every key that may still have something.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from gjeldsbro.domain.timestamps import from_datetime
from gjeldsbro.errors import ConfigurationError

KEY_SIZE = 32
"""Bytes of a customer key: HMAC-SHA256, untruncated."""

FIRST_VERSION = "1"
"""The version of the key that a new stack has."""


_CUSTOMER, _ACCOUNT = b"customer\x00", b"account\x00"
_BLOCK_SIZE = sha256().block_size
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class _KeyedHash:
    """HMAC-SHA256 (RFC 2104) of texts that begin alike.

    The key and the beginning are hashed once, and each text goes on from there: a third of the time of ``hmac.digest``.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes, beginning: bytes) -> None:
        if len(secret) > _BLOCK_SIZE:
            secret = sha256(secret).digest()
        block = secret.ljust(_BLOCK_SIZE, b"\x00")
        self._inner = sha256(block.translate(_INNER_PAD) + beginning)
        self._outer = sha256(block.translate(_OUTER_PAD))

    def __call__(self, text: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.digest()


_keyed_hash = lru_cache(maxsize=16)(_KeyedHash)


def partition_key(version: str, customer_key: bytes) -> str:
    """The register's partition key of a raw customer key: ``{version}#{base64url}``."""
    return f"{version}#{urlsafe_b64encode(customer_key).rstrip(b'=').decode()}"


class HashKey(NamedTuple):
    """The secret of the keyed hash and its version, a whole number, which is part of every partition key.

    It is in force from ``since`` on (fixed form of ``domain.timestamps``; empty: always was) until a newer one is. From
    ``retired_at`` on nothing of the register is under it any more; records of lookups may be.
    """

    version: str
    secret: bytes
    since: str = ""
    retired_at: str | None = None

    @property
    def number(self) -> int:
        """What orders versions."""
        return int(self.version)

    def customer_key(self, customer_id: str) -> bytes:
        """The raw key of a customer: the same customerID always gives the same key."""
        return _keyed_hash(self.secret, _CUSTOMER)(customer_id)

    def customer_keys(self, customer_ids: Iterable[str]) -> Iterator[bytes]:
        """``customer_key`` of each."""
        return map(_keyed_hash(self.secret, _CUSTOMER), customer_ids)

    def account_key(self, *parts: str) -> bytes:
        """A keyed hash over ``parts`` that name an account; none of them may hold a NUL."""
        return _keyed_hash(self.secret, _ACCOUNT)("\x00".join(parts))

    def account_keys(self, *parts: str) -> Callable[[str], bytes]:
        """``account_key`` of many accounts whose first parts are the same; it takes the others, a NUL between them."""
        return _keyed_hash(self.secret, _ACCOUNT + "\x00".join((*parts, "")).encode())

    def partition_key(self, customer_key: bytes) -> str:
        """The register's partition key of a raw customer key of this key."""
        return partition_key(self.version, customer_key)

    def partition_of(self, customer_id: str) -> str:
        """The register's partition key of a customer."""
        return self.partition_key(self.customer_key(customer_id))


class HashKeys(NamedTuple):
    """All keys that there are, the oldest first; at least one."""

    keys: tuple[HashKey, ...]

    @classmethod
    def of(cls, *keys: HashKey) -> "HashKeys":
        """These keys, in the order of their versions."""
        return cls(tuple(sorted(keys, key=lambda key: key.number)))

    def at(self, moment: datetime) -> HashKey:
        """The key in force at an aware ``moment``: what is written then, is written under it."""
        text = from_datetime(moment)
        return next((key for key in reversed(self.keys) if key.since <= text), self.keys[0])

    def of_version(self, version: str) -> HashKey:
        """The key of that version. Raises ConfigurationError when there is none."""
        for key in self.keys:
            if key.version == version:
                return key
        raise ConfigurationError(f"the hash key has no version {version}")

    @property
    def readable(self) -> tuple[HashKey, ...]:
        """The keys under which the register may have something."""
        return tuple(key for key in self.keys if key.retired_at is None)


def parts_of_partition_key(partition_key: str) -> tuple[str, bytes]:
    """The version and the raw customer key of a partition key of the register."""
    version, _, key = partition_key.partition("#")
    return version, urlsafe_b64decode(key + "=" * (-len(key) % 4))
