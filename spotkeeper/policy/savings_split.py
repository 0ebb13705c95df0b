"""What a run has saved, what it could have saved, and where the difference went, to the micro-dollar. Pure.

All shares have one denominator: what the work, with one boot, costs on demand on the type that it needs. AWS's own
figures leave out what was done twice and what was waited for; these do not. Every part of the waste is computed by
itself, and together they are the difference between what was paid and what the theoretical saving would have cost.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from spotkeeper.policy.market import Market
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.savings import BilledTime

FREE_SECONDS: Final = 3600
"""EC2 does not bill a Linux instance on spot that it interrupts within its first hour:
docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html"""
_MICROUSD_SECONDS: Final = Fraction(MICROUSD_PER_USD, 3600)


class Purpose(StrEnum):
    """What machine time was used for, other than work that is in the model."""

    CHANGEOVER = "boot and restore"
    LOST = "work done again"
    STALL = "stalls by checkpoints"
    STANDBY = "standby"
    OTHER = "other"


class Waste(StrEnum):
    """What stands between the theoretical saving and the effective one."""

    FALLBACK = "on-demand fallback"
    CHANGEOVER = "boot and restore"
    LOST = "work done again"
    STALL = "stalls by checkpoints"
    STANDBY = "standby"
    DRIFT = "price drift"
    """Useful time on spot at other prices than the mean."""
    SPEED = "slower machines"
    """More useful hours than the work takes on the type that it needs; negative on faster ones."""
    STORAGE = "storage and transfer"
    CONTROL = "control plane"
    FREE = "first hour free"
    """Never above 0: what EC2 did not bill."""
    OTHER = "other"


_OF_PURPOSE: Final = {purpose: Waste(purpose.value) for purpose in Purpose}


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptTime:
    """The machine of an attempt; of one with several, all of them together."""

    market: Market
    periods: tuple[BilledTime, ...]
    """Its whole time, in order, a period for each price; from one pool, or from several."""
    seconds: Mapping[Purpose, Decimal] = field(default_factory=dict)
    """Of its time, what was no useful work. Where a price changed meanwhile, each purpose is taken to have had the same
    share of every period."""
    is_interrupted_by_ec2: bool = False
    """EC2 took it. What we stop ourselves is billed by the second, in its first hour too."""

    def __post_init__(self) -> None:
        for purpose, seconds in self.seconds.items():
            if not isinstance(seconds, Decimal):
                raise TypeError(f"seconds of {purpose} must be a Decimal, got {type(seconds).__name__}")
            if not seconds.is_finite() or seconds < 0:
                raise ValueError(f"seconds of {purpose} must be a finite number of at least 0, got {seconds}")
        used = sum(self.seconds.values(), start=Decimal(0))
        if used > self.total_seconds:
            raise ValueError(f"purposes take {used} s of an attempt that had {self.total_seconds} s")

    @property
    def total_seconds(self) -> Decimal:
        """For which the machine was there."""
        return sum((period.seconds for period in self.periods), start=Decimal(0))

    @property
    def useful_seconds(self) -> Decimal:
        """Of work that is in the model."""
        return self.total_seconds - sum(self.seconds.values(), start=Decimal(0))

    @property
    def is_free(self) -> bool:
        """Whether EC2 does not bill it."""
        is_short = self.total_seconds < FREE_SECONDS
        return self.market is Market.SPOT and self.is_interrupted_by_ec2 and is_short

    @property
    def listed_microusd(self) -> Fraction:
        """What it costs where it is billed."""
        return _cost(self.periods)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavingsSplit:
    """Whole micro-dollars, and shares of the reference (1 is all of it)."""

    reference_microusd: int
    """On demand: the work, and one boot."""
    spent_microusd: int
    theoretical_microusd: int
    """The same hours at the mean price of the spot hours that were used; without any, at the lowest price that was
    allowed."""
    ceiling_microusd: int
    """The same hours at the lowest price of the pools that were allowed."""
    waste_microusd: Mapping[Waste, int]
    """Adds up to what was spent beyond the theoretical cost, exactly."""
    was_on_spot: bool
    """Whether there was an hour on spot: otherwise no mean price of spot is in it."""

    @property
    def effective(self) -> float | None:
        """The share that was saved, everything counted; None where nothing was to be paid anyway."""
        return self._share(self.spent_microusd)

    @property
    def theoretical(self) -> float | None:
        """The share that the difference of prices alone would have saved."""
        return self._share(self.theoretical_microusd)

    @property
    def ceiling(self) -> float | None:
        """The theoretical share in the cheapest of the allowed pools."""
        return self._share(self.ceiling_microusd)

    @property
    def capture_ratio(self) -> float | None:
        """The effective share by the theoretical one; None where spot was not cheaper."""
        effective, theoretical = self.effective, self.theoretical
        return effective / theoretical if effective is not None and theoretical and theoretical > 0 else None

    def _share(self, microusd: int) -> float | None:
        return 1 - microusd / self.reference_microusd if self.reference_microusd else None


def split(
    attempts: Iterable[AttemptTime],
    *,
    work_seconds: Decimal,
    boot_seconds: Decimal,
    on_demand_usd_per_hour: Decimal,
    lowest_spot_usd_per_hour: Decimal,
    storage_microusd: int = 0,
    control_microusd: int = 0,
) -> SavingsSplit:
    """Account for a run.

    Args:
        attempts: All machines that it had, on both markets, standbys too.
        work_seconds: What the work takes on the type that it needs.
        boot_seconds: From that machine's launch to its first step: the reference pays it once.
        on_demand_usd_per_hour: On-demand price of the type that the work needs.
        lowest_spot_usd_per_hour: Of the pools that were allowed. Without an hour on spot it is also the mean.
        storage_microusd: What checkpoints and their transfer cost.
        control_microusd: The run's part of the control plane.

    Raises:
        ValueError: naming a price or time that is negative, or no number.
    """
    machines = tuple(attempts)
    # Checked as any billed time is: finite, not negative, and no price of a wrong unit.
    reference = BilledTime(
        seconds=work_seconds + boot_seconds,
        usd_per_hour=lowest_spot_usd_per_hour,
        on_demand_usd_per_hour=on_demand_usd_per_hour,
    )
    if min(work_seconds, boot_seconds) < 0:
        raise ValueError(f"work_seconds and boot_seconds must be at least 0, got {work_seconds} and {boot_seconds}")
    for name, microusd in (("storage_microusd", storage_microusd), ("control_microusd", control_microusd)):
        if type(microusd) is not int or microusd < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {microusd!r}")
    mean_spot_rate = _mean_spot_rate(machines)
    rate = Fraction(lowest_spot_usd_per_hour) * _MICROUSD_SECONDS if mean_spot_rate is None else mean_spot_rate
    waste = dict.fromkeys(Waste, Fraction(0))
    waste[Waste.STORAGE], waste[Waste.CONTROL] = Fraction(storage_microusd), Fraction(control_microusd)
    waste[Waste.CHANGEOVER] -= rate * Fraction(boot_seconds)
    waste[Waste.SPEED] -= rate * Fraction(work_seconds)
    for machine in machines:
        total = Fraction(machine.total_seconds)
        if not total:
            continue
        mean = machine.listed_microusd / total
        for purpose, seconds in machine.seconds.items():
            waste[_OF_PURPOSE[purpose]] += mean * Fraction(seconds)
        useful = Fraction(machine.useful_seconds)
        waste[Waste.DRIFT if machine.market is Market.SPOT else Waste.FALLBACK] += (mean - rate) * useful
        waste[Waste.SPEED] += rate * useful
        if machine.is_free:
            waste[Waste.FREE] -= machine.listed_microusd
    listed = sum((machine.listed_microusd for machine in machines if not machine.is_free), start=Fraction(0))
    spent = round(listed + storage_microusd + control_microusd)
    theoretical = round(rate * Fraction(reference.seconds))
    return SavingsSplit(
        reference_microusd=round(
            Fraction(reference.on_demand_usd_per_hour) * Fraction(reference.seconds) * _MICROUSD_SECONDS
        ),
        spent_microusd=spent,
        theoretical_microusd=theoretical,
        ceiling_microusd=round(_cost((reference,))),
        waste_microusd=MappingProxyType(_whole(waste, total=spent - theoretical)),
        was_on_spot=mean_spot_rate is not None,
    )


def _mean_spot_rate(machines: Iterable[AttemptTime]) -> Fraction | None:
    """Return micro-dollars a second on spot, over the hours that were used, or None without any."""
    spot = [machine for machine in machines if machine.market is Market.SPOT and machine.total_seconds]
    if not spot:
        return None
    seconds = sum((Fraction(machine.total_seconds) for machine in spot), start=Fraction(0))
    return sum((machine.listed_microusd for machine in spot), start=Fraction(0)) / seconds


def _cost(periods: Iterable[BilledTime]) -> Fraction:
    amounts = (Fraction(period.seconds) * Fraction(period.usd_per_hour) for period in periods)
    return sum(amounts, start=Fraction(0)) * _MICROUSD_SECONDS


def _whole(parts: Mapping[Waste, Fraction], *, total: int) -> dict[Waste, int]:
    """Round the parts so that they keep their sum: those with the largest remainders are rounded up."""
    floors = {name: part.numerator // part.denominator for name, part in parts.items()}
    by_remainder = sorted(parts, key=lambda name: floors[name] - parts[name])
    # The rounding of the total itself moves it by less than one either way.
    missing = total - sum(floors.values())
    for name in by_remainder[: max(missing, 0)]:
        floors[name] += 1
    if missing < 0:
        floors[by_remainder[-1]] += missing
    return floors
