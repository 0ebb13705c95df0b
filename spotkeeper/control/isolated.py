"""Do for a run without network what its attempts cannot do themselves: claim it, and record its completion.

Only one job of such a run exists: the next is created once SageMaker has described the one before as ended, and names
are given once. That is the fence, where attempts of other runs have the ledger. What the control plane claims late, or
never, only makes what people see late: the container trains all the same.
"""

from dataclasses import replace
from typing import Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause, Ending
from spotkeeper.control.lookup import LOOK_UP_SECONDS
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Job, JobStatus, Ledger, Ports
from spotkeeper.control.run import Completion, Run

RECORD_SECONDS: Final = 900
"""So long after a job that exited 0 its completion record may still be on its way: the mirror takes minutes."""
_UNPROVED: Final = (
    "the program exited 0, but its mirror never brought both its completion record and its last checkpoint"
)


def may_have_job(run: Run, *, now: str) -> bool:
    """Tell whether a job of the run may still appear that nobody knows, as its creation is on its way.

    A job of another run is refused its claim then. Here it trains, unless somebody finds and stops it.
    """
    if not (run.is_isolated and run.is_live and run.job_id is None):
        return False
    # The call for a first submission is always noted before it is made; that for a later one, if it is not prompt.
    asked_at = run.sent_at or (run.intent_at if run.submission > 1 else None)
    return asked_at is not None and seconds_between(asked_at, now) < LOOK_UP_SECONDS


def claim(run: Run, job: Job, *, ledger: Ledger) -> Run:
    """Claim the run for the attempt that its job is in, unless that is done, or nothing may claim it any more.

    Raises:
        Conflict: somebody moved the run meanwhile.
    """
    number = len(job.attempts)
    is_wanted = run.is_live and run.cancel_requested_at is None and run.pause_requested_at is None
    if not run.is_isolated or not number or not is_wanted or run.completion is not None:
        return run
    # An attempt that is later than the job as it was read may have claimed since: that one trains, and stays.
    if run.claimed_job_id == job.job_id and number <= (run.claimed_attempt or 0):
        return run
    return ledger.advance(
        run,
        state=RunState.RUNNING,
        job_id=job.job_id,
        claimed_job_id=job.job_id,
        claimed_attempt=number,
        claimed_at=job.attempts[-1].started_at,
        epoch=run.epoch + 1,
        waits_since=None,
        waits_why=None,
    )


def complete(run: Run, *, ports: Ports) -> Run:
    """Take over the completion record that an attempt of the run left in its mirror, if it did.

    Raises:
        Conflict: somebody moved the run meanwhile.
    """
    if not run.is_isolated or run.is_complete or ports.mirrors is None:
        return run
    record = ports.mirrors.completion(run.run_id)
    if record is None:
        return run
    completion = Completion(epoch=run.epoch, completed_at=record["completed_at"], step=record["step"])
    return ports.ledger.advance(run, completion=completion)


def awaits_record(run: Run, job: Job, *, now: str) -> bool:
    """Tell whether a job exited 0 so recently that its record may still arrive."""
    if not run.is_isolated or job.status is not JobStatus.SUCCEEDED or job.stopped_at is None:
        return False
    return seconds_between(job.stopped_at, now) < RECORD_SECONDS


def without_proof(run: Run, ending: Ending) -> Ending:
    """Return the ending of a job that exited 0 and of whose completion nothing has arrived: as if it was cut off.

    Its model may not have arrived either. Going on from what did repeats that part, within the usual three submissions
    without a newer checkpoint.
    """
    if not run.is_isolated or ending.cause is not Cause.COMPLETED:
        return ending
    return replace(ending, cause=Cause.UNKNOWN, words=_UNPROVED)


def newest_step(run: Run, ports: Ports) -> int | None:
    """Return the step of the newest checkpoint from which the run can go on, or None if there is none."""
    if not run.is_isolated:
        return ports.checkpoints.newest_step(run.run_id)
    newest = ports.mirrors.newest_whole(run.run_id) if ports.mirrors is not None else None
    return newest.step if newest is not None else None
