"""What spot cost in a pool at a time: the port, and the time of an attempt's machines at its prices."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.market import Market
from spotkeeper.policy.savings import BilledTime


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedPeriod:
    """A part of a time, at one price."""

    seconds: Decimal
    usd_per_hour: Decimal


class PriceHistory(Protocol):
    """What is known of some instance types over some time."""

    def periods(
        self, instance_type: str, availability_zone: str, *, began_at: datetime, ended_at: datetime
    ) -> tuple[PricedPeriod, ...] | None:
        """Return the prices of a pool over a time, in order; None where any of it is not known."""


class SpotPrices(Protocol):
    """Whoever keeps the record of spot prices."""

    def read(self, instance_types: Collection[str], *, began_at: datetime, ended_at: datetime) -> PriceHistory:
        """Return the record of these types.

        Raises:
            NotAllowed: the caller may not ask for it.
        """


class NoPriceHistory:
    """Knows nothing."""

    def periods(
        self,
        instance_type: str,  # noqa: ARG002
        availability_zone: str,  # noqa: ARG002
        *,
        began_at: datetime,  # noqa: ARG002
        ended_at: datetime,  # noqa: ARG002
    ) -> None:
        """Return that it is not known."""
        return


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineTime:
    """The time of an attempt's machines, from the start of its container to its end.

    Where SageMaker bills more than that, it begins earlier: what was billed before is the start of the machines.
    """

    market: Market
    began_at: datetime
    ended_at: datetime
    periods: tuple[BilledTime, ...]
    """All machines together: two that run for an hour are two hours."""
    is_price_known: bool
    """False: it is billed here at the on-demand price, the most that it can have cost."""


def machine_time(
    run: Run,
    attempt: Attempt,
    terms: EnvironmentTerms,
    history: PriceHistory,
    *,
    now: datetime,
    billed_seconds: Decimal | None = None,
) -> MachineTime | None:
    """Return the time of a started attempt's machines at their prices; None where not even on-demand's is known.

    `billed_seconds`: what SageMaker bills of each machine, at the on-demand price, if it has told. On spot that is less
    than the machine was there, so the time counts in full, at a lower price.
    """
    market = Market(attempt.market or Market.SPOT)
    on_demand = _on_demand_usd_per_hour(run, attempt, market, terms)
    if on_demand is None:
        return None
    began_at, ended_at = container_time(attempt, now=now)
    seconds = seconds_of(began_at, ended_at)
    told: tuple[PricedPeriod, ...] | None = None
    if billed_seconds is not None:
        before_seconds = max(Decimal(0), billed_seconds - seconds)
        began_at, seconds = began_at - timedelta(seconds=float(before_seconds)), seconds + before_seconds
        price = on_demand * billed_seconds / seconds if seconds else on_demand
        told = (PricedPeriod(seconds=seconds, usd_per_hour=price),)
    elif market is Market.SPOT and attempt.instance_type and attempt.availability_zone:
        told = history.periods(attempt.instance_type, attempt.availability_zone, began_at=began_at, ended_at=ended_at)
    priced = (PricedPeriod(seconds=seconds, usd_per_hour=on_demand),) if told is None else told
    return MachineTime(
        market=market,
        began_at=began_at,
        ended_at=ended_at,
        periods=tuple(
            BilledTime(
                seconds=one.seconds * run.num_nodes, usd_per_hour=one.usd_per_hour, on_demand_usd_per_hour=on_demand
            )
            for one in priced
        ),
        # Without the attempt's own word, its market is not known either.
        is_price_known=told is not None or attempt.market == Market.ON_DEMAND,
    )


def container_time(attempt: Attempt, *, now: datetime) -> tuple[datetime, datetime]:
    """Return when the containers of a started attempt began, and when they ended; `now` while they run."""
    assert attempt.started_at is not None
    began_at = moment(attempt.started_at)
    return began_at, max(began_at, moment(attempt.stopped_at) if attempt.stopped_at else now)


def seconds_of(began_at: datetime, ended_at: datetime) -> Decimal:
    """Return the time between two moments, to the millisecond."""
    return Decimal(str(round((ended_at - began_at).total_seconds(), 3)))


def moment(text: str) -> datetime:
    """Return a time of the ledger."""
    told = datetime.fromisoformat(text)
    return told if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _on_demand_usd_per_hour(run: Run, attempt: Attempt, market: Market, terms: EnvironmentTerms) -> Decimal | None:
    """Return the on-demand price of one of an attempt's machines; without a type, of the dearest of its profile."""
    profile = terms.profiles.get(run.profile)
    if profile is None:
        return None
    if attempt.instance_type is None:
        return profile.dearest_usd_per_hour(market, num_nodes=1)
    return profile.usd_per_hour.get(attempt.instance_type)
