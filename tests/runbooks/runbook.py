"""A runbook as its page says it: sections, steps, commands, and what each expects."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
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


def exercised(text: str, *, on: date) -> str:
    """Return a page's text, last exercised on this day in the emulation of dev."""
    return re.sub(r"(?<=Last exercised: ).*", f"{on.isoformat()} on dev (emulation)", text, count=1)


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """Put the placeholders' values in, as the shell does."""
    # What is no placeholder, such as `total $`, stays.
    return Template(text).safe_substitute(variables)


_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_CAUSE = re.compile(r"^### (\w)\. .*$", re.MULTILINE)
_STEP = re.compile(
    r"^ *```sh\n(?P<lines>.*?)^ *```$"
    # It may go on for some lines, until something else is said.
    r"(?:\n *expect:(?P<expected>.*?)(?=\n\n|\n *(?:if instead|undo:)|\Z))?",
    re.MULTILINE | re.DOTALL,
)


def _steps(text: str) -> Iterable[Step]:
    for section, body in _parts(_HEADING, text):
        for cause, steps in _parts(_CAUSE, body):
            end = 0
            for found in _STEP.finditer(steps):
                # A numbered step begins anew; what stands before that belongs to the one before.
                words = re.split(r"^\d+\. ", steps[end : found.start()], flags=re.MULTILINE)[-1]
                lines = tuple(line.strip() for line in found["lines"].splitlines())
                expected = " ".join((found["expected"] or "").split())
                yield Step(section=section, cause=cause, words=words.strip(), lines=lines, expected=expected)
                end = found.end()


def _parts(heading: re.Pattern[str], text: str) -> list[tuple[str, str]]:
    """Divide text at its headings; what stands before the first has the heading ""."""
    first, *rest = heading.split(text)
    return [("", first), *zip(rest[::2], rest[1::2], strict=True)]


def _exported(lines: Iterable[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        for name, value in re.findall(r"(\w+)=(\"(?:\$\(\(.*?\)\)|[^\"])*\"|\S+)", line.removeprefix("export ")):
            found[name] = value.strip('"')
    return found
