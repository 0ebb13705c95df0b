"""The jobs of a queue that have no instance yet: whose turn it is, and how long the first may be stuck."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from emulation.batch.jobs import Job, Status
from emulation.clock import Clock, Timer
from emulation.events.aws_events import EventSender

INSUFFICIENT_CAPACITY: Final = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
)
"""Followed by the instance types in brackets."""
UNFIT_REQUIREMENT: Final = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that "
    "can be met by the CE(s) attached to the job queue."
)
GIVEN_UP: Final = "Canceled by JobStateTimeLimit action due to reason: "


class Backlog:
    """Turns, blocks and time limits of waiting jobs. Its methods are called under the executor's lock.

    Args:
        clock: Shortens the time limits.
        events: Takes what a blocked queue has to say.
        give_up: Called on the clock's thread with a job that its queue's time limit cancels, the reason for it, and a
            function that says, under the executor's lock, whether the job is still stuck.
    """

    def __init__(
        self, *, clock: Clock, events: EventSender, give_up: Callable[[Job, str, Callable[[], bool]], None]
    ) -> None:
        self._clock = clock
        self._events = events
        self._give_up = give_up
        self._front: list[str] = []
        self._limits: dict[str, list[Timer]] = {}

    def in_order(self, waiting: Iterable[Job], in_flight: Counter[str | None]) -> list[Job]:
        """Return waiting jobs of a queue in the order of their turns.

        Jobs that were placed before come first, as Batch puts retries at the front. Then the share with the fewest jobs
        `in_flight` has its turn, within it the higher priority, then the earlier submission.
        """

        def turn(job: Job) -> tuple[int, int, int, int]:
            if job.id in self._front:
                return (0, self._front.index(job.id), 0, 0)
            return (1, in_flight[job.share_identifier], -job.scheduling_priority, job.sequence)

        return sorted(waiting, key=turn)

    def put_back(self, job: Job) -> None:
        """Give a job that had an instance a place at the front, behind those that came back before it."""
        self._front.append(job.id)

    def remove(self, job: Job) -> None:
        """Forget a job that waits no longer."""
        self.release(job)
        if job.id in self._front:
            self._front.remove(job.id)

    def hold(self, job: Job, reason: str | None) -> None:
        """Note that a job is the first and cannot be placed.

        Args:
            job: The first of its queue.
            reason: Batch's status reason if the queue is blocked: the queue's time limit for it then runs. None if the
                job only waits for others to end.
        """
        job.head_since_ms = job.head_since_ms or self._clock.now_ms()
        if job.id in self._limits and job.status_reason == reason:
            return
        self._stop_limits(job)
        if reason is None:
            return
        job.status_reason = reason
        timers = self._limits[job.id] = []
        for action in job.queue.state_time_limit_actions:
            if reason.startswith(action.reason) and action.state == Status.RUNNABLE and action.action == "CANCEL":
                limit_seconds = self._clock.real_seconds(action.max_time_seconds)
                end = partial(self._give_up, job, GIVEN_UP + action.reason, lambda: self._limits.get(job.id) is timers)
                timers.append(self._clock.after(limit_seconds, end))
        self._events.job_queue_blocked(job.describe())

    def release(self, job: Job) -> None:
        """Note that a job is not the first, or not any more."""
        job.head_since_ms = None
        self._stop_limits(job)

    def _stop_limits(self, job: Job) -> None:
        timers = self._limits.pop(job.id, None)
        if timers is not None:
            job.status_reason = None
            for timer in timers:
                timer.cancel()
