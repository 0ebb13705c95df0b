"""Lease the first submission of a run whose job was there before the run: one that was adopted.

Every other submission has its lease from the write that began it, or from `submit.secure`. An adopted job may run
before it is known, so its lease comes late by as much; what it has used by then counts when the lease is renewed.
"""

from spotkeeper.control import reserve
from spotkeeper.control.classify import OVER_BUDGET_REASON, OVER_MONTH_REASON
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run


def hold(run: Run, job: Job, *, ports: Ports, now: str) -> Run:
    """Set the lease aside where a total is capped and none is; stop the job if nobody can pay. Return the run.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    # The settings alone cap a run that was adopted; every other one has asked the ledger before its job was submitted,
    # and this is asked at each look at a job.
    if run.submission > 1 or not ports.terms.caps_total(run, now):
        return run
    if any(reservation.submission == 1 for reservation in ports.budgets.reservations(run.run_id)):
        return run
    held = reserve.spot(run, {}, ports=ports, now=now)
    if isinstance(held, Held):
        # As a lease that cannot be renewed.
        ports.batch.terminate(job.job_id, OVER_BUDGET_REASON if held.is_own else OVER_MONTH_REASON)
        return run
    return held
