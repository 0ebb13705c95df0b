"""Fit the constants of placement on the first half of the 2023 series: python -m benchmarks.policy.fit --traces DIR.

A random walk: each step multiplies some constants by something near 1 and is kept if it is better. Better is: the mean
savings of all cells, less the mean of what cells fall short of Uniform Progress plus half a point, less a weak pull to
the start, because the walk would otherwise follow the noise of a few series. It prints what it found; nothing is
written. The ticks are the recorded 195 s and, so that constants do not hang on the tick's length, 585 s.
"""

import argparse
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

from benchmarks.policy.jobs import Job, drawn_jobs
from benchmarks.policy.measure import FRACTIONS, WORK_HOURS, tuning_ticks
from benchmarks.policy.traces import Series, read_2023
from spotkeeper.ops import baselines
from spotkeeper.policy.placement import FITTED, Tuning, decide

CHANGEOVERS_HOURS: Final = (0.02, 0.05, 0.1, 0.2, 0.4)
_FREE: Final = ("prior_losses", "prior_returns", "scale_power", "slack_spending")
"""The priors themselves are those of published fits (`spotkeeper.policy.hazard`), and are not fitted here."""
START: Final = Tuning(prior_losses=2.0, prior_returns=2.0, scale_power=1.0, slack_spending=1.0)
"""What the theory says, with priors that weigh little."""
_SHORTFALL_POINTS: Final = 0.5
_PULL: Final = 0.03


def tuning_jobs(traces: Path, count: int) -> list[Job]:
    """Return the jobs that constants are fitted on."""
    found: list[Job] = []
    for series in read_2023(traces):
        for market in (series, _every_third(series)):
            groups = drawn_jobs(
                market,
                ticks=tuning_ticks(market),
                fractions=FRACTIONS,
                changeovers_hours=CHANGEOVERS_HOURS,
                work_hours=WORK_HOURS,
                count=count,
                seed=f"fit {market.name} {market.gap_seconds}",
            )
            found += [job for group in groups for job in group]
    return found


def _every_third(series: Series) -> Series:
    return replace(
        series,
        available=series.available[::3],
        spot_usd_per_hour=series.spot_usd_per_hour[::3],
        gap_seconds=series.gap_seconds * 3,
    )


def _paid_share(tuning: Tuning, job: Job) -> float:
    return job.replay(partial(decide, tuning=tuning)).usd / job.on_demand_usd


def _progress_share(job: Job) -> float:
    choose = baselines.uniform_progress(
        work_hours=job.work_hours, deadline_hours=job.deadline_hours, has_hysteresis=True
    )
    return job.replay(choose).usd / job.on_demand_usd


def objective(tuning: Tuning, jobs: Sequence[Job], progress: Sequence[float], pool: Executor) -> float:
    """Return how good constants are, in points of savings."""
    shares = list(pool.map(partial(_paid_share, tuning), jobs, chunksize=25))
    leads: dict[tuple[str, float, float, float], list[float]] = defaultdict(list)
    for job, share, progress_share in zip(jobs, shares, progress, strict=True):
        cell = (job.series.name, job.series.gap_seconds, job.deadline_hours, job.changeover_hours)
        leads[cell].append(100 * (progress_share - share))
    shortfall = fmean(min(fmean(cell) - _SHORTFALL_POINTS, 0.0) for cell in leads.values())
    pull = sum(math.log(getattr(tuning, name) / getattr(START, name)) ** 2 for name in _FREE)
    return 100 * (1 - fmean(shares)) + shortfall - _PULL * pull


def main() -> None:
    """Walk, and print every improvement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy.fit", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--count", type=int, default=2, help="deadlines drawn in each series (default: %(default)s)")
    options = parser.parse_args()
    chance = random.Random(3)
    jobs = tuning_jobs(options.traces, options.count)
    with ProcessPoolExecutor(2) as pool:
        progress = list(pool.map(_progress_share, jobs, chunksize=25))
        best = START
        best_points = objective(best, jobs, progress, pool)
        print(f"shipped: {objective(FITTED, jobs, progress, pool):.3f}\nstart:   {best_points:.3f}", flush=True)
        for _ in range(options.steps):
            changed = [name for name in _FREE if chance.random() < 0.4]
            step = {name: getattr(best, name) * math.exp(chance.gauss(0, 0.3)) for name in changed}
            tried = replace(best, **step)
            points = objective(tried, jobs, progress, pool)
            if points > best_points:
                best, best_points = tried, points
                print(f"{best_points:.3f} {best}", flush=True)


if __name__ == "__main__":
    main()
