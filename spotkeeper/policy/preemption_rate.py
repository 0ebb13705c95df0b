"""How often a pool takes its machines away, from little data: with exposure, censoring and an honest interval. Pure.

A Gamma prior on the rate of a Poisson process (Gelman et al., "Bayesian Data Analysis", 3rd edition, section 2.6):
preemptions count as events, and all machine time as exposure, that of machines which were given back or still run too.
Lifetimes on spot are far more dispersed than a constant rate would have them, so plain intervals are much too narrow.
Shape and rate are therefore divided by the dispersion: the variance of the rate by the residuals of its spells (the
sandwich estimate of a ratio), over that of a Poisson process. `python -m benchmarks.hazard` measures what is covered.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy import gamma_distribution

FEWEST_EVENTS: Final = 5
"""Below, the data say next to nothing, and nobody should act on them."""
PRIOR_EVENTS: Final = 1.0
PRIOR_HOURS: Final = 2.0
"""One preemption in two hours, the middle of what GPU traces show (0.1 to 1.3 an hour)."""
PRIOR_DISPERSION: Final = 3.0
PRIOR_DISPERSION_SPELLS: Final = 10.0
"""Few spells seldom hold one of the long ones, and look tamer than they are: so much is believed before, with a weight
of so many spells. Chosen on the very traces that `benchmarks/hazard.py` reports on."""
LEVEL: Final = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """One machine, or one stretch of time, watched from its beginning."""

    hours: float
    is_ended: bool
    """It was taken (of an outage: spot came back). False: it still goes on, or somebody else ended it."""

    def __post_init__(self) -> None:
        if not 0 <= self.hours < math.inf:
            raise ValueError(f"hours of a spell must be a finite number of at least 0, got {self.hours}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreemptionRate:
    """What is believed of a rate, and what that rests on."""

    per_hour: float
    low_per_hour: float
    high_per_hour: float
    level: float
    """Probability that the rate is between low and high."""
    num_events: int
    exposure_hours: float
    dispersion: float
    """At least 1; 1 where preemptions come as evenly as chance would have it."""

    @property
    def is_sufficient(self) -> bool:
        """Whether there are events enough to act on."""
        return self.num_events >= FEWEST_EVENTS

    def is_apart_from(self, other: "PreemptionRate") -> bool:
        """Whether the two differ for certain: both rest on enough, and their intervals do not touch."""
        is_separate = self.low_per_hour > other.high_per_hour or other.low_per_hour > self.high_per_hour
        return self.is_sufficient and other.is_sufficient and is_separate

    def __str__(self) -> str:
        """Say it for people; the interval and the number of events are always there."""
        figures = (
            f"{self.per_hour:.2g} an hour ({self.level:.0%}: {self.low_per_hour:.2g} to {self.high_per_hour:.2g}; "
            f"{self.num_events} preemptions in {self.exposure_hours:.3g} h)"
        )
        return figures if self.is_sufficient else f"insufficient data: {figures}"


def estimate(
    spells: Iterable[Spell],
    *,
    prior_events: float = PRIOR_EVENTS,
    prior_hours: float = PRIOR_HOURS,
    level: float = LEVEL,
) -> PreemptionRate:
    """Return the rate of preemptions an hour, with its interval.

    Args:
        spells: The machines of a pool. None at all gives the prior.
        prior_events: Above 0.
        prior_hours: Above 0. Together with the events, what is believed before: for a pool, better what its
            neighbours show.
        level: Probability of the interval, above 0 and below 1.

    Raises:
        ValueError: naming the argument that is out of its range.
    """
    for name, value in (("prior_events", prior_events), ("prior_hours", prior_hours)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level}")
    watched = tuple(spells)
    num_events = sum(spell.is_ended for spell in watched)
    exposure_hours = math.fsum(spell.hours for spell in watched)
    events, hours = prior_events + num_events, prior_hours + exposure_hours
    dispersion = _dispersion(watched, per_hour=events / hours, num_events=num_events)
    shape, scale = events / dispersion, dispersion / hours
    return PreemptionRate(
        per_hour=events / hours,
        low_per_hour=gamma_distribution.quantile((1 - level) / 2, shape=shape) * scale,
        high_per_hour=gamma_distribution.quantile((1 + level) / 2, shape=shape) * scale,
        level=level,
        num_events=num_events,
        exposure_hours=exposure_hours,
        dispersion=dispersion,
    )


def _dispersion(spells: tuple[Spell, ...], *, per_hour: float, num_events: int) -> float:
    if len(spells) < 2:
        return PRIOR_DISPERSION
    squares = math.fsum((spell.is_ended - per_hour * spell.hours) ** 2 for spell in spells)
    seen = squares / max(num_events, 1) * len(spells) / (len(spells) - 1)
    weight = len(spells) + PRIOR_DISPERSION_SPELLS
    return max(1.0, (len(spells) * seen + PRIOR_DISPERSION_SPELLS * PRIOR_DISPERSION) / weight)
