"""Spot markets drawn from a seed, and strategies for jobs on them: tests need no recorded traces."""

from random import Random
from typing import Any

from hypothesis import strategies as st

ON_DEMAND_USD = 3.0
SPOT_USD = 1.0


def drawn_market(seed: int, ticks: int, *, mean_up_ticks: float = 8.0, mean_down_ticks: float = 6.0) -> list[int]:
    """Return availability in stretches whose lengths have heavy tails, as those of recorded markets have."""
    chance, is_up = Random(seed), seed % 2
    found: list[int] = []
    while len(found) < ticks:
        scale = mean_up_ticks if is_up else mean_down_ticks
        found += [is_up] * max(1, round(scale / 2 * (chance.paretovariate(1.3) - 0.5)))
        is_up = 1 - is_up
    return found[:ticks]


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a feasible job on a market, as arguments of `replay`; the deadline is a whole number of ticks."""
    gap_seconds = draw(st.sampled_from([60.0, 195.0, 300.0, 600.0]))
    gap_hours = gap_seconds / 3600
    work_ticks = draw(st.floats(0.5, 60))
    changeover_ticks = draw(st.floats(0, 6))
    slack_ticks = draw(st.integers(0, 60))
    deadline_ticks = int(work_ticks + changeover_ticks) + 1 + slack_ticks
    available = drawn_market(draw(st.integers(0, 10**6)), deadline_ticks + 5)
    return {
        "available": available,
        "spot_usd_per_hour": SPOT_USD,
        "on_demand_usd_per_hour": ON_DEMAND_USD,
        "gap_seconds": gap_seconds,
        "work_hours": work_ticks * gap_hours,
        "deadline_hours": deadline_ticks * gap_hours,
        "changeover_hours": changeover_ticks * gap_hours,
    }
