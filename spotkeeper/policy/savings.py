"""What attempts cost, and what the same machine time would have cost on demand. Decimal arithmetic, no rounding."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

_SECONDS_PER_HOUR: Final = Decimal(3600)
MAX_USD_PER_HOUR: Final = Decimal(1000)
"""No instance type costs a tenth of this per hour on spot, or its whole on demand (2026): more is a wrong unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BilledTime:
    """Time on one machine, at the price paid and at the on-demand price of the same type."""

    seconds: Decimal
    usd_per_hour: Decimal
    on_demand_usd_per_hour: Decimal

    def __post_init__(self) -> None:
        _check("seconds", self.seconds)
        for name, price in (
            ("usd_per_hour", self.usd_per_hour),
            ("on_demand_usd_per_hour", self.on_demand_usd_per_hour),
        ):
            _check(name, price)
            if price > MAX_USD_PER_HOUR:
                raise ValueError(f"{name} must be at most {MAX_USD_PER_HOUR} USD an hour, got {price}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Savings:
    """The sum over all billed time, in USD."""

    spent_usd: Decimal
    on_demand_usd: Decimal
    """The on-demand reference."""

    @property
    def saved_usd(self) -> Decimal:
        """What was not spent; negative if the paid prices were above the reference."""
        return self.on_demand_usd - self.spent_usd

    @property
    def saved_percent(self) -> Decimal | None:
        """Share of the reference that was saved; None when the reference is 0."""
        return 100 * self.saved_usd / self.on_demand_usd if self.on_demand_usd else None


def savings(billed: Iterable[BilledTime]) -> Savings:
    """Add up billed time. Interrupted attempts count in full: lost work was paid for too."""
    spent = on_demand = Decimal(0)
    for time in billed:
        spent += time.seconds * time.usd_per_hour
        on_demand += time.seconds * time.on_demand_usd_per_hour
    return Savings(spent_usd=spent / _SECONDS_PER_HOUR, on_demand_usd=on_demand / _SECONDS_PER_HOUR)


def _check(name: str, value: Decimal) -> None:
    if not isinstance(value, Decimal):
        raise TypeError(f"{name} must be a Decimal, so that money stays exact; got {type(value).__name__}")
    if not value.is_finite() or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
