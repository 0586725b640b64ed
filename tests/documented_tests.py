"""Tables in docs/ that name the tests which hold them: what is claimed is worth what its tests are."""

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = re.compile(r"`((?:tests/)[\w/]+\.py)::(\w+)`")


def rows_of(page: str, head: str) -> list[list[str]]:
    """The cells of every row of a page's tables, without the heads, whose first cell is ``head``."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] != head and set(row[0]) != {"-"}]


def missing_tests(cell: str) -> list[str]:
    """The tests that a cell names and that are not there."""
    return [f"{file}::{name}" for file, name in TEST.findall(cell) if name not in _defined_in(file)]


@lru_cache
def _defined_in(file: str) -> set[str]:
    path = ROOT / file
    if not path.exists():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
