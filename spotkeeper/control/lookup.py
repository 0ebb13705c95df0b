"""Which jobs are a submission's, told by the names under which AWS Batch keeps them, and the other way round.

A submission is a job of its own, named by run and number. The first submission of a sweep's member is a child of the
sweep's array job instead: the child has the array's name, and the member is told by its index.
"""

from dataclasses import replace
from typing import Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.names import array_job_name, job_name, member_id, parse_array_job_name, parse_job_name
from spotkeeper.control.ports import Batch, Job, NoSuchQueue
from spotkeeper.control.run import Run

LOOK_UP_SECONDS: Final = 900
"""A job shows in a look-up by name at most so long after its submission was recorded.

Five minutes are for a sweep that stalls between recording the call and making it, ten for ListJobs to catch up.
"""


def find_jobs(run: Run, submission: int, *, queue: str, batch: Batch) -> tuple[Job, ...]:
    """Return every job of a submission that a look-up by name shows, oldest first; others may give that name too.

    Where an array is, its child is, also one that DescribeJobs does not know at the moment: it is then told as its
    array is. Of a queue that is gone there are none: AWS Batch has ended them with it.
    """
    try:
        return named_jobs(run, submission, queue=queue, batch=batch)
    except NoSuchQueue:
        return ()


def named_jobs(run: Run, submission: int, *, queue: str, batch: Batch) -> tuple[Job, ...]:
    """Return what `find_jobs` does, for whoever has to know of jobs that have ended.

    Raises:
        NoSuchQueue: the queue is gone, so nobody can say which jobs of the name there were.
    """
    if submission > 1 or run.array_index is None:
        named = batch.find(job_name(run.run_id, submission), queue=queue)
        return tuple(job for job in named if is_job_of(run, submission, job))
    assert run.sweep is not None, "an index is one of a sweep"
    arrays = batch.find(array_job_name(run.sweep), queue=queue)
    return tuple(_child(array, run.array_index, batch) for array in arrays if run.array_index < (array.array_size or 0))


def _child(array: Job, index: int, batch: Batch) -> Job:
    child_id = f"{array.job_id}:{index}"
    return batch.describe(child_id) or replace(array, job_id=child_id, array_size=None, array_index=index)


def submission_of(job: Job) -> tuple[str, int] | None:
    """Return (run id, submission) that a job's name and index stand for; None for names that we never give.

    Whether there is such a run, and whether the job is its own, is for the ledger to say (`is_job_of`).
    """
    if job.array_index is None:
        return parse_job_name(job.name)
    sweep = parse_array_job_name(job.name)
    return (member_id(sweep, job.array_index), 1) if sweep is not None else None


def is_job_of(run: Run, submission: int, job: Job) -> bool:
    """Tell whether a job of the right name is the run's submission, as far as its order says.

    A name is anybody's to give, in any queue of the account: the job's own environment must name the run too, and the
    current submission is in the run's queue and nowhere else.
    """
    index = run.array_index if submission == 1 else None
    if job.array_size is not None or job.array_index != index:
        return False
    if submission == run.submission and job.order.queue != run.job_queue:
        return False
    told = job.order.variables
    if index is not None:
        return told.get(variables.SWEEP) == run.sweep
    return (told.get(variables.RUN_ID), told.get(variables.SUBMISSION)) == (run.run_id, str(submission))
