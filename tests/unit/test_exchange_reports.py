"""What stands in a receiver's folder, and what reports say."""

import pytest

from gjeldsbro.domain.exchange_reports import (
    FolderReading,
    Problem,
    ReportName,
    failure_report,
    list_name,
    package_name,
    progress_report,
    read_folder,
)

NAME = ReportName("920013015", "985815534", 10, 2026)
STAMP = "2026-10-01T04:00:12.0000000Z"
REGISTERED = ("920013015", "985815534")


def read(*names: str, expected: tuple[str, ...] = ("985815534",)) -> FolderReading:
    """A folder with these files, as this run sees it."""
    return read_folder(
        names,
        expected=expected,
        registered=REGISTERED,
        folder="/debt/exchange",
        is_organization=lambda text: text in {"920013015", "985815534", "971171324"},
    )


def test_names_of_files():
    """Lists, packages and reports have the contract's names; the month has no leading zero."""
    assert list_name("985815534") == "985815534.txt"
    assert package_name("985815534") == "985815534.gzip"
    assert NAME.progress == "920013015-985815534-10-2026-progress-report.txt"
    assert NAME._replace(month=3).failure == "920013015-985815534-3-2026-failure-report.txt"


def test_progress_report_has_the_contracts_form():
    """The text is the contract's, letter by letter."""
    pieces = progress_report(
        NAME,
        STAMP,
        entries=12,
        numbers=9,
        invalid=(2, [b"12345678901\n", b"abc\n"]),
        duplicates=(1, [b"17912099997\n"]),
    )
    assert b"".join(pieces).decode() == (
        "Receiver organization number: 920013015\n"
        "On behalf of organization number: 985815534\n"
        "Timestamp: 2026-10-01T04:00:12Z\n"
        "Numbers in list: 12\n"
        "Numbers in package: 9\n"
        "Invalid numbers: 2\n"
        "12345678901\n"
        "abc\n"
        "Duplicate numbers: 1\n"
        "17912099997\n"
    )


def test_failure_report_has_the_contracts_form():
    """The text is the contract's, letter by letter."""
    (problem,) = read().problems
    assert failure_report(NAME, STAMP, problem).decode() == (
        "Receiver organization number: 920013015\n"
        "On behalf of organization number: 985815534\n"
        "Timestamp: 2026-10-01T04:00:12Z\n"
        "Error: SSN_LIST_NOT_FOUND\n"
        "No file 985815534.txt in /debt/exchange\n"
    )


def test_an_expected_list_is_read():
    """A list of an organisation of this run is read, and nothing is wrong."""
    assert read("985815534.txt", "985815534.gzip", "notes.md") == FolderReading(("985815534",), ())


@pytest.mark.parametrize("stray", ["985815534.TXT", "liste.txt", "985 815 534.txt", "17912099997.txt", "985815534.csv"])
def test_a_stray_text_file_explains_a_missing_list(stray):
    """A text file that is neither a list nor ours, while a list is missing: WRONG_FILE_NAME, and the name is shown."""
    (problem,) = read(stray).problems
    assert (problem.on_behalf_of, problem.code) == ("985815534", "WRONG_FILE_NAME")
    assert stray in problem.detail


def test_a_stray_text_file_beside_the_list_is_no_error():
    """While nothing is missing, other files are the receiver's own affair."""
    assert read("985815534.txt", "liste.txt").problems == ()


@pytest.mark.parametrize(
    "name",
    ["920013015-985815534-7-2026-progress-report.txt", "920013015-985815534-7-2026-Failure-report.txt"],
)
def test_our_own_reports_are_no_stray_files(name):
    """Reports of earlier runs do not turn a missing list into a wrong name."""
    (problem,) = read(name).problems
    assert problem.code == "SSN_LIST_NOT_FOUND"


def test_a_list_of_another_organization_is_unknown():
    """A list for an organisation that is not registered for the receiver is reported under its own number."""
    reading = read("985815534.txt", "971171324.txt")
    assert reading.lists == ("985815534",)
    (problem,) = reading.problems
    assert (problem.on_behalf_of, problem.code) == ("971171324", "UNKNOWN_ORGANIZATION")


@pytest.mark.parametrize("number", ["985815535", "98581553", "9858155340"])
def test_a_number_that_is_no_organization_is_invalid(number):
    """A name of digits that no organisation can have is reported under that number."""
    reading = read(f"{number}.txt")
    assert [(problem.on_behalf_of, problem.code) for problem in reading.problems] == [
        (number, "INVALID_ORGANIZATION_NUMBER"),
        ("985815534", "SSN_LIST_NOT_FOUND"),
    ]


def test_an_identity_number_is_never_taken_for_an_organization():
    """Eleven digits in a file name could be a person: they are shown to the receiver and reported under no number."""
    reading = read("985815534.txt", "17912099997.txt")
    assert reading.problems == ()


def test_a_list_of_an_organization_that_is_not_in_this_run_is_no_error():
    """A registered organisation whose package was delivered before may leave its list where it is."""
    assert read("985815534.txt", "920013015.txt").problems == ()


def test_a_receivers_names_are_shown_safely():
    """Names hold no line ends in a report, and only the first few are shown."""
    names = [f"stray\n{number}.txt" for number in range(9)]
    (problem,) = read(*names).problems
    assert "\n" not in problem.detail
    assert "and 4 more" in problem.detail
    assert len(failure_report(NAME, STAMP, Problem("985815534", "X", problem.detail)).splitlines()) == 5
