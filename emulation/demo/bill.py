"""What the machines of a run cost, line by line: what each was paid for, and what it would have cost on demand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from emulation.demo.timeline import Row
from emulation.ec2.market import SpotMarket
from spotkeeper.control.classify import Cause
from spotkeeper.policy import attempt_use, run_account
from spotkeeper.policy.market import Market
from spotkeeper.policy.run_account import Machine, RunAccount
from spotkeeper.policy.savings import BilledTime, Savings, savings
from spotkeeper.policy.savings_split import AttemptTime


class Item(StrEnum):
    """What a machine was paid for."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    STANDBY = "standby waits"
    """The price of returning without a break: two machines, of which one only waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """One line of the bill."""

    attempt: str
    item: Item
    time: BilledTime

    @property
    def usd(self) -> Decimal:
        """What was paid."""
        return savings([self.time]).spent_usd

    @property
    def on_demand_usd(self) -> Decimal:
        """What the same would have cost on demand."""
        return savings([self.time]).on_demand_usd


@dataclass(frozen=True, slots=True)
class Bill:
    """All lines, and what the run saved, as `spotkeeper savings` accounts for it."""

    charges: tuple[Charge, ...]
    account: RunAccount

    @property
    def total(self) -> Savings:
        """The sum of all."""
        return savings(charge.time for charge in self.charges)

    def usd_of(self, item: Item) -> Decimal:
        """Return what was paid for one kind of item."""
        return sum((charge.usd for charge in self.charges if charge.item is item), start=Decimal(0))


def bill(rows: Sequence[Row], market: SpotMarket) -> Bill:
    """Return the machine time of each attempt, from the instance's launch to its end, at the prices of its pool."""
    charges = tuple(charge for row in rows for charge in _charges(row, market))
    return Bill(charges, _account(rows, market))


def _account(rows: Sequence[Row], market: SpotMarket) -> RunAccount:
    in_order = sorted(rows, key=lambda row: (row.attempt.claimed_at is None, row.attempt.claimed_at or "", row.name))
    uses = attempt_use.of_attempts(row.told for row in in_order)
    machines = []
    for number, row in enumerate(in_order):
        instance = row.instance
        seconds = instance.seconds(instance.ended_at or market.clock.now())
        reference = Decimal(str(market.usd_per_hour(instance.pool, "on-demand")))
        launched_at, claimed_at = instance.launched_at.timestamp(), row.attempt.claimed_at
        purposes = {} if uses is None else uses[number].purposes(
            started_at=launched_at,
            claimed_at=None if claimed_at is None else datetime.fromisoformat(claimed_at).timestamp(),
            stopped_at=launched_at + seconds,
        )  # fmt: skip
        period = _time(seconds, Decimal(str(instance.usd_per_hour)), reference)
        time = AttemptTime(market=Market(instance.market), periods=(period,), seconds=purposes)
        machines.append(Machine(name=row.name, time=time, was_taken=row.attempt.cause == Cause.INTERRUPTED))
    return run_account.account(machines, is_measured=uses is not None)


def _charges(row: Row, market: SpotMarket) -> Iterator[Charge]:
    instance = row.instance
    seconds = instance.seconds(instance.ended_at or market.clock.now())
    waited = _waited_seconds(row, seconds) if row.stood_by else 0.0
    price = Decimal(str(instance.usd_per_hour))
    reference = Decimal(str(market.usd_per_hour(instance.pool, "on-demand")))
    if waited:
        # On demand from the beginning, no standby would have waited: there is nothing to compare it with.
        yield Charge(attempt=row.name, item=Item.STANDBY, time=_time(waited, price, Decimal(0)))
    if seconds > waited:
        yield Charge(attempt=row.name, item=Item(instance.market), time=_time(seconds - waited, price, reference))


def _waited_seconds(row: Row, seconds: float) -> float:
    """Return how long a standby's machine was there before the run was its own."""
    if row.attempt.claimed_at is None:
        return seconds
    waited: timedelta = datetime.fromisoformat(row.attempt.claimed_at) - row.instance.launched_at
    return min(seconds, max(0.0, waited.total_seconds()))


def _time(seconds: float, price: Decimal, reference: Decimal) -> BilledTime:
    return BilledTime(seconds=Decimal(str(round(seconds, 3))), usd_per_hour=price, on_demand_usd_per_hour=reference)
