"""From a job as its user describes it to what it will probably cost, and whether spot suits it. No effect."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from spotkeeper.ops.spot_trace import Ticks
from spotkeeper.policy import checkpoint_interval, emergency_save, hazard, pools, preemption_rate
from spotkeeper.policy.drawn_market import drawn_ticks, resampled_hazards
from spotkeeper.policy.emergency_save import EmergencySave
from spotkeeper.policy.forecast import Job, Outlook, SampledMarket, Way, forecast
from spotkeeper.policy.market import Mode
from spotkeeper.policy.measured_saves import MeasuredSave
from spotkeeper.policy.pools import PoolChoice
from spotkeeper.policy.preemption_rate import PreemptionRate, Spell
from spotkeeper.policy.spot_overhead import break_even_preemptions_per_hour
from spotkeeper.policy.suitability import Concern, Kind, Workload, concerns

NOTICE_SECONDS: Final = 120.0
_TICKS_A_JOB: Final = 300
_SHORTEST_TICK_SECONDS: Final = 60.0
_LONGEST_TICK_SECONDS: Final = 1800.0
_MARKET_JOBS: Final = 4
"""A drawn market is so many times as long as the job, and a day longer: what has not come by then is told as such."""
_COMMIT_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What the user says of a job."""

    work_hours: float
    """On one machine, without interruptions and checkpoints."""
    deadline_hours: float | None
    state_gb: float
    """Of a checkpoint."""
    upload_gb_per_second: float
    stall_seconds: float
    """Of training, that one checkpoint costs."""
    changeover_hours: float
    max_lost_seconds: float
    kind: Kind
    num_nodes: int
    has_checkpoints: bool
    mode: Mode
    total_cap_usd: float | None
    fallback_cap_usd: float | None

    def __post_init__(self) -> None:
        for name, may_be_zero in (
            ("work_hours", False),
            ("state_gb", True),
            ("upload_gb_per_second", False),
            ("stall_seconds", True),
            ("changeover_hours", True),
        ):
            value = getattr(self, name)
            if not (0 <= value < math.inf and (value or may_be_zero)):
                raise ValueError(f"{name} must be {'at least' if may_be_zero else 'above'} 0 and finite, got {value}")
        if self.deadline_hours is not None and not 0 < self.deadline_hours < math.inf:
            raise ValueError(f"deadline_hours must be above 0 and finite, got {self.deadline_hours}")
        if self.num_nodes < 1:
            raise ValueError(f"nodes must be at least 1, got {self.num_nodes}")

    @property
    def save(self) -> MeasuredSave:
        """What one checkpoint takes."""
        return MeasuredSave(
            lost_seconds=self.stall_seconds,
            upload_seconds=self.state_gb / self.upload_gb_per_second,
            bytes=round(self.state_gb * 1e9),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What an hour costs, and in which pools."""

    spot_usd_per_hour: float
    on_demand_usd_per_hour: float
    choice: PoolChoice | None
    """None: the user named the prices, or the trace has them."""
    source: str

    def __post_init__(self) -> None:
        for name in ("spot_usd_per_hour", "on_demand_usd_per_hour"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPlan:
    """What to expect, and why."""

    outlooks: dict[Way, Outlook]
    prices: Prices
    interval_seconds: float | None
    """None: the job makes no checkpoints."""
    interval_reason: str
    notice_suffices: bool | None
    """For a whole save, beginning when the notice comes; None: the job makes no checkpoints."""
    rate: PreemptionRate
    break_even_per_hour: float
    """From so many preemptions an hour on, spot costs more than on-demand."""
    pays: bool
    """Running mixed is expected to cost less than on-demand."""
    verdict: str
    concerns: tuple[Concern, ...]
    num_samples: int
    market: str
    """Where the markets came from that the job was tried on."""


def make(
    request: JobRequest,
    prices: Prices,
    *,
    trace: Ticks | None,
    seen: Sequence[Spell] = (),
    num_samples: int,
    seed: int,
    force: bool = False,
) -> JobPlan:
    """Plan a job.

    Args:
        request: What the user says.
        prices: What an hour costs.
        trace: A recorded market, from whose hazards markets are drawn; None: from those of recorded pools.
        seen: Lives of machines on spot in the user's own environment, which count where there is no trace and where
            enough of them were taken.
        num_samples: Markets to try it on, at least 1.
        seed: The same seed gives the same plan.
        force: Plan also where spot does not belong.

    Raises:
        ValueError: naming what is wrong, the value and what is allowed; or what speaks against spot, and the fix.
    """
    if not 1 <= num_samples <= 10_000:
        raise ValueError(f"samples must be from 1 to 10000, got {num_samples}")
    up, down, market = _hazards(trace, seen)
    rate = preemption_rate.estimate(up)
    found = _concerns(request, prices, rate)
    refusals = [concern.message for concern in found if concern.is_refusal]
    if refusals and not force:
        raise ValueError("; ".join(refusals) + " (--force plans it all the same)")
    interval = _interval(request, rate)
    job = _job(request, prices, interval_seconds=interval.seconds if interval else None)
    random = Random(seed)  # noqa: S311  no secret: the same seed is to give the same plan
    outlooks = forecast(job, _drawn(job, trace, up, down, num_samples=num_samples, random=random))
    break_even = break_even_preemptions_per_hour(
        price_ratio=prices.on_demand_usd_per_hour / prices.spot_usd_per_hour,
        save_hours=request.stall_seconds / 3600,
        restore_hours=request.changeover_hours,
    )
    mixed_usd, on_demand_usd = outlooks[Way.MIXED].usd.mean, outlooks[Way.ON_DEMAND].usd.mean
    pays = mixed_usd is not None and on_demand_usd is not None and mixed_usd < on_demand_usd
    return JobPlan(
        outlooks=outlooks,
        prices=prices,
        interval_seconds=interval.seconds if interval else None,
        interval_reason=interval.reason if interval else "the job makes no checkpoints",
        notice_suffices=_notice_suffices(request) if request.has_checkpoints else None,
        rate=rate,
        break_even_per_hour=break_even,
        pays=pays,
        verdict=_verdict(outlooks, rate=rate, break_even=break_even, pays=pays),
        concerns=found,
        num_samples=num_samples,
        market=market,
    )


def prices_of_pools(offers: Sequence[pools.Offer], *, request: JobRequest, source: str) -> Prices:
    """Return the prices of the pools that are worth offering.

    Raises:
        ValueError: if spot pays in none of them.
    """
    choice = pools.choose(
        pools.rank(offers, save_hours=request.stall_seconds / 3600, restore_hours=request.changeover_hours)
    )
    if not choice.pools:
        raise ValueError(f"spot does not pay in any of these pools: {choice.reason}; use on-demand, or other types")
    chosen = [one.offer for one in choice.pools]
    return Prices(
        # Which of them has capacity, nobody knows before: their mean, not the lowest.
        spot_usd_per_hour=sum(offer.spot_usd_per_hour for offer in chosen) / len(chosen),
        on_demand_usd_per_hour=min(offer.on_demand_usd_per_hour for offer in offers),
        choice=choice,
        source=source,
    )


def _concerns(request: JobRequest, prices: Prices, rate: PreemptionRate) -> tuple[Concern, ...]:
    return concerns(
        Workload(
            kind=request.kind,
            num_nodes=request.num_nodes,
            has_checkpoints=request.has_checkpoints,
            work_hours=request.work_hours,
            deadline_hours=request.deadline_hours,
            changeover_hours=request.changeover_hours,
            preemptions_per_hour=rate.per_hour,
            price_ratio=prices.on_demand_usd_per_hour / prices.spot_usd_per_hour,
        )
    )


def _interval(request: JobRequest, rate: PreemptionRate) -> checkpoint_interval.Interval | None:
    if not request.has_checkpoints:
        return None
    return checkpoint_interval.choose(
        (request.save,),
        between_interruptions_seconds=3600 / rate.per_hour,
        rescued_share=0.0,
        max_lost_seconds=request.max_lost_seconds,
    )


def _job(request: JobRequest, prices: Prices, *, interval_seconds: float | None) -> Job:
    if interval_seconds is None:
        stalled, lost_hours = 0.0, request.work_hours
    else:
        stalled = request.stall_seconds / interval_seconds if interval_seconds else 0.0
        # On average a preemption comes in the middle of an interval, and takes what is not committed yet.
        lost_hours = (interval_seconds / 2 + request.save.upload_seconds + _COMMIT_SECONDS) / 3600
    return Job(
        work_hours=request.work_hours * (1 + stalled),
        deadline_hours=request.deadline_hours,
        changeover_hours=request.changeover_hours,
        lost_hours=lost_hours,
        spot_usd_per_hour=prices.spot_usd_per_hour,
        on_demand_usd_per_hour=prices.on_demand_usd_per_hour,
        mode=request.mode,
        total_cap_usd=request.total_cap_usd,
        fallback_cap_usd=request.fallback_cap_usd,
    )


def _hazards(trace: Ticks | None, seen: Sequence[Spell]) -> tuple[tuple[Spell, ...], tuple[Spell, ...], str]:
    """Return stretches with spot, stretches without, and where they came from; none at all: those of recorded pools."""
    if trace:
        up, down = hazard.spells_of(trace.available, gap_hours=trace.gap_seconds / 3600)
        return up, down, f"drawn from hazards fitted on {len(up)} stretches with spot of the trace"
    recorded = "drawn from the hazards of recorded GPU pools"
    if not seen:
        return (), (), recorded
    num_taken = sum(spell.is_ended for spell in seen)
    own = f"{num_taken} of {len(seen)} machines on spot were taken"
    if num_taken < preemption_rate.FEWEST_EVENTS:
        return (), (), f"{recorded}: insufficient data in this environment, where {own}"
    return tuple(seen), (), f"drawn from the hazard of this environment, where {own}; outages as in recorded GPU pools"


def _drawn(
    job: Job,
    trace: Ticks | None,
    up: Sequence[Spell],
    down: Sequence[Spell],
    *,
    num_samples: int,
    random: Random,
) -> Iterator[SampledMarket]:
    if trace:
        gap_seconds = trace.gap_seconds
    else:
        gap_seconds = min(max(job.work_hours * 3600 / _TICKS_A_JOB, _SHORTEST_TICK_SECONDS), _LONGEST_TICK_SECONDS)
    hours = max(_MARKET_JOBS * job.work_hours, job.deadline_hours or 0.0) + 24
    for _ in range(num_samples):
        lifetime, outage = (
            resampled_hazards(up, down, draw=random.random)
            if up or down
            else (hazard.PRIOR_LIFETIME, hazard.PRIOR_OUTAGE)
        )
        yield SampledMarket(
            available=drawn_ticks(
                lifetime=lifetime,
                outage=outage,
                num_ticks=math.ceil(hours * 3600 / gap_seconds),
                gap_hours=gap_seconds / 3600,
                draw=random.random,
            ),
            gap_seconds=gap_seconds,
        )


def _notice_suffices(request: JobRequest) -> bool:
    budget_seconds = NOTICE_SECONDS - emergency_save.margin_seconds(NOTICE_SECONDS)
    chosen = emergency_save.choose(
        budget_seconds=budget_seconds,
        step_seconds=0.0,
        staging_seconds=request.stall_seconds,
        total_bytes=request.save.bytes,
        in_flight=None,
        bytes_per_second=request.upload_gb_per_second * 1e9,
    )
    return chosen is EmergencySave.FRESH


def _verdict(outlooks: dict[Way, Outlook], *, rate: PreemptionRate, break_even: float, pays: bool) -> str:
    mixed, on_demand = outlooks[Way.MIXED], outlooks[Way.ON_DEMAND]
    met = f"preempted {rate.per_hour:.2g} times an hour, and pays up to {break_even:.2g}"
    if not pays:
        if mixed.usd.mean is None:
            return f"not always finished: {mixed.finished_share:.0%} of the markets sufficed; spot is {met}"
        return f"spot does not pay: ${mixed.usd.mean:.2f} on average, where on-demand costs ${on_demand.usd.mean:.2f}"
    assert mixed.usd.mean is not None
    assert on_demand.usd.mean is not None
    saved = 1 - mixed.usd.mean / on_demand.usd.mean
    kept = "" if mixed.in_time_share is None else f", in time in {mixed.in_time_share:.0%} of the markets"
    return f"spot pays: {saved:.0%} less than on-demand on average{kept}; it is {met}"
