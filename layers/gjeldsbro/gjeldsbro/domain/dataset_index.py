"""Datasets as sorted files of fixed-size rows, so that two nights are compared as streams and memory stays flat.

A customer is 32 bytes (``HashKey.customer_key``), its content 16 (``content_digest``). All files are sorted by customer
key, in byte order:

==========  =====  ================================================================================================
file        bytes  row
==========  =====  ================================================================================================
index       48     key, digest: what the register shows of a dataset; kept until the next one is accepted
page rows   64     key, digest, number of the customer in the page (4), offset (8) and length (4) of its record
group       68     key, digest, page (4), number (4) of the customer in the page, offset (8) and length (4) of its
                   record: some hundred pages merged, and their records with them in a file of the group's own
dataset     64     key, digest, file (4), offset (8) and length (4) of its record: the pages, or the groups, merged
pending     48     key, file (4), offset (8) and length (4) of its record; file ``GONE``: the customer is deleted
==========  =====  ================================================================================================

A record is the key again and ``encode_loans`` of the customer's loans, so that a row which points to the wrong place is
noticed. Numbers are unsigned and big-endian. A customer without loans has a page row of length 0, so that its
duplicates are found, and no row in the other files.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from heapq import merge
from struct import Struct
from typing import NamedTuple

KEY_SIZE = 32
INDEX_ROW_SIZE = 48
PAGE_ROW_SIZE = 64
GROUP_ROW_SIZE = 68
DATASET_ROW_SIZE = 64
PENDING_ROW_SIZE = 48

GONE = 0xFFFFFFFF
"""In place of a file's number: the customer is not in the dataset and is to be deleted."""

_PLACE = Struct(">IQI")
_NUMBERED = Struct(">IIQI")
_RECORD = Struct(">QI")
_GONE_PLACE = _PLACE.pack(GONE, 0, 0)
_NO_DIGEST = bytes(INDEX_ROW_SIZE - KEY_SIZE)
_END = b"\xff" * (KEY_SIZE + 1)  # sorts behind every key that a keyed hash gives
_BLOCK_ROWS = 4096


class Place(NamedTuple):
    """Where a row points to: (number of the file or of the customer, offset, length)."""

    file: int
    offset: int
    length: int


class Kind(Enum):
    """What happened to a customer between the dataset that the register shows and the new one."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    UNCHANGED = "unchanged"
    CLEARED = "cleared"
    """On a left-over list only: neither the old dataset nor the new one has the customer."""


class Step(NamedTuple):
    """One customer's part of a comparison: its rows for the new index and for the pending list, empty when none."""

    kind: Kind
    index_row: bytes
    pending_row: bytes


