"""The figures of placement: the published set, the cells of trace x fraction x changeover, caps, and time per decision.

Reported are series, or parts of them, on which nothing was fitted: all of 2022, and the second half of 2023. The
constants of `placement.Tuning` were fitted on the first half of 2023 alone: `python -m benchmarks.policy.fit`.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from benchmarks import hazard, planning
from benchmarks.policy.adrs import published_jobs
from benchmarks.policy.jobs import Job, drawn_jobs, policies
from benchmarks.policy.traces import ON_DEMAND_USD, Series, read_2022, read_2023
from benchmarks.policy.zones import against_best_zone
from benchmarks.result import write
from spotkeeper.policy.market import Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.situation import Decision, Situation
from spotkeeper.policy.spot_cycles import thresholds

FRACTIONS: Final = (0.6, 0.7, 0.8, 0.9, 0.95)
CHANGEOVERS_HOURS: Final = (0.05, 0.2, 0.4)
WORK_HOURS: Final = 48.0
CAP_SHARES: Final = (0.1, 0.35, 0.6, 0.9)
"""Of what the work costs on demand."""
_ENDS: Final = 6
"""Drawn in each series."""
_MORE_ENDS: Final = 5
"""So many times as many are drawn where ours is held against Uniform Progress alone: six leave a cell uncertain."""
_WORSE_POINTS: Final = -0.5
"""A cell counts as worse than Uniform Progress below this lead."""


def tuning_ticks(series: Series) -> range:
    """Return the part of a series on which constants may be fitted; an empty one: none."""
    return range(len(series.available) // 2) if series.year == 2023 else range(0)


def reporting_ticks(series: Series) -> range:
    """Return the part of a series that is reported on."""
    return range(tuning_ticks(series).stop, len(series.available))


def adrs(jobs: Sequence[Job]) -> dict[str, float]:
    """Return the sums over published jobs; and the misses of ours, with and without an oracle."""
    names = ("spotkeeper", "spotkeeper_without_oracle", "greedy", "uniform_progress",
             "uniform_progress_without_hysteresis")  # fmt: skip
    figures: dict[str, float] = defaultdict(float)
    for job in jobs:
        ways = policies(job)
        for name in names:
            replayed = ways[name]()
            figures[f"{name}_usd"] += replayed.usd
            if name.startswith("spotkeeper"):
                figures["deadline_misses"] += replayed.misses_deadline
        figures["optimum_usd"] += job.optimum().usd(job.num_ticks)
    return dict(figures)


def cells(series: Series, *, ends: int) -> list[dict[str, Any]]:
    """Return the mean savings of each policy in every cell of a series, in percent of on-demand without changeovers."""
    names = ("spotkeeper", "spotkeeper_without_oracle", "spotkeeper_foretold", "greedy", "time_sliced",
             "uniform_progress", "uniform_progress_without_hysteresis")  # fmt: skip
    savings: dict[tuple[float, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    misses: dict[tuple[float, float], int] = defaultdict(int)
    for group in drawn_jobs(
        series,
        ticks=reporting_ticks(series),
        fractions=FRACTIONS,
        changeovers_hours=CHANGEOVERS_HOURS,
        work_hours=WORK_HOURS,
        count=ends,
        seed=f"report {series.name}",
    ):
        optimum = group[0].optimum()
        for job in group:
            key = round(job.work_hours / job.deadline_hours, 6), job.changeover_hours
            ways = policies(job)
            for name in names:
                replayed = ways[name]()
                savings[key][name].append(_savings_percent(replayed.usd, job))
                if name.startswith("spotkeeper"):
                    misses[key] += replayed.misses_deadline
            savings[key]["optimum"].append(_savings_percent(optimum.usd(job.num_ticks), job))
    return [
        {
            "trace": series.name,
            "fraction": fraction,
            "changeover_hours": changeover_hours,
            "savings_percent": {name: round(fmean(values), 3) for name, values in by_name.items()},
            "misses": misses[fraction, changeover_hours],
        }
        for (fraction, changeover_hours), by_name in sorted(savings.items())
    ]


def leads(series: Series, *, ends: int) -> list[list[float]]:
    """Return for every cell of a series, and each job in it, the points of savings above Uniform Progress."""
    found: dict[tuple[float, float], list[float]] = defaultdict(list)
    for group in drawn_jobs(
        series,
        ticks=reporting_ticks(series),
        fractions=FRACTIONS,
        changeovers_hours=CHANGEOVERS_HOURS,
        work_hours=WORK_HOURS,
        count=ends,
        seed=f"leads {series.name}",
    ):
        for job in group:
            ways = policies(job)
            lead_usd = ways["uniform_progress"]().usd - ways["spotkeeper"]().usd
            found[job.deadline_hours, job.changeover_hours].append(100 * lead_usd / job.on_demand_usd)
    return list(found.values())


def budget_overshoot_usd(series: Series, *, ends: int) -> float:
    """Return the most dollars over a cap that any run in budget-first had, with lost work and a paid standby."""
    worst = 0.0
    for group in drawn_jobs(
        series,
        ticks=reporting_ticks(series),
        fractions=(0.6, 0.9),
        changeovers_hours=(0.2,),
        work_hours=WORK_HOURS,
        count=ends,
        seed=f"caps {series.name}",
    ):
        for job in group:
            for share in CAP_SHARES:
                cap_usd = share * job.on_demand_usd
                terms: dict[str, Any] = {"mode": Mode.BUDGET_FIRST, "lost_hours": 0.25, "sees_spot": False}
                worst = max(worst, job.replay(**terms, cap_usd=cap_usd).over_cap_usd)
                worst = max(worst, job.replay(**terms, fallback_cap_usd=cap_usd).over_cap_usd)
    return worst


def decision_us(job: Job) -> dict[str, float]:
    """Return microseconds per decision: the situations of a real run, decided again, and decided for the first time.

    The first time, thresholds are computed that later decisions and runs on like markets only look up.
    """
    seen: list[Situation] = []

    def record(at: Situation) -> Decision:
        seen.append(at)
        return decide(at)

    job.replay(record)
    again = min(_seconds(seen) for _ in range(5))
    thresholds.cache_clear()
    first = _seconds(seen)
    return {
        "decision_us": round(again / len(seen) * 1e6, 2),
        "decision_us_of_a_first_run": round(first / len(seen) * 1e6, 2),
    }


def _seconds(seen: Sequence[Situation]) -> float:
    # Of this process, so that others on the machine do not count.
    started = time.process_time()
    for at in seen:
        decide(at)
    return time.process_time() - started


def measure(traces: Path, *, ends: int = _ENDS, workers: int = 2) -> dict[str, Any]:
    """Return all figures."""
    jobs = list(published_jobs(traces))
    markets = [*read_2023(traces), *read_2022(traces)]
    slowest = drawn_jobs(markets[0], ticks=reporting_ticks(markets[0]), fractions=(0.8,), changeovers_hours=(0.2,),
                         work_hours=WORK_HOURS, count=1, seed="time")  # fmt: skip
    microseconds = decision_us(next(slowest)[0])
    pieces = [jobs[start : start + 90] for start in range(0, len(jobs), 90)]
    with ProcessPoolExecutor(workers) as pool:
        all_cells = pool.map(partial(cells, ends=ends), markets)
        published = pool.map(adrs, pieces)
        all_leads = pool.map(partial(leads, ends=_MORE_ENDS * ends), markets)
        covered = pool.submit(hazard.lifetimes_coverage, traces)
        planned = pool.map(planning.cells, markets)
        any_zone = [
            pool.submit(
                against_best_zone,
                read_2023(traces),
                ticks=reporting_ticks(markets[0]),
                fractions=FRACTIONS,
                changeovers_hours=(hours,),
                work_hours=WORK_HOURS,
                count=ends,
            )
            for hours in CHANGEOVERS_HOURS
        ]
        overshoot = pool.map(partial(budget_overshoot_usd, ends=max(1, ends // 4)), markets)
        sums: dict[str, float] = defaultdict(float)
        for piece in published:
            for name, value in piece.items():
                sums[name] += value
        means = {name: value if name == "deadline_misses" else value / len(jobs) for name, value in sums.items()}
        flat = [cell for found in all_cells for cell in found]
        return {
            "split": "fitted on: 2023, first half of every zone; reported on: 2023, second half, and all of 2022",
            "adrs": {name: round(value, 4) for name, value in means.items()},
            "cells": flat,
            "above_uniform_progress_points": _lead(flat),
            "cells_below_uniform_progress": {
                "cells": len(flat),
                "spotkeeper": _cells_below(flat, "spotkeeper"),
                "spotkeeper_foretold": _cells_below(flat, "spotkeeper_foretold"),
            },
            "above_uniform_progress_with_more_jobs": _spread_of_leads([cell for found in all_leads for cell in found]),
            "gap_closed_share": _gap_closed(flat, "spotkeeper"),
            "gap_closed_share_foretold": _gap_closed(flat, "spotkeeper_foretold"),
            "any_zone_above_best_single_zone": {
                f"{hours:g} h": found.result() for hours, found in zip(CHANGEOVERS_HOURS, any_zone, strict=True)
            },
            "budget_overshoot_usd": max(overshoot),
            **microseconds,
            "interval_coverage": covered.result(),
            "plan_error": planning.error([cell for found in planned for cell in found]),
        }


def _savings_percent(usd: float, job: Job) -> float:
    return 100 * (1 - usd / (job.work_hours * ON_DEMAND_USD))


def _lead(flat: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return by how many points of savings ours is above Uniform Progress, by changeover: mean and worst cell."""
    found: dict[float, list[float]] = defaultdict(list)
    for cell in flat:
        savings = cell["savings_percent"]
        found[cell["changeover_hours"]].append(savings["spotkeeper"] - savings["uniform_progress"])
    return {
        f"{hours:g} h": {"mean": round(fmean(leads), 3), "worst": round(min(leads), 3)}
        for hours, leads in sorted(found.items())
    }


