"""How a person starts the commands again: hints that can be pasted into the same shell.

Sentences name the commands in their plain form, `spotkeeper …` and `python -m emulation …`. Only the command line knows
by which path and with which options it was started, and puts those in before it shows a sentence.
"""

import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Invocation:
    """The command line's own start."""

    program: str
    """As it was typed, or as the shell found it."""
    environment: str | None = None
    region: str | None = None
    is_local: bool = False

    @classmethod
    def of(cls, ctx: Any, *, program: str) -> Self:
        """Return how the command of a Click context was started."""
        root = ctx.find_root()
        # What stands in the shell's environment is there for the pasted command, too.
        typed = {
            name: value
            for name, value in root.params.items()
            if (source := root.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        }
        return cls(
            program=program,
            environment=typed.get("environment"),
            region=typed.get("region"),
            is_local=bool(typed.get("local")),
        )

    def pasteable(self, sentence: str) -> str:
        """Return the sentence with its commands in backticks as they have to be typed here."""
        sentence = sentence.replace("`python -m emulation", f"`{python()} -m emulation")
        return re.sub(r"`spotkeeper(?= )", lambda _: f"`{self._words()}", sentence)

    def _words(self) -> str:
        words = [self._program()]
        words += ["--local"] if self.is_local else []
        words += ["--environment", self.environment] if self.environment else []
        words += ["--region", self.region] if self.region else []
        return shlex.join(words)

    def _program(self) -> str:
        if Path(self.program).name != "spotkeeper" or shutil.which("spotkeeper") == self.program:
            return "spotkeeper"
        return self.program


def pasteable(ctx: Any, sentence: str) -> str:
    """Return the sentence with its commands as they have to be typed by who typed the command of a Click context."""
    return Invocation.of(ctx, program=sys.argv[0]).pasteable(sentence)


def python() -> str:
    """Return the Python that runs this, as a word for the shell."""
    return _from_here(Path(sys.executable))


def local_spotkeeper() -> str:
    """Return `spotkeeper --local`, for who has not started it yet: the script lies beside the Python that runs this."""
    return f"{_from_here(Path(sys.executable).with_name('spotkeeper'))} --local"


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
