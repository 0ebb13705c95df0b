"""What a run that has ended cost, in dollars for metrics: its machine time, and the same time on demand.

Lost work and starts are in both, so this is what the difference of prices saved. What the work itself would have cost,
`spotkeeper savings` tells, from what the training measured.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from spotkeeper.control.ports import Ports
from spotkeeper.control.run import Run
from spotkeeper.control.spot_prices import NoPriceHistory, PriceHistory, machine_time, moment
from spotkeeper.control.training_bill import billed_seconds
from spotkeeper.policy.market import Market
from spotkeeper.policy.savings import savings


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDollars:
    """In US dollars."""

    spot_usd: float = 0.0
    """Machines whose spot price is not known count at their on-demand price."""
    on_demand_usd: float = 0.0
    on_demand_equivalent_usd: float = 0.0
    """All machine time, of both markets, at on-demand prices."""

    @property
    def saved_usd(self) -> float:
        """What the difference of prices saved."""
        return self.on_demand_equivalent_usd - self.spot_usd - self.on_demand_usd

    def plus(self, other: Self) -> Self:
        """Return both together."""
        return type(self)(
            spot_usd=self.spot_usd + other.spot_usd,
            on_demand_usd=self.on_demand_usd + other.on_demand_usd,
            on_demand_equivalent_usd=self.on_demand_equivalent_usd + other.on_demand_equivalent_usd,
        )


def dollars(run: Run, *, ports: Ports, now: str) -> RunDollars:
    """Return what the attempts of a run cost; those of which no price is known are left out."""
    attempts = [attempt for attempt in ports.ledger.attempts(run.run_id) if attempt.started_at is not None]
    # EC2 has no spot price of SageMaker's machines, which tell no zone.
    on_spot = [one for one in attempts if one.market == Market.SPOT and one.availability_zone is not None]
    ended_at = moment(now)
    began_at = min((moment(one.started_at) for one in on_spot if one.started_at is not None), default=ended_at)
    types = {one.instance_type for one in on_spot if one.instance_type is not None}
    history = _history(ports, types, began_at=began_at, ended_at=ended_at)
    billed = billed_seconds(attempts, now=ended_at)
    found = RunDollars()
    for attempt in attempts:
        of_attempt = billed.get((attempt.submission, attempt.attempt))
        time = machine_time(run, attempt, ports.terms, history, now=ended_at, billed_seconds=of_attempt)
        if time is None:
            continue
        of_machine = savings(time.periods)
        spent_usd = float(of_machine.spent_usd)
        found = found.plus(
            RunDollars(
                spot_usd=spent_usd if time.market is Market.SPOT else 0.0,
                on_demand_usd=spent_usd if time.market is Market.ON_DEMAND else 0.0,
                on_demand_equivalent_usd=float(of_machine.on_demand_usd),
            )
        )
    return found


def _history(ports: Ports, types: Collection[str], *, began_at: datetime, ended_at: datetime) -> PriceHistory:
    if ports.spot_prices is None or not types:
        return NoPriceHistory()
    try:
        return ports.spot_prices.read(types, began_at=began_at, ended_at=ended_at)
    except Exception:  # noqa: BLE001  the run has ended whatever EC2 says of prices, and nobody is to bring it there again
        return NoPriceHistory()
