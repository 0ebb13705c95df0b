"""A run in any of the five zones of 2023, at their real prices, against the single zone that was best in hindsight."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from benchmarks.policy.jobs import Job, drawn_jobs
from benchmarks.policy.traces import ON_DEMAND_USD, Series
from spotkeeper.policy.pool_path import pool_path
from spotkeeper.policy.replay import Replay


def in_any_zone(job: Job, zones: Sequence[Series]) -> Replay:
    """Replay the job in the pool that is chosen from tick to tick; of what was before it, nothing is known."""
    ticks = slice(job.first_tick, job.first_tick + job.num_ticks)
    path = pool_path(
        [zone.available[ticks] for zone in zones],
        [zone.spot_usd_per_hour[ticks] for zone in zones],
        on_demand_usd_per_hour=ON_DEMAND_USD,
        gap_hours=job.series.gap_seconds / 3600,
        changeover_hours=job.changeover_hours,
    )
    market = replace(job.series, name="any zone", available=path.available, spot_usd_per_hour=path.spot_usd_per_hour)
    return replace(job, series=market, first_tick=0).replay(pools=path.pools)


def against_best_zone(
    zones: Sequence[Series],
    *,
    ticks: range,
    fractions: Sequence[float],
    changeovers_hours: Sequence[float],
    work_hours: float,
    count: int,
) -> dict[str, float]:
    """Return points of savings above the zone that was the cheapest for each job: mean, worst, and missed deadlines."""
    leads: list[float] = []
    misses = 0
    for job in _jobs(zones[0], ticks, fractions, changeovers_hours, work_hours, count):
        chosen = in_any_zone(job, zones)
        best_usd = min(replace(job, series=zone).replay().usd for zone in zones)
        leads.append(100 * (best_usd - chosen.usd) / job.on_demand_usd)
        misses += chosen.misses_deadline
    return {
        "mean_points": round(fmean(leads), 3),
        "worst_points": round(min(leads), 3),
        "jobs": len(leads),
        "misses": misses,
    }


def _jobs(
    market: Series,
    ticks: range,
    fractions: Sequence[float],
    changeovers_hours: Sequence[float],
    work_hours: float,
    count: int,
) -> Iterator[Job]:
    groups = drawn_jobs(
        market,
        ticks=ticks,
        fractions=fractions,
        changeovers_hours=changeovers_hours,
        work_hours=work_hours,
        count=count,
        seed="zones",
    )
    for group in groups:
        yield from group
