"""AWS Batch and SageMaker training behind one port: request, queue or job id tells which is meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotkeeper.contract import training
from spotkeeper.control.ports import Batch, Job


@dataclass(frozen=True, kw_only=True, slots=True)
class JobServices:
    """Implements `ports.Batch`."""

    batch: Batch
    sagemaker: Batch

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job to the service whose request it is."""
        return (self.sagemaker if "TrainingJobName" in request else self.batch).submit(request)

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the jobs of the name in the queue."""
        return (self.sagemaker if training.is_queue(queue) else self.batch).find(name, queue=queue)

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        return self._of(job_id).describe(job_id)

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return the jobs that could be read; none of a service that fails.

        Runs without a job there are not to wait for it, and whoever needs one of its jobs is told why by `describe`.
        """
        of_sagemaker = [job_id for job_id in job_ids if training.job_of_arn(job_id) is not None]
        of_batch = [job_id for job_id in job_ids if training.job_of_arn(job_id) is None]
        return (*_readable(self.batch, of_batch), *_readable(self.sagemaker, of_sagemaker))

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job."""
        self._of(job_id).terminate(job_id, reason)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Stop the job if it waits."""
        self._of(job_id).withdraw(job_id, reason)

    def _of(self, job_id: str) -> Batch:
        return self.batch if training.job_of_arn(job_id) is None else self.sagemaker


def _readable(service: Batch, job_ids: Sequence[str]) -> tuple[Job, ...]:
    try:
        return service.describe_many(job_ids) if job_ids else ()
    except Exception:  # noqa: BLE001  one service's trouble, of whatever kind, must not become the other's
        return ()
