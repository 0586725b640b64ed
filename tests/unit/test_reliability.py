"""docs/reliability.md: a table of faults is worth what its tests are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`((?:tests/)[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of every row of the tables, without their heads."""
    lines = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != "fault" and set(row[0]) != {"-"}]


def test_every_fault_names_tests_that_exist() -> None:
    """A row names its tests as `file::function`, and each of them is there."""
    defined: dict[str, set[str]] = {}
    for row in rows():
        fault, named, happens = row
        tests = TEST.findall(named)
        assert tests, f"{fault} names no test"
        assert happens, f"{fault} does not say what happens"
        for file, function in tests:
            if file not in defined:
                tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
                defined[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert function in defined[file], f"{fault}: there is no {file}::{function}"


def test_no_fault_stands_there_twice() -> None:
    """One row for a fault, so that one finds all that is known of it."""
    faults = [row[0] for row in rows()]
    assert len(faults) == len(set(faults))
