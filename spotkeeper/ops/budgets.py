"""What holders may spend, and how a person changes it."""

from dataclasses import dataclass
from typing import Final

from spotkeeper.contract.budgets import environment_holder, month_of, run_holder, sweep_holder, team_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import check_name
from spotkeeper.control import pause, reserve
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Budget, Limits
from spotkeeper.control.ports import Conflict
from spotkeeper.control.run import Lack, Run
from spotkeeper.ops import sweep_status
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.policy.money import format_usd, parse_usd

UNLIMITED: Final = "unlimited"
"""What people write for a cap that nobody sets."""

NO_SPOT: Final = "spot is not counted (no total cap)"
"""Of a run's total that is on-demand alone: without a cap nobody asks for the prices of spot."""

CAPPED_SPOT: Final = "spot is counted only of runs, sweeps and teams with a total cap"
"""Of an uncapped total of several runs: a lease counts for all whose budgets it is of, if one of them is capped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Whose budget it is, and what it begins with."""

    name: str
    limits: Limits | None
    """Caps of one that is not in the ledger yet; None: only its runs know them."""
    is_leased: bool
    """Whether spot money is reserved for it too, so that a total cap of it is kept."""
    run: Run | None = None
    absence: str = ""
    """What to say where the caps are not known."""

    @property
    def missing_spot(self) -> str:
        """What to say of spot that is not in the total; '' where all of it is."""
        if self.is_leased:
            return ""
        return CAPPED_SPOT if self.run is None else NO_SPOT


def this_month(connection: Connection, *, now: str) -> tuple[Holder, ...]:
    """Return the environment and its teams, for the month of `now`."""
    teams = tuple(team(name, connection, now=now) for name in connection.descriptor.teams)
    return environment(connection, now=now), *teams


def environment(connection: Connection, *, now: str) -> Holder:
    """Return the environment as a holder."""
    limits = connection.ports.terms.limits
    return Holder(name=environment_holder(month_of(now)), limits=limits, is_leased=limits.total_microusd is not None)


def team(name: str, connection: Connection, *, now: str) -> Holder:
    """Return a team as a holder.

    Raises:
        ValueError: if the environment has no such team.
    """
    known = connection.descriptor.teams
    if name not in known:
        raise ValueError(
            f"--team must be one of {', '.join(known)} in environment {connection.descriptor.environment!r}, "
            f"got {name!r}"
        )
    terms = connection.ports.terms
    limits = terms.team_limits.get(name, Limits())
    is_leased = limits.total_microusd is not None or terms.limits.total_microusd is not None
    return Holder(name=team_holder(name, month_of(now)), limits=limits, is_leased=is_leased)


def sweep(name: str, connection: Connection) -> Holder:
    """Return a sweep as a holder; its caps are those of the run that reserves first."""
    holder = sweep_holder(check_name("--sweep", name))
    budget = connection.budgets.get(holder)
    is_capped = budget is not None and budget.total.limit != UNLIMITED_MICROUSD
    is_leased = is_capped or connection.ports.terms.limits.total_microusd is not None
    if budget is not None:
        absence = ""
    elif connection.sweeps.get(name) is not None or sweep_status.submitted_into(name, connection):
        absence = (
            f"sweep {name!r} has no budget yet: the first of its members that reserves money makes it; "
            f"`spotkeeper sweep status {name}` shows them"
        )
    else:
        absence = f"there is no sweep {name!r}: no run was submitted with --sweep {name}, or they are long over"
    return Holder(name=holder, limits=None, is_leased=is_leased, absence=absence)


def run(run_id: str, connection: Connection, *, now: str) -> Holder:
    """Return a run as a holder.

    Raises:
        UnknownRun: the ledger has none of this id.
    """
    found = connection.run_of(run_id)
    is_leased = reserve.leases_spot(found, ports=connection.ports, now=now)
    return Holder(name=run_holder(run_id), limits=run_limits(found), is_leased=is_leased, run=found)


def run_limits(run: Run) -> Limits:
    """Return the caps that a run was submitted with."""
    return Limits(fallback_microusd=run.fallback_cap_microusd, total_microusd=run.total_cap_microusd)


def budget_of(holder: Holder, connection: Connection) -> Budget:
    """Return a holder's budget; one that nothing was reserved of yet is as it will begin. Nothing is written.

    Raises:
        OperationError: if only its first reservation will tell the caps.
    """
    budget = connection.budgets.get(holder.name)
    if budget is not None:
        return budget
    if holder.limits is None:
        raise OperationError(holder.absence)
    return holder.limits.open(holder.name)


def set_caps(holder: Holder, connection: Connection, *, fallback: str | None, total: str | None) -> Budget:
    """Set the caps that are given, whoever else sets or spends meanwhile, and return the budget as it is then.

    Raises:
        ValueError: if none is given, one is no amount, or a total cap would not be kept.
        OperationError: of a run that has ended.
    """
    if fallback is None and total is None:
        raise ValueError("nothing to set: give --fallback-cap, --total-cap or both")
    wanted_fallback = _limit(fallback, "--fallback-cap")
    wanted_total = _limit(total, "--total-cap")
    if wanted_total is not None and wanted_total != UNLIMITED_MICROUSD and not holder.is_leased:
        raise ValueError(
            f"--total-cap cannot be kept for {holder.name}, because no spot money is reserved for it: give --total-cap "
            "when a run is submitted, or set total_cap_usd_per_month in stacks/environments.py and deploy"
        )
    if holder.run is not None and holder.run.is_closed:
        raise OperationError(f"{holder.run.run_id} has ended ({holder.run.state}): it spends nothing any more")
    begins = (holder.limits or Limits()).open(holder.name)
    while True:
        budget = connection.budgets.get(holder.name) or connection.budgets.open(begins)
        try:
            return connection.budgets.set_limits(
                budget,
                fallback=budget.fallback.limit if wanted_fallback is None else wanted_fallback,
                total=budget.total.limit if wanted_total is None else wanted_total,
            )
        except Conflict:
            continue


def let_go_on(holder: Holder, connection: Connection, *, now: str) -> str:
    """Resume a run that was parked for money, after its caps were set; return what became of it, for people."""
    if holder.run is None:
        return (
            "runs that are parked for want of it go on with `spotkeeper resume RUN`; waiting ones go on by themselves"
        )
    found = connection.run_of(holder.run.run_id)
    if found.state is RunState.WAITING:
        return f"{found.run_id} waits until {found.wait_until}, and is then decided anew"
    if found.state is not RunState.PARKED:
        return f"{found.run_id} is {found.state}"
    if found.lacks != Lack.MONEY:
        why = f"is parked for another reason ({found.reason})"
        return f"{found.run_id} {why}; `spotkeeper resume {found.run_id}` resumes it"
    resumed = pause.resume(found.run_id, ports=connection.ports, now=now)
    if resumed.is_live:
        return f"{found.run_id} goes on: it is {resumed.state}"
    return f"{found.run_id} is still {resumed.state}: {resumed.reason}"


def limit_text(limit: int) -> str:
    """Return a limit for people."""
    return UNLIMITED if limit == UNLIMITED_MICROUSD else format_usd(limit)


def _limit(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    return UNLIMITED_MICROUSD if text == UNLIMITED else parse_usd(text, what=option)
