"""The offline optimum: what somebody who knew the whole trace would have paid. Exact, by dynamic programming.

Backwards over ticks and remaining work, in units in which tick, changeover and work are whole numbers. Whoever knows
the trace never starts a machine that does not get through its changeover, so a start is one move of several ticks.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class OfflineOptimum:
    """The least cost of finishing by the last tick, from every tick and with every amount of work up to the most."""

    def __init__(
        self,
        available: Sequence[int],
        spot_usd_per_hour: Sequence[float],
        *,
        on_demand_usd_per_hour: float,
        gap_seconds: float,
        work_hours: float,
        changeover_hours: float,
    ) -> None:
        """Compute it for a job that must be finished when the last tick of `available` has passed."""
        gap, work, changeover = (round(value) for value in (gap_seconds, work_hours * 3600, changeover_hours * 3600))
        unit = math.gcd(gap, work, changeover)
        self._num_work, self._unit_hours = work // unit, unit / 3600
        gap_units, changeover_units = gap // unit, changeover // unit
        start_ticks = max(1, math.ceil(changeover_units / gap_units))
        start_units = start_ticks * gap_units - changeover_units
        num_ticks, gap_hours = len(available), gap / 3600
        spot_usd = np.asarray(spot_usd_per_hour, dtype=np.float64) * gap_hours
        on_demand_usd = on_demand_usd_per_hour * gap_hours

        impossible = np.full(self._num_work + 1, math.inf)
        impossible[0] = 0.0
        # Of the last `start_ticks` ticks, the nearest first.
        spots, on_demands = [impossible] * start_ticks, [impossible] * start_ticks
        idle = impossible
        self._idle: list[NDArray[np.float64]] = [idle]
        for tick in range(num_ticks - 1, -1, -1):
            choices = [idle]
            if tick + start_ticks <= num_ticks:
                choices.append(start_ticks * on_demand_usd + _after(on_demands[-1], start_units))
                if all(available[tick : tick + start_ticks]):
                    paid_usd = float(spot_usd[tick : tick + start_ticks].sum())
                    choices.append(paid_usd + _after(spots[-1], start_units))
            idle = np.minimum.reduce(choices)
            idle[0] = 0.0
            on_demand = np.minimum(on_demand_usd + _after(on_demands[0], gap_units), idle)
            spot = idle
            if available[tick]:
                spot = np.minimum(spot_usd[tick] + _after(spots[0], gap_units), idle)
            spots, on_demands = [spot, *spots[:-1]], [on_demand, *on_demands[:-1]]
            self._idle.append(idle)

    def usd(self, ticks_left: int) -> float:
        """Return the least cost of all the work, begun so many ticks before the deadline; infinite: impossible."""
        return float(self._idle[ticks_left][self._num_work])

    def work_hours(self, ticks_left: int, budget_usd: float) -> float:
        """Return the most work, up to all of it, that can be done for so much in so many ticks before the deadline."""
        affordable = np.flatnonzero(self._idle[ticks_left] <= budget_usd)
        return float(affordable.max()) * self._unit_hours


def _after(costs: NDArray[np.float64], units: int) -> NDArray[np.float64]:
    """Return the costs by remaining work, before so many units of it are done."""
    if units == 0:
        return costs
    shifted = np.empty_like(costs)
    shifted[units:] = costs[:-units]
    shifted[:units] = 0.0
    return shifted
