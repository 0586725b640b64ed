"""A receiver's SSN list: the identity numbers that it wants a package about, in the contract's form.

The list is read as a stream. Commas and line ends separate; blanks around a number, a byte-order mark and separators
with nothing between them are tolerated. Every entry is counted once, as a number of the package, as invalid or as a
duplicate, so the three always add up to the entries of the list. Memory is bounded: there is a bit for each number
that can be valid, and no text of the list is kept but the entry that a piece ends in. Only where anything of 11 digits
is let in, each number of the list takes about 100 bytes.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from itertools import batched
from typing import NamedTuple, Protocol

from gjeldsbro.domain.identity_numbers import Accepts, CustomerIdSet, is_customer_id
from gjeldsbro.errors import SsnListError

MAX_SIZE = 128 << 20
"""Bytes of the longest list that is read: room for ten million numbers, twice the country's adults."""

SHOWN_LENGTH = 40
"""Characters of an invalid entry that the progress report shows."""

_KEPT_LENGTH = 64
"""Characters that are kept of an entry that has not ended yet: no valid entry is longer, and more are not shown."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_PLAIN = b"0123456789,\r\n"
_CUT = "…"

_TOGETHER = 64
"""Entries that are judged at once, for speed: as a rule all are new numbers."""

_FEW = 8
"""Entries that are judged at once where not all are."""


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

    ``size`` is the list's size in bytes; a number is valid that one of ``kinds`` lets in. Raises SsnListError:
    SSN_LIST_TOO_LARGE at once, and from ``feed`` when more than ``size`` bytes come; SSN_LIST_UNREADABLE for what is
    not UTF-8 text.
    """

    def __init__(self, size: int, *kinds: Accepts) -> None:
        check_size(size)
        self._left = size
        self._kinds = kinds
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._unfinished = ""
        self._seen: _Seen = _SeenForms() if "format" in kinds else CustomerIdSet(*kinds)
        self.entries = 0
        self.numbers = 0
        self.invalid = 0
        self.duplicates = 0

    def feed(self, piece: bytes) -> Findings:
        """Read the next bytes of the list."""
        self._left -= len(piece)
        if self._left < 0:
            raise SsnListError("SSN_LIST_TOO_LARGE", "The list grew while it was read")
        entries = self._entries(piece, final=False)
        self._unfinished = _shortened(entries.pop())
        return self._judge(entries)

    def finish(self) -> Findings:
        """The last entry, which no separator ended.

        Raises SsnListError with SSN_LIST_EMPTY when the list had no entry at all, with NO_VALID_NUMBERS when none is
        valid.
        """
        entries = self._entries(b"", final=True)
        self._unfinished = ""
        findings = self._judge(entries)
        if not self.entries:
            raise SsnListError("SSN_LIST_EMPTY", "The list holds no numbers")
        if not self.numbers:
            raise SsnListError("NO_VALID_NUMBERS", f"None of the {self.entries} entries of the list is a valid number")
        return findings

    def _entries(self, piece: bytes, *, final: bool) -> list[str]:
        """What lies between the separators, the unfinished entry and this piece put together."""
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise SsnListError("SSN_LIST_UNREADABLE", "The list is not text in UTF-8") from None
        if piece.translate(None, _PLAIN) and _CONTROL.search(text):
            raise SsnListError("SSN_LIST_UNREADABLE", "The list holds control characters")
        # Faster than a regular expression. The first is for speed alone: it leaves no empty entry in a line end.
        for separator in ("\r\n", "\n", "\r"):
            text = text.replace(separator, ",")
        return (self._unfinished + text).split(",")

    def _judge(self, entries: Iterable[str]) -> Findings:
        findings = Findings([], [], [])
        for together in batched(entries, _TOGETHER, strict=False):
            new = self._seen.add(together)
            findings.numbers.extend(together[:new])
            self._judge_odd([text for entry in together[new:] if (text := entry.strip())], findings)
        self.numbers += len(findings.numbers)
        self.invalid += len(findings.invalid)
        self.duplicates += len(findings.duplicates)
        self.entries = self.numbers + self.invalid + self.duplicates
        return findings

    def _judge_odd(self, texts: Sequence[str], findings: Findings) -> None:
        """Judge entries of which some are no new numbers."""
        at = 0
        while at < len(texts):
            text = texts[at]
            new = 0
            if not any(is_customer_id(text, kind) for kind in self._kinds):
                findings.invalid.append(_printable(text))
            elif new := self._seen.add(few := texts[at : at + _FEW]):
                findings.numbers.extend(few[:new])
            else:
                findings.duplicates.append(text)
            at += new or 1


class _Seen(Protocol):
    """The numbers of a list so far."""

    def add(self, texts: Sequence[str]) -> int:
        """Add numbers up to the first text that is none or was added before; how many. No text holds a comma."""
        ...


class _SeenForms:
    """Numbers of 11 digits, whatever they are: there are too many for a bit each. For test environments."""

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def add(self, texts: Sequence[str]) -> int:
        """See ``_Seen``."""
        numbers = self._numbers
        for added, text in enumerate(texts):
            if not is_customer_id(text, "format") or (number := int(text)) in numbers:
                return added
            numbers.add(number)
        return len(texts)


def _shortened(entry: str) -> str:
    """An entry that has not ended, with no more of it than decides and shows it."""
    entry = entry.lstrip()
    if len(entry) <= _KEPT_LENGTH:
        return entry
    more = entry[_KEPT_LENGTH:].strip()
    return entry[: _KEPT_LENGTH - 1] + _CUT if more else entry[:_KEPT_LENGTH]


def _printable(entry: str) -> str:
    """An invalid entry as a report shows it: no control or formatting characters, and of bounded length."""
    shown = entry[:SHOWN_LENGTH]
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else "?" for character in shown)
    return shown + _CUT if len(entry) > SHOWN_LENGTH else shown
