"""Recorded markets of several pools on one clock, as one market for a replay."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spotkeeper.ops.spot_trace import Ticks
from spotkeeper.policy.pool_path import pool_path


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolTraces:
    """What a run finds that may be in any of the pools."""

    ticks: Ticks
    pools: tuple[int, ...]
    """The pool that is taken in each tick, by its place among the names."""
    names: tuple[str, ...]

    def name_at(self, tick: int) -> str:
        """Return the pool that is taken in a tick."""
        return self.names[self.pools[tick]]


def together(
    markets: Sequence[tuple[Path, Ticks]],
    *,
    spot_usd_per_hour: float,
    on_demand_usd_per_hour: float,
    changeover_hours: float,
) -> PoolTraces:
    """Return the pools as one market, in which each tick has the pool that is chosen then.

    Args:
        markets: The traces, with their files; all begin at the same time.
        spot_usd_per_hour: Where a trace has no prices of its own.
        on_demand_usd_per_hour: Price of on-demand.
        changeover_hours: From a machine's start to its first new step.

    Raises:
        ValueError: if the traces are not of the same ticks, naming the file that differs from the first.
    """
    first_path, first = markets[0]
    for path, ticks in markets[1:]:
        if (ticks.gap_seconds, len(ticks.available)) != (first.gap_seconds, len(first.available)):
            raise ValueError(
                f"traces of several pools must have the same ticks: {first_path} has {len(first.available)} of "
                f"{first.gap_seconds:g} s, {path} has {len(ticks.available)} of {ticks.gap_seconds:g} s; cut them alike"
            )
    path_taken = pool_path(
        [ticks.available for _, ticks in markets],
        [ticks.spot_usd_per_hour or (spot_usd_per_hour,) * len(ticks.available) for _, ticks in markets],
        on_demand_usd_per_hour=on_demand_usd_per_hour,
        gap_hours=first.gap_seconds / 3600,
        changeover_hours=changeover_hours,
    )
    return PoolTraces(
        ticks=Ticks(
            available=path_taken.available,
            spot_usd_per_hour=path_taken.spot_usd_per_hour,
            gap_seconds=first.gap_seconds,
        ),
        pools=path_taken.pools,
        names=tuple(path.name.split(".")[0] for path, _ in markets),
    )
