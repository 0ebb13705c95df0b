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
_ROUNDING_HOURS: Final = 1e-6
_ROUNDING_TICKS: Final = 1e-6


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
    on_demand_available: Sequence[int] | None = None,
    on_demand_wait_hours: float = 0.0,
    actual_changeover_hours: Sequence[float] | None = None,
    choose: Callable[[Situation], Decision] = decide,
) -> Replay:
    """Replay a job on a trace of one spot pool.

    Args:
        available: 1 where spot can be had during a tick, which also means that a machine lives on; else 0.
        spot_usd_per_hour: One price, or one a tick.
        on_demand_usd_per_hour: Price of on-demand.
        gap_seconds: Length of a tick.
        work_hours: Work on one machine, without changeovers.
        deadline_hours: From the start; the trace must reach it. None: there is none.
        changeover_hours: From a machine's start to its first new step: paid, no progress.
        start_tick: Where in the trace the job begins. What was before is not known to the policy.
        mode: Which of deadline and caps gives way.
        cap_usd: What may be spent in all; None: no cap.
        fallback_cap_usd: What may be spent on on-demand; None: no cap.
        lost_hours: Work that each preemption takes back, at most what its machine has done.
        sees_spot: Whether the policy knows if spot is there while it is on on-demand. If not, only a standby tells,
            which is paid like any machine on spot and, to be on the safe side, saves no changeover.
        is_first_hour_free: Whether spot that is taken within its first hour costs nothing, as with EC2 and Linux.
        on_demand_available: 1 where on-demand can be started in a tick; None: always.
        on_demand_wait_hours: The longest time without it that the deadline is to be kept for.
        actual_changeover_hours: What the starts of machines take one after another, in a circle, each at most
            `changeover_hours`, which is all that the policy knows before a machine's first step. None: all take that.
        choose: The policy.

    Raises:
        ValueError: naming what is wrong, the value given and what is allowed.
    """
    prices = _prices(spot_usd_per_hour, len(available))
    _check(
        available,
        {"on_demand_usd_per_hour": on_demand_usd_per_hour, "gap_seconds": gap_seconds, "work_hours": work_hours},
        {
            "changeover_hours": changeover_hours,
            "lost_hours": lost_hours,
            "on_demand_wait_hours": on_demand_wait_hours,
            "cap_usd": cap_usd,
            "fallback_cap_usd": fallback_cap_usd,
        },
        start_tick=start_tick,
        deadline_ticks=None if deadline_hours is None else deadline_hours * 3600 / gap_seconds,
    )
    for hours in actual_changeover_hours or ():
        if not 0 <= hours <= changeover_hours:
            raise ValueError(f"an actual changeover must be from 0 to changeover_hours {changeover_hours}, got {hours}")

    log = _Log(start_tick)
    gap_hours = gap_seconds / 3600
    remaining, lost, stated = work_hours * 3600, lost_hours * 3600, changeover_hours * 3600
    market: Market | None = None
    overhead = 0.0  # of the present machine's changeover, in truth
    overhead_used = done_here = 0.0
    num_starts = num_losses = up_ticks = 0
    has_standby = was_up = False
    seen_up: bool | None = None
    seen_ticks = 0
    finish_tick: int | None = None
    for tick in range(start_tick, len(available) + 1):
        if tick > start_tick and market is not None:
            used = min(overhead, gap_seconds)
            overhead -= used
            overhead_used += used
            work = min(gap_seconds - used, remaining)
            remaining -= work
            done_here += work
            log.credit(work, used)
        if remaining <= _DONE_SECONDS:
            finish_tick = tick
            log.end("finished")
            break
        if tick == len(available):
            break
        is_up = bool(available[tick])
        if market is Market.SPOT and not is_up:
            taken = min(lost, done_here)
            remaining += taken
            log.preempt(taken, gap_hours, is_free=is_first_hour_free)
            market, overhead = None, 0.0
        # What the policy sees of spot: everything, but for a run on on-demand without a standby.
        if market is not Market.ON_DEMAND or sees_spot or has_standby:
            if seen_up and not is_up:
                num_losses += 1
            up_ticks += is_up
            seen_ticks = seen_ticks + 1 if is_up is seen_up else 0
            seen_up = is_up
        else:
            seen_ticks = seen_ticks + 1 if seen_up is None else 0
            seen_up = None
        price = prices[tick]
        decision = choose(
            Situation(
                remaining_hours=remaining / 3600,
                hours_left=None if deadline_hours is None else deadline_hours - (tick - start_tick) * gap_hours,
                tick_hours=gap_hours,
                changeover_hours=changeover_hours,
                market=market,
                overhead_hours=max(stated - overhead_used, 0.0) / 3600 if overhead > 0 else 0.0,
                spot=Spot.UNKNOWN if seen_up is None else Spot.UP if seen_up else Spot.DOWN,
                spot_hours=seen_ticks * gap_hours,
                num_spot_losses=num_losses,
                spot_up_hours=up_ticks * gap_hours,
                has_standby=has_standby,
                lost_hours=lost_hours,
                on_demand_wait_hours=on_demand_wait_hours,
                spot_usd_per_hour=price,
                on_demand_usd_per_hour=on_demand_usd_per_hour,
                on_demand_usd_left=math.inf if fallback_cap_usd is None else fallback_cap_usd - log.on_demand_usd,
                usd_left=math.inf if cap_usd is None else cap_usd - log.usd,
                mode=mode,
            )
        )
        wanted = decision.market
        if wanted is Market.SPOT and not is_up:
            wanted = None
        if wanted is Market.ON_DEMAND and market is not wanted and not _is_there(on_demand_available, tick):
            wanted = None
        if wanted is not market and wanted is not None:
            overhead, overhead_used, done_here = stated, 0.0, 0.0
            if actual_changeover_hours:
                overhead = actual_changeover_hours[num_starts % len(actual_changeover_hours)] * 3600
            num_starts += 1
        elif wanted is None:
            overhead = overhead_used = 0.0
        log.tick(tick, wanted, is_new=wanted is not market, decision=decision)
        market = wanted
        has_standby = market is Market.ON_DEMAND and decision.wants_standby
        if market is Market.SPOT:
            log.pay_spot(price * gap_hours)
        elif market is Market.ON_DEMAND:
            log.pay_on_demand(on_demand_usd_per_hour * gap_hours)
            if has_standby and is_up and not sees_spot:
                log.standby_usd += price * gap_hours
    finish_hours = None if finish_tick is None else (finish_tick - start_tick) * gap_hours
    return log.replay(finish_hours, deadline_hours=deadline_hours, cap_usd=cap_usd, fallback_cap_usd=fallback_cap_usd)


