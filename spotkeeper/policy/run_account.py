"""The account of a run: what it cost, what the same work would have cost on demand, where the difference went. Pure.

What is not known is named and never guessed: a price that nobody knows is replaced by the on-demand price of the type,
which bounds it from above, and without any counters of the trainer no saving is claimed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from spotkeeper.policy.market import Market
from spotkeeper.policy.money import MICROUSD_PER_USD, format_usd
from spotkeeper.policy.savings import BilledTime, savings
from spotkeeper.policy.savings_split import FREE_SECONDS, AttemptTime, Purpose, SavingsSplit, Waste, split


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """One attempt's machine; of one with several, all of them together."""

    name: str
    """`2.1`: the first attempt of the second submission."""
    time: AttemptTime
    is_price_known: bool = True
    """False: its prices are those of on-demand, the most that it can have cost."""

    was_taken: bool = False
    """EC2 interrupted it. That it bills nothing within the first hour is not claimed: the hour counts from the launch
    of the host, which is not known here, so that money stays in the cost and is told apart."""

    is_ec2: bool = True
    """False: SageMaker bills it, which knows no free hour."""

    @property
    def is_free_maybe(self) -> bool:
        """Whether EC2 may not have billed it."""
        is_young = self.time.total_seconds < FREE_SECONDS
        return self.is_ec2 and self.was_taken and self.time.market is Market.SPOT and is_young


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAccount:
    """Whole micro-dollars."""

    num_attempts: int = 0
    machine_seconds: Decimal = Decimal(0)
    useful_seconds: Decimal | None = None
    """None: not measured."""
    spent_microusd: int = 0
    machine_on_demand_microusd: int = 0
    """The very same machine time at on-demand prices, lost work and starts included: no reference for savings."""
    fallback_seconds: Decimal = Decimal(0)
    fallback_microusd: int = 0
    maybe_free_microusd: int = 0
    """Part of what was spent that EC2 may not bill, since it took the machine within its first hour."""
    bounded: tuple[str, ...] = ()
    """Attempts whose spot price is not known."""
    unpriced: tuple[str, ...] = ()
    """Attempts of which no price is known at all: in no sum."""
    split: SavingsSplit | None = None
    """None: not measured, or an attempt has no price."""
    machines: tuple[Machine, ...] = ()
    """Those of one run; none in a sum of several."""

    @property
    def is_upper_bound(self) -> bool:
        """Whether it can have cost less than that, because of prices that are not known; more, if some are unpriced."""
        return bool(self.bounded)

    @property
    def is_possible_known(self) -> bool:
        """Whether it is known what spot cost: of prices that are not known, nothing follows for what was possible."""
        return self.split is not None and self.split.was_on_spot and not self.is_upper_bound


def account(
    machines: Sequence[Machine], *, unpriced: Sequence[str] = (), is_measured: bool, boot_seconds: Decimal | None = None
) -> RunAccount:
    """Account for a run.

    Args:
        machines: Its attempts of which some price is known.
        unpriced: The names of all others.
        is_measured: Whether the machines' `seconds` say what they were used for.
        boot_seconds: What one start takes, which the on-demand reference pays once; None: the shortest that was seen.
    """
    periods = [period for machine in machines for period in machine.time.periods]
    total = savings(periods)
    fallback = [machine.time for machine in machines if machine.time.market is Market.ON_DEMAND]
    found = None
    useful = sum((machine.time.useful_seconds for machine in machines), start=Decimal(0)) if is_measured else None
    if useful is not None and not unpriced and machines:
        found = _split([machine.time for machine in machines], useful, boot_seconds)
    spent = round(total.spent_usd * MICROUSD_PER_USD)
    return RunAccount(
        num_attempts=len(machines) + len(unpriced),
        machine_seconds=sum((machine.time.total_seconds for machine in machines), start=Decimal(0)),
        useful_seconds=useful,
        spent_microusd=spent if found is None else found.spent_microusd,
        machine_on_demand_microusd=round(total.on_demand_usd * MICROUSD_PER_USD),
        fallback_seconds=sum((time.total_seconds for time in fallback), start=Decimal(0)),
        fallback_microusd=round(sum((time.listed_microusd for time in fallback), start=0)),
        maybe_free_microusd=round(
            sum((machine.time.listed_microusd for machine in machines if machine.is_free_maybe), start=0)
        ),
        bounded=tuple(machine.name for machine in machines if not machine.is_price_known),
        unpriced=tuple(unpriced),
        split=found,
        machines=tuple(machines),
    )


