"""What a policy would have done, and paid, on a recorded spot market: tick by tick, with the shipped decisions.

The order of things in a tick is that of the simulator of "Can't Be Late" (Wu et al., NSDI'24), so that published
figures can be reproduced: credit the tick that has passed, stop if the work is done, take the machine if spot is gone,
decide, pay the whole tick. What that leaves out can be added: work lost at a preemption, caps, the free first hour, a
standby that has to be paid, changeovers of different lengths, on-demand that is not there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.replay_log import WAIT, Replay, ReplayLog, Segment
from spotkeeper.policy.situation import Decision, Situation, Spot

__all__ = ["WAIT", "Replay", "Segment", "replay"]

_ROUNDING_TICKS: Final = 1e-6
"""So little work is none, and so little time: in ticks, as a market in other units is the same market."""


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
    pools: Sequence[int] | None = None,
    mode: Mode = Mode.DEADLINE_FIRST,
    cap_usd: float | None = None,
    fallback_cap_usd: float | None = None,
    lost_hours: float = 0.0,
    sees_spot: bool = True,
    is_first_hour_free: bool = False,
    patience_hours: float | None = None,
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
        pools: The pool that spot is taken in, tick by tick (`pool_path`). Where it changes, a machine on spot is given
            up for one in the new pool, at the price of a preemption. None: there is one.
        mode: Which of deadline and caps gives way.
        cap_usd: What may be spent in all; None: no cap.
        fallback_cap_usd: What may be spent on on-demand; None: no cap.
        lost_hours: Work that each preemption takes back, at most what its machine has done.
        sees_spot: Whether the policy knows if spot is there while it is on on-demand. If not, only a standby tells,
            which is paid like any machine on spot and, to be on the safe side, saves no changeover.
        is_first_hour_free: Whether spot that is taken within its first hour costs nothing, as with EC2 and Linux.
        patience_hours: Without a deadline: so long without spot, and on-demand is wanted; None: never.
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
            "patience_hours": patience_hours,
        },
        start_tick=start_tick,
        deadline_ticks=None if deadline_hours is None else deadline_hours * 3600 / gap_seconds,
    )
    if on_demand_available is not None and len(on_demand_available) != len(available):
        raise ValueError(
            f"on_demand_available must have {len(available)} ticks, as available has; got {len(on_demand_available)}"
        )
    if pools is not None and len(pools) != len(available):
        raise ValueError(f"pools must have {len(available)} ticks, as available has; got {len(pools)}")
    for hours in actual_changeover_hours or ():
        if not 0 <= hours <= changeover_hours:
            raise ValueError(f"an actual changeover must be from 0 to changeover_hours {changeover_hours}, got {hours}")
    job = _Job(
        work_seconds=work_hours * 3600,
        changeover_seconds=changeover_hours * 3600,
        changeovers_seconds=[hours * 3600 for hours in actual_changeover_hours or (changeover_hours,)],
        lost_seconds=lost_hours * 3600,
        gap_seconds=gap_seconds,
        log=ReplayLog(start_tick),
        sight=_Sight(),
    )
    log, sight, gap_hours = job.log, job.sight, gap_seconds / 3600
    finish_hours: float | None = None
    for tick in range(start_tick, len(available) + 1):
        elapsed_hours = (tick - start_tick) * gap_hours
        if tick > start_tick:
            job.credit()
        if job.remaining_seconds <= _ROUNDING_TICKS * gap_seconds:
            finish_hours = elapsed_hours
            log.end("finished")
            break
        if tick == len(available):
            break
        is_up = bool(available[tick])
        is_other_pool = pools is not None and tick > start_tick and pools[tick] != pools[tick - 1]
        if job.market is Market.SPOT and (not is_up or is_other_pool):
            job.preempt(is_first_hour_free=is_first_hour_free and not is_up)
        is_blind = job.market is Market.ON_DEMAND and not sees_spot and not job.has_standby
        sight.look(is_up, is_blind=is_blind, is_other_pool=is_other_pool)
        decision = choose(
            Situation(
                remaining_hours=job.remaining_seconds / 3600,
                hours_left=None if deadline_hours is None else deadline_hours - elapsed_hours,
                tick_hours=gap_hours,
                changeover_hours=changeover_hours,
                market=job.market,
                overhead_hours=job.most_overhead_seconds / 3600,
                spot=sight.spot,
                spot_hours=sight.ticks * gap_hours,
                num_spot_losses=sight.num_losses,
                spot_up_hours=sight.up_ticks * gap_hours,
                num_spot_returns=sight.num_returns,
                spot_down_hours=sight.down_ticks * gap_hours,
                patience_hours=patience_hours,
                has_standby=job.has_standby,
                lost_hours=lost_hours,
                on_demand_wait_hours=on_demand_wait_hours,
                spot_usd_per_hour=prices[tick],
                on_demand_usd_per_hour=on_demand_usd_per_hour,
                on_demand_usd_left=math.inf if fallback_cap_usd is None else fallback_cap_usd - log.on_demand_usd,
                usd_left=math.inf if cap_usd is None else cap_usd - log.usd,
                mode=mode,
            )
        )
        is_on_demand_there = on_demand_available is None or bool(on_demand_available[tick])
        job.move(tick, decision, is_spot_there=is_up, is_on_demand_there=is_on_demand_there)
        job.pay(prices[tick], on_demand_usd_per_hour, pays_standby=is_up and not sees_spot)
    return log.replay(finish_hours, deadline_hours=deadline_hours, cap_usd=cap_usd, fallback_cap_usd=fallback_cap_usd)


@dataclass(slots=True)
class _Sight:
    """What has been seen of spot."""

    spot: Spot = Spot.UNKNOWN
    ticks: int = 0
    """Since when it is so."""
    num_losses: int = 0
    up_ticks: int = 0
    num_returns: int = 0
    down_ticks: int = 0

    def look(self, is_up: bool, *, is_blind: bool, is_other_pool: bool) -> None:  # noqa: FBT001  the sight itself
        spot = Spot.UNKNOWN if is_blind else Spot.UP if is_up else Spot.DOWN
        is_new = spot is not self.spot or (spot is Spot.UP and is_other_pool)
        self.num_losses += self.spot is Spot.UP and is_new and spot is not Spot.UNKNOWN
        self.num_returns += self.spot is Spot.DOWN and spot is Spot.UP
        self.up_ticks += spot is Spot.UP
        self.down_ticks += spot is Spot.DOWN
        self.ticks = 0 if is_new else self.ticks + 1
        self.spot = spot


@dataclass(slots=True, kw_only=True)
class _Job:
    """The job and the machine it has."""

    work_seconds: float
    changeover_seconds: float
    """The most that a changeover takes."""
    changeovers_seconds: Sequence[float]
    """What the starts of machines take one after another, in a circle."""
    lost_seconds: float
    gap_seconds: float
    log: ReplayLog
    sight: _Sight
    market: Market | None = None
    has_standby: bool = False
    remaining_seconds: float = 0.0
    overhead_seconds: float = 0.0
    """What is to come of the present machine's changeover."""
    overhead_used_seconds: float = 0.0
    done_here_seconds: float = 0.0
    num_starts: int = 0

    def __post_init__(self) -> None:
        self.remaining_seconds = self.work_seconds

    @property
    def most_overhead_seconds(self) -> float:
        """What of the changeover may be to come, as far as the policy can tell."""
        return max(self.changeover_seconds - self.overhead_used_seconds, 0.0) if self.overhead_seconds > 0 else 0.0

    def credit(self) -> None:
        """Let a tick pass."""
        if self.market is None:
            return
        used = min(self.overhead_seconds, self.gap_seconds)
        work = min(self.gap_seconds - used, self.remaining_seconds)
        self.overhead_seconds -= used
        self.overhead_used_seconds += used
        self.remaining_seconds -= work
        self.done_here_seconds += work
        self.log.credit(work, used)

    def preempt(self, *, is_first_hour_free: bool) -> None:
        """Take the machine."""
        lost = min(self.lost_seconds, self.done_here_seconds)
        self.remaining_seconds += lost
        self.log.preempt(lost, self.gap_seconds / 3600, is_free=is_first_hour_free)
        self.market = None
        self.overhead_seconds = 0.0

    def move(self, tick: int, decision: Decision, *, is_spot_there: bool, is_on_demand_there: bool) -> None:
        """Go where the decision wants it, if there is a machine."""
        wanted = decision.market
        is_there = is_spot_there if wanted is Market.SPOT else is_on_demand_there or wanted is self.market
        if not is_there:
            wanted = None
        self.log.tick(tick, wanted, is_new=wanted is not self.market, decision=decision)
        if wanted is not self.market:
            self.overhead_seconds = self.overhead_used_seconds = self.done_here_seconds = 0.0
            if wanted is not None:
                self.overhead_seconds = self.changeovers_seconds[self.num_starts % len(self.changeovers_seconds)]
                self.num_starts += 1
        self.market = wanted
        self.has_standby = wanted is Market.ON_DEMAND and decision.wants_standby

    def pay(self, spot_usd_per_hour: float, on_demand_usd_per_hour: float, *, pays_standby: bool) -> None:
        """Pay the tick that begins."""
        gap_hours = self.gap_seconds / 3600
        if self.market is Market.SPOT:
            self.log.pay_spot(spot_usd_per_hour * gap_hours)
        elif self.market is Market.ON_DEMAND:
            self.log.pay_on_demand(on_demand_usd_per_hour * gap_hours)
            if self.has_standby and pays_standby:
                self.log.standby_usd += spot_usd_per_hour * gap_hours


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
    if not available:
        raise ValueError("available must hold at least one tick, got none")
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
