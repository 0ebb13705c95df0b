"""AWS Batch and SageMaker training behind one port: request, queue or job id tells which is meant.

What the environment's settings say does not count: a run on SageMaker may outlive them, and AWS Batch, asked for its
training job, would say that there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotkeeper.contract import training
from spotkeeper.control.ports import Batch, Job, JobService


@dataclass(frozen=True, kw_only=True, slots=True)
class JobServices:
    """Implements `ports.Batch`."""

    batch: Batch
    sagemaker: Callable[[], JobService]
    """Returns the same each time, and makes it when that is needed: no client takes as long to make as SageMaker's."""

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job to the service whose request it is."""
        return (self.sagemaker() if "TrainingJobName" in request else self.batch).submit(request)

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the jobs of the name in the queue."""
        return (self.sagemaker() if training.is_queue(queue) else self.batch).find(name, queue=queue)

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        return self._of(job_id).describe(job_id)

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return jobs of AWS Batch: SageMaker describes one at a time."""
        return self.batch.describe_many(job_ids)

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job."""
        self._of(job_id).terminate(job_id, reason)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Stop the job if it waits."""
        self._of(job_id).withdraw(job_id, reason)

    def _of(self, job_id: str) -> JobService:
        return self.batch if training.job_of_arn(job_id) is None else self.sagemaker()
