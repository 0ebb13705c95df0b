"""Set money aside, in the same write as the intent to spend it: no job exists that was not reserved for.

On-demand is reserved for whole: the dearest machine that Batch may choose, for the attempt's time limit, its start, its
end and one twin. Spot is leased by the hour, where somebody has capped the total. Whoever is refused learns which
holder's cap was in the way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from spotkeeper.contract.budgets import kind_of, run_holder
from spotkeeper.control.budget import (
    UNLIMITED_MICROUSD,
    Budget,
    Cap,
    Limits,
    OverBudget,
    Reservation,
    Switch,
    SwitchedOff,
    refusal,
)
from spotkeeper.control.ports import Budgets, Ports
from spotkeeper.control.run import Lack, Run
from spotkeeper.control.terms import ProfileTerms
from spotkeeper.policy import placement
from spotkeeper.policy.placement import Market, Mode
from spotkeeper.policy.reservation import (
    AROUND_SECONDS,
    LEASE_SECONDS,
    affordable_seconds,
    lease_microusd,
    on_demand_microusd,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """No money could be set aside, and why."""

    reason: str
    short: str | None = None
    """The holder whose cap is in the way; None: it is not for want of money."""

    @property
    def lacks(self) -> Lack | None:
        """What the run lacks."""
        return None if self.short is None else Lack.MONEY

    @property
    def is_own(self) -> bool:
        """Whether the cap is the run's or its sweep's own: only a person can raise it."""
        return self.short is not None and not kind_of(self.short).is_monthly


def on_demand(run: Run, changes: Mapping[str, Any], *, ports: Ports, now: str) -> Run | Held:
    """Record changes that begin a submission on on-demand, with its reservation.

    `changes` hold the next `submission`; its market, queue and time limit are added here.

    Raises:
        Conflict: somebody wrote in between; decide anew.
    """
    profile = ports.terms.profiles.get(run.profile)
    price = _dearest(run, profile, Market.ON_DEMAND)
    if profile is None or price is None:
        return Held(reason=f"the on-demand price of profile {run.profile!r} is not known, so nothing can be reserved")
    switch = ports.budgets.switch()
    if switch.is_off:
        return Held(reason=f"on-demand is switched off: {switch.reason or 'no reason given'}")
    budgets = budgets_of(run, ports=ports, now=now)
    hard = _asked(run, budgets)
    own = run_holder(run.run_id)
    exempt = {budget.holder for budget in budgets} - {budget.holder for budget in hard}
    seconds = _longest_seconds(run, price, hard, ports)
    if seconds is None:
        tightest = min(hard, key=_left)
        shortest = min(placement.SHORTEST_SEGMENT_SECONDS, run.attempt_seconds, ports.terms.placement.segment_seconds)
        asked = on_demand_microusd(price, shortest, run.longest_start_seconds)
        return _held(tightest, fallback=asked, total=asked)
    amount = on_demand_microusd(price, seconds, run.longest_start_seconds)
    reservation = _reservation(run, changes, Market.ON_DEMAND, profile.on_demand_queue, price, amount, budgets, now)
    placed = {
        **changes,
        "market": Market.ON_DEMAND.value,
        "job_queue": profile.on_demand_queue,
        "segment_seconds": seconds,
    }
    over = max(amount - _left(budget) for budget in budgets if budget.holder == own)
    if exempt and over > 0:
        placed["over_cap_microusd"] = over
    return _reserve(run, reservation, placed, ports, switch=switch, exempt=exempt)


def spot(run: Run, changes: Mapping[str, Any], *, ports: Ports, now: str, submission: int | None = None) -> Run | Held:
    """Record changes that begin a submission on spot, with its lease where the total is capped.

    Args:
        run: The run as read.
        changes: What else is written, the next submission for one.
        ports: The world.
        now: ISO 8601, UTC.
        submission: Whose lease it is, where the changes do not name the run's next submission.

    Raises:
        Conflict: somebody wrote in between; decide anew.
    """
    if not leases_spot(run, ports=ports, now=now):
        return ports.ledger.advance(run, **changes)
    profile = ports.terms.profiles.get(run.profile)
    price = _dearest(run, profile, Market.SPOT)
    if profile is None or price is None:
        return Held(reason=f"a price of profile {run.profile!r} is not known, so its total cap cannot be kept")
    budgets = budgets_of(run, ports=ports, now=now)
    amount = lease_microusd(price, LEASE_SECONDS + AROUND_SECONDS)
    named = changes if submission is None else {"submission": submission}
    reservation = _reservation(run, named, Market.SPOT, profile.spot_queue, price, amount, budgets, now)
    return _reserve(run, reservation, dict(changes), ports, switch=None, exempt=set())


def leases_spot(run: Run, *, ports: Ports, now: str) -> bool:
    """Tell whether spot money must be reserved too: the total of somebody whom the run spends of is capped.

    What the ledger has of a holder counts as well as the run and the settings: a sweep's caps come with whichever of
    its runs names them.
    """
    if ports.terms.caps_total(run, now):
        return True
    return any(is_total_capped(holder, ports.budgets) for holder in ports.terms.holders(run, now))


def is_total_capped(holder: str, budgets: Budgets) -> bool:
    """Tell whether the ledger has a total cap of a holder."""
    budget = budgets.get(holder)
    return budget is not None and budget.total.limit != UNLIMITED_MICROUSD


def affords_on_demand(run: Run, *, ports: Ports, now: str) -> bool:
    """Tell whether on-demand could be reserved for the run at this moment; nothing is reserved."""
    profile = ports.terms.profiles.get(run.profile)
    price = _dearest(run, profile, Market.ON_DEMAND)
    if price is None or ports.budgets.switch().is_off:
        return False
    return _longest_seconds(run, price, _asked(run, budgets_of(run, ports=ports, now=now)), ports) is not None


def over_own_cap(run: Run, *, ports: Ports) -> int | None:
    """Return by how much what is reserved crosses the run's own cap, if it does and the run's mode allows that."""
    budget = ports.budgets.get(run_holder(run.run_id)) if run.mode == Mode.DEADLINE_FIRST else None
    return -_left(budget) if budget is not None and _left(budget) < 0 else None


def _dearest(run: Run, profile: ProfileTerms | None, market: Market) -> Decimal | None:
    """Return what an hour of all the run's machines costs at most; None where a price is not known."""
    return profile.dearest_usd_per_hour(market, num_nodes=run.num_nodes) if profile is not None else None


