"""AWS Batch, of which some jobs have just been described, a hundred in one call."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spotkeeper.control.ports import Batch, Job


class Described:
    """Answers for these jobs as they were read, and asks AWS Batch about all others; everything else goes to it.

    Whoever folds a job reads its run afterwards, so an answer that is seconds old is as good as a new one that is
    followed by a pause: a job that has ended stays so, and the run has whatever was written before that.
    """

    def __init__(self, batch: Batch, jobs: Iterable[Job]) -> None:
        self._batch = batch
        self._jobs = {job.job_id: job for job in jobs}

    def submit(self, request: Mapping[str, Any]) -> str:
        """Pass it on."""
        return self._batch.submit(request)

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Pass it on."""
        return self._batch.find(name, queue=queue)

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it was read, or as it is."""
        return self._jobs.get(job_id) or self._batch.describe(job_id)

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Pass it on."""
        return self._batch.describe_many(job_ids)

    def terminate(self, job_id: str, reason: str) -> None:
        """Pass it on."""
        self._batch.terminate(job_id, reason)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Pass it on; a job that has a machine meanwhile goes on."""
        self._batch.withdraw(job_id, reason)