def total(accounts: Iterable[RunAccount]) -> RunAccount:
    """Return the sum of several; its split is that of the runs which have one."""
    all_ = tuple(accounts)
    splits = [one.split for one in all_ if one.split is not None]
    useful = [one.useful_seconds for one in all_ if one.useful_seconds is not None]
    return RunAccount(
        num_attempts=sum(one.num_attempts for one in all_),
        machine_seconds=sum((one.machine_seconds for one in all_), start=Decimal(0)),
        useful_seconds=sum(useful, start=Decimal(0)) if useful else None,
        spent_microusd=sum(one.spent_microusd for one in all_),
        machine_on_demand_microusd=sum(one.machine_on_demand_microusd for one in all_),
        fallback_seconds=sum((one.fallback_seconds for one in all_), start=Decimal(0)),
        fallback_microusd=sum(one.fallback_microusd for one in all_),
        maybe_free_microusd=sum(one.maybe_free_microusd for one in all_),
        bounded=tuple(name for one in all_ for name in one.bounded),
        unpriced=tuple(name for one in all_ for name in one.unpriced),
        split=_sum(splits) if splits else None,
    )


def what_limits(found: SavingsSplit) -> str:
    """Say in a sentence what stands most between the effective and the theoretical saving."""
    if not found.was_on_spot:
        return "nothing was saved by spot, as all of it ran on on-demand"
    worst = max(found.waste_microusd, key=lambda name: found.waste_microusd[name])
    lost = found.waste_microusd[worst]
    if lost <= 0:
        return "nothing limits the savings: they are all that the difference of prices allows"
    between = sum(part for part in found.waste_microusd.values() if part > 0)
    return (
        f"what limits the savings most is {worst.value}: {format_usd(lost)}, {lost / between:.0%} of all that was paid "
        "beyond the theoretical cost"
    )


def sentence(found: RunAccount) -> str:
    """Say the account in one line, for people."""
    most = "at most " if found.is_upper_bound else ""
    said = f"cost {most}{format_usd(found.spent_microusd)}"
    if found.unpriced:
        # A sum without them bounds nothing.
        others = f"; the others {said}" if found.num_attempts > len(found.unpriced) else ""
        said = f"what it cost is not known, as attempt {', '.join(found.unpriced)} has no known price{others}"
    if found.useful_seconds is None:
        return f"{said}; what it saved was not measured"
    if found.split is None or found.split.effective is None:
        return f"{said}; what it saved is not known"
    said += f", {format_usd(found.split.reference_microusd)} on demand: {_saved(found.split.effective, found)}"
    if found.split.theoretical is not None and found.is_possible_known:
        said += (
            f" of {found.split.theoretical:.0%} possible"
            if found.split.effective >= 0
            else (f", and {found.split.theoretical:.0%} less was possible")
        )
    return f"{said}; {what_limits(found.split)}"


def _saved(effective: float, found: RunAccount) -> str:
    if effective < 0:
        return f"{'up to ' if found.is_upper_bound else ''}{-effective:.0%} dearer"
    return f"saved {'at least ' if found.is_upper_bound else ''}{effective:.0%}"


def _split(times: Sequence[AttemptTime], useful: Decimal, boot_seconds: Decimal | None) -> SavingsSplit:
    starts = [
        time.seconds[Purpose.CHANGEOVER] for time in times if time.useful_seconds and Purpose.CHANGEOVER in time.seconds
    ]
    spot = [period.usd_per_hour for time in times if time.market is Market.SPOT for period in time.periods]
    on_demand = _on_demand_usd_per_hour(times)
    return split(
        times,
        work_seconds=useful,
        boot_seconds=min(starts, default=Decimal(0)) if boot_seconds is None else boot_seconds,
        on_demand_usd_per_hour=on_demand,
        lowest_spot_usd_per_hour=min(spot, default=on_demand),
    )


def _on_demand_usd_per_hour(times: Iterable[AttemptTime]) -> Decimal:
    """Return the on-demand price of the types that did the work, each for its share of it."""
    weighted = [
        (time.useful_seconds, BilledTime(
            seconds=period.seconds,
            usd_per_hour=period.on_demand_usd_per_hour,
            on_demand_usd_per_hour=period.on_demand_usd_per_hour,
        ), time.total_seconds)
        for time in times
        for period in time.periods
        if time.total_seconds
    ]  # fmt: skip
    useful = sum((share * period.seconds / of for share, period, of in weighted), start=Decimal(0))
    if not useful:
        return max((period.on_demand_usd_per_hour for _, period, _ in weighted), default=Decimal(0))
    paid = sum((share * period.seconds / of * period.usd_per_hour for share, period, of in weighted), start=Decimal(0))
    return paid / useful


def _sum(splits: Sequence[SavingsSplit]) -> SavingsSplit:
    return SavingsSplit(
        reference_microusd=sum(one.reference_microusd for one in splits),
        spent_microusd=sum(one.spent_microusd for one in splits),
        theoretical_microusd=sum(one.theoretical_microusd for one in splits),
        ceiling_microusd=sum(one.ceiling_microusd for one in splits),
        waste_microusd=MappingProxyType({name: sum(one.waste_microusd[name] for one in splits) for name in Waste}),
        was_on_spot=any(one.was_on_spot for one in splits),
    )
