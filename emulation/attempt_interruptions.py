"""`up --interruptions N --every SECONDS`: takes machines back from running attempts, so that one sees what happens."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from emulation.batch.batch_api import BatchService
from emulation.batch.jobs import Status
from emulation.clock import Clock
from emulation.ec2.market import Instance, SpotMarket
from emulation.sagemaker.training_api import TrainingService
from emulation.sagemaker.training_jobs import TrainingJob


@dataclass(frozen=True, slots=True)
class Plan:
    """How many attempts lose their machines, and after how many real seconds of running each.

    Raises:
        ValueError: if a value is out of range.
    """

    number: int
    every_seconds: float

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"--interruptions must be 0 or more; got {self.number}")
        if not 0 < self.every_seconds < math.inf:
            raise ValueError(f"--every must be a number of seconds above 0; got {self.every_seconds}")


class AttemptInterruptions:
    """Takes back, with notice, the spot machine of each attempt that has run for some time, as often as planned.

    Args:
        plan: How often, and when.
        market: Takes machines back.
        clock: Waits.
        say: Is told of each.
    """

    def __init__(self, plan: Plan, *, market: SpotMarket, clock: Clock, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._market = market
        self._clock = clock
        self._say = say
        self._num_done = 0
        self._lock = threading.Lock()

    def follow_batch(self, batch: BatchService) -> None:
        """Take machines from the attempts of AWS Batch's jobs."""

        def see(job: dict[str, Any]) -> None:
            if job["status"] == Status.RUNNING:
                attempt = batch.attempts(job["jobId"])[-1]
                self._plan_for(job["jobName"], attempt.instance, lambda: attempt.stopped_at_ms is not None)

        batch.on_change(see)

    def follow_training(self, training: TrainingService) -> None:
        """Take machines from SageMaker's training jobs, each time that one trains; of several nodes the first."""

        def see(job: TrainingJob) -> None:
            if job.secondary_status == "Training":
                period = job.periods[-1]
                self._plan_for(job.name, period.instances[0], lambda: period.ended_at is not None)

        training.on_change(see)

    def _plan_for(self, job_name: str, instance: Instance, is_over: Callable[[], bool]) -> None:
        self._clock.after(self._plan.every_seconds, partial(self._interrupt, job_name, instance, is_over))

    def _interrupt(self, job_name: str, instance: Instance, is_over: Callable[[], bool]) -> None:
        with self._lock:
            is_gone = is_over() or instance.ended_at is not None
            if is_gone or instance.market != "spot" or self._num_done == self._plan.number:
                return
            self._num_done += 1
            number = self._num_done
        self._market.reclaim(instance.id, notice=True)
        self._say(
            f"interruption {number} of {self._plan.number}: AWS takes {instance.type} {instance.zone} back from "
            f"{job_name}, notice {self._clock.notice_seconds:.0f} s"
        )
