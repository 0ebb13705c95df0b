"""Which pools a run should be offered: by dollars for an hour of work, by how likely one of them has capacity. Pure.

Preemptions and outages are priced, so that pools can be compared by one number: an hour of work on spot costs the
hours that are paid for it (`spot_overhead`), and while the pool has nothing, it costs what on-demand does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from spotkeeper.policy.spot_overhead import best_interval_hours, paid_hours_per_work_hour

FEWEST_POOLS: Final = 6
"""The diversification floor: three zones and two types. One type in one zone can be dry for days."""
UNKNOWN_AVAILABILITY: Final = 0.64
"""Mean share of the time in which a zone had p3.2xlarge on spot, in the nine zones of the traces of 2023."""
SAME_REGION_CORRELATION: Final = 0.6
OTHER_REGION_CORRELATION: Final = 0.3
"""Upper ends of the correlations of availability in the traces of 2023 (0.26 to 0.59, and 0.03 to 0.28). Of two types
in one zone nothing was recorded: they are taken for two zones of a region."""


class Pool(NamedTuple):
    """Capacity that comes and goes together."""

    instance_type: str
    region: str
    zone_id: str
    """`use1-az1`, the same physical zone in every account; `us-east-1a` is not."""

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """What is known of a pool."""

    pool: Pool
    spot_usd_per_hour: float
    on_demand_usd_per_hour: float
    preemptions_per_hour: float
    speed: float = 1.0
    """Work an hour, in hours on the machine that the job was measured on."""
    availability: float | None = None
    """Share of the time in which it has capacity, from 0 to 1; None: unknown, and taken for the mean of zones."""
    is_broken: bool = False
    """Its circuit breaker is open: `pool_breaker`."""

    def __post_init__(self) -> None:
        for name in ("spot_usd_per_hour", "on_demand_usd_per_hour", "speed"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} of {self.pool} must be above 0 and finite, got {value}")
        if not 0 <= self.preemptions_per_hour < math.inf:
            raise ValueError(
                f"preemptions_per_hour of {self.pool} must be a finite number of at least 0, "
                f"got {self.preemptions_per_hour}"
            )
        if self.availability is not None and not 0 <= self.availability <= 1:
            raise ValueError(f"availability of {self.pool} must be from 0 to 1, got {self.availability}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedPool:
    """A pool, and what an hour of work costs there."""

    offer: Offer
    spot_usd_per_work_hour: float
    """While it has capacity, preemptions included."""
    on_demand_usd_per_work_hour: float
    usd_per_work_hour: float
    """Over all, with on-demand while it has none."""
    availability: float

    @property
    def pays(self) -> bool:
        """Whether spot is cheaper there than on-demand, with what preemptions add."""
        return self.spot_usd_per_work_hour < self.on_demand_usd_per_work_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolChoice:
    """The pools to offer, and why."""

    pools: tuple[RankedPool, ...]
    """The cheapest first."""
    availability: float
    """Estimated share of the time in which at least one of them has capacity."""
    is_below_floor: bool
    reason: str


def rank(offers: Sequence[Offer], *, save_hours: float, restore_hours: float) -> tuple[RankedPool, ...]:
    """Return the pools, the cheapest hour of work first.

    Args:
        offers: At least one; none may be given twice.
        save_hours: Training time that one checkpoint costs.
        restore_hours: From a machine's start to its first new step.

    Raises:
        ValueError: naming the pool, and what is wrong with it.
    """
    pools = [offer.pool for offer in offers]
    twice = next((pool for index, pool in enumerate(pools) if pool in pools[:index]), None)
    if twice is not None:
        raise ValueError(f"{twice} is offered twice")
    ranked = [_ranked(offer, save_hours=save_hours, restore_hours=restore_hours) for offer in offers]
    return tuple(sorted(ranked, key=lambda one: (one.usd_per_work_hour, one.offer.pool)))


def choose(ranked: Sequence[RankedPool], *, fewest: int = FEWEST_POOLS) -> PoolChoice:
    """Return the pools to offer: each that lowers the cost of an hour of work, and the floor at least.

    A pool where spot does not pay is never offered. One whose breaker is open is offered only where the floor needs it,
    after all others: it is better than none.

    Args:
        ranked: What `rank` returned.
        fewest: The diversification floor, at least 1.

    Raises:
        ValueError: if the floor is below 1.
    """
    if fewest < 1:
        raise ValueError(f"fewest must be at least 1, got {fewest}")
    paying = [one for one in ranked if one.pays]
    left = sorted(paying, key=lambda one: one.offer.is_broken)
    chosen: list[RankedPool] = []
    while left:
        # Each next one is the pool with which the set as a whole is cheapest: another zone or region may beat a price.
        candidates = left if len(chosen) < fewest else [one for one in left if not one.offer.is_broken]
        whole = [one for one in candidates if not one.offer.is_broken] or candidates
        if not whole:
            break
        best = min(whole, key=lambda one: _usd_of([*chosen, one]))
        if len(chosen) >= fewest and _usd_of([*chosen, best]) >= _usd_of(chosen):
            break
        chosen.append(best)
        left.remove(best)
    chosen.sort(key=lambda one: (one.spot_usd_per_work_hour, one.offer.pool))
    refused = len(ranked) - len(paying)
    reason = f"{len(chosen)} of {len(ranked)} pools"
    if refused:
        reason += f"; spot does not pay in {refused}"
    if len(chosen) < fewest:
        reason += f"; fewer than the {fewest} that make a run independent of one: allow more types or zones"
    return PoolChoice(
        pools=tuple(chosen),
        availability=union_availability(chosen),
        is_below_floor=len(chosen) < fewest,
        reason=reason,
    )


def union_availability(pools: Sequence[RankedPool]) -> float:
    """Return the estimated share of the time in which one of the pools has capacity.

    1 minus the product of their outages would have them independent, which overstates zones of one region. Of two pools
    with outages of probability d and correlation c, the second is down with d + c (1 - d) while the first is; here each
    pool is taken to depend so on the nearest of those before it.
    """
    all_down = 1.0
    for index, one in enumerate(pools):
        correlation = max((correlation_of(one.offer.pool, before.offer.pool) for before in pools[:index]), default=0.0)
        all_down *= 1 - one.availability + correlation * one.availability
    return 1 - all_down if pools else 0.0


def correlation_of(one: Pool, other: Pool) -> float:
    """Return how much availability of two pools goes together, from 0 to 1; 1 for a pool and itself."""
    if one == other:
        return 1.0
    return SAME_REGION_CORRELATION if one.region == other.region else OTHER_REGION_CORRELATION


def _ranked(offer: Offer, *, save_hours: float, restore_hours: float) -> RankedPool:
    interval_hours = best_interval_hours(preemptions_per_hour=offer.preemptions_per_hour, save_hours=save_hours)
    paid_hours = paid_hours_per_work_hour(
        preemptions_per_hour=offer.preemptions_per_hour,
        interval_hours=min(interval_hours, 1.0),
        save_hours=save_hours,
        restore_hours=restore_hours,
    )
    spot_usd = offer.spot_usd_per_hour * paid_hours / offer.speed
    on_demand_usd = offer.on_demand_usd_per_hour / offer.speed
    availability = UNKNOWN_AVAILABILITY if offer.availability is None else offer.availability
    is_used = availability > 0 and spot_usd < math.inf
    return RankedPool(
        offer=offer,
        spot_usd_per_work_hour=spot_usd,
        on_demand_usd_per_work_hour=on_demand_usd,
        usd_per_work_hour=availability * spot_usd + (1 - availability) * on_demand_usd if is_used else on_demand_usd,
        availability=availability,
    )


def _usd_of(pools: Sequence[RankedPool]) -> float:
    """Return what an hour of work costs where the cheapest of the pools that has capacity is used."""
    usd = 0.0
    by_price = sorted(pools, key=lambda one: one.spot_usd_per_work_hour)
    up_before = 0.0
    for index in range(len(by_price)):
        up = union_availability(by_price[: index + 1])
        usd += max(up - up_before, 0.0) * by_price[index].spot_usd_per_work_hour
        up_before = up
    return usd + (1 - up_before) * min(one.on_demand_usd_per_work_hour for one in pools)
