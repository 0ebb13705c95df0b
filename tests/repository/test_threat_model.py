"""Every abuse case has a control that is there and a test that runs."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
CASES = {row[0]: row for row in re.findall(r"^\| (T\d+) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)}


@cache
def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_fourteen_abuse_cases_are_there() -> None:
    assert list(CASES) == [f"T{number}" for number in range(1, 15)]


@pytest.mark.parametrize("case", CASES)
def test_an_abuse_case_names_files_that_control_it_and_tests_that_show_it(case: str) -> None:
    _, boundary, abuse, control, shown = CASES[case]
    files = re.findall(r"`([\w./-]+)`", control)
    tests = re.findall(r"`([\w./-]+)::(\w+)`", shown)

    assert boundary in ("money", "ledger") or re.fullmatch(r"B[1-7]", boundary)
    assert len(abuse) > 20
    assert files, "no control"
    assert tests, "no test"
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert [f"{file}::{name}" for file, name in tests if name not in names_of_tests(file)] == []
