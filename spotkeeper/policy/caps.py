"""What caps make of a decision: nothing is spent that is not there, unless the deadline may cross the cap of a run."""

import math
from dataclasses import replace
from typing import Final

from spotkeeper.policy import deadline_guard as guard
from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.situation import Decision, Situation

_ROUNDING_USD: Final = 1e-9
"""What floating point may have added to a sum of dollars."""


def within_caps(at: Situation, wanted: Decision) -> Decision:
    """Return the decision, or what of it can be paid.

    In budget-first no tick begins that the caps do not cover. In deadline-first the run goes to on-demand, or stays
    there, when the deadline leaves no choice, and the reason says that the cap is crossed.
    """
    if wanted.market is Market.ON_DEMAND and not _affords_on_demand(at):
        if at.mode is Mode.DEADLINE_FIRST and wanted.is_forced:
            return replace(wanted, reason=f"{wanted.reason}; over the run's cap")
        hours = max(affordable_on_demand_hours(at), 0.0)
        reason = f"{wanted.reason}; the caps allow {hours:.2f} h of on-demand"
        market = Market.SPOT if at.is_spot_worth and _may_use_spot(at) else None
        wanted = Decision(market=market, reason=reason, numbers=wanted.numbers)
    is_broke = at.spot_usd_per_hour * at.tick_hours > at.usd_left + _ROUNDING_USD
    if wanted.market is Market.SPOT and at.mode is Mode.BUDGET_FIRST and is_broke:
        return Decision(market=None, reason=f"the cap leaves ${at.usd_left:.2f}", numbers=wanted.numbers)
    if wanted.wants_standby and not _affords_standby(at):
        return replace(wanted, wants_standby=False)
    return wanted


def _may_use_spot(at: Situation) -> bool:
    """Tell whether spot may take the place of on-demand: not if that would give away a deadline that goes first."""
    return at.hours_left is None or at.mode is Mode.BUDGET_FIRST or guard.may_use_spot(at)


def affordable_on_demand_hours(at: Situation) -> float:
    """Return for how long on-demand can be paid: to the end, or such that spot can still be paid for the rest."""
    if at.usd_left == math.inf and at.on_demand_usd_left == math.inf:
        return math.inf
    price, spot_price = at.on_demand_usd_per_hour, at.spot_usd_per_hour
    needed_hours = at.remaining_hours + at.changeover_hours
    if min(at.usd_left, at.on_demand_usd_left) >= price * needed_hours:
        return min(at.usd_left, at.on_demand_usd_left) / price if price > 0 else math.inf
    spare_usd = at.usd_left - spot_price * needed_hours
    hours = spare_usd / (price - spot_price) if price > spot_price else at.usd_left / price
    return min(hours, at.on_demand_usd_left / price)


def _affords_on_demand(at: Situation) -> bool:
    """Tell whether the next tick can be paid, and, of a machine that is yet to start, more than changeovers."""
    usd = at.on_demand_usd_per_hour * at.tick_hours
    if usd > min(at.usd_left, at.on_demand_usd_left) + _ROUNDING_USD:
        return False
    block_hours = at.tick_hours if at.market is Market.ON_DEMAND else at.tick_hours + 2 * at.changeover_hours
    to_end_hours = guard.on_demand_hours(at, at.remaining_hours)
    return affordable_on_demand_hours(at) >= min(block_hours, to_end_hours)


def _affords_standby(at: Situation) -> bool:
    """Tell whether the caps cover a tick of a standby beside one of on-demand."""
    usd = (at.spot_usd_per_hour + at.on_demand_usd_per_hour) * at.tick_hours
    return usd <= at.usd_left + _ROUNDING_USD