def _cells_below(flat: Sequence[dict[str, Any]], name: str) -> int:
    """Return how many cells a policy is worse in than Uniform Progress."""
    saved = [cell["savings_percent"] for cell in flat]
    return sum(cell[name] - cell["uniform_progress"] < _WORSE_POINTS for cell in saved)


def _spread_of_leads(cells_leads: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return how ours compares with Uniform Progress over cells, and how much jobs of one cell differ in that."""
    means = [fmean(cell) for cell in cells_leads]
    return {
        "jobs_in_a_cell": len(cells_leads[0]),
        "cells": len(means),
        "cells_below": sum(mean < _WORSE_POINTS for mean in means),
        "mean_points": round(fmean(means), 3),
        "worst_points": round(min(means), 3),
        "standard_deviation_of_a_job_points": round(fmean(stdev(cell) for cell in cells_leads), 3),
    }


def _gap_closed(flat: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Return the share of the gap between greedy and the optimum that a policy closes, of all cells of a changeover."""
    closed: dict[float, float] = defaultdict(float)
    gaps: dict[float, float] = defaultdict(float)
    for cell in flat:
        savings = cell["savings_percent"]
        closed[cell["changeover_hours"]] += savings[name] - savings["greedy"]
        gaps[cell["changeover_hours"]] += savings["optimum"] - savings["greedy"]
    return {f"{hours:g} h": round(closed[hours] / gaps[hours], 3) for hours in sorted(closed)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy", description=__doc__)
    parser.add_argument(
        "--traces", type=Path, required=True, help="folder of the recorded markets; see docs/placement.md"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--write", action="store_true", help="write a dated file to benchmarks/results")
    parser.add_argument("--ends", type=int, default=_ENDS, help="deadlines drawn in each series (default: %(default)s)")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    figures = measure(options.traces, ends=options.ends)
    used = os.times()
    cpu_seconds = used.user + used.system + used.children_user + used.children_system
    print(f"{time.perf_counter() - started:.0f} s, {cpu_seconds:.0f} s of CPU", file=sys.stderr)
    if options.write:
        write("policy", "python -m benchmarks.policy --traces DIR --json --write", figures)
    print(json.dumps(figures, indent=None if options.json else 2))
