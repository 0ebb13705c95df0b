"""A run's deadline as options of `submit`: by when, how much work it is, and how many steps that has."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from spotkeeper.contract.duration import format_duration
from spotkeeper.control.outlook import CHANGEOVER_SECONDS, ON_DEMAND_WAIT_SECONDS
from spotkeeper.control.run import Run
from spotkeeper.ops.duration import duration_option

_LONGEST_SECONDS: Final = 90 * 86400
_SHORTEST_SECONDS: Final = 60
_OVERHEAD_SECONDS: Final = CHANGEOVER_SECONDS + ON_DEMAND_WAIT_SECONDS
"""What on-demand needs beside the work itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline:
    """By when a run is to be complete, and what it has to do until then."""

    within_seconds: int
    """From its submission."""
    work_seconds: int
    """On one machine, without starting it."""
    num_steps: int | None = None
    """Of all the work; without it none of it counts as done before all is."""

    @classmethod
    def of(cls, *, deadline: str | None, work: str | None, steps: int | None) -> Self | None:
        """Read the options of `submit`; None: there is no deadline.

        Raises:
            ValueError: naming the option, the value, what is allowed and the fix.
        """
        if deadline is None and work is None and steps is None:
            return None
        if deadline is None or work is None:
            raise ValueError(
                "--deadline needs --work, and --work and --steps need --deadline: when to fall back follows from both, "
                "such as --deadline 40h --work 30h --steps 90000"
            )
        within_seconds = duration_option(
            deadline, option="--deadline", at_least=_SHORTEST_SECONDS, at_most=_LONGEST_SECONDS
        )
        work_seconds = duration_option(work, option="--work", at_least=_SHORTEST_SECONDS, at_most=_LONGEST_SECONDS)
        if steps is not None and steps < 1:
            raise ValueError(f"--steps must be 1 or more, got {steps}")
        least_seconds = work_seconds + _OVERHEAD_SECONDS
        if within_seconds < least_seconds:
            raise ValueError(
                f"--deadline {deadline} cannot be kept for --work {work}, not even on on-demand: with a start of "
                f"{format_duration(_OVERHEAD_SECONDS)} at most it must be {format_duration(least_seconds)} or more"
            )
        return cls(within_seconds=within_seconds, work_seconds=work_seconds, num_steps=steps)

    def at(self, created_at: str) -> str:
        """Return the time of the deadline of a run that is submitted then. Both are ISO 8601, UTC."""
        moment = datetime.fromisoformat(created_at) + timedelta(seconds=self.within_seconds)
        return moment.isoformat(timespec="milliseconds")


def check(run: Run) -> None:
    """Refuse a deadline that nothing can be done for.

    Raises:
        ValueError: if the run may not use on-demand.
    """
    if run.deadline_at is not None and not run.fallback_cap_microusd:
        raise ValueError(
            "--deadline needs a --fallback-cap above $0, got none: without on-demand a run is complete when spot allows"
        )


def warnings(run: Run) -> tuple[str, ...]:
    """Return what to tell of a deadline before it costs anything."""
    if run.deadline_at is not None and run.num_steps is None:
        told = (
            "without --steps no work counts as done before the run is complete, so it goes to on-demand earlier than "
            "it must: give the number of steps"
        )
        return (told,)
    return ()
