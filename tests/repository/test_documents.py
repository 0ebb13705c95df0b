"""What documents say exists, exists."""

import ast
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from spotkeeper.contract import exit_codes
from spotkeeper.contract.ledger import FINAL_STATES, RunState
from spotkeeper.control.run import SUBMITTED_AGAIN_FROM, SUCCESSORS
from spotkeeper.ops.cli import app

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[
    :-1
]
DOCUMENTS = [ROOT / name for name in TRACKED if name.endswith(".md")]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_make_target_exists(document: Path) -> None:
    named = set(re.findall(r"(?:`|^\$ )make ([a-z-]+)", document.read_text(), re.MULTILINE))

    assert named - TARGETS == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_spotkeeper_command_line_is_one(document: Path) -> None:
    lines = re.findall(r"^\$ (?:\.venv/bin/)?spotkeeper (.*)$", document.read_text(), re.MULTILINE)

    for line in lines:
        assert_parses(shlex.split(line))


def assert_parses(words: list[str]) -> None:
    command = get_command(app)
    context = command.make_context("spotkeeper", list(words), resilient_parsing=True)
    name, subcommand, rest = command.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
    assert subcommand is not None, f"spotkeeper has no command {name}"
    subcommand.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_file_that_is_named_in_code_marks_exists(document: Path) -> None:
    pattern = r"`((?:spotkeeper|stacks|lambdas|emulation|tests|docs|examples|benchmarks|trainer_image)/[\w./-]*)`"
    named = re.findall(pattern, document.read_text())

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_exit_codes_of_the_architecture_page_are_the_contracts() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}

    assert told == {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}


def test_the_states_of_the_architecture_page_are_drawn_from_the_state_machine() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (drawing,) = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", page, re.DOTALL)
    drawn = re.findall(r"^    (\S+) --> (\S+?)(?:: .*)?$", drawing, re.MULTILINE)

    within = [(state, after) for state, many in SUCCESSORS.items() for after in many - set(FINAL_STATES)]
    again = [(state, RunState.SUBMITTING) for state in SUBMITTED_AGAIN_FROM]
    assert sorted(drawn) == sorted([("[*]", "submitting"), *((str(one), str(two)) for one, two in within + again)])


def test_every_decision_has_the_four_parts_and_is_short() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert len(decisions) >= 6
    for number, decision in enumerate(decisions, start=1):
        lines = decision.read_text().split("\n")
        assert decision.name.startswith(f"{number:04d}-")
        assert lines[0].startswith(f"# {number}. ")
        assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]
        assert len(lines) <= 40


@cache
def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=identify)
def test_every_test_that_is_named_is_there(document: Path) -> None:
    named = re.findall(r"`(tests/[\w./-]+\.py)::(\w+)`", document.read_text())

    assert [f"{file}::{name}" for file, name in named if name not in names_of_tests(file)] == []
