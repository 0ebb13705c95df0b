"""What a replay tells: stretches of time on one machine or none, and the sums over them."""

import math
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy.market import Market
from spotkeeper.policy.situation import Decision

WAIT: Final = "wait"
_ROUNDING_HOURS: Final = 1e-6
_ROUNDING_USD: Final = 1e-6
"""What floating point may have added to a sum of dollars."""


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


class ReplayLog:
    """Writes down what happens, tick by tick."""

    def __init__(self, start_tick: int) -> None:
        self.spot_usd = self.on_demand_usd = self.standby_usd = self.free_usd = 0.0
        self.lost_seconds = self.changeover_seconds = 0.0
        self.num_preemptions = 0
        self.segments: list[Segment] = []
        self._market: Market | None = None
        self._reason: str | None = None
        self._first = self._now = start_tick
        self._usd = self._work = self._overhead = 0.0

    @property
    def usd(self) -> float:
        """What was paid so far."""
        return self.spot_usd + self.on_demand_usd + self.standby_usd

    def credit(self, work_seconds: float, overhead_seconds: float) -> None:
        """Add the progress and the changeover of a tick."""
        self._work += work_seconds
        self._overhead += overhead_seconds

    def preempt(self, lost_seconds: float, gap_hours: float, *, is_free: bool) -> None:
        """End a stretch on spot; if it is free and was no longer than an hour, it costs nothing."""
        self.num_preemptions += 1
        self.lost_seconds += lost_seconds
        if is_free and (self._now - self._first) * gap_hours <= 1:
            self.spot_usd -= self._usd
            self.free_usd += self._usd
            self._usd = 0.0
        self.end("preempted")

    def tick(self, tick: int, market: Market | None, *, is_new: bool, decision: Decision) -> None:
        """Begin a tick where the run is now."""
        if is_new:
            self.end("policy")
        if self._reason is None:
            self._market, self._reason, self._first = market, decision.reason, tick
        self._now = tick + 1

    def pay_spot(self, usd: float) -> None:
        """Add the price of a tick on spot."""
        self.spot_usd += usd
        self._usd += usd

    def pay_on_demand(self, usd: float) -> None:
        """Add the price of a tick on on-demand."""
        self.on_demand_usd += usd
        self._usd += usd

    def end(self, why: str) -> None:
        """End the present stretch, if there is one."""
        if self._reason is None:
            return
        self.changeover_seconds += self._overhead
        self.segments.append(
            Segment(
                place=WAIT if self._market is None else self._market.value,
                first_tick=self._first,
                ticks=self._now - self._first,
                usd=self._usd,
                work_hours=self._work / 3600,
                changeover_hours=self._overhead / 3600,
                ended=why,
                reason=self._reason,
            )
        )
        self._reason = None
        self._usd = self._work = self._overhead = 0.0

    def replay(
        self,
        finish_hours: float | None,
        *,
        deadline_hours: float | None,
        cap_usd: float | None,
        fallback_cap_usd: float | None,
    ) -> Replay:
        """Return what became of the job."""
        self.end("trace-end")
        is_late = deadline_hours is not None and not (finish_hours or math.inf) <= deadline_hours + _ROUNDING_HOURS
        over_usd = max(self.usd - _or_infinite(cap_usd), self.on_demand_usd - _or_infinite(fallback_cap_usd))
        return Replay(
            segments=tuple(self.segments),
            spot_usd=self.spot_usd,
            on_demand_usd=self.on_demand_usd,
            standby_usd=self.standby_usd,
            free_usd=self.free_usd,
            lost_work_hours=self.lost_seconds / 3600,
            changeover_hours=self.changeover_seconds / 3600,
            num_preemptions=self.num_preemptions,
            finish_hours=finish_hours,
            misses_deadline=is_late,
            over_cap_usd=over_usd if over_usd > _ROUNDING_USD else 0.0,
        )


def _or_infinite(cap_usd: float | None) -> float:
    return math.inf if cap_usd is None else cap_usd
