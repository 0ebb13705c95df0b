"""A runbook as its page says it: sections, steps, commands, and what each expects."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

RUNBOOKS = Path(__file__).parents[2] / "runbooks"
HEADINGS = (
    "Trigger", "Impact", "Before you start", "Diagnose", "Mitigate", "Verify", "Escalate", "Afterwards",
)  # fmt: skip
ACCOUNT = "(account)"
"""Begins a step that only an AWS account can show."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step with commands: a fenced block, the words before it, and the line after it."""

    section: str
    cause: str
    """Of Mitigate: the letter of its heading; else empty."""
    words: str
    lines: tuple[str, ...]
    expected: str

    @property
    def is_account(self) -> bool:
        return ACCOUNT in self.words

    @property
    def readings(self) -> tuple[str, ...]:
        """What the output must show: what stands in code marks."""
        return tuple(re.findall(r"`([^`]+)`", self.expected))


@dataclass(frozen=True, kw_only=True)
class Runbook:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(re.findall(r"^## (.*)$", self.text, re.MULTILINE))

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(_steps(self.text))

    @property
    def exported(self) -> dict[str, str]:
        """The placeholders that Before you start sets, as the page sets them."""
        return _exported(line for step in self.steps if step.section == "Before you start" for line in step.lines)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(line for step in self.steps for line in step.lines)


def runbooks() -> list[Runbook]:
    """Return every runbook, the template among them."""
    pages = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
    return [Runbook(path=path, text=path.read_text()) for path in pages]


def runbook(name: str) -> Runbook:
    path = RUNBOOKS / f"{name}.md"
    return Runbook(path=path, text=path.read_text())


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """Put the placeholders' values in, as the shell does."""
    return Template(text).substitute(variables)


def _steps(text: str) -> Iterable[Step]:
    section = cause = ""
    words: list[str] = []
    lines = iter(text.splitlines())
    pending: tuple[str, str, str, tuple[str, ...]] | None = None
    for line in lines:
        stripped = line.strip()
        if pending is not None:
            is_expectation = stripped.startswith("expect:")
            expected = [stripped.removeprefix("expect:")] if is_expectation else []
            while is_expectation:
                # It may go on, until the next kind of line.
                line = next(lines, "")
                stripped = line.strip()
                if not stripped or stripped.startswith(("if instead", "undo:", "#")):
                    break
                expected.append(stripped)
            place, letter, told, commands = pending
            yield Step(section=place, cause=letter, words=told, lines=commands, expected=" ".join(expected))
            pending, words = None, []
        if stripped.startswith("## "):
            section, cause, words = stripped.removeprefix("## "), "", []
        elif stripped.startswith("### "):
            cause, words = stripped.removeprefix("### ")[0], []
        elif stripped == "```sh":
            commands = []
            while (line := next(lines).strip()) != "```":
                commands.append(line)
            pending = (section, cause, " ".join(words), tuple(commands))
        elif re.match(r"\d+\. ", stripped):
            words = [stripped]
        elif stripped:
            words.append(stripped)
    if pending is not None:
        place, letter, told, commands = pending
        yield Step(section=place, cause=letter, words=told, lines=commands, expected="")


def _exported(lines: Iterable[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        for name, value in re.findall(r"(\w+)=(\"(?:\$\(\(.*?\)\)|[^\"])*\"|\S+)", line.removeprefix("export ")):
            found[name] = value.strip('"')
    return found
