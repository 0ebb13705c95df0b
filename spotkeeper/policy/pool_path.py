"""Which of several pools a run takes its spot machine in, tick by tick. Pure, and without a look ahead.

Pools are compared by what an hour of work is expected to cost in them. A machine is expected to live for L hours, the
longer the older it is (`hazard`), and shorter in a pool that has lost more than was believed before. In that time it
is paid for L hours and works for L less the changeover that is still to come, and its end costs a changeover on
on-demand:

    usd per hour of work = (price * L + changeover * on-demand price) / (L - changeover to come)

Capacity that was seen for long counts as an old machine: in the recorded markets probes and machines live alike ("Can't
Be Late", Wu et al., NSDI'24, figure 1). A machine that lives is left for another pool only if that is cheaper with the
changeover that the move costs, as in SkyNomad (arXiv 2601.06520).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy.hazard import PRIOR_LIFETIME, Lomax

PRIOR_LOSSES: Final = 2.0
"""What is believed of a pool before anything is seen of it weighs as much as so many losses."""
PRIOR_LOSSES_PER_HOUR: Final = 0.5
HORIZON_HOURS: Final = 12.0
"""Lifetimes are counted at most for so long: their mean without a horizon is infinite."""


@dataclass(slots=True)
class PoolSeen:
    """What has been seen of a pool so far."""

    age_hours: float | None = None
    """For how long it has had capacity; None: it has none."""
    up_hours: float = 0.0
    num_losses: int = 0

    def look(self, *, is_up: bool, gap_hours: float) -> None:
        """Take note of a tick."""
        if is_up:
            self.age_hours = 0.0 if self.age_hours is None else self.age_hours + gap_hours
            self.up_hours += gap_hours
        else:
            self.num_losses += self.age_hours is not None
            self.age_hours = None

    def lifetime_hours(self) -> float:
        """Return for how long a machine there is expected to live from now on; 0 where there is no capacity."""
        if self.age_hours is None:
            return 0.0
        # Posterior mean of a Gamma-Poisson model, as a multiple of the prior's rate.
        rate = (PRIOR_LOSSES + self.num_losses) / (PRIOR_LOSSES + self.up_hours * PRIOR_LOSSES_PER_HOUR)
        lifetime = Lomax(shape=PRIOR_LIFETIME.shape, scale_hours=PRIOR_LIFETIME.scale_hours / rate)
        return lifetime.mean_hours(within_hours=HORIZON_HOURS, age_hours=self.age_hours)


def usd_per_work_hour(
    lifetime_hours: float,
    *,
    spot_usd_per_hour: float,
    on_demand_usd_per_hour: float,
    changeover_hours: float,
    is_held: bool,
) -> float:
    """Return what an hour of work is expected to cost on a machine that lives for so long, its end included.

    Args:
        lifetime_hours: From now on.
        spot_usd_per_hour: Price of the pool.
        on_demand_usd_per_hour: What a changeover is paid with when the machine is gone.
        changeover_hours: From a machine's start to its first new step.
        is_held: The run has the machine already, so that no changeover is to come.

    Returns:
        Infinite for a machine that is expected to be gone before its changeover is over.
    """
    work_hours = lifetime_hours if is_held else lifetime_hours - changeover_hours
    if work_hours <= 0:
        return math.inf
    return (spot_usd_per_hour * lifetime_hours + changeover_hours * on_demand_usd_per_hour) / work_hours


def choose_pool(
    seen: Sequence[PoolSeen],
    spot_usd_per_hour: Sequence[float],
    *,
    held: int | None,
    on_demand_usd_per_hour: float,
    changeover_hours: float,
) -> int | None:
    """Return the pool in which an hour of work is cheapest, by its place among those given; None: none has capacity.

    Args:
        seen: What has been seen of each pool.
        spot_usd_per_hour: The price of each.
        held: The pool in which the run has a machine, if it still lives.
        on_demand_usd_per_hour: Price of on-demand.
        changeover_hours: From a machine's start to its first new step.
    """

    def order(number: int) -> tuple[float, float]:
        usd = usd_per_work_hour(
            seen[number].lifetime_hours(),
            spot_usd_per_hour=spot_usd_per_hour[number],
            on_demand_usd_per_hour=on_demand_usd_per_hour,
            changeover_hours=changeover_hours,
            is_held=number == held,
        )
        # Where no machine is expected to get through its changeover, the oldest is the best there is.
        return usd, -(seen[number].age_hours or 0.0)

    return min((number for number, pool in enumerate(seen) if pool.age_hours is not None), key=order, default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPath:
    """One market made of several, for `replay`."""

    available: tuple[int, ...]
    """1 where one of the pools has capacity."""
    spot_usd_per_hour: tuple[float, ...]
    """Of the pool that is taken; on-demand's where none has capacity."""
    pools: tuple[int, ...]
    """The pool that is taken, by its place among those given; where none has capacity, the last one."""


def pool_path(
    available: Sequence[Sequence[int]],
    spot_usd_per_hour: Sequence[Sequence[float]],
    *,
    on_demand_usd_per_hour: float,
    gap_hours: float,
    changeover_hours: float,
) -> PoolPath:
    """Return the pool that a run takes in each tick, deciding by what was seen until then.

    Args:
        available: Of each pool, 1 where spot can be had during a tick, else 0; all on one clock.
        spot_usd_per_hour: Of each pool, one price a tick.
        on_demand_usd_per_hour: Price of on-demand.
        gap_hours: Length of a tick.
        changeover_hours: From a machine's start to its first new step.

    Raises:
        ValueError: if there is no pool, or if they differ in length.
    """
    lengths = {len(ticks) for ticks in (*available, *spot_usd_per_hour)}
    if not available or len(available) != len(spot_usd_per_hour) or len(lengths) != 1:
        raise ValueError(
            f"every pool needs availability and prices of the same ticks, got {len(available)} pools, "
            f"{len(spot_usd_per_hour)} prices, and lengths {sorted(lengths)}"
        )
    seen = [PoolSeen() for _ in available]
    held: int | None = None
    last = 0
    is_up: list[int] = []
    prices: list[float] = []
    pools: list[int] = []
    for ups, usds in zip(zip(*available, strict=True), zip(*spot_usd_per_hour, strict=True), strict=True):
        for pool, up in zip(seen, ups, strict=True):
            pool.look(is_up=bool(up), gap_hours=gap_hours)
        held = choose_pool(
            seen,
            usds,
            held=held,
            on_demand_usd_per_hour=on_demand_usd_per_hour,
            changeover_hours=changeover_hours,
        )
        last = last if held is None else held
        is_up.append(int(held is not None))
        prices.append(on_demand_usd_per_hour if held is None else usds[held])
        pools.append(last)
    return PoolPath(available=tuple(is_up), spot_usd_per_hour=tuple(prices), pools=tuple(pools))
