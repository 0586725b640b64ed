"""Datasets as sorted rows: merging pages and comparing nights."""

from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain.dataset_index import (
    DATASET_ROW_SIZE,
    GONE,
    INDEX_ROW_SIZE,
    KEY_SIZE,
    PAGE_ROW_SIZE,
    PENDING_ROW_SIZE,
    Duplicates,
    Kind,
    blocks,
    compare,
    dataset_rows,
    merge_files,
    numbered,
    page_files,
    place_of,
    rows,
)

KEYS = st.integers(0, 40).map(lambda number: number.to_bytes(KEY_SIZE))
RECORDS = st.sampled_from([b"", b"one", b"two", b"three-long"])


def digest_of(record: bytes) -> bytes:
    """A stand-in for the content digest: equal for equal records."""
    return record.ljust(16, b".")[:16]


def page_of(customers: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Page files of (key, record)."""
    return page_files((key, digest_of(record), record) for key, record in customers)


def index_of(customers: dict[bytes, bytes]) -> list[bytes]:
    """The index rows of a dataset; customers without loans are not in it."""
    return [key + digest_of(customers[key]) for key in sorted(customers) if customers[key]]


def merge_pages(pages, duplicates: Duplicates) -> Iterator[bytes]:
    """The dataset rows of pages' rows."""
    return dataset_rows(merge_files([numbered(page, number) for number, page in enumerate(pages)], duplicates))


def cut(data: bytes, size: int) -> list[bytes]:
    """A file in chunks."""
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(
    pages=st.lists(st.lists(st.tuples(KEYS, RECORDS), max_size=8), max_size=5),
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_the_merge_of_pages_is_their_union_and_finds_every_duplicate(pages, sizes) -> None:
    """A customer that occurs n times, on whatever pages, with or without loans, is a duplicate n - 1 times."""
    files = [page_of(page) for page in pages]
    chunked = [rows(cut(data, size), PAGE_ROW_SIZE) for (data, _), size in zip(files, cycle(sizes), strict=False)]
    duplicates = Duplicates(limit=1000)

    merged = list(rows(blocks(merge_pages(chunked, duplicates)), DATASET_ROW_SIZE))

    every = [key for page in pages for key, _ in page]
    assert duplicates.total == len(every) - len(set(every)) == len(duplicates.first)
    for page, number, earlier_page, earlier_number in duplicates.first:
        assert pages[page][number][0] == pages[earlier_page][earlier_number][0]
        assert (page, number) != (earlier_page, earlier_number)
    if not duplicates.total:
        everything = {key: record for page in pages for key, record in page}
        assert [row[:INDEX_ROW_SIZE] for row in merged] == index_of(everything)
        for row in merged:
            page, offset, length = place_of(row)
            assert files[page][1][offset : offset + length] == everything[row[:KEY_SIZE]]


@given(
    old=st.dictionaries(KEYS, RECORDS, max_size=12),
    new=st.dictionaries(KEYS, RECORDS, max_size=12),
    unknown=st.sets(KEYS, max_size=8),
    full=st.booleans(),
)
def test_the_streamed_comparison_equals_set_arithmetic(old, new, unknown, full) -> None:
    """Added, changed, removed, unchanged and unknown customers are as dictionaries give them, each once, in order."""
    data, _ = page_of(sorted(new.items()))
    dataset = list(merge_pages([rows([data], PAGE_ROW_SIZE)], Duplicates()))
    left_over = [key + bytes(16) for key in sorted(unknown)]
    before = {key for key, record in old.items() if record}
    after = {key for key, record in new.items() if record}

    steps = list(compare(index_of(old), dataset, left_over, full=full))

    def keys(kind: Kind) -> set[bytes]:
        return {(step.index_row or step.pending_row)[:KEY_SIZE] for step in steps if step.kind is kind}

    assert keys(Kind.ADDED) == after - before
    assert keys(Kind.REMOVED) == before - after
    assert keys(Kind.CHANGED) == {key for key in before & after if old[key] != new[key]}
    assert keys(Kind.UNCHANGED) == {key for key in before & after if old[key] == new[key]}
    assert keys(Kind.CLEARED) == unknown - before - after
    assert [step.index_row for step in steps if step.index_row] == index_of(new)
    pending = [step.pending_row for step in steps if step.pending_row]
    assert pending == sorted(pending)
    assert all(len(row) == PENDING_ROW_SIZE for row in pending)
    written = {row[:KEY_SIZE] for row in pending if place_of(row).file != GONE}
    deleted = {row[:KEY_SIZE] for row in pending if place_of(row).file == GONE}
    assert len(pending) == len(written) + len(deleted)
    changed = keys(Kind.ADDED) | keys(Kind.CHANGED)
    assert written == (after if full else changed | (after & unknown))
    assert deleted == (before | unknown) - after


def test_a_file_that_ends_within_a_row_is_refused() -> None:
    """A truncated index must not pass for a shorter one: customers would be deleted or kept by mistake."""
    with pytest.raises(ValueError, match="within a row"):
        list(rows([bytes(48), bytes(47)], INDEX_ROW_SIZE))


def test_duplicates_beyond_the_limit_are_counted() -> None:
    """An outcome names the first places and gives the number of all."""
    data, _ = page_of([(bytes(KEY_SIZE), b"one")] * 10)
    duplicates = Duplicates(limit=3)
    assert len(list(merge_pages([rows([data], PAGE_ROW_SIZE)], duplicates))) == 1
    assert (duplicates.total, len(duplicates.first)) == (9, 3)
