"""Budgets, reservations and the kill switch, as the ledger holds them. Amounts are micro-dollars.

A cap is kept as what is *left* of it, because the one condition that a database can check at the moment of reserving is
"enough is left", and no condition of DynamoDB can add.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

from spotkeeper.policy.money import format_usd
from spotkeeper.policy.placement import Market

UNLIMITED_MICROUSD: Final = 10**15
"""A cap that nobody set: a billion dollars, so that unlimited holders are counted like all others."""


class OverBudget(Exception):  # noqa: N818 - a refusal that callers branch on
    """A holder has less left than is asked for. Nothing was reserved."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"the budget of {holder} does not allow it")
        self.holder = holder


class SwitchedOff(Exception):  # noqa: N818 - a refusal that callers branch on
    """The kill switch was turned since it was read. Nothing was reserved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """One cap of a holder: limit = available + reserved + spent, always. `available` is negative after a lowering."""

    limit: int
    available: int
    reserved: int = 0
    spent: int = 0

    @classmethod
    def of(cls, limit: int) -> Self:
        """Return an untouched cap."""
        return cls(limit=limit, available=limit)

    def reserving(self, amount: int) -> Self:
        """Return the cap with so much more reserved (less, if negative)."""
        return replace(self, available=self.available - amount, reserved=self.reserved + amount)

    def settling(self, reserved: int, spent: int) -> Self:
        """Return the cap after what was reserved has turned out to be spent, or not."""
        return replace(
            self,
            available=self.available + reserved - spent,
            reserved=self.reserved - reserved,
            spent=self.spent + spent,
        )

    def limited(self, limit: int) -> Self:
        """Return the cap with another limit."""
        return replace(self, limit=limit, available=self.available + limit - self.limit)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a holder may spend."""

    holder: str
    fallback: Cap
    """On-demand only."""
    total: Cap
    """Spot and on-demand."""
    version: int = 1
    """Rises when a limit is set; reserving and settling are conditional on what is left instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money set aside for one submission, before its job exists."""

    run_id: str
    submission: int
    market: Market
    microusd: int
    holders: tuple[str, ...]
    """Whose budgets hold it; settled there, whatever month it is by then."""
    created_at: str
    job_queue: str
    usd_per_hour: str
    """Price of the dearest machine that Batch may choose, as decimal text."""
    settled_at: str | None = None
    spent_microusd: int | None = None
    version: int = 1

    @property
    def fallback_microusd(self) -> int:
        """What of it counts against caps of on-demand."""
        return self.microusd if self.market is Market.ON_DEMAND else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Switch:
    """The kill switch: while it is off, no on-demand money can be reserved; each turn raises the generation."""

    generation: int = 0
    is_off: bool = False
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Caps of a holder as settings state them; None: unlimited."""

    fallback_microusd: int | None = None
    total_microusd: int | None = None

    def open(self, holder: str) -> Budget:
        """Return the untouched budget of a holder with these caps."""
        return Budget(
            holder=holder, fallback=Cap.of(_limit(self.fallback_microusd)), total=Cap.of(_limit(self.total_microusd))
        )


def _limit(microusd: int | None) -> int:
    return UNLIMITED_MICROUSD if microusd is None else microusd


def refusal(budget: Budget, *, fallback: int, total: int) -> str:
    """Return, for people, which cap of a holder does not allow an amount, or an empty text if both do."""
    for name, cap, asked in (("fallback", budget.fallback, fallback), ("total", budget.total, total)):
        if asked > 0 and cap.available < asked:
            return (
                f"the {name} cap of {budget.holder} has {format_usd(cap.available)} left of {format_usd(cap.limit)}, "
                f"and {format_usd(asked)} must be reserved"
            )
    return ""
