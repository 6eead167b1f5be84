"""`docs/promises.md` names for each promise the test that holds it: each is there, and runs."""

from __future__ import annotations

import ast
import re

import pytest
from places import PROJECT

PAGE = PROJECT / "docs" / "promises.md"
# | what is promised | `path::test`, `path::test` |
ROW = re.compile(r"^\| (?P<promise>[^|]+) \| (?P<tests>`tests/[^|]+`) \|$", re.MULTILINE)
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [(match["promise"].strip(), re.findall(r"`([^`]+)`", match["tests"])) for match in ROW.finditer(TEXT)]


def test_every_row_of_a_table_names_tests():
    promises = TEXT.partition("## At random, many times")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "what is promised" not in line]
    assert len(rows) == len(ROWS) > 40


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[promise[:60] for promise, _ in ROWS])
def test_the_test_of_a_promise_is_there(promise, tests):
    for test in tests:
        path, _, name = test.partition("::")
        names = {node.name for node in ast.walk(ast.parse((PROJECT / path).read_text())) if hasattr(node, "name")}
        assert not name or name.split("::")[-1] in names, f"{promise}: {test}"
