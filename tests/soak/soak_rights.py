"""Least privilege: without any one statement of a function's role something fails that worked with it.

First all integration tests run with the rights of template.yaml enforced (tests/integration/enforcement.py), which
notes for each statement the tests that needed it. Then each statement is taken away in turn and these tests run again,
until one fails: one must. A statement that nothing needs must be one of UNSEEN, each with its reason.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cloudformation import ROOT, functions, statements
from tests.integration.enforcement import RECORD, WITHOUT

UNSEEN = {
    "WriteItsLog": "Lambda writes the log in the function's name, not our code",
    "HandOverWhatFailed": "Lambda hands a failed request over in the function's name, not our code",
}

TRIES = 15
"""Tests that are tried for each statement: one that expects an error may take a refusal for it."""


def run(*tests: str, **environment: str) -> int:
    """The exit status of these tests."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode and WITHOUT not in environment:
        print(done.stdout)
    return done.returncode


def needing(file: Path) -> dict[tuple[str, str], list[str]]:
    """The tests that needed each (rights, sid): the smallest of each file, then each file's second smallest, and so on.

    Those that needed the fewest statements are the smallest. Tests of one file look at the same things.
    """
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        test, needed = json.loads(line)
        for rights, sid in needed:
            found.setdefault((rights, sid), []).append((len(needed), test))
    return {statement: by_turns(sorted(tests)) for statement, tests in found.items()}


def by_turns(tests: list[tuple[int, str]]) -> list[str]:
    """Tests of all files in turn, in the order that they have within their files."""
    of_file: Counter[str] = Counter()
    turns = []
    for size, test in tests:
        file = test.partition("::")[0]
        turns.append((of_file[file], size, test))
        of_file[file] += 1
    return [test for _, _, test in sorted(turns)]


def test_nothing_works_without_any_one_of_its_rights(tmp_path: Path) -> None:
    """Each statement is taken away in turn, and a test that passed with it fails."""
    record = tmp_path / "needed"
    assert run("-n", "2", "tests/integration", **{RECORD: str(record)}) == 0
    tests = needing(record)
    policies = [function.removesuffix("Function") + "Rights" for function in functions()]
    every = [(rights, statement["Sid"]) for rights in policies for statement in statements(rights)]
    seen = [one for one in every if one[1] not in UNSEEN]
    assert [one for one in seen if one not in tests] == [], "rights that nothing needs"
    assert [one for one in tests if one[1] in UNSEEN] == [], "rights that our code does need"

    def without(statement: tuple[str, str]) -> tuple[tuple[str, str], str]:
        for test in tests[statement][:TRIES]:
            if run(test, **{WITHOUT: "/".join(statement)}) == 1:
                return statement, test
        return statement, ""

    with ThreadPoolExecutor(2) as pool:
        results = dict(pool.map(without, seen))
    for (rights, sid), test in results.items():
        print(f"{rights:28}{sid:36}{test}")
    print(f"{len(seen)} statements were taken away in turn; {len(every) - len(seen)} are used by AWS itself:")
    for sid, reason in UNSEEN.items():
        print(f"{'':28}{sid:36}{reason}")
    assert [statement for statement, test in results.items() if not test] == []
