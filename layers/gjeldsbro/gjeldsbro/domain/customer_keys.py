"""Keyed hashes that stand for persons and accounts (design decision 3).

Without the key, which only the functions' roles can read, the register's keys cannot be turned into persons: there are
few enough identity numbers that an unkeyed hash of all of them takes seconds.
"""

import hmac
from base64 import urlsafe_b64encode
from typing import NamedTuple

KEY_SIZE = 32
"""Bytes of a customer key: HMAC-SHA256, untruncated."""


class HashKey(NamedTuple):
    """The secret of the keyed hash and its version, which is part of every partition key."""

    version: str
    secret: bytes

    def customer_key(self, customer_id: str) -> bytes:
        """The raw key of a customer: the same customerID always gives the same key."""
        return hmac.digest(self.secret, b"customer\x00" + customer_id.encode(), "sha256")

    def account_key(self, *parts: str) -> bytes:
        """A keyed hash over ``parts`` that name an account; none of them may hold a NUL."""
        return hmac.digest(self.secret, b"account\x00" + "\x00".join(parts).encode(), "sha256")

    def partition_key(self, customer_key: bytes) -> str:
        """The register's partition key of a raw customer key: ``{version}#{base64url}``."""
        return f"{self.version}#{urlsafe_b64encode(customer_key).rstrip(b'=').decode()}"
