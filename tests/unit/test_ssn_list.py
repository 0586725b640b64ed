"""Reading SSN lists: what is tolerated, what is not, and the sums that always hold."""

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.night_world import people

from gjeldsbro.domain import ssn_list
from gjeldsbro.domain.identity_numbers import is_customer_id, with_check_digits
from gjeldsbro.domain.ssn_list import MAX_SIZE, SsnList
from gjeldsbro.errors import SsnListError

FIRST, SECOND, THIRD = "17912099997", "29822099635", "12829499914"
REAL = with_check_digits("010100" + "500")
"""No synthetic number. Nobody has it: born in 1900, with a serial of later centuries."""


def read(
    content: bytes, piece: int = 1 << 20, kinds: tuple[str, ...] = ("synthetic",)
) -> tuple[SsnList, list[str], list[str], list[str]]:
    """The list, and its numbers, invalid entries and duplicates."""
    reader = SsnList(len(content), *kinds)
    found = [reader.feed(content[at : at + piece]) for at in range(0, len(content), piece)] + [reader.finish()]
    parts = ([entry for findings in found for entry in findings[part]] for part in range(3))
    return reader, *parts


@pytest.mark.parametrize(
    "content",
    [
        f"{FIRST},{SECOND}",
        f"{FIRST}, {SECOND}\n",
        f"\ufeff{FIRST},{SECOND},",
        f"{FIRST}\r\n{SECOND}\r\n",
        f"{FIRST}\r{SECOND}",
        f",,\n {FIRST}\t,\n\n{SECOND} \n,",
        f"{FIRST},\u00a0{SECOND}\u00a0",
    ],
)
def test_tolerated_forms_give_the_same_numbers(content):
    """Blanks, line ends, a byte-order mark and separators with nothing between them change nothing."""
    reader, numbers, invalid, duplicates = read(content.encode())
    assert (numbers, invalid, duplicates) == ([FIRST, SECOND], [], [])
    assert reader.entries == 2


def test_order_of_first_occurrence_is_kept():
    """Numbers stay in the list's order, and every later occurrence is a duplicate."""
    reader, numbers, _, duplicates = read(",".join([THIRD, FIRST, THIRD, SECOND, FIRST, THIRD]).encode())
    assert numbers == [THIRD, FIRST, SECOND]
    assert duplicates == [THIRD, FIRST, THIRD]
    assert (reader.entries, reader.numbers, reader.duplicates) == (6, 3, 3)


def test_an_invalid_entry_is_shown_safely():
    """What a report shows of an invalid entry has no formatting characters and a bounded length."""
    content = f"{FIRST},abc,a\u202eb,\u2028,{'9' * 100}"
    _, _, invalid, _ = read(content.encode())
    assert invalid == ["abc", "a?b", "9" * ssn_list.SHOWN_LENGTH + "…"]


def test_a_repeated_invalid_entry_is_invalid_each_time():
    """Invalid entries are not deduplicated: the report lists each."""
    reader, _, invalid, duplicates = read(f"{FIRST},abc,abc".encode())
    assert (invalid, duplicates, reader.entries) == (["abc", "abc"], [], 3)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe1\x007\x00", b"17912099997,\xe6", b"17912099997,\x00", b"17912099997\x1a", b"PK\x03\x04", b"a\xc2\x85b"],
)
def test_what_is_not_text_is_unreadable(content):
    """Other encodings and control characters mean that the file is no list."""
    with pytest.raises(SsnListError) as refused:
        read(content)
    assert refused.value.code == "SSN_LIST_UNREADABLE"


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \r\n", b",,,\n,"])
def test_a_list_of_nothing_is_empty(content):
    """A list without any entry is empty, whatever separators it holds."""
    with pytest.raises(SsnListError) as refused:
        read(content)
    assert refused.value.code == "SSN_LIST_EMPTY"


def test_a_list_without_a_valid_number_says_so():
    """Entries that are all invalid give no package."""
    with pytest.raises(SsnListError) as refused:
        read(b"abc,def")
    assert refused.value.code == "NO_VALID_NUMBERS"
    assert "abc" not in str(refused.value)


def test_a_list_beyond_the_limit_is_too_large():
    """The size is judged before anything is read."""
    with pytest.raises(SsnListError) as refused:
        SsnList(MAX_SIZE + 1, "synthetic")
    assert refused.value.code == "SSN_LIST_TOO_LARGE"


