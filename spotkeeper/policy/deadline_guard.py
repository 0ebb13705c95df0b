"""The guard of a deadline: what may still be done in this tick without giving the deadline away.

On-demand is what a deadline can rely on. A move is safe if, with the worst that can follow it by the next tick, the run
can still go to on-demand then and finish in time. Time is counted in whole ticks, because a decision is only taken at
the start of one: the margin of two changeovers that the literature adds (Wu et al., NSDI'24, section 4) is not needed.

A spot machine that lives and trains stays safe for ever: work and time left shrink alike. What uses slack up is
waiting, and each start of a machine.
"""

import math
from typing import Final

from spotkeeper.policy.market import Market
from spotkeeper.policy.situation import Situation

_ROUNDING: Final = 1e-6
"""Of a tick: what floating point may have added to a sum of ticks."""


def needed_ticks(hours: float, tick_hours: float) -> int:
    """Return how many whole ticks so much work takes."""
    return math.ceil(hours / tick_hours - _ROUNDING)


def ticks_left(at: Situation) -> int:
    """Return how many whole ticks there are until the deadline."""
    assert at.hours_left is not None
    return math.floor(at.hours_left / at.tick_hours + _ROUNDING)


def on_demand_hours(at: Situation, remaining_hours: float) -> float:
    """Return how long a run without a machine needs at most on on-demand: its wait, changeover and work."""
    return at.on_demand_wait_hours + at.changeover_hours + remaining_hours if remaining_hours > 0 else 0.0


def may_wait(at: Situation) -> bool:
    """Tell whether the run may be without a machine for this tick."""
    return needed_ticks(on_demand_hours(at, at.remaining_hours), at.tick_hours) <= ticks_left(at) - 1


def may_use_spot(at: Situation) -> bool:
    """Tell whether the run may be on spot until its changeover is over, at least for this tick.

    The machine may be taken at the end of any tick, with the work that is lost then. Whoever may begin a changeover may
    also end it: a machine that is given up in the middle of one was paid for nothing.
    """
    overhead_hours = at.overhead_hours if at.market is Market.SPOT else at.changeover_hours
    ticks = max(1, needed_ticks(overhead_hours, at.tick_hours))
    done_hours = ticks * at.tick_hours - overhead_hours
    left = ticks_left(at) - ticks
    if done_hours < at.remaining_hours - _ROUNDING * at.tick_hours:
        remaining_hours = at.remaining_hours - done_hours + at.lost_hours
        return needed_ticks(on_demand_hours(at, remaining_hours), at.tick_hours) <= left
    # It finishes in the last of these ticks, unless it is taken after the last but one.
    is_safe_before = ticks == 1 or needed_ticks(on_demand_hours(at, at.remaining_hours), at.tick_hours) <= left + 1
    return left >= 0 and is_safe_before


def is_fastest_on_spot(at: Situation) -> bool:
    """Tell, of a run that can be late, whether the spot machine it has finishes sooner than on-demand would."""
    return at.market is Market.SPOT and at.overhead_hours < at.changeover_hours + at.on_demand_wait_hours


def slack_hours(at: Situation) -> float:
    """Return what time there is beyond work and one changeover to on-demand; below 0 the deadline cannot be kept."""
    assert at.hours_left is not None
    overhead_hours = at.overhead_hours if at.market is Market.ON_DEMAND else at.changeover_hours
    return at.hours_left - at.remaining_hours - overhead_hours


def slack_hours_after_return(at: Situation) -> float:
    """Return the slack that is left, of a run on on-demand, once a changeover to spot is over."""
    assert at.hours_left is not None
    return at.hours_left - at.remaining_hours - at.changeover_hours
