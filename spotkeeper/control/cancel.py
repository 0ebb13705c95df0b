"""Cancel a run: the wish is recorded first, and from then on no attempt can claim; then its job is stopped."""

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name
from spotkeeper.control.classify import CANCEL_REASON
from spotkeeper.control.ports import Batch, Conflict, Ledger, UnknownRun
from spotkeeper.control.run import Run


def cancel(run_id: str, *, ledger: Ledger, batch: Batch, now: str) -> Run:
    """Cancel a run and return it. A run that has ended stays as it is; cancelling twice is cancelling once.

    A run whose job exists becomes CANCELLED when Batch reports that the job ended; one without a job, at once.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    run = _request(run_id, ledger=ledger, now=now)
    if run.is_closed:
        return run
    if run.is_live and run.job_id is not None:
        batch.terminate(run.job_id, CANCEL_REASON)
        return run
    # The reply to SubmitJob may be on its way: stop what has our name. A job that look-up does not show yet is
    # stopped by its submitter, who finds the run cancelled, and is refused its claim in any case.
    for job in batch.find(job_name(run.run_id, run.submission), queue=run.job_queue):
        batch.terminate(job.job_id, CANCEL_REASON)
    return _close(run, ledger=ledger, batch=batch, now=now)


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


def _close(run: Run, *, ledger: Ledger, batch: Batch, now: str) -> Run:
    try:
        return ledger.advance(
            run, state=RunState.CANCELLED, closed_at=now, reason="while it had no job", wait_until=None
        )
    except Conflict:
        return cancel(run.run_id, ledger=ledger, batch=batch, now=now)
