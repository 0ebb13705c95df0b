"""What a job will probably cost, and when it will be done: many replays of the shipped policy on markets that could be.

Three ways to run it are compared on the same markets: on spot alone, however long that waits; on on-demand alone; and
mixed, as the control plane places it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.replay import replay
from spotkeeper.policy.replay_log import Replay
from spotkeeper.policy.situation import Decision, Situation, Spot

PATIENCE_HOURS: Final = 1.0
"""Without a deadline, a run with money for on-demand waits so long for spot."""


class Way(StrEnum):
    """How a job can be run."""

    SPOT = "spot"
    MIXED = "mixed"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be done, in hours on one machine and US dollars an hour."""

    work_hours: float
    """With the stalls of its checkpoints."""
    deadline_hours: float | None
    changeover_hours: float
    lost_hours: float
    """Work that a preemption takes back on average."""
    spot_usd_per_hour: float
    on_demand_usd_per_hour: float
    mode: Mode = Mode.DEADLINE_FIRST
    total_cap_usd: float | None = None
    fallback_cap_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledMarket:
    """One market that the job could meet."""

    available: Sequence[int]
    gap_seconds: float
    start_tick: int = 0
    spot_usd_per_hour: Sequence[float] | None = None
    """One price a tick; None: the job's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A figure over all markets."""

    mean: float | None
    """None where a job was not finished within a market, so that the mean is not known."""
    p50: float | None
    p90: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one figure; infinite ones are known to be large, and no more."""
        ordered = sorted(values)

        def quantile(share: float) -> float | None:
            value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
            return value if math.isfinite(value) else None

        mean = math.fsum(ordered) / len(ordered)
        return cls(mean=mean if math.isfinite(mean) else None, p50=quantile(0.5), p90=quantile(0.9))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What one way comes to."""

    usd: Spread
    hours: Spread
    """Until it is finished."""
    finished_share: float
    in_time_share: float | None
    """Finished by the deadline; None: there is none."""
    num_preemptions: float
    """On average."""
    samples: tuple[tuple[float, float], ...]
    """Hours and dollars of each market in which it was finished."""


def forecast(job: Job, markets: Iterable[SampledMarket], *, ways: Iterable[Way] = tuple(Way)) -> dict[Way, Outlook]:
    """Return what each way comes to.

    Args:
        job: What is to be done.
        markets: At least one. A market should be a few times as long as the job, or what waits for long is not seen to
            finish.
        ways: Those that are asked for.

    Raises:
        ValueError: naming what is wrong with job or market.
    """
    runs: dict[Way, list[Replay]] = {way: [] for way in ways}
    for market in markets:
        for way, found in runs.items():
            found.append(_replay(job, market, way))
    if not all(runs.values()):
        raise ValueError("at least one market is needed to forecast from, got none")
    return {way: _outlook(found, job.deadline_hours) for way, found in runs.items()}


def _replay(job: Job, market: SampledMarket, way: Way) -> Replay:
    is_mixed = way is Way.MIXED
    return replay(
        market.available,
        market.spot_usd_per_hour or job.spot_usd_per_hour,
        on_demand_usd_per_hour=job.on_demand_usd_per_hour,
        gap_seconds=market.gap_seconds,
        work_hours=job.work_hours,
        deadline_hours=job.deadline_hours if is_mixed else None,
        changeover_hours=job.changeover_hours,
        start_tick=market.start_tick,
        mode=job.mode,
        cap_usd=job.total_cap_usd if is_mixed else None,
        fallback_cap_usd=job.fallback_cap_usd if is_mixed else None,
        lost_hours=job.lost_hours,
        sees_spot=False,
        is_first_hour_free=True,
        patience_hours=PATIENCE_HOURS,
        choose=_CHOOSE[way],
    )


def _spot_alone(at: Situation) -> Decision:
    market = Market.SPOT if at.spot is Spot.UP else None
    return Decision(market=market, reason="on spot alone")


def _on_demand_alone(_: Situation) -> Decision:
    return Decision(market=Market.ON_DEMAND, reason="on on-demand alone")


_CHOOSE: Final[Mapping[Way, Callable[[Situation], Decision]]] = {
    Way.SPOT: _spot_alone,
    Way.MIXED: decide,
    Way.ON_DEMAND: _on_demand_alone,
}


def _outlook(runs: Sequence[Replay], deadline_hours: float | None) -> Outlook:
    hours = [math.inf if run.finish_hours is None else run.finish_hours for run in runs]
    usd = [math.inf if run.finish_hours is None else run.usd for run in runs]
    return Outlook(
        usd=Spread.of(usd),
        hours=Spread.of(hours),
        finished_share=sum(math.isfinite(value) for value in hours) / len(runs),
        in_time_share=None
        if deadline_hours is None
        else sum(value <= deadline_hours * (1 + 1e-9) for value in hours) / len(runs),
        num_preemptions=sum(run.num_preemptions for run in runs) / len(runs),
        samples=tuple((at, paid) for at, paid in zip(hours, usd, strict=True) if math.isfinite(at)),
    )