def _asked(run: Run, budgets: list[Budget]) -> list[Budget]:
    """Return the budgets whose caps are hard for this run."""
    exempt = run_holder(run.run_id) if run.mode == Mode.DEADLINE_FIRST else None
    return [budget for budget in budgets if budget.holder != exempt]


def _longest_seconds(run: Run, price: Decimal, asked: list[Budget], ports: Ports) -> int | None:
    return placement.segment(
        attempt_seconds=run.attempt_seconds,
        affordable_seconds=affordable_seconds(price, min(map(_left, asked)), run.longest_start_seconds),
        terms=ports.terms.placement,
    )


def budgets_of(run: Run, *, ports: Ports, now: str) -> list[Budget]:
    """Return the budgets that a run spends from now; those that nobody has opened are opened."""
    return [_budget_of(holder, limits, ports) for holder, limits in ports.terms.holders(run, now).items()]


def _budget_of(holder: str, limits: Limits, ports: Ports) -> Budget:
    budget = ports.budgets.get(holder) or ports.budgets.open(limits.open(holder))
    if not kind_of(holder).is_monthly or budget.is_set_by_person:
        return budget  # a person's word stands until the month ends
    settled = limits.open(holder)
    fallback, total = _capped(budget.fallback, settled.fallback), _capped(budget.total, settled.total)
    if (fallback, total) == (budget.fallback.limit, budget.total.limit):
        return budget
    return ports.budgets.set_limits(budget, fallback=fallback, total=total, is_deployed=True)


def _capped(stored: Cap, settled: Cap) -> int:
    """Return the limit of a month's cap; one that was deployed after the budget was opened counts from then on."""
    return settled.limit if stored.limit == UNLIMITED_MICROUSD else stored.limit


def _left(budget: Budget) -> int:
    return min(budget.fallback.available, budget.total.available)


def _reservation(
    run: Run,
    changes: Mapping[str, Any],
    market: Market,
    queue: str,
    price: Decimal,
    amount: int,
    budgets: list[Budget],
    now: str,
) -> Reservation:
    return Reservation(
        run_id=run.run_id,
        submission=changes.get("submission", run.submission),
        market=market,
        microusd=amount,
        holders=tuple(budget.holder for budget in budgets),
        created_at=now,
        job_queue=queue,
        usd_per_hour=str(price),
    )


def _reserve(
    run: Run,
    reservation: Reservation,
    changes: dict[str, Any],
    ports: Ports,
    *,
    switch: Switch | None,
    exempt: set[str],
) -> Run | Held:
    changes["highest_reserved"] = max(reservation.submission, run.highest_reserved or 0)
    try:
        return ports.budgets.reserve(run, reservation, switch=switch, exempt=exempt, **changes)
    except SwitchedOff:
        return Held(reason="the kill switch was turned at this moment")
    except OverBudget as over:
        budget = ports.budgets.get(over.holder)
        if budget is None:
            return Held(reason=str(over), short=over.holder)
        return _held(budget, fallback=reservation.fallback_microusd, total=reservation.microusd)


def _held(budget: Budget, *, fallback: int, total: int) -> Held:
    reason = refusal(budget, fallback=fallback, total=total)
    if not reason:
        # Another run of the sweep or the month has given money back since: no person is needed.
        return Held(reason=f"the budget of {budget.holder} was short just now")
    return Held(reason=reason, short=budget.holder)
