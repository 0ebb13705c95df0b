"""Runs Batch jobs on the market's instances: placement, attempts, retries, time limits, reclaims.

One instance runs one job at a time and is given back when its job ends, as with jobs that fill their instance. An
instance that was given notice is not given back: EC2 takes it at its deadline, and no other job lands on it.

One lock guards all state. The clock's thread schedules and keeps time; each attempt has a thread that waits for its
container; events are sent by a thread of their own.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from emulation.batch import array_jobs, retry
from emulation.batch.backlog import INSUFFICIENT_CAPACITY, UNFIT_REQUIREMENT, Backlog
from emulation.batch.fleet import Fleet, Host
from emulation.batch.job_logs import DEFAULT_GROUP
from emulation.batch.jobs import Attempt, Job, Status
from emulation.batch.launcher import Launcher
from emulation.batch.processes import Container
from emulation.clock import Clock, Timer
from emulation.ec2 import prices
from emulation.ec2.market import SpotMarket
from emulation.events.aws_events import EventSender
from emulation.templates.deployment import Deployment, JobQueue

_TIME_OUT_GRACE_SECONDS: Final = 30.0
"""From SIGTERM to SIGKILL when an attempt exceeds its time limit. AWS does not say what a longer or shorter stop
time-out of the ECS agent changes; here the shorter of the two counts. docs.aws.amazon.com/batch, job_timeouts"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long AWS takes, in AWS seconds."""

    boot_seconds: float = 90.0
    """From an instance's launch to its registration with the cluster; the job is RUNNABLE meanwhile."""
    pull_seconds: float = 30.0
    """From a job's placement to its container's start; the job is STARTING meanwhile."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Placement:
    """A job on a host, from the host's launch until one of the two ends."""

    job: Job
    host: Host
    attempt: Attempt | None = None
    container: Container | None = None
    waiter: threading.Thread | None = None
    timers: list[Timer] = field(default_factory=list)
    is_cut_off: bool = False
    """Batch has given the host up, and the container goes on."""


