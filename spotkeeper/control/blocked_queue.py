"""Note in a run's history that Batch cannot place its job."""

from spotkeeper.control.events import QueueBlocked
from spotkeeper.control.lookup import is_job_of, submission_of
from spotkeeper.control.observe import Observation, Outcome
from spotkeeper.control.ports import Batch, Ledger
from spotkeeper.control.run import HistoryEvent

KIND = "queue-blocked"


def record(blocked: QueueBlocked, *, ledger: Ledger, batch: Batch) -> Observation:
    """Append to the history of the run whose job is blocked; a repetition changes nothing.

    A job of others blocks its queue just as well, but has no history.
    """
    job = batch.describe(blocked.job_id)
    if job is None:
        return Observation(outcome=Outcome.IGNORED, reason=f"Batch does not know job {blocked.job_id}")
    named = submission_of(job)
    run = ledger.get(named[0]) if named is not None else None
    if run is None or not is_job_of(run, run.submission, job) or run.job_id not in (None, blocked.job_id):
        return Observation(outcome=Outcome.RECORDED, reason=f"job {job.name} of others: {blocked.reason}")
    event = HistoryEvent(at=blocked.at, event_id=blocked.event_id, kind=KIND, message=blocked.reason)
    ledger.append_event(run.run_id, event)
    return Observation(outcome=Outcome.RECORDED, reason=blocked.reason, run=run)
