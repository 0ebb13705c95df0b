"""Where a run goes next: wait for spot, or pay for on-demand; and when to look for spot again. Pure decisions.

Every decision says why. How good they are is a question of data; that they are carried out right is control's.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from spotkeeper.policy import deadline_guard as guard
from spotkeeper.policy.caps import within_caps
from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE, Lomax
from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.situation import Decision, Situation, Spot
from spotkeeper.policy.spot_cycles import Thresholds, thresholds

__all__ = ["Decision", "Market", "Mode", "Placement", "Situation", "Spot", "Terms", "Tuning", "decide"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What an environment has settled about changing markets."""

    fallback_after_seconds: int
    """So long without spot capacity, and a run falls back to on-demand."""
    segment_seconds: int
    """An on-demand attempt is at most so long: the reservation covers all of it, and then it is decided anew."""
    standby_after_seconds: int
    """So long after its start on on-demand a run looks for spot again, by a standby."""
    standby_age_seconds: int
    """A standby so old is evidence enough that spot is there to stay."""
    standby_patience_seconds: int
    """A standby that asked for the run gives up after so long: the attempt on on-demand does not yield."""


HOST_SECONDS: Final = 300
"""Where there is capacity, a job has its host within some minutes; one that waits for longer waits for capacity."""
SHORTEST_SEGMENT_SECONDS: Final = 900
"""A shorter attempt would spend most of its reservation on starting and stopping."""
LONGEST_STANDBY_PAUSE_SECONDS: Final = 4 * 3600
NO_ON_DEMAND: Final = "the run allows no on-demand"


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the next submission goes, and why."""

    market: Market
    reason: str


def longest_wait_seconds(mode: Mode, terms: Terms) -> int:
    """Return for how long a run waits for spot before it may go to on-demand."""
    if mode is Mode.DEADLINE_FIRST:
        return min(HOST_SECONDS, terms.fallback_after_seconds)
    return terms.fallback_after_seconds


def after_shortage(*, waited_seconds: float, since: str, allows_fallback: bool, mode: Mode, terms: Terms) -> Placement:
    """Decide for a run that spot gives no machine.

    Args:
        waited_seconds: Since the run last had a machine, or was submitted.
        since: When that was, for people, who may read the reason much later.
        allows_fallback: The run has a cap for on-demand above $0.
        mode: The run's mode; one that values its deadline waits only until it is certain that there is none.
        terms: The environment's.
    """
    if not allows_fallback:
        return Placement(market=Market.SPOT, reason=f"no spot capacity since {since}; {NO_ON_DEMAND}")
    limit_seconds = longest_wait_seconds(mode, terms)
    if waited_seconds < limit_seconds:
        return Placement(
            market=Market.SPOT,
            reason=f"no spot capacity since {since}; on-demand after {limit_seconds} s",
        )
    return Placement(market=Market.ON_DEMAND, reason=f"no spot capacity since {since}")


def segment(*, attempt_seconds: int, affordable_seconds: int, terms: Terms) -> int | None:
    """Return how long the next on-demand attempt may be, or None if the money is for none worth starting.

    Args:
        attempt_seconds: The run's own limit of an attempt.
        affordable_seconds: What the tightest cap can be reserved for.
        terms: The environment's.
    """
    longest = min(attempt_seconds, terms.segment_seconds)
    if affordable_seconds < min(SHORTEST_SEGMENT_SECONDS, longest):
        return None
    return min(longest, affordable_seconds)


def standby_is_due(
    *, on_demand_seconds: float, since_last_seconds: float | None, num_failed: int, terms: Terms
) -> bool:
    """Tell whether a run on on-demand should look for spot.

    Args:
        on_demand_seconds: How long its attempt has had the machine.
        since_last_seconds: Since its last standby ended; None if there was none.
        num_failed: Standbys in a row that came to nothing; each doubles the pause (hysteresis).
        terms: The environment's.
    """
    if on_demand_seconds < terms.standby_after_seconds:
        return False
    pause_seconds = min(terms.standby_after_seconds * 2 ** min(num_failed, 10), LONGEST_STANDBY_PAUSE_SECONDS)
    return since_last_seconds is None or since_last_seconds >= pause_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """What is believed of spot before anything is seen of it. docs/placement.md says on what it was fitted."""

    lifetime: Lomax = PRIOR_LIFETIME
    """Of spot, from the moment it comes."""
    outage: Lomax = PRIOR_OUTAGE
    """From the moment spot goes."""
    prior_losses: float = 2.0
    """The belief of lifetimes weighs as much as so many losses that were seen."""
    prior_returns: float = 2.0
    """The belief of outages weighs as much as so many outages that were seen to end."""
    scale_power: float = 0.5
    """Spells twice as long as was believed make the scale of the belief longer by 2 to this power."""
    slack_spending: float = 1.2
    """Slack is spent faster by this factor than evenly: what is left when the work is done was for nothing."""
    horizon_hours: float = 24.0
    """Spells of spot and outages are counted at most for so long."""
    most_standby_hours: float = 1.0
    """A standby that would have to be paid for longer before it takes over is not wanted."""


FITTED: Final = Tuning()
_USUAL_SPOT_SHARE: Final = 1 / 3
"""Price of spot as a share of on-demand, where it is not known, or is none that is paid."""
_LEAST_SPOT_SHARE: Final = 0.05
"""Spot that is cheaper than this share of on-demand is taken for so cheap."""
_STEPS: Final = 8
"""Beliefs are rounded to so many steps for a factor of e, so that few tables of thresholds are computed."""


def decide(at: Situation, tuning: Tuning = FITTED) -> Decision:
    """Return where a run goes on until it is decided again, with the reason and the numbers it rests on.

    Three rules, and a guard that stands above them:

    - Spot that lives is kept, and spot that comes back is taken by a run without a machine.
    - Without spot, a run waits until the outage is so old that waiting on would use slack that is worth more elsewhere.
    - On-demand is left once spot is so old that the slack which it will probably use is worth it. How old each must be
      follows from the slack for an hour of work, and from how long spot lives and outages last (`spot_cycles`).
    - Guard: a deadline is never given away (`deadline_guard`), and in budget-first no cap is crossed.

    Without a deadline, a run waits for its patience, and returns as soon as spot does.
    """
    if at.remaining_hours <= 0:
        return Decision(market=None, reason="the work is done")
    wanted = _without_deadline(at) if at.hours_left is None else _by_deadline(at, tuning)
    return within_caps(at, wanted)


def on_demand_due_hours(at: Situation, tuning: Tuning = FITTED) -> float:
    """Return how much longer a run with a deadline, and without a machine, waits if spot stays away; 0: no longer.

    Found by halving, to a minute: the longer an outage lasts, the less slack there is and the more is asked for.
    """
    assert at.hours_left is not None

    def is_due(hours: float) -> bool:
        assert at.hours_left is not None
        later = replace(at, hours_left=at.hours_left - hours, spot_hours=at.spot_hours + hours)
        return decide(later, tuning).market is Market.ON_DEMAND

    if is_due(0.0):
        return 0.0
    waits_hours, due_hours = 0.0, max(at.hours_left, 0.0)
    while due_hours - waits_hours > 1 / 60:
        middle_hours = (waits_hours + due_hours) / 2
        waits_hours, due_hours = (waits_hours, middle_hours) if is_due(middle_hours) else (middle_hours, due_hours)
    return waits_hours


def _without_deadline(at: Situation) -> Decision:
    if at.is_spot_worth:
        return Decision(market=Market.SPOT, reason="spot is there")
    if at.market is Market.ON_DEMAND:
        return Decision(market=Market.ON_DEMAND, reason="spot is not there", wants_standby=True)
    if at.patience_hours is not None and at.spot_hours >= at.patience_hours:
        reason = f"no spot for {at.spot_hours:.2f} h, patience is {at.patience_hours:.2f} h"
        return Decision(market=Market.ON_DEMAND, reason=reason, wants_standby=True)
    return Decision(market=None, reason=f"no spot for {at.spot_hours:.2f} h, and no deadline")


def _by_deadline(at: Situation, tuning: Tuning) -> Decision:
    slack_hours = guard.slack_hours(at)
    numbers = {"slack_hours": slack_hours, "spot_hours": at.spot_hours}
    if at.market is Market.ON_DEMAND:
        return _from_on_demand(at, slack_hours, numbers, tuning)
    if at.is_spot_worth and guard.may_use_spot(at):
        return Decision(market=Market.SPOT, reason=f"spot is there, slack {slack_hours:.2f} h", numbers=numbers)
    if not guard.may_wait(at):
        if at.is_spot_worth and guard.is_fastest_on_spot(at):
            return Decision(market=Market.SPOT, reason="the deadline cannot be kept; this is fastest", numbers=numbers)
        what = (
            "the deadline needs on-demand now" if slack_hours >= 0 else "the deadline cannot be kept; this is fastest"
        )
        reason = f"{what}: slack {slack_hours:.2f} h"
        return Decision(market=Market.ON_DEMAND, reason=reason, wants_standby=True, numbers=numbers, is_forced=True)
    wait_hours = _thresholds(at, tuning).wait_hours(_slack_share(at, slack_hours, tuning))
    numbers["wait_hours"] = wait_hours
    found = f"no spot for {at.spot_hours:.2f} h; slack {slack_hours:.2f} h is worth waits of {wait_hours:.2f} h"
    if at.spot_hours + at.tick_hours <= wait_hours:
        return Decision(market=None, reason=found, numbers=numbers)
    return Decision(market=Market.ON_DEMAND, reason=found, wants_standby=True, numbers=numbers)


def _from_on_demand(at: Situation, slack_hours: float, numbers: dict[str, float], tuning: Tuning) -> Decision:
    if not guard.may_use_spot(at):
        reason = f"slack {slack_hours:.2f} h is too little to return to spot"
        return Decision(market=Market.ON_DEMAND, reason=reason, numbers=numbers, is_forced=not guard.may_wait(at))
    slack_after_hours = guard.slack_hours_after_return(at)
    gate_hours = _thresholds(at, tuning).gate_hours(_slack_share(at, slack_after_hours, tuning))
    numbers["gate_hours"] = gate_hours
    if at.is_spot_worth and at.spot_hours >= gate_hours:
        reason = f"spot is there for {at.spot_hours:.2f} h, which is enough at {gate_hours:.2f} h"
        return Decision(market=Market.SPOT, reason=reason, numbers=numbers)
    wants_standby = gate_hours <= tuning.most_standby_hours
    reason = f"spot {at.spot} for {at.spot_hours:.2f} h; return at {gate_hours:.2f} h"
    is_forced = not guard.may_wait(at)
    return Decision(
        market=Market.ON_DEMAND, reason=reason, wants_standby=wants_standby, numbers=numbers, is_forced=is_forced
    )


def _slack_share(at: Situation, slack_hours: float, tuning: Tuning) -> float:
    """Return the slack that may be spent for an hour of work."""
    return tuning.slack_spending * max(slack_hours, 0.0) / at.remaining_hours


def _thresholds(at: Situation, tuning: Tuning) -> Thresholds:
    """Return the thresholds for what is believed of spot, which is the prior and what has been seen."""
    is_priced = 0 < at.spot_usd_per_hour < at.on_demand_usd_per_hour
    spot_share = at.spot_usd_per_hour / at.on_demand_usd_per_hour if is_priced else _USUAL_SPOT_SHARE
    lifetime = _believed(tuning.lifetime, tuning.prior_losses, at.num_spot_losses, at.spot_up_hours, tuning)
    outage = _believed(tuning.outage, tuning.prior_returns, at.num_spot_returns, at.spot_down_hours, tuning)
    return thresholds(
        lifetime=lifetime,
        outage=outage,
        changeover_hours=at.changeover_hours,
        price_ratio=_rounded(1 / max(spot_share, _LEAST_SPOT_SHARE)),
        horizon_hours=tuning.horizon_hours,
    )


def _believed(prior: Lomax, prior_events: float, num_events: int, hours: float, tuning: Tuning) -> Lomax:
    """Return what is believed of spells after so many have ended in so many hours.

    Their rate is the posterior mean of a Gamma-Poisson model, (a + events) / (b + hours). The scale follows it less
    than in proportion: few spells are seen, and the spells of a market come in clusters.
    """
    mean_hours = prior.mean_hours(within_hours=tuning.horizon_hours)
    factor = (prior_events + hours / mean_hours) / (prior_events + num_events)
    return Lomax(shape=prior.shape, scale_hours=prior.scale_hours * _rounded(factor**tuning.scale_power))


def _rounded(value: float) -> float:
    return math.exp(round(math.log(value) * _STEPS) / _STEPS)
