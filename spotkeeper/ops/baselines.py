"""What others do: policies of the literature, each with its own safety net, for the shipped replay.

Greedy, time-sliced and Uniform Progress are those of "Can't Be Late" (Wu et al., NSDI'24), as its simulator has them.
"""

import math
from collections.abc import Callable

from spotkeeper.policy.market import Market
from spotkeeper.policy.situation import Decision, Situation, Spot

Policy = Callable[[Situation], Decision]

_WAIT = Decision(market=None, reason="wait")
_SPOT = Decision(market=Market.SPOT, reason="spot")
_ON_DEMAND = Decision(market=Market.ON_DEMAND, reason="on-demand")
_EPSILON_HOURS = 1e-9
_TIE_HOURS = 1e-6
"""Who is level with the line is neither ahead nor behind: so the published figures come out."""


def on_demand(_: Situation) -> Decision:
    """Never use spot."""
    return _ON_DEMAND


def greedy(at: Situation) -> Decision:
    """Use spot whenever it is there, wait otherwise, until the safety net."""
    return _safety_net(at) or (_SPOT if at.spot is Spot.UP else _WAIT)


def time_sliced(num_slices: int, *, work_hours: float, deadline_hours: float) -> Policy:
    """Be greedy inside each of so many slices of the time, each with its share of the work; a lead carries over."""

    def choose(at: Situation) -> Decision:
        assert at.hours_left is not None
        slice_hours = deadline_hours / num_slices
        number = min(math.floor((deadline_hours - at.hours_left) / slice_hours + _EPSILON_HOURS) + 1, num_slices)
        due_hours = work_hours - work_hours * number / num_slices
        left_hours = at.hours_left - (deadline_hours - number * slice_hours)
        if at.remaining_hours <= due_hours + _EPSILON_HOURS:
            return _SPOT if at.spot is Spot.UP else _WAIT
        return _net(at, at.remaining_hours - due_hours, left_hours) or (_SPOT if at.spot is Spot.UP else _WAIT)

    return lambda at: _safety_net(at) or choose(at)


def uniform_progress(*, work_hours: float, deadline_hours: float, has_hysteresis: bool) -> Policy:
    """Keep progress level with time: on-demand when behind, spot whenever it is there.

    With hysteresis, on-demand is left only with a lead of two changeovers.
    """

    def choose(at: Situation) -> Decision:
        net = _safety_net(at)
        if net is not None:
            return net
        assert at.hours_left is not None
        done_hours, elapsed_hours = work_hours - at.remaining_hours, deadline_hours - at.hours_left

        def expected(hours: float) -> float:
            return work_hours * hours / deadline_hours

        if at.spot is Spot.UP:
            is_ahead = done_hours > expected(elapsed_hours + 2 * at.changeover_hours) + _TIE_HOURS
            keeps = has_hysteresis and at.market is Market.ON_DEMAND and not is_ahead
            return _ON_DEMAND if keeps else _SPOT
        is_behind = done_hours < expected(elapsed_hours) - _TIE_HOURS
        return _ON_DEMAND if is_behind or at.market is Market.ON_DEMAND else _WAIT

    return choose


def _safety_net(at: Situation) -> Decision | None:
    assert at.hours_left is not None
    return _net(at, at.remaining_hours, at.hours_left)


def _net(at: Situation, remaining_hours: float, hours_left: float) -> Decision | None:
    left_hours = math.floor(hours_left / at.tick_hours + 1e-6) * at.tick_hours
    if at.market is Market.SPOT:
        return _SPOT if left_hours <= remaining_hours + at.changeover_hours + _EPSILON_HOURS else None
    needed_hours = remaining_hours + 2 * at.changeover_hours
    needed_hours = math.ceil(needed_hours / at.tick_hours - 1e-6) * at.tick_hours
    return _ON_DEMAND if left_hours <= needed_hours + _EPSILON_HOURS else None
