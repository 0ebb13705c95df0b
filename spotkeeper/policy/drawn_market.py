"""A spot market that could be: availability drawn from fitted hazards. Pure; chance is an argument."""

import math
from collections.abc import Callable, Sequence
from typing import Final

from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE, Lomax, fit
from spotkeeper.policy.preemption_rate import PRIOR_DISPERSION, Spell

WARM_UP_HOURS: Final = 168.0
"""The market is a week old when a job begins, so that it begins at any moment of it and not at a change."""


def drawn_ticks(
    *, lifetime: Lomax, outage: Lomax, num_ticks: int, gap_hours: float, draw: Callable[[], float]
) -> list[int]:
    """Return for each tick 1 where there is spot, else 0: stretches of both kinds in turn.

    Args:
        lifetime: Of stretches with spot.
        outage: Of those without.
        num_ticks: How many.
        gap_hours: Length of a tick; no stretch is shorter.
        draw: Returns a number from 0 to below 1, uniformly.

    Raises:
        ValueError: naming what is not above 0.
    """
    if num_ticks < 1 or not 0 < gap_hours < math.inf:
        raise ValueError(f"num_ticks and gap_hours must be above 0, got {num_ticks} and {gap_hours}")
    warm_up = math.ceil(WARM_UP_HOURS / gap_hours)
    needed = warm_up + num_ticks
    ticks: list[int] = []
    is_up = draw() < 0.5
    while len(ticks) < needed:
        hours = (lifetime if is_up else outage).quantile_hours(draw())
        length = min(max(1, round(min(hours / gap_hours, needed))), needed - len(ticks))
        ticks += [int(is_up)] * length
        is_up = not is_up
    return ticks[warm_up:]


def resampled_hazards(up: Sequence[Spell], down: Sequence[Spell], *, draw: Callable[[], float]) -> tuple[Lomax, Lomax]:
    """Return hazards of lifetimes and outages, fitted on a resample of what was recorded.

    Drawn anew for each market, they differ by as much as the recording leaves open (the bootstrap; Efron, "Bootstrap
    methods: another look at the jackknife", Annals of Statistics 7, 1979). Spells come in clusters, and count for fewer
    than they are, by the dispersion that `preemption_rate` believes before. Without any, the hazards are the priors'.
    """

    def resample(spells: Sequence[Spell]) -> list[Spell]:
        number = math.ceil(len(spells) / PRIOR_DISPERSION)
        return [spells[int(draw() * len(spells))] for _ in range(number)]

    lifetime = fit(resample(up), prior=PRIOR_LIFETIME).lomax
    return lifetime, fit(resample(down), prior=PRIOR_OUTAGE).lomax
