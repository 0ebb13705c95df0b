"""Lease a submission on spot whose job was there before its lease: an adopted one, or one that is older than the cap.

A cap comes later with a deployment, or with another run of the sweep.

Every other submission has its lease from the write that began it, or from `submit.secure`. A job that runs before
anybody knew of it, or of the cap, has its lease late by as much; what it has used by then counts when that is renewed.
"""

from collections.abc import Callable
from functools import cache

from spotkeeper.contract.budgets import sweep_holder
from spotkeeper.control import reserve
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON
from spotkeeper.control.ports import Budgets, Job, Ports
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.placement import Market

SweepIsCapped = Callable[[str], bool]
"""Takes a sweep's name."""


def capped_sweeps(budgets: Budgets) -> SweepIsCapped:
    """Return what tells whether a sweep's total is capped: each is read once, so it is for many runs and a moment."""

    @cache
    def is_capped(name: str) -> bool:
        return reserve.is_total_capped(sweep_holder(name), budgets)

    return is_capped


def is_missing(run: Run, *, terms: EnvironmentTerms, now: str, sweep_is_capped: SweepIsCapped) -> bool:
    """Tell whether the run's job on spot should have a lease and, as far as the run says, has none.

    This is asked at each look at a job, so beside the settings and the run only its sweep is: a total cap of anybody
    else is set where these say so already.
    """
    is_reserved = (run.highest_reserved or 0) >= run.submission
    if run.market != Market.SPOT or is_reserved:
        return False
    return terms.caps_total(run, now) or (run.sweep is not None and sweep_is_capped(run.sweep))


def hold(run: Run, job: Job, *, ports: Ports, now: str) -> Run:
    """Set the lease aside where a total is capped and none is; stop the job if nobody can pay. Return the run.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    if not is_missing(run, terms=ports.terms, now=now, sweep_is_capped=capped_sweeps(ports.budgets)):
        return run
    if any(reservation.submission == run.submission for reservation in ports.budgets.reservations(run.run_id)):
        return run  # of a run that was stored before runs said so
    held = reserve.spot(run, {}, ports=ports, now=now)
    if isinstance(held, Held):
        # As a lease that cannot be renewed.
        ports.batch.terminate(job.job_id, OVER_BUDGET_REASON if held.is_own else OVER_MONTH_REASON)
        return run
    return held
