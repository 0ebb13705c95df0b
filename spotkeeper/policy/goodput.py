"""What became of the machine time of a run, over all its attempts. Pure arithmetic over their structured lines.

A program tells its counters with its progress, every minute. So work that a kill took is known to the minute: a step
that was done and not told is missing on both sides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spotkeeper.contract.log_lines import LogEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGoodput:
    """The machine time of a run, as far as its attempts told."""

    useful_seconds: float
    """Of steps that are in the model, their slowdown by saves included."""
    lost_seconds: float
    """Of steps that were done, and then had to be done again."""
    lost_steps: int
    data_seconds: float
    stall_seconds: float
    restore_seconds: float
    linger_seconds: float
    other_seconds: float
    save_seconds: float
    """During which a save was in flight, most of it beside the training: no part of the sum."""

    @property
    def share(self) -> float | None:
        """The goodput: what useful steps are of all that was told; None if nothing was."""
        overhead = self.data_seconds + self.stall_seconds + self.restore_seconds + self.linger_seconds
        total = self.useful_seconds + self.lost_seconds + overhead + self.other_seconds
        return self.useful_seconds / total if total else None


def of_lines(lines: Iterable[Mapping[str, Any]]) -> RunGoodput:
    """Add up the structured lines of one run, of all its attempts, in the order in which they were written."""
    totals: dict[str, float] = {}
    lost_seconds = 0.0
    lost_steps = 0
    told: _Attempt | None = None
    for line in lines:
        if line["event"] in (LogEvent.STARTED, LogEvent.RESUMED):
            if told is not None:
                steps = max(0, told.step - line["step"])
                lost_steps += steps
                lost_seconds += steps * told.seconds_per_step
                told.add_to(totals)
            told = _Attempt(step=line["step"])
        elif told is not None:
            told = told.after(line)
    if told is not None:
        told.add_to(totals)
    return RunGoodput(
        useful_seconds=totals.get("step", 0.0) - lost_seconds,
        lost_seconds=lost_seconds,
        lost_steps=lost_steps,
        data_seconds=totals.get("data", 0.0),
        stall_seconds=totals.get("stall", 0.0),
        restore_seconds=totals.get("restore", 0.0),
        linger_seconds=totals.get("linger", 0.0),
        other_seconds=totals.get("other", 0.0),
        save_seconds=totals.get("save", 0.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempt:
    """What an attempt has told so far."""

    step: int
    num_steps: int = 0
    seconds: Mapping[str, float] | None = None

    @property
    def seconds_per_step(self) -> float:
        return self.seconds["step"] / self.num_steps if self.seconds and self.num_steps else 0.0

    def after(self, line: Mapping[str, Any]) -> "_Attempt":
        if "seconds" not in line or "num_steps" not in line:
            return self
        return _Attempt(step=line["step"], num_steps=line["num_steps"], seconds=line["seconds"])

    def add_to(self, totals: dict[str, float]) -> None:
        for name, seconds in (self.seconds or {}).items():
            totals[name] = totals.get(name, 0.0) + seconds