def test_a_list_that_grows_while_it_is_read_is_too_large():
    """More bytes than were announced are refused."""
    reader = SsnList(5, "synthetic")
    with pytest.raises(SsnListError) as refused:
        reader.feed(b"123456")
    assert refused.value.code == "SSN_LIST_TOO_LARGE"


NUMBERS = st.builds(
    lambda day, month, rest, remainder: with_check_digits(f"{day:02}{month:02}{rest:05}", remainder),
    st.sampled_from([1, 29, 31, 41, 69]),
    st.sampled_from([1, 2, 12, 81, 82, 92]),
    st.one_of(st.integers(0, 99999), st.integers(96000, 97003)),
    st.integers(0, 4),
).filter(bool)
"""Valid ones of all kinds, and some that are not: no such day, or a remainder that no rule allows."""

ENTRIES = st.one_of(
    NUMBERS,
    st.sampled_from([FIRST, SECOND, REAL, f" {FIRST}", f"{SECOND}\u00a0"]),
    st.from_regex(r"[0-9]{10,12}|[0-9]{23}", fullmatch=True),
    st.text("0123456789 \u0661", max_size=14),
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=90),
)
LISTS = st.one_of(st.lists(ENTRIES, max_size=30), st.lists(NUMBERS, max_size=300))


def model(text: str, kinds: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """What is in a list, found entry by entry with a set."""
    numbers, invalid, duplicates, seen = [], [], [], set()
    for entry in filter(None, map(str.strip, re.split("[,\r\n]", text))):
        if not any(is_customer_id(entry, kind) for kind in kinds):
            invalid.append(entry)
        elif entry in seen:
            duplicates.append(entry)
        else:
            seen.add(entry)
            numbers.append(entry)
    return numbers, invalid, duplicates


@pytest.mark.parametrize(
    "kinds", [("synthetic",), ("production",), ("production", "synthetic"), ("format",)], ids=" ".join
)
@given(entries=LISTS, piece=st.integers(1, 1000), separator=st.sampled_from([",", "\n", "\r\n", "\r", " ,\t"]))
def test_a_list_is_read_as_entry_by_entry_with_a_set(kinds, entries, piece, separator):
    """Numbers, invalid entries and duplicates are those of the plain way, wherever a piece of the list ends."""
    content = separator.join([*entries, REAL, FIRST]).encode()
    reader, numbers, invalid, duplicates = read(content, piece, kinds)
    expected = model(content.decode("utf-8-sig"), kinds)
    assert (numbers, duplicates) == (expected[0], expected[2])
    assert (reader.numbers, reader.invalid, reader.duplicates) == tuple(map(len, expected))
    assert reader.entries == sum(map(len, expected))
    assert all(entry.isprintable() and len(entry) <= ssn_list.SHOWN_LENGTH + 1 for entry in invalid)
    for shown, entry in zip(invalid, expected[1], strict=True):
        assert shown == entry or not entry.isprintable() or len(entry) > ssn_list.SHOWN_LENGTH


@pytest.mark.parametrize("kind", ["synthetic", "format"])
@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([FIRST] * 1000, id="one number"),
        pytest.param(["x"] * 1000 + [FIRST], id="no numbers"),
        pytest.param([*people(500), *people(500)], id="all of them twice"),
        pytest.param([entry for number in people(500) for entry in (number, number[:10], number)], id="one by one"),
        pytest.param([f"0181{rest:05}34" for rest in range(5000)] + [FIRST], id="one day"),
    ],
)
def test_lists_of_all_kinds_of_entries_in_a_row(kind, entries):
    """However many entries of a kind follow each other, each is what it is alone."""
    reader, numbers, invalid, duplicates = read(",".join(entries).encode(), kinds=(kind,))
    assert (numbers, invalid, duplicates) == model(",".join(entries), (kind,))
    assert reader.entries == len(entries)


def test_memory_does_not_grow_with_an_entry_that_never_ends():
    """A file without separators takes no more memory than a piece of it."""
    piece = b"1" * (1 << 16)
    reader = SsnList(len(piece) * 100, "synthetic")
    reader.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(98):
            reader.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("kinds", [("synthetic",), ("production", "synthetic")], ids=" ".join)
def test_memory_does_not_grow_with_the_list(kinds):
    """Numbers that are kept apart take no memory of their own."""
    count = 50_000
    numbers = people(count)
    reader = SsnList(12 * count, *kinds)
    reader.feed(numbers[0].encode() + b",")
    pieces = [(",".join(numbers[at : at + 100]) + ",").encode() for at in range(1, count, 100)]
    tracemalloc.start()
    try:
        for piece in pieces:
            reader.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.numbers == count
    assert peak < 1 << 18
