"""An EC2 market: pools of spot and on-demand capacity that come, cost money, and are taken away.

A pool is an instance type in an availability zone. Everything that EC2 decides is drawn from one seed or told by a
trace or a test; who runs what on an instance is not the market's business.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple, Protocol

from emulation.clock import Clock
from emulation.ec2.prices import instance_type
from emulation.ec2.traces import Sample, Trace
from emulation.templates.deployment import Market

_SPOT_FRACTION: Final = (0.30, 0.60)
"""Usual spot price as a fraction of on-demand; the dated prices of 20 types in 3 regions mostly lie within."""


class Pool(NamedTuple):
    """Capacity that lives and dies together."""

    instance_type: str
    zone: str


class Ending(StrEnum):
    """Who ended an instance."""

    RECLAIMED = "reclaimed"
    """EC2 took it away."""
    TERMINATED = "terminated"
    """Its owner gave it back."""


@dataclass(kw_only=True, slots=True)
class Instance:
    """One EC2 instance, and what became of it. The market writes it; everyone else reads."""

    id: str
    type: str
    zone: str
    market: Market
    usd_per_hour: float
    """The pool's price at launch. EC2 lets the price of a running spot instance drift; this does not."""
    launched_at: datetime
    noticed_at: datetime | None = None
    """When EC2 gave notice that it takes the instance away."""
    deadline: datetime | None = None
    """When it is taken away, as the notice said: a whole second."""
    ended_at: datetime | None = None
    ending: Ending | None = None

    @property
    def pool(self) -> Pool:
        """The pool from which the instance was taken."""
        return Pool(self.type, self.zone)

    def seconds(self, until: datetime) -> float:
        """Return for how many real seconds the instance has been there at `until`, or was until it ended."""
        return max(0.0, (min(until, self.ended_at or until) - self.launched_at).total_seconds())


class MarketListener(Protocol):
    """Who is told what the market does. Called on the clock's thread or the caller's, never under the market's lock."""

    def capacity_changed(self) -> None:
        """Say that a pool may have capacity that had none."""

    def rebalance_recommended(self, instance: Instance) -> None:
        """Say that the instance is at a higher risk of being taken away."""

    def interruption_noticed(self, instance: Instance) -> None:
        """Say that the instance will be taken away at its `deadline`."""

    def host_lost(self, instance: Instance) -> None:
        """Say that the instance was taken away, now."""