@dataclass
class Duplicates:
    """Customers that came more than once: the first ``limit`` as (page, number, earlier page, earlier number)."""

    limit: int = 20
    total: int = 0
    first: list[tuple[int, int, int, int]] = field(default_factory=list)

    def add(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Note two places, (page, number), of one customer."""
        self.total += 1
        if len(self.first) < self.limit:
            self.first.append((*max(one, other), *min(one, other)))


def place_of(row: bytes) -> Place:
    """The last three numbers of a page, dataset or pending row."""
    return Place(*_PLACE.unpack_from(row, len(row) - _PLACE.size))


def rows(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut a file that comes in chunks of any size into its rows.

    Raises ValueError when the file ends within a row.
    """
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        whole = len(data) - len(data) % size
        for start in range(0, whole, size):
            yield data[start : start + size]
        rest = data[whole:]
    if rest:
        raise ValueError("the file ends within a row")


def blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join many small pieces into few large ones: a writer's call costs more than a row."""
    gathered: list[bytes] = []
    for part in parts:
        gathered.append(part)
        if len(gathered) == _BLOCK_ROWS:
            yield b"".join(gathered)
            gathered.clear()
    if gathered:
        yield b"".join(gathered)


def page_files(customers: Iterable[tuple[bytes, bytes, bytes]]) -> tuple[bytes, bytes]:
    """The page rows and the records of a page's customers, given as (key, digest, record) in the page's order.

    An empty record: the customer has no loans.
    A customer that the page has twice stays twice: ``merge_files`` finds it.
    """
    page_rows, records, offset = [], [], 0
    found = list(customers)
    for number in sorted(range(len(found)), key=[key for key, _, _ in found].__getitem__):
        key, digest, record = found[number]
        page_rows.append(key + (digest if record else _NO_DIGEST) + _PLACE.pack(number, offset, len(record)))
        records.append(record)
        offset += len(record)
    return b"".join(page_rows), b"".join(records)


def numbered(page_rows: Iterable[bytes], page: int) -> Iterator[bytes]:
    """A page's rows as group rows, which say what page they are of."""
    of = page.to_bytes(4)
    for row in page_rows:
        yield row[:INDEX_ROW_SIZE] + of + row[INDEX_ROW_SIZE:]


def merge_files(files: Iterable[Iterable[bytes]], duplicates: Duplicates) -> Iterator[tuple[bytes, int]]:
    """The group rows of all files, each file's in key order, with the number of the file that each came from.

    A customer that comes again, on the same page or another, goes to ``duplicates``: the dataset is to be refused then.
    """
    last, last_row = b"", b""
    for row, file in merge(*(_from(file_rows, file) for file, file_rows in enumerate(files))):
        key = row[:KEY_SIZE]
        if key == last:
            duplicates.add(
                _NUMBERED.unpack_from(row, INDEX_ROW_SIZE)[:2], _NUMBERED.unpack_from(last_row, INDEX_ROW_SIZE)[:2]
            )
            continue
        last, last_row = key, row
        yield row, file


def merge_group(
    pages: Iterable[Iterable[bytes]], read: Callable[[bytes, Place], bytes], duplicates: Duplicates
) -> Iterator[tuple[bytes, bytes]]:
    """Group rows and records of some pages' group rows; ``read`` gives a record by its key and place in its file."""
    offset = 0
    for row, file in merge_files(pages, duplicates):
        page, number, at, length = _NUMBERED.unpack_from(row, INDEX_ROW_SIZE)
        record = read(row[:KEY_SIZE], Place(file, at, length)) if length else b""
        yield row[:INDEX_ROW_SIZE] + _NUMBERED.pack(page, number, offset, length), record
        offset += length


def dataset_rows(merged: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
    """The dataset rows of merged group rows; customers without loans are left out."""
    for row, file in merged:
        offset, length = _RECORD.unpack_from(row, INDEX_ROW_SIZE + 8)
        if length:
            yield row[:INDEX_ROW_SIZE] + _PLACE.pack(file, offset, length)


def _from(file_rows: Iterable[bytes], file: int) -> Iterator[tuple[bytes, int]]:
    for row in file_rows:
        yield row, file


def compare(
    old: Iterable[bytes],
    new: Iterable[bytes],
    unknown: Iterable[bytes] = (),
    *,
    full: bool = False,
) -> Iterator[Step]:
    """Compare the index rows that the register shows with the dataset rows of the new dataset.

    ``unknown`` are the pending rows that an unfinished load left behind: whatever the index says of these customers,
    the register may hold something else, so they are written or deleted. ``full`` writes all that the dataset has.
    Every customer of the three comes exactly once, in key order.
    """
    olds, unknowns = iter(old), iter(unknown)
    old_row, unknown_row = next(olds, _END), next(unknowns, _END)
    for row in _ended(new):
        key = row[:KEY_SIZE]
        while old_row < key or unknown_row < key:  # a row sorts as its key does, and behind it
            low = min(old_row, unknown_row)[:KEY_SIZE]
            kind = Kind.CLEARED
            if unknown_row.startswith(low):
                unknown_row = next(unknowns, _END)
            if old_row.startswith(low):
                kind = Kind.REMOVED
                old_row = next(olds, _END)
            yield Step(kind, b"", low + _GONE_PLACE)
        if row is _END:
            return
        write, kind = full, Kind.ADDED
        index_row = row[:INDEX_ROW_SIZE]
        if unknown_row.startswith(key):
            write = True
            unknown_row = next(unknowns, _END)
        if old_row.startswith(key):
            kind = Kind.UNCHANGED if old_row == index_row else Kind.CHANGED
            old_row = next(olds, _END)
        write = write or kind is not Kind.UNCHANGED
        yield Step(kind, index_row, key + row[INDEX_ROW_SIZE:] if write else b"")


def _ended(new: Iterable[bytes]) -> Iterator[bytes]:
    yield from new
    yield _END
