"""A quarterly package: one JSON document in SPEC 4.2's model, deflated in slices, read as one ordinary gzip file.

Workers build the slices side by side (design decision 12). A slice holds some customers and ends in a full flush: on a
byte boundary and with no reference across it, so slices can be put one after another between a head and a tail that are
made when their lengths and check sums are known. The whole is one gzip member (RFC 1952) of one deflate stream (RFC
1951): common readers stop after the first member.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from gjeldsbro.domain.customer_keys import HashKey, HashKeys
from gjeldsbro.domain.loans import Loan, RepaymentLoan, account_of, to_wire
from gjeldsbro.domain.quarter import Quarter

ACCOUNT_DIGITS = 24
"""Decimal digits of an account id in a package; SPEC allows 25."""

_HEADER = bytes(
    (0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255)
)  # deflate; no name, no time, no system: the same bytes every time
_ACCOUNT_IDS = 10**ACCOUNT_DIGITS
_LEVEL = 6
_FIGURES = RepaymentLoan.__struct_fields__.index("account_name") + 1
"""Where a loan's figures begin, of whichever kind it is."""

_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Pseudonyms:
    """Turns accounts into numbers that mean something within one receiver's packages of one quarter only."""

    key: HashKey
    receiver: str
    quarter: str

    @classmethod
    def of(cls, keys: HashKeys, receiver: str, quarter: Quarter) -> "Pseudonyms":
        """Those of a quarter: under the key that it began with, so that a rotation does not change them."""
        return cls(keys.at(quarter.start), receiver, str(quarter))

    def account_id(self, customer_id: str, institution: str, loan: Loan) -> str:
        """A keyed hash of whose loan it is and which one, in 24 digits: it names no creditor and links no borrowers."""
        kind, account = account_of(loan)
        key = self._keys(f"{customer_id}\x00{institution}\x00{kind}\x00{account}")
        return str(int.from_bytes(key) % _ACCOUNT_IDS).zfill(ACCOUNT_DIGITS)

    @cached_property
    def _keys(self) -> Callable[[str], bytes]:
        return self.key.account_keys("package", self.receiver, self.quarter)


def customer_text(
    customer_id: str,
    loans: Iterable[tuple[str, Loan]],
    *,
    on_behalf_of: str,
    timestamp: str,
    pseudonyms: Pseudonyms,
) -> str:
    """One customer of a package (SPEC 4.2.2), as design decision 11 has it, in JSON.

    ``loans`` are (institution, loan) and come out sorted by account id, which says nothing about where they come from.
    All of them bear the package's ``timestamp`` (fixed form), for their own would tell one institution's delivery from
    another's. Nothing in it needs escaping: what is free text stays out of packages.
    """
    texts = []
    for institution, loan in loans:
        account_id = pseudonyms.account_id(customer_id, institution, loan)
        texts.append((account_id, _form(type(loan), timestamp) % (account_id, *astuple(loan)[_FIGURES:])))
    texts.sort()
    listed = ",".join([text for _, text in texts])
    return f'{{"customerID":"{customer_id}","financialInstitutionID":"{on_behalf_of}","loans":[{listed}]}}'


@lru_cache(maxsize=8)
def _form(kind: type[Loan], timestamp: str) -> str:
    """What ``to_wire`` makes of a loan, with ``%s`` for the account id and for the figures, in the struct's order."""
    figures = ["%s"] * (len(kind.__struct_fields__) - _FIGURES)
    sample: Any = kind  # its figures are texts for once
    return _ENCODER.encode(
        to_wire(sample("", timestamp, None, *figures), timestamp=timestamp, account_id="%s")
    ).decode()


class Slice(NamedTuple):
    """What the package needs to know of a slice: bytes deflated and plain, and the CRC-32 of the plain bytes."""

    size: int
    plain_size: int
    crc32: int


def build_slice(customers: Sequence[str], *, first: bool) -> tuple[bytes, Slice]:
    """Deflate some customers, at least one; ``first`` says that they start the document's array."""
    if not customers:
        raise ValueError("a slice without customers would leave a comma with nothing after it")
    return _deflate(((b"" if first else b",") + ",".join(customers).encode()), zlib.Z_FULL_FLUSH)


class Package:
    """The bytes of a package, made of a head, slices that lie elsewhere, and a tail.

    ``provider`` is our providerID. Reading may start at any byte: that is what lets an upload resume.
    """

    def __init__(self, provider: str, slices: Sequence[Slice]) -> None:
        prologue, prologue_slice = _deflate(
            b'{"providerID":' + _ENCODER.encode(provider) + b',"customers":[',
            zlib.Z_FULL_FLUSH,
        )
        epilogue, epilogue_slice = _deflate(b"]}", zlib.Z_FINISH)
        parts = (prologue_slice, *slices, epilogue_slice)
        crc = 0
        for part in parts:
            crc = combine_crc32(crc, part.crc32, part.plain_size)
        self.head = _HEADER + prologue
        self.plain_size = sum(part.plain_size for part in parts)
        self.tail = epilogue + struct.pack("<LL", crc, self.plain_size % (1 << 32))
        sizes = (len(self.head), *(part.size for part in slices), len(self.tail))
        self._starts = (0, *accumulate(sizes))
        self.size = self._starts[-1]

    def pieces_from(self, offset: int) -> Iterator[tuple[int | None, bytes, int]]:
        """What follows ``offset``, in order.

        Each piece is ``(None, bytes, 0)``, or ``(number of a slice, b"", the byte of it to start at)``.
        """
        last = len(self._starts) - 2
        for index in range(last + 1):
            if self._starts[index + 1] <= offset:
                continue
            skip = max(0, offset - self._starts[index])
            if index == 0:
                yield None, self.head[skip:], 0
            elif index == last:
                yield None, self.tail[skip:], 0
            else:
                yield index - 1, b"", skip


def combine_crc32(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two byte strings in a row, from the CRC-32 of each and the length of the second.

    Appending n zero bytes to a string changes its CRC by a linear map over GF(2), whose powers of two are found by
    squaring a 32 by 32 bit matrix; the CRC of the second string is then added (that is, xor-ed).
    """
    for power in range(second_size.bit_length()):
        if second_size >> power & 1:
            first = _apply(_zero_bytes(power), first)
    return first ^ second


def _apply(matrix: tuple[int, ...], vector: int) -> int:
    """A bit matrix, given by its columns, times a bit vector."""
    total = 0
    for column in matrix:
        if vector & 1:
            total ^= column
        vector >>= 1
    return total


@lru_cache(maxsize=None)
def _zero_bytes(power: int) -> tuple[int, ...]:
    """The matrix that appends 2 to that power zero bytes."""
    if power:
        half = _zero_bytes(power - 1)
        return tuple(_apply(half, column) for column in half)
    columns = []
    for bit in range(32):
        value = 1 << bit
        for _ in range(8):
            value = value >> 1 ^ 0xEDB88320 if value & 1 else value >> 1  # the reflected polynomial of RFC 1952
        columns.append(value)
    return tuple(columns)


def _deflate(plain: bytes, flush: int) -> tuple[bytes, Slice]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = compressor.compress(plain) + compressor.flush(flush)
    return deflated, Slice(len(deflated), len(plain), zlib.crc32(plain))
