"""Who calls the API: what its client certificate says (design decision 8)."""

import json
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Protocol
from unicodedata import normalize


class Caller(NamedTuple):
    """The owner of a client certificate that may be used for what we need it for.

    ``organisation`` is the organizationIdentifier of ETSI EN 319 412-1 (``NTRNO-920013015``), also where the
    certificate says it in an older way. ``issuer`` stands for the certificate's issuer (``mark_of``); with
    ``serial`` it tells the certificate from all others.
    """

    organisation: str
    issuer: str
    serial: int
    not_after: datetime


class ObjectIdentifier(Protocol):
    """As in cryptography, which the domain does not import; so are the two below."""

    @property
    def dotted_string(self) -> str:
        """The identifier as numbers and dots."""
        ...


class NameAttribute(Protocol):
    """One attribute of a name."""

    @property
    def oid(self) -> ObjectIdentifier:
        """Which attribute it is."""
        ...

    @property
    def value(self) -> str | bytes:
        """Its text, or bytes where it has none."""
        ...


class Name(Protocol):
    """A distinguished name."""

    @property
    def rdns(self) -> Iterable[Iterable[NameAttribute]]:
        """Its parts in order, each of one attribute or several."""
        ...


def mark_of(name: Name) -> str:
    """What stands for an authority: the SHA-256, in hexadecimal digits, of what its name says.

    Names that RFC 5280, 7.1, calls the same have the same mark, as they are the same to whoever checks a chain: texts
    are compared without regard to encoding (PrintableString, UTF8String), to case, and to how many blanks there are.
    """
    parts = [sorted((one.oid.dotted_string, *_compared(one.value)) for one in part) for part in name.rdns]
    return sha256(json.dumps(parts).encode()).hexdigest()


def _compared(value: str | bytes) -> tuple[str, str]:
    if isinstance(value, bytes):
        return "bytes", value.hex()
    return "text", " ".join(normalize("NFKC", normalize("NFKC", value).casefold()).split())
