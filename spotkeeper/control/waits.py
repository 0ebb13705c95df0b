"""Note in a run since when its job waits for a machine, and why, or for its container to start.

AWS Batch's own retry waits without any new state, and Batch does not tell since when a job is STARTING. People read it,
and so does whoever asks what waits too long. The one decision that does is to stop a job that hangs in STARTING: a note
that is late or lost makes that late, and nothing else.
"""

from typing import Any

from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Conflict, Job, JobStatus, Ledger
from spotkeeper.control.run import Attempt, Run
from spotkeeper.policy.reservation import longest_start_seconds


def forgotten() -> dict[str, Any]:
    """Return the changes by which a run has no job that waits."""
    return {"waits_since": None, "waits_why": None, "starting_since": None, "job_unknown_since": None}


def waiting_since(run: Run, job: Job, last: Attempt | None) -> str:
    """Return since when the run's job has had no machine: its last attempt has ended then, or it was submitted.

    Not since it was to be submitted: where that took a while, AWS has not been asked yet, and a job that has only just
    come would be withdrawn for want of capacity.
    """
    asked_at = max(run.intent_at or run.created_at, job.order.created_at)
    return (last.stopped_at if last is not None else None) or asked_at


def is_noted(run: Run, job: Job) -> bool:
    """Tell whether the run says already what its job, as it was just read, waits for."""
    is_waiting = _is_waiting(run, job)
    why = _why(job) if is_waiting else None
    said = (run.waits_since is not None, run.waits_why, run.starting_since is not None, run.job_unknown_since)
    return said == (is_waiting, why, _is_starting(run, job), None)


def is_stuck(run: Run, job: Job, last: Attempt | None, *, now: str) -> bool:
    """Tell whether the run's job, as it was just read, is STARTING for longer than a start takes."""
    since = _starting_since(run, last)
    limit_seconds = longest_start_seconds(copies_first=job.order.copies_first)
    return _is_starting(run, job) and since is not None and seconds_between(since, now) > limit_seconds


def note(run: Run, job: Job, last: Attempt | None, *, ledger: Ledger, now: str) -> Run:
    """Record that the run's job, as it was just read, waits for a machine or starts, or that it does not."""
    is_starting = _is_starting(run, job)
    if is_noted(run, job) and (not is_starting or _starting_since(run, last) is not None):
        return run
    changes = forgotten()
    if _is_waiting(run, job):
        # Batch's reason may change while the job waits; since when, does not.
        since = run.waits_since or waiting_since(run, job, last)
        changes.update(waits_since=since, waits_why=_why(job))
    elif is_starting:
        changes.update(starting_since=_starting_since(run, last) or now)
    try:
        return ledger.advance(run, **changes)
    except Conflict:
        # Somebody moves the run at this moment, perhaps by its claim; the next look tells.
        return run


def _why(job: Job) -> str | None:
    # A job that was submitted a moment ago waits for nothing in particular.
    return job.status_reason or None


def _is_waiting(run: Run, job: Job) -> bool:
    return job.status is JobStatus.RUNNABLE and not _has_claimed_since(run, job)


def _is_starting(run: Run, job: Job) -> bool:
    return job.status is JobStatus.STARTING and not _has_claimed_since(run, job)


def _has_claimed_since(run: Run, job: Job) -> bool:
    """Tell whether an attempt has claimed since the job was read: it has a machine, and runs."""
    return run.claimed_job_id == job.job_id and (run.claimed_attempt or 0) > len(job.attempts)


def _starting_since(run: Run, last: Attempt | None) -> str | None:
    """Return what is noted of the start; None if it is of an attempt that has ended, or nothing is."""
    ended_at = last.stopped_at if last is not None else None
    if run.starting_since is None or (ended_at is not None and seconds_between(run.starting_since, ended_at) >= 0):
        return None
    return run.starting_since
