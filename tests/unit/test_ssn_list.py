"""Reading SSN lists: what is tolerated, what is not, and the sums that always hold."""

import re
import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gjeldsbro.domain import ssn_list
from gjeldsbro.domain.ssn_list import MAX_SIZE, SeenNumbers, SsnList
from gjeldsbro.errors import SsnListError

FIRST, SECOND, THIRD = "17912099997", "29822099635", "12829499914"


def is_valid(text: str) -> bool:
    """Eleven digits; the rule itself is tested elsewhere."""
    return re.fullmatch(r"[0-9]{11}", text) is not None


def read(content: bytes, piece: int = 1 << 20) -> tuple[SsnList, list[str], list[str], list[str]]:
    """The list, and its numbers, invalid entries and duplicates."""
    reader = SsnList(len(content), is_valid)
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
        SsnList(MAX_SIZE + 1, is_valid)
    assert refused.value.code == "SSN_LIST_TOO_LARGE"


def test_a_list_that_grows_while_it_is_read_is_too_large():
    """More bytes than were announced are refused."""
    reader = SsnList(5, is_valid)
    with pytest.raises(SsnListError) as refused:
        reader.feed(b"123456")
    assert refused.value.code == "SSN_LIST_TOO_LARGE"


ENTRIES = st.one_of(
    st.sampled_from([FIRST, SECOND, THIRD]),
    st.from_regex(r"[0-9]{10,12}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=","), max_size=90),
)


@given(st.lists(ENTRIES, max_size=30), st.integers(1, 50), st.sampled_from([",", "\n", "\r\n", " ,\t"]))
def test_sums_hold_and_pieces_do_not_matter(entries, piece, separator):
    """Entries = numbers + invalid + duplicates, and where a read happened to end changes nothing."""
    content = separator.join([*entries, FIRST]).encode()
    whole, *parts = read(content)
    split, *same_parts = read(content, piece)
    assert parts == same_parts
    assert whole.entries == split.entries == sum(len(part) for part in parts)
    assert whole.entries == sum(1 for entry in re.split("[,\r\n]", content.decode("utf-8-sig")) if entry.strip())
    assert len(set(parts[0])) == len(parts[0])
    assert set(parts[2]) <= set(parts[0])
    assert all("\n" not in entry and entry.isprintable() for entry in parts[1])


@given(st.lists(st.integers(0, 10**11), max_size=60), st.integers(0, 5))
def test_seen_numbers_is_a_set(numbers, spare):
    """The compact table answers as a set does, up to its capacity."""
    table, known = SeenNumbers(len(numbers) + spare), set()
    for number in numbers:
        assert table.add(number) == (number not in known)
        known.add(number)


def test_seen_numbers_fills_to_its_capacity():
    """A table that holds all it can still finds each of them."""
    table = SeenNumbers(100)
    assert all(table.add(number) for number in range(100))
    assert not any(table.add(number) for number in range(100))


class FewLooks(array):
    """A table's slots that may be looked at so many times and no more."""

    left = 0

    def __getitem__(self, index):
        FewLooks.left -= 1
        assert FewLooks.left > 0
        return super().__getitem__(index)


def test_identity_numbers_in_clumps_are_found_as_fast_as_any():
    """Identity numbers share dates and serials and lie close together: that may not make a list slow to read."""
    # A table for 66,667 numbers has 100,001 slots; by their remainders all of these would lie in 60 of them.
    numbers = [date * 100_000 + date + serial for date in range(1000) for serial in range(60)]
    table = SeenNumbers(66_667)
    table._slots = FewLooks("Q", table._slots)
    FewLooks.left = 4 * len(numbers)
    assert all(map(table.add, numbers))


def test_memory_does_not_grow_with_an_entry_that_never_ends():
    """A file without separators takes no more memory than a piece of it."""
    piece = b"1" * (1 << 16)
    reader = SsnList(len(piece) * 100, is_valid)
    reader.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(98):
            reader.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
