"""Budgets, reservations and the kill switch, as the ledger holds them. Amounts are micro-dollars.

A cap is kept as what is *left* of it, because the one condition that a database can check at the moment of reserving is
"enough is left", and no condition of DynamoDB can add.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Final, Self

from spotkeeper.contract.budgets import month_of
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

    def changed(self, change: "CapChange") -> Self:
        """Return the cap after a change."""
        return type(self)(
            limit=self.limit + change.limit,
            available=self.available + change.available,
            reserved=self.reserved + change.reserved,
            spent=self.spent + change.spent,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CapChange:
    """By how much the parts of a cap change; what is added to the limit is added to the other three together."""

    limit: int = 0
    available: int = 0
    reserved: int = 0
    spent: int = 0

    @classmethod
    def reserving(cls, amount: int) -> Self:
        """Return the change by which so much more is reserved."""
        return cls(available=-amount, reserved=amount)

    @classmethod
    def settling(cls, reserved: int, spent: int) -> Self:
        """Return the change by which what was reserved turns out to be spent, or not."""
        return cls(available=reserved - spent, reserved=-reserved, spent=spent)

    @classmethod
    def limiting(cls, before: int, after: int) -> Self:
        """Return the change by which the limit becomes another."""
        return cls(limit=after - before, available=after - before)

    @property
    def asked(self) -> int:
        """How much must be available for it; 0: nothing."""
        return max(0, -self.available)

    def __add__(self, other: "CapChange") -> "CapChange":
        return CapChange(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})

    def parts(self) -> dict[str, int]:
        """Return the parts that change, each with by how much; what is available is always among them."""
        changes = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: by for name, by in changes.items() if by or name == "available"}


CAPS_OF: Final[Mapping[Market, tuple[str, ...]]] = MappingProxyType(
    {Market.ON_DEMAND: ("fallback", "total"), Market.SPOT: ("total",)}
)
"""Which caps of a holder a reservation counts against."""


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
    deployed_version: int = 1
    """The newest version whose limits are those of the settings: as opened, or as deployed since."""

    @property
    def is_set_by_person(self) -> bool:
        """Whether a person has set limits since the settings did."""
        return self.version > self.deployed_version


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money set aside for one submission, before its job exists."""

    run_id: str
    submission: int
    market: Market
    microusd: int
    holders: tuple[str, ...]
    """Whose budgets hold it; settled there."""
    created_at: str
    job_queue: str
    usd_per_hour: str
    """Price of the dearest machine that Batch may choose, as decimal text."""
    rolled_over_at: str | None = None
    """When it was handed on last to the holders of a new month."""
    booked_microusd: int = 0
    """What holders of earlier months have paid of it."""
    settled_at: str | None = None
    spent_microusd: int | None = None
    """What its holders paid when it was settled, beside what was booked before."""
    version: int = 1

    @property
    def month(self) -> str:
        """The month whose budgets hold it."""
        return month_of(self.rolled_over_at or self.created_at)

    @property
    def cost_microusd(self) -> int | None:
        """What the submission cost in all; None until it is settled."""
        return None if self.spent_microusd is None else self.booked_microusd + self.spent_microusd

    def settled(self, spent_microusd: int, *, at: str) -> Self:
        """Return it as it is once what was spent is booked."""
        return replace(self, settled_at=at, spent_microusd=spent_microusd, version=self.version + 1)

    def extended(self, microusd: int) -> Self:
        """Return it with so much more set aside."""
        return replace(self, microusd=self.microusd + microusd, version=self.version + 1)

    def rolled_over(self, spent_microusd: int, *, holders: tuple[str, ...], microusd: int, at: str) -> Self:
        """Return it as the holders of a new month have it."""
        booked = self.booked_microusd + spent_microusd
        return replace(
            self,
            holders=holders,
            microusd=microusd,
            booked_microusd=booked,
            rolled_over_at=at,
            version=self.version + 1,
        )

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


def rolling_over(
    reservation: Reservation, spent_microusd: int, *, holders: Iterable[str], microusd: int
) -> dict[str, CapChange]:
    """Return, by holder, what handing a reservation on changes.

    Those that held it pay what was spent and have the rest back; those that hold it from now set so much aside. For
    who does both, as a run and a sweep do, it is one change, so that nobody needs the money twice.
    """
    changes = dict.fromkeys(reservation.holders, CapChange.settling(reservation.microusd, spent_microusd))
    for holder in holders:
        changes[holder] = changes.get(holder, CapChange()) + CapChange.reserving(microusd)
    return changes


def asked_by_rolling_over(
    changes: Mapping[str, CapChange], holders: Collection[str], *, microusd: int
) -> dict[str, int]:
    """Return, by holder, how much must be available for that: what was spent is owed, whatever is left.

    So only those are asked that set something aside.
    """
    return {
        holder: change.asked for holder, change in changes.items() if microusd and holder in holders and change.asked
    }


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