class SpotMarket:
    """Spot and on-demand capacity.

    Every pool has unlimited capacity until it is told otherwise; spot prices are a seeded fraction of on-demand.

    Args:
        clock: Tells the time and when a notice ends.
        seed: Decides prices and instance ids.
        listener: Who is told; can be attached later.
    """

    def __init__(self, *, clock: Clock, seed: int = 0, listener: MarketListener | None = None) -> None:
        self.clock = clock
        self._seed = seed
        self._ids = Random(f"instances {seed}")  # noqa: S311  not for secrets
        self._listeners: list[MarketListener] = [listener] if listener else []
        self._lock = threading.Lock()
        self._instances: dict[str, Instance] = {}
        self._capacity: dict[tuple[Market, Pool], int] = {}
        self._all_dry: set[Market] = set()
        self._dry_zones: set[str] = set()
        self._zone_price_factor: dict[str, float] = {}
        self._reclaims: Counter[Pool] = Counter()

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance there was, in order of launch."""
        with self._lock:
            return tuple(self._instances.values())

    def attach(self, listener: MarketListener) -> None:
        """Tell `listener` from now on."""
        self._listeners.append(listener)

    def usd_per_hour(self, pool: Pool, market: Market) -> float:
        """Return what an hour in a pool costs now.

        Raises:
            ValueError: if the price table does not have the pool's instance type.
        """
        on_demand = instance_type(pool.instance_type).on_demand_usd_per_hour
        if market == "on-demand":
            return on_demand
        fraction = Random(f"{self._seed} {pool.instance_type} {pool.zone}").uniform(*_SPOT_FRACTION)  # noqa: S311
        return round(min(on_demand, on_demand * fraction * self._zone_price_factor.get(pool.zone, 1.0)), 4)

    def launch(self, instance_types: Iterable[str], zones: Iterable[str], market: Market) -> Instance | None:
        """Launch an instance in the best pool that has capacity, or return None if none has.

        Spot works in the manner of `SPOT_PRICE_CAPACITY_OPTIMIZED`: of the pools from which least was taken away so
        far, the cheapest. On-demand takes the cheapest.
        """
        launched = self._launch(instance_types, zones, market, count=1)
        return launched[0] if launched else None

    def launch_together(
        self, instance_type: str, zones: Iterable[str], market: Market, *, count: int
    ) -> tuple[Instance, ...]:
        """Launch so many instances in the best pool that has capacity for all of them; none if there is no such."""
        return self._launch([instance_type], zones, market, count=count)

    def _launch(
        self, instance_types: Iterable[str], zones: Iterable[str], market: Market, *, count: int
    ) -> tuple[Instance, ...]:
        zones = tuple(zones)
        with self._lock:
            pools = [Pool(name, zone) for name in instance_types for zone in zones]
            open_pools = [pool for pool in pools if self._has_capacity(pool, market, count)]
            if not open_pools:
                return ()
            pool = min(open_pools, key=lambda pool: (self._strain(pool, market), self.usd_per_hour(pool, market), pool))
            launched = tuple(
                Instance(
                    id=f"i-{self._ids.getrandbits(68):017x}",
                    type=pool.instance_type,
                    zone=pool.zone,
                    market=market,
                    usd_per_hour=self.usd_per_hour(pool, market),
                    launched_at=self.clock.now(),
                )
                for _ in range(count)
            )
            self._instances |= {instance.id: instance for instance in launched}
        return launched

    def terminate(self, instance_id: str) -> None:
        """Give an instance back. Harmless if it has ended already.

        Raises:
            ValueError: if there never was such an instance.
        """
        if self._end(self._find(instance_id), Ending.TERMINATED):
            self._tell(lambda listener: listener.capacity_changed())

    def reclaim(self, instance_id: str, *, notice: bool, rebalance_lead_seconds: float | None = None) -> None:
        """Take an instance away: after a notice, or at once and without a word.

        Args:
            instance_id: A running instance.
            notice: Give notice now and take it away when `clock.notice_seconds` have passed. A second notice is none.
            rebalance_lead_seconds: AWS seconds by which a rebalance recommendation comes before the notice;
                None sends none.

        Raises:
            ValueError: if the instance does not run, or notice is wanted for an on-demand one: EC2 gives none.
        """
        instance = self._find(instance_id)
        if instance.ended_at is not None:
            raise ValueError(f"instance {instance_id} ended at {instance.ended_at:%H:%M:%S}; reclaim a running one")
        if notice and instance.market != "spot":
            raise ValueError(f"instance {instance_id} is on-demand and gets no notice: pass notice=False")
        if rebalance_lead_seconds is None:
            self._interrupt(instance, notice=notice)
            return
        self._tell(lambda listener: listener.rebalance_recommended(instance))
        self.clock.after(
            self.clock.real_seconds(rebalance_lead_seconds), lambda: self._interrupt(instance, notice=notice)
        )

    def set_capacity(self, pool: Pool, instances: int, *, market: Market = "spot") -> None:
        """Let a pool hold so many instances from now on. Those that run stay.

        Raises:
            ValueError: if `instances` is negative.
        """
        if instances < 0:
            raise ValueError(f"the capacity of {pool} must be 0 or more instances; got {instances}")
        with self._lock:
            self._capacity[market, pool] = instances
        self._tell(lambda listener: listener.capacity_changed())

    def dry(self, *pools: Pool, market: Market = "spot") -> None:
        """Leave no capacity for new instances in these pools, or anywhere if none is named."""
        with self._lock:
            self._capacity.update({(market, pool): 0 for pool in pools})
            if not pools:
                self._all_dry.add(market)

    def restore(self, *pools: Pool, market: Market = "spot") -> None:
        """Give unlimited capacity to these pools again, or to all if none is named. A zone's trace still rules it."""
        with self._lock:
            for key in [key for key in self._capacity if key[0] == market and (not pools or key[1] in pools)]:
                del self._capacity[key]
            if not pools:
                self._all_dry.discard(market)
        self._tell(lambda listener: listener.capacity_changed())

    def play(self, traces: Mapping[str, Trace], *, notice: bool = True) -> None:
        """Let traces decide which zones have spot capacity, over and over, from now on.

        Where a trace turns to 0, its zone's spot instances are reclaimed. Where it has prices, the zone's prices move
        in proportion to its first one (the trace's instance type is not ours), up to on-demand.

        Args:
            traces: By availability zone. Zones without one are left alone.
            notice: Whether EC2 gives notice of those reclaims.
        """
        for zone, trace in traces.items():
            self._play(zone, trace, tuple(trace.changes()), 0, notice=notice)

    def _play(self, zone: str, trace: Trace, changes: tuple[Sample, ...], index: int, *, notice: bool) -> None:
        sample = changes[index]
        first_usd = changes[0].spot_usd_per_hour
        with self._lock:
            if sample.spot_usd_per_hour and first_usd:
                self._zone_price_factor[zone] = sample.spot_usd_per_hour / first_usd
            was_dry = zone in self._dry_zones
            (self._dry_zones.discard if sample.available else self._dry_zones.add)(zone)
        if not sample.available and not was_dry:
            for instance in self.instances:
                if instance.zone == zone and instance.market == "spot":
                    self._interrupt(instance, notice=notice)
        elif sample.available and was_dry:
            self._tell(lambda listener: listener.capacity_changed())
        is_last = index + 1 == len(changes)
        next_seconds = trace.seconds if is_last else changes[index + 1].seconds
        if len(changes) > 1:
            self.clock.after(
                self.clock.real_seconds(next_seconds - sample.seconds),
                lambda: self._play(zone, trace, changes, 0 if is_last else index + 1, notice=notice),
            )

    def _has_capacity(self, pool: Pool, market: Market, count: int) -> bool:
        if market in self._all_dry or (market == "spot" and pool.zone in self._dry_zones):
            return False
        capacity = self._capacity.get((market, pool))
        if capacity is None:
            return True
        taken = sum(
            instance.pool == pool and instance.market == market and instance.ended_at is None
            for instance in self._instances.values()
        )
        return taken + count <= capacity

    def _strain(self, pool: Pool, market: Market) -> int:
        return self._reclaims[pool] if market == "spot" else 0

    def _interrupt(self, instance: Instance, *, notice: bool) -> None:
        if not notice:
            self._take_away(instance)
            return
        with self._lock:
            if instance.ended_at is not None or instance.noticed_at is not None:
                return
            now = self.clock.now()
            deadline = now + timedelta(seconds=self.clock.notice_seconds)
            if deadline.microsecond:  # IMDS states whole seconds; a program may rely on every one of them
                deadline = deadline.replace(microsecond=0) + timedelta(seconds=1)
            instance.noticed_at, instance.deadline = now, deadline
        self._tell(lambda listener: listener.interruption_noticed(instance))
        self.clock.after((deadline - now).total_seconds(), lambda: self._take_away(instance))

    def _take_away(self, instance: Instance) -> None:
        if self._end(instance, Ending.RECLAIMED):
            self._tell(lambda listener: listener.host_lost(instance))

    def _end(self, instance: Instance, ending: Ending) -> bool:
        """End an instance, once: say whether this call did."""
        with self._lock:
            if instance.ended_at is not None:
                return False
            instance.ended_at, instance.ending = self.clock.now(), ending
            if ending is Ending.RECLAIMED:
                self._reclaims[instance.pool] += 1
            return True

    def _find(self, instance_id: str) -> Instance:
        with self._lock:
            if instance_id not in self._instances:
                raise ValueError(
                    f"there is no instance {instance_id!r}; there are {list(self._instances) or 'none yet'}"
                )
            return self._instances[instance_id]

    def _tell(self, message: Callable[[MarketListener], None]) -> None:
        for listener in tuple(self._listeners):
            message(listener)
