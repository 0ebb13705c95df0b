"""What a submission may spend: its options, their rules, and what to warn of before money is short."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from spotkeeper.contract.names import check_name
from spotkeeper.control.budget import Budget, Limits
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms
from spotkeeper.policy import placement
from spotkeeper.policy.money import MICROUSD_PER_USD, format_usd, parse_usd
from spotkeeper.policy.placement import Market, Mode
from spotkeeper.policy.reservation import on_demand_microusd

ADD_PRICES: Final = "add the prices that you have checked to on_demand_prices_usd in stacks/environments.py and deploy"
_NO_FALLBACK: Final = "the run will not fall back to on-demand"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """Caps of one run, and of the sweep that it belongs to."""

    fallback_cap_microusd: int = 0
    """Most to spend on on-demand; 0: the run stays on spot."""
    total_cap_microusd: int | None = None
    """Most to spend in all; None: no cap of its own."""
    mode: Mode = Mode.BUDGET_FIRST
    sweep: str | None = None
    sweep_fallback_cap_microusd: int | None = None
    sweep_total_cap_microusd: int | None = None

    @classmethod
    def of(
        cls,
        *,
        fallback_cap: str | None = None,
        total_cap: str | None = None,
        mode: str = Mode.BUDGET_FIRST,
        sweep: str | None = None,
        sweep_fallback_cap: str | None = None,
        sweep_total_cap: str | None = None,
    ) -> Self:
        """Read the options of `submit`.

        Raises:
            ValueError: naming the option, the value, what is allowed and the fix.
        """
        chosen = mode_option(mode)
        fallback = cap_option(fallback_cap, "--fallback-cap") or 0
        if chosen is Mode.DEADLINE_FIRST and not fallback:
            raise ValueError(
                f"--mode {mode} needs a --fallback-cap above $0, got {format_usd(fallback)}: without one the run never "
                "leaves spot"
            )
        if sweep is None and (sweep_fallback_cap is not None or sweep_total_cap is not None):
            raise ValueError("caps of a sweep are given without its name: add --sweep NAME")
        if sweep_fallback_cap is not None and not fallback:
            raise ValueError(
                "--sweep-fallback-cap is given, and the run's own --fallback-cap is $0, so it would not use it: give "
                "--fallback-cap too"
            )
        return cls(
            fallback_cap_microusd=fallback,
            total_cap_microusd=cap_option(total_cap, "--total-cap"),
            mode=chosen,
            sweep=None if sweep is None else check_name("--sweep", sweep),
            sweep_fallback_cap_microusd=cap_option(sweep_fallback_cap, "--sweep-fallback-cap"),
            sweep_total_cap_microusd=cap_option(sweep_total_cap, "--sweep-total-cap"),
        )


def mode_option(text: str) -> Mode:
    """Return the mode of an option.

    Raises:
        ValueError: naming the option, the text and what is allowed.
    """
    if text not in list(Mode):
        raise ValueError(f"--mode must be one of {', '.join(Mode)}, got {text!r}")
    return Mode(text)


def cap_option(text: str | None, option: str) -> int | None:
    """Return the micro-dollars of an option, or None if it is not given.

    Raises:
        ValueError: naming the option, the text and what is allowed.
    """
    return None if text is None else parse_usd(text, what=option)


def cap_usd_option(text: str | None, option: str) -> float | None:
    """Return the same in dollars, for what is estimated and not booked."""
    microusd = cap_option(text, option)
    return None if microusd is None else microusd / MICROUSD_PER_USD


def check(spending: Spending, *, profile: str, terms: EnvironmentTerms) -> None:
    """Refuse a total cap that nobody could keep.

    Raises:
        ValueError: if the price of a spot type is not known.
    """
    caps = {
        "--total-cap": spending.total_cap_microusd,
        "--sweep-total-cap": spending.sweep_total_cap_microusd,
    }
    unknown = _without_price(terms.profiles[profile], Market.SPOT)
    for option, cap in caps.items():
        if cap is not None and unknown:
            raise ValueError(
                f"{option} cannot be kept for profile {profile!r}, because the price of {unknown} is not known: leave "
                f"it out, choose another profile, or {ADD_PRICES}"
            )


def warnings(run: Run, terms: EnvironmentTerms) -> tuple[str, ...]:
    """Return why a run that is allowed on-demand will not get it, or not all of it, as far as it can be told now."""
    if not run.fallback_cap_microusd:
        return ()
    return (*_without_on_demand(run, terms), *_above_the_month(run, terms))


def _above_the_month(run: Run, terms: EnvironmentTerms) -> tuple[str, ...]:
    team = terms.team_limits.get(run.team, Limits()).fallback_microusd
    caps = {f"team {run.team}": team, f"environment {run.environment}": terms.limits.fallback_microusd}
    return tuple(
        f"--fallback-cap {format_usd(run.fallback_cap_microusd)} is more than {holder} may spend on on-demand in a "
        f"month, {format_usd(cap)}: the run gets no more than that leaves it"
        for holder, cap in caps.items()
        if cap is not None and cap < run.fallback_cap_microusd
    )


def _without_on_demand(run: Run, terms: EnvironmentTerms) -> tuple[str, ...]:
    profile = terms.profiles[run.profile]
    price = profile.dearest_usd_per_hour(Market.ON_DEMAND, num_nodes=run.num_nodes)
    if price is None:
        unknown = _without_price(profile, Market.ON_DEMAND)
        return (f"{_NO_FALLBACK}: of profile {run.profile!r} the price of {unknown} is not known; {ADD_PRICES}",)
    shortest = min(placement.SHORTEST_SEGMENT_SECONDS, run.attempt_seconds, terms.placement.segment_seconds)
    needed = on_demand_microusd(price, shortest, run.longest_start_seconds)
    cap = min(run.fallback_cap_microusd, run.total_cap_microusd or run.fallback_cap_microusd)
    if run.mode == Mode.BUDGET_FIRST and cap < needed:
        reason = f"the shortest attempt there reserves {format_usd(needed)}, and its caps allow {format_usd(cap)}"
        return (f"{_NO_FALLBACK}: {reason}; raise --fallback-cap or --total-cap",)
    return ()


def sweep_warnings(run: Run, budget: Budget | None, *, earlier: Sequence[Run] = ()) -> tuple[str, ...]:
    """Return what to say where a run gives its sweep other caps than it has, or than an earlier run of it gave."""
    if run.sweep is None:
        return ()
    if budget is None:
        other = next((one for one in earlier if _sweep_limits(one) != _sweep_limits(run)), None)
        if other is None:
            return ()
        said = f"run {other.run_id} gave sweep {run.sweep} other caps, and those of whichever reserves first count"
        return (f"{said}: submit with the same, or `spotkeeper budget set --sweep {run.sweep}`",)
    given = _sweep_limits(run).open(budget.holder)
    if (given.fallback.limit, given.total.limit) == (budget.fallback.limit, budget.total.limit):
        return ()
    shown = f"see `spotkeeper budget --sweep {run.sweep}`; `spotkeeper budget set` changes them"
    return (f"sweep {run.sweep} has caps already, and keeps them: {shown}",)


def _sweep_limits(run: Run) -> Limits:
    return Limits(fallback_microusd=run.sweep_fallback_cap_microusd, total_microusd=run.sweep_total_cap_microusd)


def summary(run: Run) -> str:
    """Return the caps of a run for people."""
    said = f"caps: on-demand {format_usd(run.fallback_cap_microusd)}, total {_cap(run.total_cap_microusd)}, {run.mode}"
    if run.sweep is None:
        return said
    shared = f"on-demand {_cap(run.sweep_fallback_cap_microusd)}, total {_cap(run.sweep_total_cap_microusd)}"
    return f"{said}; sweep {run.sweep}: {shared}"


def _cap(microusd: int | None) -> str:
    return "unlimited" if microusd is None else format_usd(microusd)


def _without_price(profile: ProfileTerms, market: Market) -> str:
    types = profile.spot_instance_types if market is Market.SPOT else profile.on_demand_instance_types
    return ", ".join(name for name in types if name not in profile.usd_per_hour)