class Executor:
    """Batch's scheduler and ECS's agent in one.

    Args:
        deployment: Queues and compute environments.
        market: Where instances come from.
        clock: Shortens AWS's delays.
        events: Takes what Batch and EC2 have to say.
        launcher: Makes containers.
        delays: How long AWS takes.
        seed: Decides ARNs.
    """

    def __init__(
        self,
        *,
        deployment: Deployment,
        market: SpotMarket,
        clock: Clock,
        events: EventSender,
        launcher: Launcher,
        delays: Delays,
        seed: int,
    ) -> None:
        self.failures: list[Exception] = []
        """What went wrong in the executor itself."""
        self._deployment = deployment
        self._clock = clock
        self._events = events
        self._launcher = launcher
        self._delays = delays
        self._random = Random(f"executor {seed}")  # noqa: S311  not for secrets
        self._queues = sorted(deployment.job_queues.values(), key=lambda queue: (-queue.priority, queue.name))
        self._types = {arn: prices.expand(ce.instance_types) for arn, ce in deployment.compute_environments.items()}
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[str, Job] = {}
        self._placed: dict[str, _Placement] = {}
        self._cut_off: list[_Placement] = []
        self._backlog = Backlog(clock=clock, events=events, give_up=self._give_up)
        self._observers: list[Callable[[dict[str, Any]], None]] = []
        self._waiters: set[threading.Thread] = set()
        self._stopping = False
        self._fleet = Fleet(
            deployment=deployment,
            market=market,
            clock=clock,
            events=events,
            boot_seconds=delays.boot_seconds,
            seed=seed,
            user=self,
        )

    # What Batch's API asks for.

    def submit(self, job: Job) -> None:
        """Take a job; it becomes RUNNABLE by itself."""
        with self._changed:
            self._jobs |= {taken.id: taken for taken in (job, *job.children)}
        self._clock.after(0, partial(self._admit, job))

    def cancel(self, job_id: str, reason: str) -> None:
        """Cancel a job that has not reached STARTING; leave any other alone. Of an array, each child."""
        with self._changed:
            for job in self._addressed(job_id):
                if job.status in {Status.SUBMITTED, Status.RUNNABLE}:
                    self._cancel(job, reason)

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop a job wherever it is: SIGTERM, the stop time-out, SIGKILL, FAILED with this reason.

        Of an array, each child.
        """
        with self._changed:
            for job in self._addressed(job_id):
                if not job.is_finished and not job.is_terminated:
                    self._terminate(job, reason)

    def _terminate(self, job: Job, reason: str) -> None:
        job.is_terminated = True
        if job.status in {Status.STARTING, Status.RUNNING}:
            job.status_reason = reason
            placement = self._placed[job.id]
            self._stop_container(placement, placement.host.environment.stop_timeout_seconds)
        else:
            self._cancel(job, reason)

    def _addressed(self, job_id: str) -> tuple[Job, ...]:
        """Return the jobs that run where this one is named: itself, or the children of an array."""
        job = self._jobs.get(job_id)
        if job is None:
            return ()
        return job.children or (job,)

    def cut_off(self, instance_id: str) -> None:
        """Give a host up for lost that goes on: its container runs to its own end, of which Batch never hears.

        Raises:
            ValueError: if no container runs there.
        """
        with self._changed:
            placement = next((one for one in self._placed.values() if one.host.instance.id == instance_id), None)
            if placement is None or placement.container is None:
                raise ValueError(f"no container runs on instance {instance_id!r}: cut off one where a job is RUNNING")
            placement.is_cut_off = True
            self._cut_off.append(placement)
            self._end_attempt(placement, exit_code=None, reason=None, was_lost=True)

    def read(self, look: Callable[[dict[str, Job]], Any]) -> Any:
        """Return what `look` makes of all jobs, by id, while none changes."""
        with self._changed:
            return look(self._jobs)

    def waiting(self, queue: JobQueue) -> list[Job]:
        """Return the queue's RUNNABLE jobs that have no instance yet, in the order in which they get one."""
        with self._changed:
            placed = [placement.job for placement in self._placed.values() if placement.job.queue is queue]
            in_flight = Counter(job.share_identifier for job in placed)
            jobs = [
                job
                for job in self._jobs.values()
                if job.queue is queue and job.status is Status.RUNNABLE and job.id not in self._placed
            ]
            return self._backlog.in_order(jobs, in_flight)

    def used_vcpus(self, environment_arns: Iterable[str]) -> int:
        """Return the vCPUs of the instances that these compute environments have now."""
        return self._fleet.used_vcpus(environment_arns)

    def observe(self, callback: Callable[[dict[str, Any]], None]) -> None:
        """Call `callback` with a job's JobDetail at every change of state, in order, on the event thread."""
        self._observers.append(callback)

    def wait(self, job_id: str, states: Iterable[str], timeout_seconds: float) -> dict[str, Any]:
        """Return a job's JobDetail once it is in one of `states`.

        Raises:
            TimeoutError: if it does not get there in time, naming where it is.
        """
        wanted, give_up = set(states), time.monotonic() + timeout_seconds
        with self._changed:
            job = self._jobs[job_id]
            while job.status not in wanted:
                if self._stopping or not self._changed.wait(give_up - time.monotonic()):
                    raise TimeoutError(
                        f"job {job.name} ({job_id}) is {job.status} ({job.status_reason or 'no reason given'}), not "
                        f"{' or '.join(sorted(wanted))}, {'as it was stopped' if self._stopping else ''}"
                        f"after {timeout_seconds:g} s"
                    )
            return job.describe()

    def stop(self) -> None:
        """End every container and instance. Jobs stay in the state in which they are."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            containers = [placement.container for placement in (*self._placed.values(), *self._cut_off)]
            waiters = list(self._waiters)
        for container in containers:
            if container is not None:
                container.kill()
        for waiter in waiters:
            waiter.join()
        self._fleet.stop()

    # What the fleet says.

    def capacity_changed(self) -> None:
        """Try again to place what waits."""
        self._clock.after(0, self._schedule)

    def host_lost(self, host: Host) -> None:
        """End what ran on the host."""
        container: Container | None = None
        with self._changed:
            placement = self._on(host)
            if placement is not None and not self._stopping:
                container = placement.container
                if placement.attempt is None:  # the host was booting: the job waits again
                    self._detach(placement)
                    self._backlog.put_back(placement.job)
                elif placement.waiter is None:
                    self._end_attempt(placement, exit_code=None, reason=None, was_lost=True)
        if container is not None:
            container.kill()
        self._clock.after(0, self._schedule)

    # Scheduling.

    def _admit(self, job: Job) -> None:
        with self._changed:
            if job.children and not self._stopping:
                self._move(job, Status.PENDING)
            for admitted in self._addressed(job.id):
                if admitted.status is Status.SUBMITTED and not self._stopping:
                    admitted.status_reason = admitted.defect
                    self._move(admitted, Status.FAILED if admitted.defect else Status.RUNNABLE)
        self._schedule()

    def _schedule(self) -> None:
        with self._changed:
            for queue in self._queues:
                if self._stopping:
                    return
                while (waiting := self.waiting(queue)) and self._place(waiting[0]):
                    pass
                for job in waiting[1:]:
                    self._backlog.release(job)

    def _place(self, job: Job) -> bool:
        """Launch an instance for a job, or say why there is none."""
        refused_types: list[str] = []
        is_full = False
        for environment in (self._deployment.compute_environments[arn] for arn in job.queue.compute_environments):
            types = [kind.name for kind in self._types[environment.arn] if job.fits(kind)]
            if not environment.enabled or not types:
                continue
            if self._fleet.used_vcpus([environment.arn]) >= environment.max_vcpus:
                is_full = True
                continue
            host = self._fleet.launch(environment, types)
            if host is not None:
                self._backlog.remove(job)
                self._placed[job.id] = _Placement(job=job, host=host)
                return True
            refused_types += types
        if is_full:
            self._backlog.hold(job, None)
        elif refused_types:
            self._backlog.hold(job, f"{INSUFFICIENT_CAPACITY}[{', '.join(dict.fromkeys(refused_types))}]")
        else:
            self._backlog.hold(job, UNFIT_REQUIREMENT)
        return False

    def _give_up(self, job: Job, reason: str, is_stuck: Callable[[], bool]) -> None:
        with self._changed:
            if is_stuck() and not self._stopping:
                self._cancel(job, reason)

    def _cancel(self, job: Job, reason: str) -> None:
        self._backlog.remove(job)
        placement = self._placed.get(job.id)
        if placement is not None:
            self._detach(placement)
        job.is_cancelled, job.status_reason = True, reason
        self._move(job, Status.FAILED)
        self._clock.after(0, self._schedule)

    # The life of an attempt.

    def host_up(self, host: Host) -> None:
        """Start what was placed on the host."""
        with self._changed:
            placement = self._on(host)
            if placement is None or host.is_lost or self._stopping:
                return
            job = placement.job
            placement.attempt = self._make_attempt(job, host)
            job.attempts.append(placement.attempt)
            job.status_reason = None
            self._move(job, Status.STARTING)
            pull_seconds = self._clock.real_seconds(self._delays.pull_seconds)
            placement.timers.append(self._clock.after(pull_seconds, partial(self._start, placement)))

    def _make_attempt(self, job: Job, host: Host) -> Attempt:
        options = job.container.get("logConfiguration", {}).get("options", {})
        definition_name = job.definition_arn.rpartition("/")[2].partition(":")[0]
        task_id = f"{self._random.getrandbits(128):032x}"
        number = len(job.attempts) + 1
        return Attempt(
            number=number,
            instance=host.instance,
            compute_environment=host.environment.name,
            container_instance_arn=host.container_instance_arn,
            task_arn=host.container_instance_arn.replace(":container-instance/", ":task/").rpartition("/")[0]
            + f"/{task_id}",
            log_group=options.get("awslogs-group", DEFAULT_GROUP),
            log_stream=f"{options.get('awslogs-stream-prefix', definition_name)}/default/{task_id}",
            log_path=self._launcher.log_path(job.id, number),
        )

    def _start(self, placement: _Placement) -> None:
        with self._changed:
            if placement is self._placed.get(placement.job.id) and not placement.host.is_lost and not self._stopping:
                name = f"attempt-{placement.host.instance.id}"
                placement.waiter = threading.Thread(target=self._run, args=(placement,), name=name, daemon=True)
                self._waiters.add(placement.waiter)
                placement.waiter.start()

    def _run(self, placement: _Placement) -> None:
        try:
            self._run_attempt(placement)
        except Exception as error:  # noqa: BLE001  the thread's outermost frame: a bug here must not pass in silence
            self.failures.append(error)
            _log.error("an attempt could not be followed to its end", exc_info=error)
        with self._changed:
            self._waiters.discard(threading.current_thread())

    def _run_attempt(self, placement: _Placement) -> None:
        job, host, attempt = placement.job, placement.host, placement.attempt
        if attempt is None:
            raise RuntimeError(f"job {job.id} was started without an attempt")
        exit_code, reason = None, None
        try:
            container = self._launcher.prepare(job, attempt, host.metadata_endpoint)
            is_running = self._start_container(placement, attempt, container)
        except (ClientError, BotoCoreError) as error:
            is_running, reason = False, f"ResourceInitializationError: unable to pull secrets: {error}"
        except OSError as error:
            is_running, reason = False, f"CannotStartContainerError: {error}"
        if is_running:
            exit_code = container.wait()
        was_lost = host.is_lost  # what the agent could not report any more did not happen
        self._launcher.clean_up(attempt)
        with self._changed:
            if placement.is_cut_off:
                attempt.unreported_exit_code = exit_code
                self._cut_off.remove(placement)
                self._clock.after(0, partial(self._fleet.give_back, host))
            elif not self._stopping:
                self._end_attempt(
                    placement, exit_code=None if was_lost else exit_code, reason=reason, was_lost=was_lost
                )

    def _start_container(self, placement: _Placement, attempt: Attempt, container: Container) -> bool:
        job = placement.job
        with self._changed:
            if placement.host.is_lost or job.is_terminated or self._stopping:
                return False
            container.start()
            placement.container = container
            attempt.started_at_ms = self._clock.now_ms()
            if job.timeout_seconds is not None:
                limit_seconds = self._clock.real_seconds(job.timeout_seconds)
                placement.timers.append(self._clock.after(limit_seconds, partial(self._time_out, placement, attempt)))
            self._move(job, Status.RUNNING)
            return True

    def _time_out(self, placement: _Placement, attempt: Attempt) -> None:
        with self._changed:
            if attempt.stopped_at_ms is None and not placement.host.is_lost:
                attempt.timed_out = True
                stop_timeout_seconds = placement.host.environment.stop_timeout_seconds
                self._stop_container(placement, min(_TIME_OUT_GRACE_SECONDS, stop_timeout_seconds))

    def _stop_container(self, placement: _Placement, aws_seconds: float) -> None:
        if placement.container is not None:
            placement.container.terminate()
            grace_seconds = self._clock.grace_seconds(aws_seconds)
            placement.timers.append(self._clock.after(grace_seconds, placement.container.kill))

    def _end_attempt(self, placement: _Placement, *, exit_code: int | None, reason: str | None, was_lost: bool) -> None:
        job, attempt = placement.job, placement.attempt
        if attempt is None:
            raise RuntimeError(f"job {job.id} ended an attempt that it never began")
        attempt.stopped_at_ms = self._clock.now_ms()
        attempt.exit_code, attempt.reason = exit_code, reason
        attempt.status_reason = job.reason_of(attempt, was_lost=was_lost)
        if not job.is_terminated:
            job.status_reason = attempt.status_reason
        self._detach(placement)
        stopped_by_batch = job.is_terminated or attempt.timed_out
        outcome = retry.AttemptOutcome(
            exit_code=exit_code,
            reason=reason,
            status_reason=attempt.status_reason,
            stopped_by_batch=stopped_by_batch,
        )
        if exit_code == 0 and not stopped_by_batch:
            self._move(job, Status.SUCCEEDED)
        elif (
            retry.decide(
                outcome, job.evaluate_on_exit, attempts_made=attempt.number, attempts_allowed=job.attempts_allowed
            )
            is retry.Decision.RETRY
        ):
            self._backlog.put_back(job)
            self._move(job, Status.RUNNABLE)
        else:
            self._move(job, Status.FAILED)
        self._clock.after(0, self._schedule)

    def _detach(self, placement: _Placement) -> None:
        del self._placed[placement.job.id]
        for timer in placement.timers:
            timer.cancel()
        if not placement.is_cut_off:
            self._clock.after(0, partial(self._fleet.give_back, placement.host))

    def _on(self, host: Host) -> _Placement | None:
        placements = (*self._placed.values(), *self._cut_off)
        return next((placement for placement in placements if placement.host is host), None)

    def _move(self, job: Job, status: Status) -> None:
        job.status = status
        if job.is_finished:
            job.stopped_at_ms = self._clock.now_ms()
        detail = job.describe()
        self._events.job_state_changed(detail)
        for observer in self._observers:
            self._events.call(partial(observer, detail))
        self._changed.notify_all()
        if job.array_index is not None and job.is_finished:
            self._end_array(self._jobs[job.id.partition(":")[0]])

    def _end_array(self, parent: Job) -> None:
        ending = array_jobs.ending_of(parent)
        if ending is not None:
            status, parent.status_reason = ending
            self._move(parent, status)
