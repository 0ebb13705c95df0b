"""Whether a pool has lately become worse, or better, than its past: a test of what was seen against what was expected.

Given a hazard by age, preemptions in a window are Poisson with the cumulative hazard as their mean (a Nelson-Aalen
residual; Aalen, Borgan and Gjessing, "Survival and Event History Analysis", section 3.1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spotkeeper.policy.gamma_distribution import poisson_tail
from spotkeeper.policy.hazard import Lomax
from spotkeeper.policy.preemption_rate import FEWEST_EVENTS

SIGNIFICANT: Final = 0.01
"""A pool is watched all day: one false alarm in a hundred windows is what one can live with."""


class Regime(StrEnum):
    """What the latest window says."""

    USUAL = "usual"
    VOLATILE = "volatile"
    """More preemptions than the past explains: wait longer before a return, save more often, widen the choice."""
    CALM = "calm"
    INSUFFICIENT = "insufficient data"


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """The part of a machine's life that is in the window."""

    age_hours: float
    """At which it came into the window, or was started."""
    hours: float
    is_ended: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RegimeChange:
    """The verdict, and its numbers."""

    regime: Regime
    num_events: int
    expected_events: float
    probability: float
    """Of so many preemptions or more (calm: or fewer), had nothing changed."""

    @property
    def ratio(self) -> float:
        """Events by expected ones, with which to multiply the hazard; 1 where nothing is expected."""
        return self.num_events / self.expected_events if self.expected_events else 1.0


def compare(window: Iterable[Watched], *, past: Lomax) -> RegimeChange:
    """Compare a trailing window with the hazard that was fitted on what was before it.

    Raises:
        ValueError: if an age or a time is negative, or no number.
    """
    watched = tuple(window)
    num_events = sum(machine.is_ended for machine in watched)
    expected = math.fsum(past.expected_events(machine.hours, age_hours=machine.age_hours) for machine in watched)
    more = poisson_tail(num_events, expected=expected)
    fewer = 1.0 - poisson_tail(num_events + 1, expected=expected)
    if more < SIGNIFICANT and num_events >= FEWEST_EVENTS:
        regime = Regime.VOLATILE
    elif fewer < SIGNIFICANT and expected >= FEWEST_EVENTS:
        regime = Regime.CALM
    elif max(num_events, expected) < FEWEST_EVENTS:
        regime = Regime.INSUFFICIENT
    else:
        regime = Regime.USUAL
    return RegimeChange(
        regime=regime,
        num_events=num_events,
        expected_events=expected,
        probability=fewer if num_events < expected else more,
    )
