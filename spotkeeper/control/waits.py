"""Note in a run since when its job waits for a machine, and why: AWS Batch's own retry waits without any new state.

People read it, and so does whoever asks what waits too long; no decision does, so a note may be late or lost.
"""

from typing import Any

from spotkeeper.control.ports import Conflict, Job, JobStatus, Ledger
from spotkeeper.control.run import Attempt, Run


def forgotten() -> dict[str, Any]:
    """Return the changes by which a run has no job that waits."""
    return {"waits_since": None, "waits_why": None, "job_unknown_since": None}


def waiting_since(run: Run, last: Attempt | None) -> str:
    """Return since when the run's job has had no machine: its last attempt has ended then, or it was submitted."""
    return (last.stopped_at if last is not None else None) or run.intent_at or run.created_at


def is_noted(run: Run, job: Job) -> bool:
    """Tell whether the run says already what its job, as it was just read, waits for."""
    is_waiting = _is_waiting(run, job)
    why = _why(job) if is_waiting else None
    return run.job_unknown_since is None and (run.waits_since is not None, run.waits_why) == (is_waiting, why)


def note(run: Run, job: Job, last: Attempt | None, *, ledger: Ledger) -> Run:
    """Record that the run's job, as it was just read, waits for a machine, or that it does not."""
    if is_noted(run, job):
        return run
    changes = forgotten()
    if _is_waiting(run, job):
        # Batch's reason may change while the job waits; since when, does not.
        since = run.waits_since or waiting_since(run, last)
        changes.update(waits_since=since, waits_why=_why(job))
    try:
        return ledger.advance(run, **changes)
    except Conflict:
        # Somebody moves the run at this moment, perhaps by its claim; the next look tells.
        return run


def _why(job: Job) -> str | None:
    # A job that was submitted a moment ago waits for nothing in particular.
    return job.status_reason or None


def _is_waiting(run: Run, job: Job) -> bool:
    # An attempt that has claimed since the job was read has a machine.
    has_claimed_since = run.claimed_job_id == job.job_id and (run.claimed_attempt or 0) > len(job.attempts)
    return job.status is JobStatus.RUNNABLE and not has_claimed_since
