"""Cancel a run: the wish is recorded first, and from then on no attempt can claim; then its job is stopped."""

from spotkeeper.control import first_lease, isolated, standby
from spotkeeper.control.classify import CANCEL_REASON
from spotkeeper.control.closing import close_if_over
from spotkeeper.control.lookup import find_jobs
from spotkeeper.control.observe import Unowned, fold
from spotkeeper.control.ports import Conflict, Ledger, Ports, UnknownRun
from spotkeeper.control.run import Run


def cancel(run_id: str, *, ports: Ports, now: str) -> Run:
    """Cancel a run and return it. A run that has ended stays as it is; cancelling twice is cancelling once.

    A run whose job exists becomes CANCELLED when AWS reports that the job ended; one without a job, or whose job has
    ended already, at once, but for one without network whose job may still appear: the sweeper looks for it until it
    cannot any more.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    run = _request(run_id, ledger=ports.ledger, now=now)
    if run.is_closed:
        return run
    standby.dismiss(run, ports.batch)
    if run.is_live and run.job_id is not None:
        ports.batch.terminate(run.job_id, CANCEL_REASON)
        return _observed(run, run.job_id, ports=ports, now=now)
    # The reply to SubmitJob may be on its way: stop what has our name. A job that look-up does not show yet is
    # stopped by its submitter, who finds the run cancelled, and is refused its claim in any case.
    found = find_jobs(run, run.submission, queue=run.job_queue, batch=ports.batch)
    for job in found:
        ports.batch.terminate(job.job_id, CANCEL_REASON)
    if not found and isolated.may_have_job(run, now=now):
        return run
    return _close(run, ports=ports, now=now)


def _request(run_id: str, *, ledger: Ledger, now: str) -> Run:
    while True:
        run = ledger.get(run_id)
        if run is None:
            raise UnknownRun(run_id)
        if run.is_closed or run.cancel_requested_at is not None:
            return run
        try:
            return ledger.advance(run, cancel_requested_at=now)
        except Conflict:
            continue


def _observed(run: Run, job_id: str, *, ports: Ports, now: str) -> Run:
    """Close the run if its job has ended already: the event of that may be lost, and no other comes."""
    try:
        seen = fold(job_id, ledger=ports.ledger, batch=ports.batch)
        if isinstance(seen, Unowned):
            return run
        if not (seen.is_current and seen.run.is_live and seen.job.has_ended):
            return seen.run
        # This may be the first look at an adopted job that comes to its end.
        held = first_lease.hold(seen.run, seen.job, ports=ports, now=now)
        return close_if_over(held, ports=ports, at=seen.job.stopped_at or now) or held
    except Conflict:
        # Somebody observes at this moment.
        return ports.ledger.get(run.run_id) or run


def _close(run: Run, *, ports: Ports, now: str) -> Run:
    try:
        return close_if_over(run, ports=ports, at=now, reason="while it had no job") or run
    except Conflict:
        return cancel(run.run_id, ports=ports, now=now)
