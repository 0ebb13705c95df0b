"""The port: prices and capabilities by pool, with the day on which somebody read them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from spotkeeper.policy.pools import Pool
from spotkeeper.policy.savings import MAX_USD_PER_HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class Capability:
    """What an instance type is."""

    vcpus: int
    memory_gib: float
    accelerator: str | None
    """`A10G`, `L4`; None: it has none."""
    num_accelerators: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolPrice:
    """What a machine of a pool costs an hour: Linux, shared tenancy, without tax."""

    pool: Pool
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float

    def __post_init__(self) -> None:
        for name in ("on_demand_usd_per_hour", "spot_usd_per_hour"):
            value = getattr(self, name)
            if not 0 < value <= MAX_USD_PER_HOUR or math.isnan(value):
                raise ValueError(
                    f"{name} of {self.pool} must be above 0 and at most {MAX_USD_PER_HOUR} USD an hour, got {value}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class MarketData:
    """Prices of some pools."""

    read_on: date
    source: str
    capabilities: dict[str, Capability]
    """By instance type."""
    prices: tuple[PoolPrice, ...]

    def of(self, instance_types: Sequence[str], region: str | None) -> tuple[PoolPrice, ...]:
        """Return the pools of these types, or of all that are known, in a region, or in all.

        Raises:
            ValueError: if there is no price for a type there; naming the types that have one.
        """
        check_ec2_types(instance_types)
        found = [price for price in self.prices if region in (None, price.pool.region)]
        known = sorted({price.pool.instance_type for price in found})
        if not known and region is not None:
            regions = ", ".join(sorted({price.pool.region for price in self.prices}))
            raise ValueError(f"no prices of region {region!r} are known; there are some of {regions}{_REFRESH}")
        for instance_type in instance_types:
            if instance_type not in known:
                some = ", ".join(known)
                where = "" if region is None else f" in {region}"
                raise ValueError(f"no price of {instance_type!r}{where} is known; there are some of {some}{_REFRESH}")
        return tuple(price for price in found if not instance_types or price.pool.instance_type in set(instance_types))


_REFRESH = ". More: `spotkeeper prices --refresh FILE --instance-type … --region …`, then --prices FILE"


def check_ec2_types(instance_types: Sequence[str]) -> None:
    """Refuse types of SageMaker.

    Raises:
        ValueError: naming the first of them, and what to do for it.
    """
    for instance_type in instance_types:
        if instance_type.startswith("ml."):
            raise ValueError(
                f"{instance_type!r} is a type of SageMaker, and these prices are EC2's: for a plan give SageMaker's "
                "own, --on-demand-price and --spot-price (docs/batch-or-sagemaker.md says where they are; for spot "
                "what you expect to be billed)"
            )


class PriceSource(Protocol):
    """Whatever can be asked for today's prices."""

    def read(self, instance_types: Sequence[str], *, today: date) -> MarketData:
        """Return what machines of these types cost in the source's region now.

        Raises:
            ValueError: if a type does not exist there.
        """

    def placement_scores(self, instance_types: Sequence[str], *, num_instances: int) -> dict[str, int]:
        """Return by zone id how likely capacity is now, from 1 to 10; a score is advice of a moment, no probability."""
