"""What stands in a receiver's folder: the names of lists, packages and reports, and what the reports say.

The forms are the contract's ("Files on the receiver's server"). Names that a receiver chose are shown to that receiver
only: they may hold anything.
"""

import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from gjeldsbro.domain.timestamps import shorten

type OrganizationRule = Callable[[str], bool]

_LIST_SUFFIX = ".txt"
_TEXT_SUFFIXES = (".txt", ".csv")
_REPORT = re.compile(r"[^-]+-[^-]+-[0-9]{1,2}-[0-9]{4}-(progress|failure)-report\.txt", re.IGNORECASE)
_ORGANIZATION_LIKE = re.compile(r"[0-9]{8,10}")
_SHOWN_NAMES = 5
_SHOWN_LENGTH = 80


class ReportName(NamedTuple):
    """What the names of a run's reports are made of; ``month`` and ``year`` are those of the run in Norway."""

    receiver: str
    on_behalf_of: str
    month: int
    year: int

    @property
    def progress(self) -> str:
        """The name of the progress report."""
        return self._name("progress")

    @property
    def failure(self) -> str:
        """The name of the failure report."""
        return self._name("failure")

    def _name(self, kind: str) -> str:
        return f"{self.receiver}-{self.on_behalf_of}-{self.month}-{self.year}-{kind}-report.txt"


class Problem(NamedTuple):
    """Why there is no package for an organisation: an error of the contract, and a sentence for the receiver."""

    on_behalf_of: str
    code: str
    detail: str


class FolderReading(NamedTuple):
    """What a folder's file names say: the organisations with a list to read, and what is wrong."""

    lists: tuple[str, ...]
    problems: tuple[Problem, ...]


def list_name(on_behalf_of: str) -> str:
    """The name of an organisation's SSN list."""
    return f"{on_behalf_of}{_LIST_SUFFIX}"


def package_name(on_behalf_of: str) -> str:
    """The name of an organisation's package."""
    return f"{on_behalf_of}.gzip"


def read_folder(
    names: Iterable[str],
    *,
    expected: Collection[str],
    registered: Collection[str],
    folder: str,
    is_organization: OrganizationRule,
) -> FolderReading:
    """Judge a folder by the names of its files.

    ``expected`` are the organisations of this run, ``registered`` all that the receiver may name. A text file named by
    digits is a list of some organisation: of one that is not registered (UNKNOWN_ORGANIZATION), or of none at all
    (INVALID_ORGANIZATION_NUMBER); both are reported under the number in the name. Other text files that are not ours
    explain a missing list (WRONG_FILE_NAME). Digits that could be an identity number never count as an organisation.
    """
    found, problems, strays = set(names), [], []
    for name in sorted(found):
        stem = name.removesuffix(_LIST_SUFFIX)
        if stem != name and stem in registered:
            continue
        if stem != name and _ORGANIZATION_LIKE.fullmatch(stem):
            problems.append(_misplaced(stem, is_organization))
        elif name.lower().endswith(_TEXT_SUFFIXES) and not _REPORT.fullmatch(name):
            strays.append(name)
    lists = []
    for on_behalf_of in expected:
        name = list_name(on_behalf_of)
        if name in found:
            lists.append(on_behalf_of)
        elif strays:
            detail = f"No file {name} in {folder}, but {_shown(strays)}"
            problems.append(Problem(on_behalf_of, "WRONG_FILE_NAME", detail))
        else:
            problems.append(Problem(on_behalf_of, "SSN_LIST_NOT_FOUND", f"No file {name} in {folder}"))
    return FolderReading(tuple(lists), tuple(problems))


def progress_report(
    name: ReportName,
    timestamp: str,
    *,
    entries: int,
    numbers: int,
    invalid: tuple[int, Iterable[bytes]],
    duplicates: tuple[int, Iterable[bytes]],
) -> Iterable[bytes]:
    """A progress report, piece by piece. ``invalid`` and ``duplicates`` come as a count and their lines, in UTF-8."""
    yield (
        f"{_heading(name, timestamp)}Numbers in list: {entries}\nNumbers in package: {numbers}\n"
        f"Invalid numbers: {invalid[0]}\n"
    ).encode()
    yield from invalid[1]
    yield f"Duplicate numbers: {duplicates[0]}\n".encode()
    yield from duplicates[1]


def failure_report(name: ReportName, timestamp: str, problem: Problem) -> bytes:
    """A failure report."""
    return f"{_heading(name, timestamp)}Error: {problem.code}\n{problem.detail}\n".encode()


def _heading(name: ReportName, timestamp: str) -> str:
    return (
        f"Receiver organization number: {name.receiver}\n"
        f"On behalf of organization number: {name.on_behalf_of}\n"
        f"Timestamp: {shorten(timestamp)}\n"
    )


def _misplaced(stem: str, is_organization: OrganizationRule) -> Problem:
    if is_organization(stem):
        return Problem(stem, "UNKNOWN_ORGANIZATION", f"{stem} is not registered for this receiver")
    return Problem(stem, "INVALID_ORGANIZATION_NUMBER", f"{stem} is not an organization number")


def _shown(names: list[str]) -> str:
    shown = [
        "".join(character if character.isprintable() else "?" for character in name[:_SHOWN_LENGTH])
        for name in names[:_SHOWN_NAMES]
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
