"""Lease a submission on spot whose job was there before its lease: an adopted one, or one that is older than the cap.

Every other submission has its lease from the write that began it, or from `submit.secure`. A job that runs before
anybody knew of it, or of the cap, has its lease late by as much; what it has used by then counts when that is renewed.
"""

from spotkeeper.control import reserve
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.placement import Market


def is_missing(run: Run, *, terms: EnvironmentTerms, now: str) -> bool:
    """Tell whether the run's job on spot should have a lease and, as far as the run says, has none.

    The settings and the run itself are asked, nothing is read: this is asked at each look at a job. What else caps a
    run, such as its sweep, was asked before its job was submitted.
    """
    is_reserved = (run.highest_reserved or 0) >= run.submission
    return run.market == Market.SPOT and not is_reserved and terms.caps_total(run, now)


def hold(run: Run, job: Job, *, ports: Ports, now: str) -> Run:
    """Set the lease aside where a total is capped and none is; stop the job if nobody can pay. Return the run.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    if not is_missing(run, terms=ports.terms, now=now):
        return run
    if any(reservation.submission == run.submission for reservation in ports.budgets.reservations(run.run_id)):
        return run  # of a run that was stored before runs said so
    held = reserve.spot(run, {}, ports=ports, now=now)
    if isinstance(held, Held):
        # As a lease that cannot be renewed.
        ports.batch.terminate(job.job_id, OVER_BUDGET_REASON if held.is_own else OVER_MONTH_REASON)
        return run
    return held
