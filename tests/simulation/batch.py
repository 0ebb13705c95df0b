"""The model of AWS Batch: jobs, hosts, native retries, time limits; a job's end is what Batch says, not what was.

    SUBMITTED -> RUNNABLE -> STARTING -> RUNNING -> SUCCEEDED | FAILED
                    ^____________________|  retry: same job, next attempt number

A job may hang in STARTING, for ever: Batch's time limit counts from RUNNING.

SubmitJob has no idempotency: two calls are two jobs. An array job never runs itself: it has children, each of which is
queued, retried and stopped alone, and it ends when all of them have. ListJobs shows the array, DescribeJobs also its
children. A host may vanish with or without a notice, refuse to start
the container, or be cut off: Batch then gives the attempt up while its container goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from zlib import crc32

from emulation.batch.array_jobs import CHILD_FAILED
from emulation.batch.retry import AttemptOutcome, Decision, decide
from spotkeeper.contract import tags
from spotkeeper.contract.events import HOST_LOST_STATUS_REASON
from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_YIELDED
from spotkeeper.control.classify import DRAINED, NORMAL_EXIT, TIME_LIMIT
from spotkeeper.control.ports import Job, JobAttempt, JobOrder, JobStatus
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import Trace
from tests.simulation.faults import Swarm
from tests.simulation.sched import Scheduler

ATTEMPTS: Final = 10
RETRY_RULES: Final = (
    {"onStatusReason": f"{HOST_LOST_STATUS_REASON}*", "action": "RETRY"},
    {"onExitCode": str(EXIT_YIELDED), "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
    {"onStatusReason": "*", "action": "EXIT"},
    {"onExitCode": "*", "action": "EXIT"},
)
"""As deployed; a test compares them with stacks/constructs/training_job.py, which needs the CDK to be read."""

QUEUES: Final = "arn:aws:batch:us-east-1:123456789012:job-queue"
SPOT_QUEUE: Final = f"{QUEUES}/spot"
ON_DEMAND_QUEUE: Final = f"{QUEUES}/on-demand"
STUCK_SECONDS: Final = 86400.0
CAPACITY_CANCEL: Final = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
CAPACITY_SECONDS: Final = 900.0
"""Time limit of a job that finds no capacity."""
JOIN_SECONDS: Final = 40.0
"""From the launch of a host until Batch knows it; its job is RUNNABLE until then."""
LISTED_AFTER_SECONDS: Final = 550.0
"""A job younger than this may be missing in ListJobs: nearly as long as settlement allows for."""
STOP_GRACE_SECONDS: Final = 30.0
NOTICE_SECONDS: Final = 120.0
CUT_OFF_SECONDS: Final = (60.0, 1500.0, 5000.0)
"""How long the container of a host that Batch has given up may go on."""


@dataclass(slots=True)
class Host:
    """An instance that EC2 launched for a job, which it bills whether a container started on it or not."""

    launched_seconds: float
    starting_seconds: float | None = None
    """When a container began to start on it."""
    started_seconds: float | None = None
    """When it had; None: it hung, or the host was not used."""
    released_seconds: float | None = None
    """When Batch had no use for it any more."""


@dataclass(slots=True)
class BatchJob:
    """A job, and what the model knows beyond what Batch tells."""

    job_id: str
    name: str
    request: Mapping[str, Any]
    created_seconds: float
    order: JobOrder
    array_size: int | None = None
    array_index: int | None = None
    status: JobStatus = JobStatus.SUBMITTED
    status_reason: str | None = None
    stopped_at: str | None = None
    attempts: list[JobAttempt] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    stop_reason: str | None = None
    """Given to TerminateJob."""
    phase: int = 0
    """Rises with every change of status; a timer that was set in an earlier phase finds nothing to do."""
    container: Any = None

    @property
    def queue(self) -> str:
        """ARN of its queue."""
        queue: str = self.request["jobQueue"]
        return queue

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its container."""
        return {item["name"]: item["value"] for item in self.request["containerOverrides"]["environment"]}

    @property
    def label(self) -> str:
        """Under what it goes in decisions and in the trace."""
        return self.job_id

    @property
    def machine(self) -> dict[str, str]:
        """What an attempt learns of its machine."""
        return {"instance_id": self.host, "instance_type": "m6i.xlarge"}

    @property
    def numbers_attempts(self) -> bool:
        """Whether each attempt is told its number."""
        return True

    @property
    def survives_its_containers(self) -> bool:
        """Whether whoever is told to stop may exit, and be started again."""
        return True

    @property
    def is_on_demand(self) -> bool:
        """Whether it runs on on-demand."""
        return self.queue == ON_DEMAND_QUEUE

    @property
    def attempts_allowed(self) -> int:
        """How often Batch starts it."""
        allowed: int = self.request.get("retryStrategy", {}).get("attempts", ATTEMPTS)
        return allowed

    @property
    def has_ended(self) -> bool:
        return self.status in (JobStatus.SUCCEEDED, JobStatus.FAILED)

    def hung_seconds(self) -> float:
        """Return for how long its last host was kept for a container that did not start."""
        host = self.hosts[-1] if self.hosts else None
        if host is None or host.starting_seconds is None or host.started_seconds is not None:
            return 0.0
        return (host.released_seconds or 0.0) - host.starting_seconds

    @property
    def host(self) -> str:
        """The instance of the newest attempt."""
        return f"i-{crc32(f'{self.job_id}#{len(self.attempts)}'.encode()):08x}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hooks:
    """What the world does when Batch and EC2 act."""

    start_container: Callable[[Any, BatchJob, int], Any]
    """Returns something with `request_stop(signal)`, `give_notice()` and `kill()`."""
    job_created: Callable[[BatchJob], None]
    job_changed: Callable[[BatchJob], None]
    host_noticed: Callable[[BatchJob, str], None]
    job_withdrawn: Callable[[BatchJob], None]


