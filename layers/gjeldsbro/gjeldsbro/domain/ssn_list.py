"""A receiver's SSN list: the identity numbers that it wants a package about, in the contract's form.

The list is read as a stream. Commas and line ends separate; blanks around a number, a byte-order mark and separators
with nothing between them are tolerated. Every entry is counted once, as a number of the package, as invalid or as a
duplicate, so the three always add up to the entries of the list. Memory depends on how many numbers the list can hold
and on nothing else: no text of the list is kept but the entry that a piece ends in.
"""

import codecs
import re
from array import array
from collections.abc import Callable
from typing import NamedTuple

from gjeldsbro.errors import SsnListError

MAX_SIZE = 128 << 20
"""Bytes of the longest list that is read: room for ten million numbers, twice the country's adults."""

SHOWN_LENGTH = 40
"""Characters of an invalid entry that the progress report shows."""

_NUMBER_SIZE = 12
"""Bytes that a number takes in a list: eleven digits and a separator."""

_KEPT_LENGTH = 64
"""Characters that are kept of an entry that has not ended yet: no valid entry is longer, and more are not shown."""

_SPREAD = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: multiples of it lie evenly (Knuth, The Art of Computer Programming, 6.4)."""

_MASK = (1 << 64) - 1

_SEPARATORS = re.compile(r"[,\r\n]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_CUT = "…"


class Findings(NamedTuple):
    """What a piece of a list held, each in the order of the list.

    ``invalid`` entries are fit to be printed, one a line; ``duplicates`` holds every occurrence after the first.
    """

    numbers: list[str]
    invalid: list[str]
    duplicates: list[str]


def check_size(size: int) -> None:
    """Raises SsnListError with SSN_LIST_TOO_LARGE for the size of a list that is not read."""
    if size > MAX_SIZE:
        raise SsnListError("SSN_LIST_TOO_LARGE", f"The list is larger than {MAX_SIZE} bytes")


class SsnList:
    """Reads a list piece by piece.

    ``size`` is the list's size in bytes, ``is_valid`` the rule for identity numbers (see ``identity_numbers``). Raises
    SsnListError: SSN_LIST_TOO_LARGE at once, and from ``feed`` when more than ``size`` bytes come; SSN_LIST_UNREADABLE
    for what is not UTF-8 text.
    """

    def __init__(self, size: int, is_valid: Callable[[str], bool]) -> None:
        check_size(size)
        self._left = size
        self._is_valid = is_valid
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._unfinished = ""
        self._seen = SeenNumbers(size // _NUMBER_SIZE + 1)
        self.entries = 0
        self.numbers = 0
        self.invalid = 0
        self.duplicates = 0

    def feed(self, piece: bytes) -> Findings:
        """Read the next bytes of the list."""
        self._left -= len(piece)
        if self._left < 0:
            raise SsnListError("SSN_LIST_TOO_LARGE", "The list grew while it was read")
        entries = _SEPARATORS.split(self._unfinished + self._decode(piece, final=False))
        self._unfinished = _shortened(entries.pop())
        return self._judge(entries)

    def finish(self) -> Findings:
        """The last entry, which no separator ended.

        Raises SsnListError with SSN_LIST_EMPTY when the list had no entry at all, with NO_VALID_NUMBERS when none is
        valid.
        """
        entries = _SEPARATORS.split(self._unfinished + self._decode(b"", final=True))
        self._unfinished = ""
        findings = self._judge(entries)
        if not self.entries:
            raise SsnListError("SSN_LIST_EMPTY", "The list holds no numbers")
        if not self.numbers:
            raise SsnListError("NO_VALID_NUMBERS", f"None of the {self.entries} entries of the list is a valid number")
        return findings

    def _decode(self, piece: bytes, *, final: bool) -> str:
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise SsnListError("SSN_LIST_UNREADABLE", "The list is not text in UTF-8") from None
        if _CONTROL.search(text):
            raise SsnListError("SSN_LIST_UNREADABLE", "The list holds control characters")
        return text

    def _judge(self, entries: list[str]) -> Findings:
        findings = Findings([], [], [])
        for entry in entries:
            text = entry.strip()
            if not text:
                continue
            if not self._is_valid(text):
                findings.invalid.append(_printable(text))
            elif self._seen.add(int(text)):
                findings.numbers.append(text)
            else:
                findings.duplicates.append(text)
        self.numbers += len(findings.numbers)
        self.invalid += len(findings.invalid)
        self.duplicates += len(findings.duplicates)
        self.entries = self.numbers + self.invalid + self.duplicates
        return findings


class SeenNumbers:
    """A set of at most ``capacity`` whole numbers from 0 on, in 12 bytes for each that it can hold.

    An open-addressed table in one block of memory; a Python set of as many strings takes about seven times as much.
    The numbers are spread over it by multiplication: identity numbers begin with a date, so their remainders lie in
    clumps, and a list of one year's births would take a walk through all of them for each number.
    """

    def __init__(self, capacity: int) -> None:
        self._size = (capacity + capacity // 2) | 1
        self._slots = array("Q", bytes(8 * self._size))

    def add(self, number: int) -> bool:
        """Add a number; False when it was there already."""
        slots, size, mark = self._slots, self._size, number + 1  # 0 marks a free slot
        slot = ((number * _SPREAD & _MASK) * size) >> 64
        while held := slots[slot]:
            if held == mark:
                return False
            slot = slot + 1 if slot + 1 < size else 0
        slots[slot] = mark
        return True


def _shortened(entry: str) -> str:
    """An entry that has not ended, with no more of it than decides and shows it."""
    entry = entry.lstrip()
    if len(entry) <= _KEPT_LENGTH:
        return entry
    more = entry[_KEPT_LENGTH:].strip()
    return entry[: _KEPT_LENGTH - 1] + _CUT if more else entry[:_KEPT_LENGTH]


def _printable(entry: str) -> str:
    """An invalid entry as a report shows it: no control or formatting characters, and of bounded length."""
    shown = "".join(character if character.isprintable() else "?" for character in entry[:SHOWN_LENGTH])
    return shown + _CUT if len(entry) > SHOWN_LENGTH else shown
