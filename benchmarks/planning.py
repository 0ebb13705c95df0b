"""How well a plan that is made from the first half of a recorded market foretells what a job costs in the second.

For each series and deadline, the mean and the 90th percentile of the cost of running mixed are forecast from the first
half, on markets that are drawn as `spotkeeper plan --trace` draws them, and as many; and held against replays on the
second half. The same forecast with the hazards of the second half tells what is not the change from one to the other.

    python -m benchmarks.planning --traces DIR [--json]
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final

from benchmarks import result
from benchmarks.policy.traces import ON_DEMAND_USD, Series, read_2022, read_2023
from spotkeeper.policy.drawn_market import drawn_ticks, resampled_hazards
from spotkeeper.policy.forecast import Job, Outlook, SampledMarket, Way, forecast
from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE, fit, spells_of

WORK_HOURS: Final = 24.0
DEADLINES_HOURS: Final = (30.0, 40.0)
CHANGEOVER_HOURS: Final = 0.2
LOST_HOURS: Final = 0.1
NUM_MARKETS: Final = 200
"""As `spotkeeper plan` draws."""
NUM_WINDOWS: Final = 60


def _job(series: Series, deadline_hours: float) -> Job:
    half = len(series.available) // 2
    return Job(
        work_hours=WORK_HOURS,
        deadline_hours=deadline_hours,
        changeover_hours=CHANGEOVER_HOURS,
        lost_hours=LOST_HOURS,
        spot_usd_per_hour=fmean(series.spot_usd_per_hour[:half]),
        on_demand_usd_per_hour=ON_DEMAND_USD,
    )


def _windows(series: Series, job: Job, *, ticks: range) -> Iterator[SampledMarket]:
    """Yield the job's starts, spread evenly over the ticks."""
    assert job.deadline_hours is not None
    needed = math.ceil(job.deadline_hours * 3600 / series.gap_seconds)
    for number in range(NUM_WINDOWS):
        yield SampledMarket(
            available=series.available[ticks.start : ticks.stop],
            gap_seconds=series.gap_seconds,
            start_tick=round(number * (len(ticks) - needed) / (NUM_WINDOWS - 1)),
            spot_usd_per_hour=series.spot_usd_per_hour[ticks.start : ticks.stop],
        )


def _drawn(series: Series, job: Job, *, ticks: range, random: Random, is_resampled: bool) -> Iterator[SampledMarket]:
    assert job.deadline_hours is not None
    gap_hours = series.gap_seconds / 3600
    up, down = spells_of(series.available[ticks.start : ticks.stop], gap_hours=gap_hours)
    fitted = fit(up, prior=PRIOR_LIFETIME).lomax, fit(down, prior=PRIOR_OUTAGE).lomax
    for _ in range(NUM_MARKETS):
        lifetime, outage = resampled_hazards(up, down, draw=random.random) if is_resampled else fitted
        yield SampledMarket(
            available=drawn_ticks(
                lifetime=lifetime,
                outage=outage,
                num_ticks=math.ceil(job.deadline_hours / gap_hours),
                gap_hours=gap_hours,
                draw=random.random,
            ),
            gap_seconds=series.gap_seconds,
        )


def cells(series: Series) -> list[dict[str, Any]]:
    """Return what was foretold, and what came, for each deadline."""
    half = len(series.available) // 2
    seen, unseen = range(half), range(half, len(series.available))
    found = []
    for deadline_hours in DEADLINES_HOURS:
        job = _job(series, deadline_hours)
        random = Random(f"{series.name} {deadline_hours}")
        came, told, foreknown = (
            forecast(job, markets, ways=[Way.MIXED])[Way.MIXED]
            for markets in (
                _windows(series, job, ticks=unseen),
                _drawn(series, job, ticks=seen, random=random, is_resampled=True),
                _drawn(series, job, ticks=unseen, random=random, is_resampled=False),
            )
        )
        found.append(
            {
                "series": series.name,
                "deadline_hours": deadline_hours,
                **_compared(told, came),
                "foreknown_error": _compared(foreknown, came)["error"],
            }
        )
    return found


def _compared(told: Outlook, came: Outlook) -> dict[str, float]:
    assert told.usd.mean is not None
    assert told.usd.p90 is not None
    assert came.usd.mean is not None
    p90 = told.usd.p90
    return {
        "told_usd": round(told.usd.mean, 2),
        "came_usd": round(came.usd.mean, 2),
        "error": round(abs(told.usd.mean - came.usd.mean) / came.usd.mean, 4),
        "p90_covers": round(sum(usd <= p90 + 1e-9 for _, usd in came.samples) / len(came.samples), 4),
    }


def error(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the means over cells: how far the cost was off, also with foreknown hazards; how often p90 was enough."""
    return {
        "mean_absolute_error": round(fmean(cell["error"] for cell in found), 4),
        "mean_absolute_error_with_foreknown_hazards": round(fmean(cell["foreknown_error"] for cell in found), 4),
        "p90_covers": round(fmean(cell["p90_covers"] for cell in found), 4),
    }


def main(arguments: Sequence[str]) -> None:
    """Measure, and write a dated result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, required=True, help="folder of recorded traces")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    found = [cell for series in (*read_2022(options.traces), *read_2023(options.traces)) for cell in cells(series)]
    figures = {**error(found), "cells": found}
    result.write("planning", "python -m benchmarks.planning --traces DIR", figures)
    if options.json:
        print(json.dumps(figures))
        return
    for cell in found:
        print(f"{cell['series']:<20} {cell['deadline_hours']:4.0f} h  told ${cell['told_usd']:6.2f}  "
              f"came ${cell['came_usd']:6.2f}  p90 covers {cell['p90_covers']:.0%}")  # fmt: skip
    print(f"mean absolute error {figures['mean_absolute_error']:.1%}, p90 covers {figures['p90_covers']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
