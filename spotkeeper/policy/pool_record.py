"""What an environment has seen of each pool that its attempts ran in: how often it took machines, and what work cost.

Advice for whoever chooses the instance types of a profile: AWS Batch picks the pool of a job among them by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from spotkeeper.policy import hazard, preemption_rate, regime_change
from spotkeeper.policy.pool_breaker import BreakerState, PoolBreaker
from spotkeeper.policy.preemption_rate import FEWEST_EVENTS, PreemptionRate, Spell
from spotkeeper.policy.regime_change import Regime, RegimeChange, Watched

WINDOW_HOURS: Final = 7 * 24.0
"""What counts as lately: a week has the nights and the weekend in it."""


class SeenPool(NamedTuple):
    """An instance type in a zone, as the machines there name it."""

    instance_type: str
    availability_zone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenMachine:
    """An attempt's machine on spot, from the start of its container. Times are hours on any clock."""

    pool: SeenPool
    began_at: float
    ended_at: float
    """Now, where it still runs."""
    was_taken: bool
    """By EC2, with a warning or without."""
    spent_usd: float | None
    """None: its spot price is not known."""
    useful_hours: float | None
    """None: not measured."""

    @property
    def spell(self) -> Spell:
        """Its life, for estimates."""
        return Spell(hours=max(0.0, self.ended_at - self.began_at), is_ended=self.was_taken)


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolRecord:
    """One pool."""

    pool: SeenPool
    num_machines: int
    rate: PreemptionRate
    """With its events and hours; `is_sufficient` says whether to act on it."""
    usd_per_hour: float | None
    """Mean over the hours whose price is known."""
    usd_per_useful_hour: float | None
    """With starts and lost work; of the machines of which price and use are known."""
    breaker: BreakerState
    breaker_reason: str
    regime: RegimeChange | None
    """Lately against before; None: what was before is too little to compare with."""

    @property
    def regime_words(self) -> str:
        """The verdict for people."""
        return Regime.INSUFFICIENT.value if self.regime is None else self.regime.regime.value


def records(machines: Iterable[SeenMachine], *, now: float) -> tuple[PoolRecord, ...]:
    """Return the pools, the cheapest useful hour first, those of which it is not known last."""
    by_pool: dict[SeenPool, list[SeenMachine]] = {}
    for machine in machines:
        by_pool.setdefault(machine.pool, []).append(machine)
    found = [_record(pool, seen, now=now) for pool, seen in by_pool.items()]
    return tuple(
        sorted(found, key=lambda one: (one.usd_per_useful_hour is None, one.usd_per_useful_hour or 0, one.pool))
    )


def breakers(machines: Iterable[SeenMachine]) -> Mapping[SeenPool, PoolBreaker]:
    """Return the breaker of each pool after all that happened there, in the order in which it happened; in seconds."""
    found: dict[SeenPool, PoolBreaker] = {}
    happened = [
        (moment, is_end, machine)
        for machine in machines
        for moment, is_end in ((machine.began_at, False), (machine.ended_at, True))
    ]
    for moment, is_end, machine in sorted(happened, key=lambda one: one[:2]):
        breaker = found.get(machine.pool, PoolBreaker())
        seconds, age_seconds = moment * 3600, (machine.ended_at - machine.began_at) * 3600
        found[machine.pool] = (
            breaker.after_end(seconds, age_seconds=age_seconds, is_preempted=machine.was_taken)
            if is_end
            else breaker.after_start(seconds)
        )
    return found


def _record(pool: SeenPool, machines: list[SeenMachine], *, now: float) -> PoolRecord:
    priced = [(one.spent_usd, one.spell.hours) for one in machines if one.spent_usd is not None]
    hours = sum(part for _, part in priced)
    used = [
        (one.spent_usd, one.useful_hours)
        for one in machines
        if one.spent_usd is not None and one.useful_hours is not None
    ]
    useful_hours = sum(part for _, part in used)
    breaker = breakers(machines)[pool]
    return PoolRecord(
        pool=pool,
        num_machines=len(machines),
        rate=preemption_rate.estimate(one.spell for one in machines),
        usd_per_hour=sum(usd for usd, _ in priced) / hours if hours else None,
        usd_per_useful_hour=sum(usd for usd, _ in used) / useful_hours if useful_hours else None,
        breaker=breaker.state(now * 3600),
        breaker_reason=breaker.reason(now * 3600),
        regime=_regime(machines, now=now),
    )


def _regime(machines: list[SeenMachine], *, now: float) -> RegimeChange | None:
    begins_at = now - WINDOW_HOURS
    before = [
        Spell(hours=min(one.ended_at, begins_at) - one.began_at, is_ended=one.was_taken and one.ended_at <= begins_at)
        for one in machines
        if one.began_at < begins_at
    ]
    if sum(spell.is_ended for spell in before) < FEWEST_EVENTS:
        return None
    window = [
        Watched(
            age_hours=max(0.0, begins_at - one.began_at),
            hours=one.ended_at - max(begins_at, one.began_at),
            is_ended=one.was_taken,
        )
        for one in machines
        if one.ended_at > begins_at
    ]
    return regime_change.compare(window, past=hazard.fit(before).lomax)
