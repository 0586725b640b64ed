"""Least privilege: without any one statement of a function's role something fails that worked with it.

First all integration tests run with the rights of template.yaml enforced (tests/integration/enforcement.py), which
notes for each statement the tests that needed it. Then each statement is taken away in turn, and the smallest of these
tests must fail. A statement that nothing needs must be one of UNSEEN, each with its reason.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cloudformation import ROOT, functions, statements
from tests.integration.enforcement import RECORD, WITHOUT

UNSEEN = {
    "WriteItsLog": "Lambda writes the log in the function's name, not our code",
    "HandOverWhatFailed": "Lambda hands a failed request over in the function's name, not our code",
}


def run(*tests: str, **environment: str) -> int:
    """The exit status of these tests."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode and WITHOUT not in environment:
        print(done.stdout)
    return done.returncode


def needing(file: Path) -> dict[tuple[str, str], str]:
    """For each (rights, sid) the test that needed it and as few others as possible: that is a small one."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        test, needed = json.loads(line)
        for rights, sid in needed:
            found[rights, sid] = min(found.get((rights, sid), (len(needed), test)), (len(needed), test))
    return {statement: test for statement, (_, test) in found.items()}


def test_nothing_works_without_any_one_of_its_rights(tmp_path: Path) -> None:
    """Each statement is taken away in turn, and a test that passed with it fails."""
    record = tmp_path / "needed"
    # Not those that take rights away themselves.
    others = ("tests/integration", "--ignore=tests/integration/test_enforcement.py")
    assert run("-n", "2", *others, **{RECORD: str(record)}) == 0
    tests = needing(record)
    policies = [function.removesuffix("Function") + "Rights" for function in functions()]
    every = [(rights, statement["Sid"]) for rights in policies for statement in statements(rights)]
    seen = [one for one in every if one[1] not in UNSEEN]
    assert [one for one in seen if one not in tests] == [], "rights that nothing needs"
    assert [one for one in tests if one[1] in UNSEEN] == [], "rights that our code does need"

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda one: run(tests[one], **{WITHOUT: "/".join(one)}), seen))
    for rights, sid in seen:
        print(f"{rights:28}{sid:36}{tests[rights, sid]}")
    print(f"{len(seen)} statements were taken away in turn; {len(every) - len(seen)} are used by AWS itself:")
    for sid, reason in UNSEEN.items():
        print(f"{'':28}{sid:36}{reason}")
    assert [one for one, status in zip(seen, results, strict=True) if status != 1] == []
