import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.policy.optimum import OfflineOptimum
from spotkeeper.ops import baselines
from spotkeeper.policy.placement import decide
from spotkeeper.policy.replay import replay
from tests.policy.markets import ON_DEMAND_USD, SPOT_USD, drawn_market

GAP_SECONDS = 600.0
GAP_HOURS = GAP_SECONDS / 3600


@st.composite
def solved(draw: st.DrawFn) -> tuple[dict[str, Any], OfflineOptimum]:
    work_ticks, changeover_ticks = draw(st.integers(1, 30)), draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 3.0]))
    num_ticks = work_ticks + math.ceil(changeover_ticks) + draw(st.integers(0, 40))
    job: dict[str, Any] = {
        "available": drawn_market(draw(st.integers(0, 10**6)), num_ticks),
        "spot_usd_per_hour": [SPOT_USD] * num_ticks,
        "on_demand_usd_per_hour": ON_DEMAND_USD,
        "gap_seconds": GAP_SECONDS,
        "work_hours": work_ticks * GAP_HOURS,
        "changeover_hours": changeover_ticks * GAP_HOURS,
    }
    return job, OfflineOptimum(**job)


@settings(deadline=None)
@given(solved())
def test_more_slack_never_makes_the_optimum_dearer(found: tuple[dict[str, Any], OfflineOptimum]) -> None:
    job, optimum = found
    costs = [optimum.usd(ticks) for ticks in range(len(job["available"]) + 1)]
    assert costs == sorted(costs, reverse=True)


@settings(deadline=None)
@given(solved(), st.floats(0, 100), st.floats(0, 100))
def test_more_money_never_does_less_work(
    found: tuple[dict[str, Any], OfflineOptimum], one_usd: float, other_usd: float
) -> None:
    job, optimum = found
    ticks = len(job["available"])
    little, much = sorted((one_usd, other_usd))
    assert optimum.work_hours(ticks, little) <= optimum.work_hours(ticks, much)
    assert math.isclose(optimum.work_hours(ticks, optimum.usd(ticks)), job["work_hours"])


@settings(deadline=None)
@given(solved())
def test_no_policy_is_cheaper_than_the_optimum(found: tuple[dict[str, Any], OfflineOptimum]) -> None:
    job, optimum = found
    deadline_hours = len(job["available"]) * GAP_HOURS
    least_usd = optimum.usd(len(job["available"]))
    terms = {"work_hours": job["work_hours"], "deadline_hours": deadline_hours}
    progress = baselines.uniform_progress(**terms, has_hysteresis=True)
    for choose in (decide, baselines.on_demand, baselines.greedy, progress, baselines.time_sliced(3, **terms)):
        told = replay(**job, deadline_hours=deadline_hours, choose=choose)
        assert told.misses_deadline or told.usd >= least_usd - 1e-9


def test_the_optimum_waits_through_the_short_outage_and_buys_the_long_one() -> None:
    optimum = OfflineOptimum(
        [1, 1, 0, 1, 1, 0, 0, 0, 0],
        [1.0] * 9,
        on_demand_usd_per_hour=3.0,
        gap_seconds=3600,
        work_hours=5.0,
        changeover_hours=0.5,
    )
    # 1.5 h and 1.5 h of work on spot for $4; the other 2 h, and a changeover, take three hours on demand: $9. Or the
    # first four hours on demand, and the rest on it too: $18. Or two hours of spot, then on demand: $2 + $12.
    assert optimum.usd(9) == 13.0
