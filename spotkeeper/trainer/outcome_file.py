"""The small file by which a program tells `spotkeeper-exec` how it ended (see contract.outcome)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spotkeeper.contract.outcome import COMPLETED, FENCED, REFUSED, STARTED, YIELDED

KNOWN: Final = frozenset({STARTED, YIELDED, COMPLETED, FENCED, REFUSED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far a program says it has come."""

    outcome: str
    step: int | None


class OutcomeFile:
    """One such file, written by the program and read after its end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, outcome: str, step: int) -> None:
        """Replace the file at once: a killed program leaves the old content or the new, never half of one."""
        partial = self._path.with_name(self._path.name + ".partial")
        partial.write_text(json.dumps({"outcome": outcome, "step": step}))
        os.replace(partial, self._path)  # noqa: PTH105

    def read(self) -> Outcome | None:
        """Return what the program wrote, or None if it does not use the library."""
        try:
            content = json.loads(self._path.read_text())
            outcome = Outcome(content["outcome"], content["step"])
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError):
            return Outcome(STARTED, None)  # something wrote here, and nothing in it proves an end
        return outcome if outcome.outcome in KNOWN else Outcome(STARTED, None)
