"""A circuit breaker for AWS Batch and SageMaker: one that does not answer is left alone until the next sweep.

A call that is not answered takes as long as the longest. A service that fails one run fails its others too, and a sweep
that tried each of them would have no time left for the runs of the other service.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from spotkeeper.contract import training
from spotkeeper.control.ports import Batch, Job, NoSuchQueue, Throttled

_Answer = TypeVar("_Answer")

MOST_IN_A_ROW: Final = 2
"""So many calls of a service fail before it is left alone: one alone may be one job's own trouble."""


class ServiceBreaker:
    """Passes calls on to a service until it fails twice in a row; from then on they are `Throttled` without being made.

    Calls to submit are passed on as well, but tell nothing: what is refused may be refused for what was asked.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._num_failed: Counter[str] = Counter()

    def is_open(self, service: str) -> bool:
        """Tell whether a service is left alone until the next sweep."""
        return self._num_failed[service] >= MOST_IN_A_ROW

    def submit(self, request: Mapping[str, Any]) -> str:
        """Pass it on."""
        self._check(training.SAGEMAKER if "TrainingJobName" in request else training.AWS_BATCH)
        return self._batch.submit(request)

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        """Return the jobs of the name in the queue."""
        return self._asked(training.service_of(queue), lambda: self._batch.find(name, queue=queue))

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        return self._asked(training.service_of_job(job_id), lambda: self._batch.describe(job_id))

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        """Return the jobs of AWS Batch that there are."""
        return self._asked(training.AWS_BATCH, lambda: self._batch.describe_many(job_ids))

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job."""
        self._asked(training.service_of_job(job_id), lambda: self._batch.terminate(job_id, reason))

    def withdraw(self, job_id: str, reason: str) -> None:
        """Stop the job if it waits."""
        self._asked(training.service_of_job(job_id), lambda: self._batch.withdraw(job_id, reason))

    def _asked(self, service: str, call: Callable[[], _Answer]) -> _Answer:
        self._check(service)
        self._num_failed[service] += 1
        try:
            answer = call()
        except NoSuchQueue:
            # Which is an answer.
            self._num_failed[service] = 0
            raise
        self._num_failed[service] = 0
        return answer

    def _check(self, service: str) -> None:
        if self.is_open(service):
            raise Throttled(f"{service} has not answered: it is asked again by the next sweep")
