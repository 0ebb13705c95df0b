"""What each attempt of a run used its machine for: from its structured lines, with the time of the first that trains.

Steps are kept up to where a later attempt resumed: what was done beyond was done again. A program tells its counters
every minute, so what a kill took is known to the minute; the rest of the time, told by nobody, is `Purpose.OTHER`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.policy.savings_split import Purpose

_MILLISECOND: Final = Decimal("0.001")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptUse:
    """What one attempt told. Times since 1970 are in seconds, UTC."""

    trains_from: float | None
    """When its first step began; None: it never came so far."""
    useful_seconds: float = 0.0
    """Steps that are in the model, waits for data included: on on-demand the work would wait for it too."""
    lost_seconds: float = 0.0
    lost_steps: int = 0
    stall_seconds: float = 0.0
    """Waits for saves, and slower steps beside them."""
    stood_by: bool = False
    """It waited, as the standby of its run, until it claimed it."""

    def purposes(self, *, started_at: float, claimed_at: float | None, stopped_at: float) -> dict[Purpose, Decimal]:
        """Split the attempt's time, from the start of its container to its end, into all that was no useful work.

        Args:
            started_at: Start of its container.
            claimed_at: When the run became its own; None: it never did.
            stopped_at: Its end, not before the start.
        """
        left = _decimal(stopped_at - started_at)
        trains_from = stopped_at if self.trains_from is None else self.trains_from
        owned_from = started_at
        if self.stood_by:
            owned_from = stopped_at if claimed_at is None else claimed_at
        asked = (
            (None, self.useful_seconds),
            (Purpose.LOST, self.lost_seconds),
            (Purpose.STALL, self.stall_seconds),
            (Purpose.STANDBY, owned_from - started_at),
            (Purpose.CHANGEOVER, trains_from - owned_from),
        )
        parts: dict[Purpose, Decimal] = {}
        # In this order, and never more than there is: clocks of several machines told these times.
        for purpose, part in asked:
            taken = min(_decimal(part), left)
            left -= taken
            if purpose is not None and taken:
                parts[purpose] = taken
        if left:
            parts[Purpose.OTHER] = left
        return parts


def of_attempts(attempts: Iterable[Sequence[Mapping[str, Any]]]) -> tuple[AttemptUse, ...] | None:
    """Return what each attempt used its time for, or None if none of them told any counters.

    Args:
        attempts: In the order in which they had the run, each with its structured lines in order; `at` of a line is
            when it was written, in seconds since 1970.
    """
    told = [_read(lines) for lines in attempts]
    if not any(one.num_steps for one in told):
        return None
    uses: list[AttemptUse] = []
    resumed_at: int | None = None
    """Where a later attempt went on: the lowest of all of them."""
    for one in reversed(told):
        uses.append(one.use(resumed_at))
        if one.first_step is not None:
            resumed_at = one.first_step if resumed_at is None else min(resumed_at, one.first_step)
    return tuple(reversed(uses))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    trains_from: float | None
    first_step: int | None
    last_step: int
    num_steps: int
    seconds: Mapping[str, float]
    stood_by: bool

    def use(self, resumed_at: int | None) -> AttemptUse:
        if self.first_step is None or not self.num_steps:
            return AttemptUse(trains_from=self.trains_from, stood_by=self.stood_by)
        lost_steps = 0 if resumed_at is None else min(self.num_steps, max(0, self.last_step - resumed_at))
        slowdown = self.seconds.get("slowdown", 0.0)
        trained = max(0.0, self.seconds.get("step", 0.0) + self.seconds.get("data", 0.0) - slowdown)
        lost_seconds = trained * lost_steps / self.num_steps
        return AttemptUse(
            trains_from=self.trains_from,
            useful_seconds=trained - lost_seconds,
            lost_seconds=lost_seconds,
            lost_steps=lost_steps,
            stall_seconds=self.seconds.get("stall", 0.0) + slowdown,
            stood_by=self.stood_by,
        )


def _read(lines: Sequence[Mapping[str, Any]]) -> _Told:
    trains_from: float | None = None
    first_step: int | None = None
    last_step = num_steps = 0
    seconds: Mapping[str, float] = {}
    for line in lines:
        if line["event"] in (LogEvent.STARTED, LogEvent.RESUMED):
            # A program with a checkpoint folder is said to have started at no step.
            trains_from, first_step = line["at"], line.get("step", 0)
        elif "seconds" in line and "num_steps" in line:
            last_step, num_steps, seconds = line["step"], line["num_steps"], line["seconds"]
    return _Told(
        trains_from=trains_from,
        first_step=first_step,
        last_step=last_step,
        num_steps=num_steps,
        seconds=seconds,
        stood_by=any(line["event"] == LogEvent.STANDBY for line in lines),
    )


def _decimal(seconds: float) -> Decimal:
    return Decimal(max(0.0, seconds)).quantize(_MILLISECOND)
