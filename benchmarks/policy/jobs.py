"""Jobs on recorded spot markets, and what each policy pays for them."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from benchmarks.policy.optimum import OfflineOptimum
from benchmarks.policy.traces import ON_DEMAND_USD, Series
from spotkeeper.ops import baselines
from spotkeeper.policy.hazard import PRIOR_OUTAGE, fit, spells_of
from spotkeeper.policy.placement import FITTED, Tuning, decide
from spotkeeper.policy.replay import Replay, replay

_CERTAIN_SPELLS = 1e9
"""A belief that weighs so much is not moved by what is seen."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job on a piece of a series that ends with its deadline."""

    series: Series
    first_tick: int
    work_hours: float
    deadline_hours: float
    changeover_hours: float

    @property
    def num_ticks(self) -> int:
        """Whole ticks until the deadline."""
        return int(self.deadline_hours * 3600 / self.series.gap_seconds + 1e-6)

    @cached_property
    def available(self) -> Sequence[int]:
        """Availability from start to deadline."""
        return self.series.available[self.first_tick : self.first_tick + self.num_ticks]

    @cached_property
    def spot_usd_per_hour(self) -> Sequence[float]:
        """Price from start to deadline."""
        return self.series.spot_usd_per_hour[self.first_tick : self.first_tick + self.num_ticks]

    @property
    def on_demand_usd(self) -> float:
        """What the work costs on demand, without any changeover."""
        return self.work_hours * ON_DEMAND_USD

    def replay(self, choose: baselines.Policy = decide, **more: Any) -> Replay:
        """Return what the policy does and pays; after the deadline, if it is missed, the replay ends."""
        return replay(
            self.available,
            self.spot_usd_per_hour,
            on_demand_usd_per_hour=ON_DEMAND_USD,
            gap_seconds=self.series.gap_seconds,
            work_hours=self.work_hours,
            # A deadline inside a tick is that tick's beginning: a decision is only taken there.
            deadline_hours=self.num_ticks * self.series.gap_seconds / 3600,
            changeover_hours=self.changeover_hours,
            choose=choose,
            **more,
        )

    def optimum(self) -> OfflineOptimum:
        """Return the offline optimum of every job of this work that ends with this one."""
        return OfflineOptimum(
            self.available,
            self.spot_usd_per_hour,
            on_demand_usd_per_hour=ON_DEMAND_USD,
            gap_seconds=self.series.gap_seconds,
            work_hours=self.work_hours,
            changeover_hours=self.changeover_hours,
        )


def foretold(job: Job) -> Tuning:
    """Return the beliefs of somebody who knew beforehand how long spells last from the job's start to its deadline.

    No run has them. What they would save bounds what better estimates of lifetimes and outages can.
    """
    up, down = spells_of(job.available, gap_hours=job.series.gap_seconds / 3600)
    return replace(
        FITTED,
        lifetime=fit(up).lomax,
        outage=fit(down, prior=PRIOR_OUTAGE).lomax,
        prior_losses=_CERTAIN_SPELLS,
        prior_returns=_CERTAIN_SPELLS,
    )


def policies(job: Job) -> dict[str, Callable[[], Replay]]:
    """Return what may be replayed for the job, by name."""
    terms = {"work_hours": job.work_hours, "deadline_hours": job.deadline_hours}
    with_lead = baselines.uniform_progress(**terms, has_hysteresis=True)
    return {
        "spotkeeper": job.replay,
        "spotkeeper_without_oracle": lambda: job.replay(sees_spot=False),
        "spotkeeper_foretold": lambda: job.replay(partial(decide, tuning=foretold(job))),
        "on_demand": lambda: job.replay(baselines.on_demand),
        "greedy": lambda: job.replay(baselines.greedy),
        "time_sliced": lambda: job.replay(baselines.time_sliced(4, **terms)),
        "uniform_progress": lambda: job.replay(with_lead),
        "uniform_progress_without_hysteresis": lambda: job.replay(
            baselines.uniform_progress(**terms, has_hysteresis=False)
        ),
    }


def drawn_jobs(
    series: Series,
    *,
    ticks: range,
    fractions: Sequence[float],
    changeovers_hours: Sequence[float],
    work_hours: float,
    count: int,
    seed: str,
) -> Iterator[list[Job]]:
    """Yield jobs of all fractions that end at the same tick, the longest first: they share one offline optimum.

    Args:
        series: The market.
        ticks: Where the jobs lie.
        fractions: Work as shares of the time until the deadline.
        changeovers_hours: One group of jobs for each of these.
        work_hours: Of every job.
        count: Ends that are drawn.
        seed: Names the draw.
    """
    chance = random.Random(seed)
    gap_hours = series.gap_seconds / 3600
    ticks_of = {fraction: int(work_hours / fraction / gap_hours + 1e-6) for fraction in sorted(fractions)}
    for _ in range(count):
        end = chance.randint(ticks.start + max(ticks_of.values()), ticks.stop)
        for changeover_hours in changeovers_hours:
            yield [
                Job(
                    series=series,
                    first_tick=end - num_ticks,
                    work_hours=work_hours,
                    deadline_hours=work_hours / fraction,
                    changeover_hours=changeover_hours,
                )
                for fraction, num_ticks in ticks_of.items()
            ]
