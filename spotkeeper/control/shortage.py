"""What placement says to a run that has no machine: for how long it waits, and when on-demand is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from spotkeeper.contract.budgets import run_holder
from spotkeeper.control import isolated, outlook
from spotkeeper.control.ports import Ports
from spotkeeper.control.run import Run
from spotkeeper.policy import placement
from spotkeeper.policy.placement import Market, Mode, Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortage:
    """What placement says to a run that spot gives no machine."""

    placement: Placement
    fallback_at: str
    """When on-demand will be due, for a run that may have it."""


def shortage(run: Run, *, ports: Ports, now: str) -> Shortage:
    """Ask placement about a run that waits for spot."""
    terms = ports.terms.placement
    dry_since = datetime.fromisoformat(run.dry_since or run.created_at)
    waited_seconds = max(0.0, (datetime.fromisoformat(now) - dry_since).total_seconds())
    may_fall_back = allows_fallback(run, ports)
    at = (
        outlook.without_machine(
            run, waited_seconds=waited_seconds, newest_step=isolated.newest_step(run, ports), now=now
        )
        if run.deadline_at is not None and may_fall_back
        else None
    )
    if at is not None:
        decision, due_hours = placement.decide(at), placement.on_demand_due_hours(at)
        placed = Placement(market=decision.market or Market.SPOT, reason=decision.reason)
        return Shortage(placement=placed, fallback_at=outlook.later(now, due_hours))
    decided = placement.after_shortage(
        waited_seconds=waited_seconds,
        since=run.dry_since or run.created_at,
        allows_fallback=may_fall_back,
        mode=Mode(run.mode),
        terms=terms,
    )
    fallback_at = dry_since + timedelta(seconds=placement.longest_wait_seconds(Mode(run.mode), terms))
    return Shortage(placement=decided, fallback_at=fallback_at.isoformat(timespec="milliseconds"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """What a run does that has a job, and no machine."""

    seconds: float
    """For how long in all it waits, before it may go elsewhere."""
    is_over: bool = False
    """Its deadline allows no more waiting, whatever it is that the job waits for."""


def patience(run: Run, *, waited_seconds: float, ports: Ports, now: str) -> Patience:
    """Ask placement about a run whose job has waited so long for a machine."""
    # On-demand is what a deadline can rely on: a job that waits there has its time like any other.
    if run.market == Market.SPOT and run.deadline_at is not None:
        newest_step = isolated.newest_step(run, ports)
        at = outlook.without_machine(run, waited_seconds=waited_seconds, newest_step=newest_step, now=now)
        if at is not None:
            due_seconds = 3600 * placement.on_demand_due_hours(at)
            return Patience(seconds=waited_seconds + due_seconds, is_over=placement.decide(at).is_forced)
    return Patience(seconds=placement.longest_wait_seconds(Mode(run.mode), ports.terms.placement))


def allows_fallback(run: Run, ports: Ports) -> bool:
    """Tell whether the run has a cap above $0 for on-demand: as submitted, or as somebody has set it since."""
    if run.fallback_cap_microusd > 0:
        return True
    budget = ports.budgets.get(run_holder(run.run_id))
    return budget is not None and budget.fallback.limit > 0
