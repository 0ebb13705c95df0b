"""What a policy would have done, and paid, on a recorded spot market: tick by tick, with the shipped decisions.

The order of things in a tick is that of the simulator of "Can't Be Late" (Wu et al., NSDI'24), so that published figures
can be reproduced: credit the tick that has passed, stop if the work is done, take the machine if spot is gone, decide,
pay the whole tick. What it leaves out can be added: work lost at a preemption, caps, the free first hour, a standby.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.situation import Decision, Situation, Spot

WAIT: Final = "wait"
_DONE_SECONDS: Final = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of ticks on one machine, or without one."""

    place: str
    """`spot`, `on-demand` or `wait`."""
    first_tick: int
    """Counted from the trace's beginning."""
    ticks: int
    usd: float
    work_hours: float
    """Progress made in it, before what its preemption took back."""
    changeover_hours: float
    ended: str
    """`finished`, `preempted`, `policy` or `trace-end`."""
    reason: str
    """The policy's, at its first tick."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What became of the job."""

    segments: tuple[Segment, ...]
    """Without gaps, in order."""
    spot_usd: float
    on_demand_usd: float
    standby_usd: float
    free_usd: float
    """Spot hours that were not billed."""
    lost_work_hours: float
    changeover_hours: float
    num_preemptions: int
    finish_hours: float | None
    """From the start; None: not finished when the trace ended."""
    misses_deadline: bool
    over_cap_usd: float

    @property
    def usd(self) -> float:
        """What was paid in all."""
        return self.spot_usd + self.on_demand_usd + self.standby_usd


def replay(
    available: Sequence[int],
    spot_usd_per_hour: float | Sequence[float],
    *,
    on_demand_usd_per_hour: float,
    gap_seconds: float,
    work_hours: float,
    deadline_hours: float | None,
    changeover_hours: float,
    start_tick: int = 0,
    mode: Mode = Mode.DEADLINE_FIRST,
    cap_usd: float | None = None,
    fallback_cap_usd: float | None = None,
    lost_hours: float = 0.0,
    sees_spot: bool = True,
    is_first_hour_free: bool = False,
    choose: Callable[[Situation], Decision] = decide,
) -> Replay:
    """Replay a job on a trace of one spot pool."""
    raise NotImplementedError
