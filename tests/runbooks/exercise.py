"""Follow a runbook in an emulated environment: its own lines are typed, and what it expects is looked for."""

import re
import shlex
import time
from dataclasses import dataclass, field

from typer.testing import CliRunner

from emulation.cloud import Cloud
from emulation.local_endpoint import announce
from spotkeeper.control.run import Run
from spotkeeper.ops.cli import app
from tests.runbooks.runbook import Runbook, Step, filled_in
from tests.story.user import User
from tests.story.watched import Watched

_SUBMITTED = re.compile(r'export (?P<name>\w+)="\$\((?P<command>spotkeeper .*)\)"')
_READINGS = {"status", "logs", "budget", "checkpoints", "dead-letters"}
_CHANGES = {"set", "roll-back", "restore", "redrive", "discard"}
_PATIENCE_SECONDS = 40.0


@dataclass
class Exercise:
    """One page, followed by somebody who pastes its lines."""

    page: Runbook
    cloud: Cloud
    user: User
    state_folder: str
    variables: dict[str, str] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.variables = {**self.page.exported, **self.variables}
        self.watched = Watched(self.cloud, begin=self.cloud.clock.now().timestamp())

    def sets(self, **variables: str | Run) -> None:
        """Set placeholders of "Before you start", which must have them."""
        for name, value in variables.items():
            assert name in self.page.exported, f"{self.page.name} has no {name}"
            self.variables[name] = value.run_id if isinstance(value, Run) else value

    def diagnoses(self) -> str:
        return self._follow("Diagnose")

    def mitigates(self, cause: str) -> str:
        return self._follow("Mitigate", cause)

    def verifies(self) -> str:
        return self._follow("Verify")

    def reads_instead(self, section: str, number: int, words: str) -> None:
        """Do one step, counted among those with lines to type, whose reading is what the page says of "if instead"."""
        step = self.steps(section, "")[number]
        (line,) = step.lines
        assert f"if instead it ends with `{words}`" in self.page.text
        code, output, _ = self._type(line)
        assert code != 0
        assert words in output

    def does(self, step: Step) -> str:
        """Type the lines of a step, and look for its readings until they are there."""
        outputs = {line: self._must(line) for line in step.lines}
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while missing := [word for word in self._readings(step) if word not in "".join(outputs.values())]:
            looks = [line for line in step.lines if _only_looks(line)]
            assert looks, f"{step.lines} should show {missing}, and shows {outputs}"
            assert time.monotonic() < give_up, f"{step.lines} should show {missing}, and shows {outputs}"
            time.sleep(0.5)  # between two readings, each of which costs as much; the deadline is above
            outputs.update({line: self._must(line) for line in looks})
        return "".join(outputs.values())

    @property
    def untyped(self) -> list[str]:
        """The page's lines that nobody typed, though no account is needed for them."""
        lines = [line for step in self.page.steps if not step.is_account for line in step.lines]
        return [line for line in lines if "spotkeeper " in line and line not in self.typed]

    def _follow(self, section: str, cause: str = "") -> str:
        steps = self.steps(section, cause)
        assert steps, f"{self.page.name} has nothing to type under {section} {cause}"
        return "".join(self.does(step) for step in steps)

    def steps(self, section: str, cause: str) -> list[Step]:
        """Return the steps of a section, or of one cause, that have a line to type and need no account."""
        return [
            step
            for step in self.page.steps
            if (step.section, step.cause) == (section, cause)
            and not step.is_account
            and any("spotkeeper " in line for line in step.lines)
        ]

    def _readings(self, step: Step) -> list[str]:
        return [filled_in(word, self.variables) for word in step.readings]

    def _must(self, line: str) -> str:
        code, output, stdout = self._type(line)
        assert code == 0, f"{line}: {output}"
        if submitted := _SUBMITTED.fullmatch(line):
            self.variables[submitted["name"]] = stdout.strip()
        return output

    def _type(self, line: str) -> tuple[int, str, str]:
        self.typed.add(line)
        submitted = _SUBMITTED.fullmatch(line)
        program, *words = shlex.split(filled_in(submitted["command"] if submitted else line, self.variables))
        assert program == "spotkeeper", line
        environ = {"XDG_STATE_HOME": self.state_folder}
        where = {"endpoint_url": self.cloud.endpoint_url, "region": self.cloud.region, "environment": "dev"}
        with announce(**where, environ=environ):
            result = CliRunner().invoke(app, ["--local", *words], env=environ)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output, result.stdout


def _only_looks(line: str) -> bool:
    words = line.split()
    return words[0] == "spotkeeper" and words[1] in _READINGS and not _CHANGES & set(words)