class _Log:
    """What has happened so far."""

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
        return self.spot_usd + self.on_demand_usd + self.standby_usd

    def credit(self, work_seconds: float, overhead_seconds: float) -> None:
        self._work += work_seconds
        self._overhead += overhead_seconds

    def preempt(self, lost_seconds: float, gap_hours: float, *, is_free: bool) -> None:
        self.num_preemptions += 1
        self.lost_seconds += lost_seconds
        if is_free and (self._now - self._first) * gap_hours <= 1:
            self.spot_usd -= self._usd
            self.free_usd += self._usd
            self._usd = 0.0
        self.end("preempted")

    def tick(self, tick: int, market: Market | None, *, is_new: bool, decision: Decision) -> None:
        if is_new:
            self.end("policy")
        if self._reason is None:
            self._market, self._reason, self._first = market, decision.reason, tick
        self._now = tick + 1

    def pay_spot(self, usd: float) -> None:
        self.spot_usd += usd
        self._usd += usd

    def pay_on_demand(self, usd: float) -> None:
        self.on_demand_usd += usd
        self._usd += usd

    def end(self, why: str) -> None:
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
        self.end("trace-end")
        is_late = deadline_hours is not None and (
            finish_hours is None or finish_hours > deadline_hours + _ROUNDING_HOURS
        )
        over_usd = max(
            self.usd - (math.inf if cap_usd is None else cap_usd),
            self.on_demand_usd - (math.inf if fallback_cap_usd is None else fallback_cap_usd),
            0.0,
        )
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
            over_cap_usd=over_usd,
        )


def _is_there(on_demand_available: Sequence[int] | None, tick: int) -> bool:
    return on_demand_available is None or bool(on_demand_available[tick])


def _prices(spot_usd_per_hour: float | Sequence[float], num_ticks: int) -> Sequence[float]:
    if isinstance(spot_usd_per_hour, (int, float)):
        prices: Sequence[float] = [spot_usd_per_hour] * num_ticks
    else:
        prices = spot_usd_per_hour
    if len(prices) != num_ticks:
        raise ValueError(f"spot_usd_per_hour must be one price, or {num_ticks}, one a tick; got {len(prices)}")
    for tick, price in enumerate(prices):
        if not 0 < price < math.inf:
            raise ValueError(f"spot_usd_per_hour must be above 0 and finite, got {price!r} at tick {tick}")
    return prices


def _check(
    available: Sequence[int],
    above_zero: dict[str, float],
    from_zero: dict[str, float | None],
    *,
    start_tick: int,
    deadline_ticks: float | None,
) -> None:
    for name, value in above_zero.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value!r}")
    for name, amount in from_zero.items():
        if amount is not None and not 0 <= amount < math.inf:
            raise ValueError(f"{name} must be from 0 up and finite, got {amount!r}")
    for tick, is_up in enumerate(available):
        if is_up not in (0, 1):
            raise ValueError(f"available must hold 0 and 1, got {is_up!r} at tick {tick}")
    if not 0 <= start_tick < len(available):
        raise ValueError(f"start_tick must be from 0 to {len(available) - 1}, the trace's last, got {start_tick}")
    if deadline_ticks is not None and not 0 < deadline_ticks <= len(available) - start_tick + _ROUNDING_TICKS:
        raise ValueError(
            f"deadline_hours must be above 0 and within the trace, which has {len(available) - start_tick} ticks from "
            f"start_tick on, got {deadline_ticks:g} ticks; start earlier, or give a longer trace"
        )