class Batch:
    """AWS Batch with a queue on spot and one on on-demand. `fakes.LinkedBatch` is a program's way to it."""

    def __init__(self, scheduler: Scheduler, choices: Choices, swarm: Swarm, trace: Trace, hooks: Hooks) -> None:
        self.jobs: dict[str, BatchJob] = {}
        self.refused_names: set[str] = set()
        self._scheduler = scheduler
        self._choices = choices
        self._swarm = swarm
        self._trace = trace
        self._hooks = hooks

    # The API

    def submit(self, request: Mapping[str, Any]) -> str:
        """Create a job; twins of one name are told apart by a letter."""
        name, size = request["jobName"], request.get("arrayProperties", {}).get("size")
        twins = len(self.listed(name))
        job = self._create(f"{name}.{chr(ord('a') + twins)}", request, array_size=size)
        self._hooks.job_created(job)
        self._trace("batch", f"job {job.job_id} exists" if size is None else f"array {job.job_id} of {size} exists")
        if size is None:
            self._in_phase(job, 2.0, self._queue)
            return job.job_id
        self._enter(job, JobStatus.PENDING)
        for index in range(size):
            child = self._create(f"{job.job_id}:{index}", request, array_index=index)
            self._in_phase(child, 2.0, self._queue)
        return job.job_id

    def _create(
        self, job_id: str, request: Mapping[str, Any], *, array_size: int | None = None, array_index: int | None = None
    ) -> BatchJob:
        now_seconds = self._scheduler.now_seconds
        job = self.jobs[job_id] = BatchJob(
            job_id,
            request["jobName"],
            request,
            now_seconds,
            _order(request, iso(now_seconds)),
            array_size=array_size,
            array_index=array_index,
        )
        return job

    def listed(self, name: str) -> list[BatchJob]:
        """Return all jobs of a name, oldest first, but for the children of arrays."""
        return [job for job in self.jobs.values() if job.name == name and job.array_index is None]

    def children(self, array: BatchJob) -> list[BatchJob]:
        """Return the children of an array."""
        return [self.jobs[f"{array.job_id}:{index}"] for index in range(array.array_size or 0)]

    def refuse(self, request: Mapping[str, Any]) -> None:
        """Note that a request was rejected."""
        self.refused_names.add(request["jobName"])

    def named(self, name: str, queue: str, *, settled: bool) -> tuple[Job, ...]:
        """Return a queue's jobs of a name, oldest first; `settled` leaves out those that ListJobs may not show yet."""
        latest = self._scheduler.now_seconds - (LISTED_AFTER_SECONDS if settled else 0.0)
        jobs = [job for job in self.listed(name) if job.queue == queue]
        return tuple(_told(job) for job in jobs if job.created_seconds <= latest)

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is."""
        job = self.jobs.get(job_id)
        return None if job is None else _told(job)

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job: at once if it waits, else with SIGTERM and some time."""
        job = self.jobs[job_id]
        for child in self.children(job):
            self.terminate(child.job_id, reason)
        if job.has_ended or job.stop_reason is not None or job.array_size is not None:
            return
        job.stop_reason = reason
        self._trace("batch", f"job {job_id} is terminated: {reason}")
        if job.status is not JobStatus.RUNNING:
            self._in_phase(job, 0.0, lambda job: self._fail(job, reason))
            return
        self._stop_container(job)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Cancel the job if it has no machine yet."""
        job = self.jobs[job_id]
        if job.status in (JobStatus.SUBMITTED, JobStatus.RUNNABLE) and job.stop_reason is None:
            job.stop_reason = reason
            self._hooks.job_withdrawn(job)
            self._in_phase(job, 0.0, lambda job: self._fail(job, reason))

    # Life of a job

    def _queue(self, job: BatchJob) -> None:
        self._enter(job, JobStatus.RUNNABLE)
        table = self._swarm.on_demand_capacity if job.is_on_demand else self._swarm.capacity
        wait = self._choices.draw(f"batch: job {job.job_id}, capacity {len(job.attempts) + 1}", table)
        if wait == "stuck":
            self._in_phase(job, STUCK_SECONDS, self._launch)
        elif wait == "none":
            self._in_phase(job, CAPACITY_SECONDS, self._give_up)
        else:
            self._in_phase(job, (wait or 60.0) - JOIN_SECONDS, self._launch)

    def _launch(self, job: BatchJob) -> None:
        job.hosts.append(Host(self._scheduler.now_seconds))
        self._in_phase(job, JOIN_SECONDS, self._start)

    def _give_up(self, job: BatchJob) -> None:
        if self._choices.draw(f"batch: job {job.job_id}, late host", self._swarm.late_host):
            job.hosts.append(Host(self._scheduler.now_seconds))
        self._fail(job, CAPACITY_CANCEL)

    def _start(self, job: BatchJob) -> None:
        self._enter(job, JobStatus.STARTING)
        job.hosts[-1].starting_seconds = self._scheduler.now_seconds
        number = len(job.attempts) + 1
        # What others submitted is nobody's to stop.
        start = self._swarm.start if tags.PROJECT in job.request["tags"] else ()
        if self._choices.draw(f"batch: job {job.job_id}, start {number}", start) is not None:
            return
        table = self._swarm.image if job.is_on_demand else ()
        image_seconds = self._choices.draw(f"batch: job {job.job_id}, image {number}", table)
        self._in_phase(job, image_seconds or 30.0, self._run)

    def _run(self, job: BatchJob) -> None:
        number = len(job.attempts) + 1
        job.hosts[-1].started_seconds = self._scheduler.now_seconds
        table = self._swarm.on_demand_host if job.is_on_demand else self._swarm.host
        fate = self._choices.draw(f"batch: job {job.job_id}, host {number}", table)
        if fate == "does not start":
            job.attempts.append(JobAttempt())
            self._end_attempt(job, status_reason="Task failed to start", reason="CannotPullContainerError: 503")
            return
        job.attempts.append(JobAttempt(started_at=iso(self._scheduler.now_seconds), log_stream=f"cpu/{number}"))
        self._enter(job, JobStatus.RUNNING)
        job.container = self._hooks.start_container(self, job, number)
        limit = job.request["timeout"]["attemptDurationSeconds"]
        self._in_phase(job, limit, self._time_out)
        if fate is not None:
            after = self._choices.among(
                f"batch: job {job.job_id}, host {number} after", (700.0, 5.0, 45.0, 1210.0, 2500.0)
            )
            self._in_phase(job, after, lambda job: self._take_host(job, fate))

    def _take_host(self, job: BatchJob, fate: str) -> None:
        if fate == "notice":
            self._trace("ec2", f"notice for the host of {job.job_id}#{len(job.attempts)}")
            job.container.give_notice()
            self._hooks.host_noticed(job, job.host)
            self._in_phase(job, NOTICE_SECONDS, self.lose_host)
        elif fate == "cut off":
            self.lose_host(job, is_cut_off=True)
        elif fate == "drained":
            job.container.kill()
            self._end_attempt(job, status_reason=DRAINED)
        else:
            self.lose_host(job)

    def lose_host(self, job: BatchJob, *, is_cut_off: bool = False) -> None:
        """The host is gone for Batch. One that is cut off goes on for a while."""
        what = "cut off" if is_cut_off else "lost"
        self._trace("ec2", f"the host of {job.job_id}#{len(job.attempts)} is {what}")
        container, host = job.container, job.host
        if is_cut_off:
            container.is_cut_off = True
            name = f"batch: job {job.job_id}, host {len(job.attempts)} goes on"
            self._scheduler.after(self._choices.among(name, CUT_OFF_SECONDS), container.kill)
        else:
            container.kill()
        self._end_attempt(job, status_reason=f"Host EC2 (instance {host}) terminated.")

    def _time_out(self, job: BatchJob) -> None:
        job.stop_reason = TIME_LIMIT
        self._stop_container(job)

    def _stop_container(self, job: BatchJob) -> None:
        self._in_phase(job, 1.0, lambda job: job.container.request_stop())
        self._in_phase(job, 1.0 + STOP_GRACE_SECONDS, self._kill)

    def _kill(self, job: BatchJob) -> None:
        job.container.kill()
        self._end_attempt(job, exit_code=137, status_reason=NORMAL_EXIT)

    def exited(self, job: BatchJob, number: int, exit_code: int) -> None:
        """The container ended by itself; nobody hears of it if Batch had given its host up."""
        if job.status is JobStatus.RUNNING and number == len(job.attempts):
            self._end_attempt(job, exit_code=exit_code, status_reason=NORMAL_EXIT)

    def _end_attempt(
        self, job: BatchJob, *, status_reason: str, exit_code: int | None = None, reason: str | None = None
    ) -> None:
        job.attempts[-1] = replace(
            job.attempts[-1],
            stopped_at=iso(self._scheduler.now_seconds),
            exit_code=exit_code,
            status_reason=status_reason,
            reason=reason,
        )
        self._release(job)
        stopped = job.stop_reason is not None
        outcome = AttemptOutcome(
            exit_code=exit_code, reason=reason, status_reason=status_reason, stopped_by_batch=stopped
        )
        if exit_code == EXIT_COMPLETED and not stopped:
            self._end(job, JobStatus.SUCCEEDED, status_reason)
        elif decide(outcome, RETRY_RULES, **_attempts(job)) is Decision.RETRY:
            self._queue(job)
        else:
            self._fail(job, job.stop_reason or status_reason)

    def _fail(self, job: BatchJob, reason: str) -> None:
        self._end(job, JobStatus.FAILED, reason)

    def _end(self, job: BatchJob, status: JobStatus, reason: str) -> None:
        self._release(job)
        job.status_reason = reason
        job.stopped_at = iso(self._scheduler.now_seconds)
        self._enter(job, status)
        if job.array_index is not None:
            self._end_array(self.jobs[job.job_id.rpartition(":")[0]])

    def _end_array(self, array: BatchJob) -> None:
        """End an array whose children have all ended."""
        statuses = {child.status for child in self.children(array)}
        if statuses <= {JobStatus.SUCCEEDED}:
            self._end(array, JobStatus.SUCCEEDED, "")
        elif statuses <= {JobStatus.SUCCEEDED, JobStatus.FAILED}:
            self._end(array, JobStatus.FAILED, CHILD_FAILED)

    def _release(self, job: BatchJob) -> None:
        for host in job.hosts:
            host.released_seconds = host.released_seconds or self._scheduler.now_seconds

    def _enter(self, job: BatchJob, status: JobStatus) -> None:
        job.phase += 1
        job.status = status
        self._trace("batch", f"job {job.job_id} is {status}{f': {job.status_reason}' if job.has_ended else ''}")
        self._hooks.job_changed(job)

    def _in_phase(self, job: BatchJob, seconds: float, action: Callable[[BatchJob], None]) -> None:
        phase = job.phase

        def act() -> None:
            if job.phase == phase:
                action(job)

        self._scheduler.after(seconds, act)


def _attempts(job: BatchJob) -> dict[str, int]:
    return {"attempts_made": len(job.attempts), "attempts_allowed": job.attempts_allowed}


def _told(job: BatchJob) -> Job:
    return Job(
        job_id=job.job_id,
        name=job.name,
        status=job.status,
        status_reason=job.status_reason,
        stopped_at=job.stopped_at,
        attempts=tuple(job.attempts),
        array_size=job.array_size,
        array_index=job.array_index,
        order=job.order,
    )


def _order(request: Mapping[str, Any], created_at: str) -> JobOrder:
    container = request["containerOverrides"]
    return JobOrder(
        queue=request["jobQueue"],
        definition=request["jobDefinition"],
        created_at=created_at,
        team=request["shareIdentifier"],
        command=tuple(container["command"]),
        variables={pair["name"]: pair["value"] for pair in container["environment"]},
        tags=request["tags"],
        attempt_seconds=request["timeout"]["attemptDurationSeconds"],
        priority=request.get("schedulingPriorityOverride"),
    )
