"""docs/reliability.md: a table of faults is worth what its tests are."""

from tests.documented_tests import TEST, missing_tests, rows_of


def rows() -> list[list[str]]:
    """The cells of every row of the tables."""
    return rows_of("reliability.md", "fault")


def test_every_fault_names_tests_that_exist() -> None:
    """A row names its tests as `file::function`, and each of them is there."""
    for fault, named, happens in rows():
        assert TEST.search(named), f"{fault} names no test"
        assert happens, f"{fault} does not say what happens"
        assert missing_tests(named) == [], fault


def test_no_fault_stands_there_twice() -> None:
    """One row for a fault, so that one finds all that is known of it."""
    faults = [row[0] for row in rows()]
    assert len(faults) == len(set(faults))
