"""How long an outage of spot is worth waiting for, and how old spot must be for a return, by the slack there is. Pure.

A run on spot goes round in cycles: spot is lost; the run waits for at most `wait`; if spot is not back it works on
on-demand, until spot has been there for `gate`; then it is on spot again. Such a rule uses slack (waits, changeovers)
and dollars for each hour of work. How much follows from how long spot lives and outages last, both Lomax (`hazard`),
over one cycle (renewal-reward theorem; Ross, "Stochastic Processes", section 3.6). Of all rules those are kept that are
cheapest for the slack they use: the lower convex hull in the plane of slack and dollars. A run takes the rule whose
slack for an hour of work is what it has, and so spends its slack evenly over its work.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from spotkeeper.policy.hazard import Lomax

_IN_CHANGEOVERS: Final = (0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4.5, 7, 12, 24, 60, math.inf)
"""Waits and ages that are compared."""
_SHORTEST_CHANGEOVER: Final = 0.02
"""Of the scale of lifetimes: a shorter changeover is taken for so long."""
_LONGEST: Final = 1e5
"""Of the horizon: for ever."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The rules that are worth following, by the slack that each uses."""

    slack_shares: tuple[float, ...]
    """Hours of slack for an hour of work, rising."""
    waits_hours: tuple[float, ...]
    """So long an outage is waited for; rises with the slack."""
    gates_hours: tuple[float, ...]
    """So old spot must be before on-demand is left for it; falls with the slack."""
    offset_hours: float
    """Between two rules, hours are interpolated by their logarithms; this keeps those of zero finite."""

    def wait_hours(self, slack_share: float) -> float:
        """Return for how long a run with so much slack for an hour of work waits in an outage."""
        return self._at(slack_share, self.waits_hours)

    def gate_hours(self, slack_share: float) -> float:
        """Return how old spot must be before a run with so much slack returns to it."""
        return self._at(slack_share, self.gates_hours)

    def _at(self, slack_share: float, hours: Sequence[float]) -> float:
        above = bisect_right(self.slack_shares, slack_share)
        if above == 0:
            return hours[0]
        if above == len(hours):
            return hours[-1]
        low, high = hours[above - 1], hours[above]
        if low == high:
            return low
        left, right = self.slack_shares[above - 1], self.slack_shares[above]
        share = (slack_share - left) / (right - left)
        logarithm = (1 - share) * math.log(low + self.offset_hours) + share * math.log(high + self.offset_hours)
        return math.exp(logarithm) - self.offset_hours


class _Rule(NamedTuple):
    slack_share: float
    usd: float
    """For an hour of work, in prices of spot."""
    wait_hours: float
    gate_hours: float


@lru_cache(maxsize=8192)
def thresholds(
    *,
    lifetime: Lomax,
    outage: Lomax,
    changeover_hours: float,
    price_ratio: float,
    horizon_hours: float,
) -> Thresholds:
    """Return the rules worth following.

    Args:
        lifetime: Of spot, from the moment it comes.
        outage: From the moment spot goes.
        changeover_hours: From a machine's start to its first new step: paid, and no progress.
        price_ratio: On-demand price over spot price.
        horizon_hours: Spells are counted at most for so long: their means without a horizon may be infinite.
    """
    changeover_hours = max(changeover_hours, _SHORTEST_CHANGEOVER * lifetime.scale_hours)
    hull: list[_Rule] = []
    for rule in sorted(_rules(lifetime, outage, changeover_hours, price_ratio, horizon_hours)):
        if hull and rule.usd >= hull[-1].usd:
            continue
        while len(hull) >= 2 and _is_above(hull[-2], hull[-1], rule):
            hull.pop()
        hull.append(rule)
    waits, gates = [hull[0].wait_hours], [hull[0].gate_hours]
    for _, rule in pairwise(hull):
        # More slack never makes a run less patient, nor pickier.
        waits.append(max(waits[-1], rule.wait_hours))
        gates.append(min(gates[-1], rule.gate_hours))
    return Thresholds(tuple(rule.slack_share for rule in hull), tuple(waits), tuple(gates), changeover_hours / 10)


def _is_above(first: _Rule, middle: _Rule, last: _Rule) -> bool:
    """Tell whether the middle rule is no better than a mixture of the two others."""
    rise = (last.usd - first.usd) * (middle.slack_share - first.slack_share)
    return (middle.usd - first.usd) * (last.slack_share - first.slack_share) >= rise


class _Return(NamedTuple):
    """A way back to spot."""

    gate_hours: float
    on_demand_hours: float
    """Spent on on-demand while spot is there, or away again, before it is so old."""
    spot_hours: float
    """That the machine then lives."""
    changeover_hours: float
    """Of them without progress."""


def _rules(
    lifetime: Lomax, outage: Lomax, changeover_hours: float, price_ratio: float, horizon_hours: float
) -> list[_Rule]:
    """Return what each pair of a wait and a gate uses of slack and dollars, for an hour of work."""
    fresh_hours = lifetime.mean_hours(within_hours=horizon_hours)
    fresh_changeover_hours = lifetime.mean_hours(within_hours=changeover_hours)
    returns = _returns(lifetime, outage.mean_hours(within_hours=horizon_hours), changeover_hours, horizon_hours)
    # Whoever never returns uses no slack any more.
    found = [_Rule(0.0, price_ratio, 0.0, _LONGEST * horizon_hours)]
    for changeovers in _IN_CHANGEOVERS:
        wait = min(changeovers * changeover_hours, _LONGEST * horizon_hours)
        seen = min(wait, horizon_hours)
        waited_hours = outage.mean_hours(within_hours=seen)
        leaves = outage.survival(seen) if changeovers < math.inf else 0.0
        stays = 1 - leaves
        outlasts_hours = outage.mean_hours(within_hours=horizon_hours, age_hours=seen)
        for way in returns if leaves else returns[:1]:
            on_demand_hours = max(outlasts_hours + way.on_demand_hours, changeover_hours)
            slack = waited_hours + stays * fresh_changeover_hours + leaves * (changeover_hours + way.changeover_hours)
            work = stays * (fresh_hours - fresh_changeover_hours) + leaves * (
                way.spot_hours - way.changeover_hours + on_demand_hours - changeover_hours
            )
            usd = stays * fresh_hours + leaves * (price_ratio * on_demand_hours + way.spot_hours)
            if work > 0:
                found.append(_Rule(slack / work, usd / work, wait, way.gate_hours))
    return found


def _returns(lifetime: Lomax, outage_hours: float, changeover_hours: float, horizon_hours: float) -> list[_Return]:
    found = []
    for changeovers in _IN_CHANGEOVERS:
        gate = changeovers * changeover_hours
        if gate > horizon_hours:
            break
        # Of the times that spot comes, it gets so old in a share of these; each other one is followed by an outage.
        share = lifetime.survival(gate)
        on_demand_hours = lifetime.mean_hours(within_hours=gate) / share + (1 / share - 1) * outage_hours
        found.append(
            _Return(
                gate,
                on_demand_hours,
                lifetime.mean_hours(within_hours=horizon_hours, age_hours=gate),
                lifetime.mean_hours(within_hours=changeover_hours, age_hours=gate),
            )
        )
    return found
