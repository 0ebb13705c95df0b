"""The model of SageMaker training: jobs whose names are given once, interruptions within a job, stops, what is billed.

    Pending -> Downloading -> Training -> Uploading -> Completed | Failed | Stopped
                    ^             |
                    +- Interrupted+      by SageMaker itself: same job, and nobody else is asked

A name is refused for ever once it was given, so there are no twins. What the control plane reads of a job goes through
the shipped reading of DescribeTrainingJob. All nodes of a job are one here: what one loses, all lose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED, EXIT_YIELDED
from spotkeeper.contract.training import queue_of
from spotkeeper.control.aws.training_jobs import INTERRUPTED
from spotkeeper.control.ports import Job, JobStatus, NameTaken, QuotaReached, Throttled
from tests.simulation.batch import (
    CAPACITY_SECONDS,
    LISTED_AFTER_SECONDS,
    STUCK_SECONDS,
    BatchJob,
    Hooks,
    Host,
)
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import Trace
from tests.simulation.faults import Swarm
from tests.simulation.sched import Scheduler

PROFILE: Final = "train"
SPOT_QUEUE: Final = queue_of(PROFILE, "spot")
ON_DEMAND_QUEUE: Final = queue_of(PROFILE, "on-demand")
IMAGE: Final = "123456789012.dkr.ecr.us-east-1.amazonaws.com/trainer@sha256:" + "5" * 64
PREFIX: Final = "dev-"
ARN: Final = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"
CAPACITY_ERROR: Final = "CapacityError: Unable to provision requested ML compute capacity."
MAX_WAIT: Final = "MaxWaitTimeExceeded"
MAX_RUNTIME: Final = "MaxRuntimeExceeded"
SERVICE_ERROR: Final = "InternalServerError: We encountered an internal error. Please try again."
OWN_EXIT_CODES: Final = frozenset({EXIT_COMPLETED, EXIT_YIELDED, EXIT_FENCED, EXIT_INCOMPLETE, EXIT_REFUSED})
"""Of `spotkeeper-exec`; with any other the user's program has failed."""
FAILURES: Final = (
    "AlgorithmError: , exit code: {exit_code}",
    "AlgorithmError: Traceback (most recent call last) …",
    'AlgorithmError: ErrorMessage "a worker says exit code 75", exit code: {exit_code}',
)
"""How SageMaker tells that a program has failed; the second is cut off before the end of what the program wrote."""
SPOT_TYPES: Final = ("ml.m5a.xlarge", "ml.m5.xlarge", "ml.m4.xlarge")
"""In the order in which spot jobs ask for them."""
STARTING_SECONDS: Final = 600
"""A type without machines for so long makes way for the next, by the environment's settings."""
STOP_SECONDS: Final = 120.0
"""Between SIGTERM and SIGKILL, before an interruption too."""
UPLOAD_SECONDS: Final = 15.0
SPOT_SHARE: Final = 0.4
"""Of a spot job's seconds that are billed: SageMaker gives its discount so."""


@dataclass(slots=True)
class TrainingJob(BatchJob):
    """A training job; its attempts are what the control plane reads of its transitions."""

    type: str = ""
    """The instance type it runs on."""
    overall: str = "InProgress"
    secondary: str = "Starting"
    transitions: list[dict[str, Any]] = field(default_factory=list)
    failure: str | None = None
    has_failed_by_itself: bool = False
    """The user's program has failed, and nothing made it."""
    ended_seconds: float | None = None
    is_stopping: bool = False

    @property
    def queue(self) -> str:
        queue: str = self.request["Environment"][names.QUEUE]
        return queue

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.request["Environment"])

    @property
    def label(self) -> str:
        return self.name

    @property
    def machine(self) -> dict[str, str]:
        return {"instance_type": self.type}

    @property
    def numbers_attempts(self) -> bool:
        return False

    @property
    def survives_its_containers(self) -> bool:
        return False

    @property
    def is_on_demand(self) -> bool:
        return self.queue == ON_DEMAND_QUEUE

    @property
    def num_nodes(self) -> int:
        """Of how many machines it is."""
        machines = self.request["ResourceConfig"]
        count: int = machines.get("InstancePreferences", [machines])[0]["InstanceCount"]
        return count

    def longest_wait_seconds(self, now_seconds: float, *, seen_after_seconds: float) -> float:
        """Return for how long, at most, it has waited for machines, as somebody saw it so long ago or later."""
        begins = [self.created_seconds, *(host.released_seconds or now_seconds for host in self.hosts)]
        ends = [*(host.launched_seconds for host in self.hosts), now_seconds]
        waits = zip(begins, ends, strict=True)
        return max(end - begin for begin, end in waits if end >= now_seconds - seen_after_seconds)

    def billed_seconds(self) -> int:
        """Return what SageMaker bills of each machine."""
        seconds = sum((host.released_seconds or 0.0) - host.launched_seconds for host in self.hosts)
        return round(seconds if self.is_on_demand else SPOT_SHARE * seconds)


class Training:
    """SageMaker training, behind the same link as `Batch`; both keep their jobs together."""

    def __init__(
        self,
        jobs: dict[str, BatchJob],
        refused_names: set[str],
        *,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        trace: Trace,
        hooks: Hooks,
        job_of: Callable[..., Job],
    ) -> None:
        """Take, beside what `Batch` takes, how the control plane reads DescribeTrainingJob."""
        self.jobs, self._refused_names = jobs, refused_names
        self._scheduler, self._choices, self._swarm = scheduler, choices, swarm
        self._trace, self._hooks = trace, hooks
        self._job_of = job_of
        self.names_without_quota: set[str] = set()
        self._has_quota: dict[tuple[str, str], bool] = {}
        """Whether a run may have machines of a type, or any on on-demand: the same until `raise_quotas`."""
        self._names_of_others: set[str] = set()
        self.is_unread = False
        """DescribeTrainingJob is throttled, whoever calls it."""

    # The API

    def give_away(self, name: str) -> None:
        """Let somebody else create a job of that name, unless it was given before; ours read no more of such a job."""
        if f"{ARN}{PREFIX}{name}" not in self.jobs:
            self._trace("sagemaker", f"somebody else's job takes the name {name}")
            self._names_of_others.add(name)

    def submit(self, request: Mapping[str, Any]) -> str:
        """Create a job, unless its name was given before.

        Raises:
            NameTaken: if it was, as the adapter reads that refusal.
            QuotaReached: if the account may have no more machines of the type.
        """
        job_id = f"{ARN}{request['TrainingJobName']}"
        if (name := request["TrainingJobName"].removeprefix(PREFIX)) in self._names_of_others:
            self._refused_names.add(name)
        if job_id in self.jobs or name in self._names_of_others:
            raise NameTaken(f"a training job {request['TrainingJobName']} is there already")
        machines = request["ResourceConfig"]
        types = [one["InstanceType"] for one in machines.get("InstancePreferences", [machines])]
        asked = types[0] if "InstanceType" in machines else "on-demand"
        if not self._may_have(name.rpartition("-")[0], asked):
            self.names_without_quota.add(name)
            raise QuotaReached(f"no {asked} for training job usage")
        now_seconds = self._scheduler.now_seconds
        job = TrainingJob(
            job_id,
            request["TrainingJobName"].removeprefix(PREFIX),
            request,
            now_seconds,
            self._read(_told(job_id, request, created_seconds=now_seconds)).order,
            type=self._choices.among(f"sagemaker: {request['TrainingJobName']}, type", types),
        )
        self.jobs[job_id] = job
        self._enter(job, "Starting")
        self._hooks.job_created(job)
        self._in_phase(job, 2.0, self._queue)
        max_wait = request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        if max_wait is not None:
            self._scheduler.after(max_wait, lambda: self._stop(job, MAX_WAIT), background=True)
        return job_id

    def raise_quotas(self) -> None:
        """Let every run have machines of every type."""
        self._has_quota.clear()

    def _may_have(self, run_id: str, machines: str) -> bool:
        if (run_id, machines) not in self._has_quota:
            drawn = self._choices.draw(f"sagemaker: {run_id}, quota of {machines}", self._swarm.quota)
            self._has_quota[run_id, machines] = drawn is None
        return self._has_quota[run_id, machines]

    def refuse(self, request: Mapping[str, Any]) -> None:
        """Note that a request was rejected."""
        self._refused_names.add(request["TrainingJobName"].removeprefix(PREFIX))

    def named(self, name: str, queue: str, *, settled: bool) -> tuple[Job, ...]:
        """Return the job of a name; `settled` leaves out one that cannot be seen everywhere yet.

        Raises:
            Throttled: while nobody may read.
        """
        self._require_readable()
        job = self.jobs.get(f"{ARN}{PREFIX}{name}")
        latest = self._scheduler.now_seconds - (LISTED_AFTER_SECONDS if settled else 0.0)
        if not isinstance(job, TrainingJob) or job.queue != queue or job.created_seconds > latest:
            return ()
        return (self._seen(job),)

    def describe(self, job_id: str) -> Job | None:
        """Return the job as it is. Raises as `named` does."""
        self._require_readable()
        job = self.jobs.get(job_id)
        return self._seen(job) if isinstance(job, TrainingJob) else None

    def terminate(self, job_id: str, reason: str) -> None:
        """Stop the job; containers that run have two minutes."""
        job = self._of(job_id)
        if job.stop_reason is None and not job.is_stopping:
            self._trace("sagemaker", f"job {job.name} is stopped: {reason}")
            self._stop(job, "Stopped", reason)

    def withdraw(self, job_id: str, reason: str) -> None:
        """Stop the job if it has no machine."""
        job = self._of(job_id)
        if job.status is JobStatus.RUNNABLE and job.stop_reason is None and not job.is_stopping:
            self._stop(job, "Stopped", reason)
            self._hooks.job_withdrawn(job)

    def _require_readable(self) -> None:
        if self.is_unread:
            raise Throttled("DescribeTrainingJob: Rate exceeded")

    def _of(self, job_id: str) -> TrainingJob:
        job = self.jobs[job_id]
        assert isinstance(job, TrainingJob)
        return job

    # Life of a job

    def _queue(self, job: TrainingJob) -> None:
        table = self._swarm.on_demand_capacity if job.is_on_demand else self._swarm.capacity
        wait = self._choices.draw(f"sagemaker: job {job.name}, capacity {len(job.attempts) + 1}", table)
        if wait == "none":
            self._in_phase(job, CAPACITY_SECONDS, lambda job: self._fail(job, CAPACITY_ERROR))
        else:
            self._in_phase(job, STUCK_SECONDS if wait == "stuck" else wait or 60.0, self._launch)

    def _launch(self, job: TrainingJob) -> None:
        now_seconds = self._scheduler.now_seconds
        job.hosts.append(Host(now_seconds, starting_seconds=now_seconds))
        self._enter(job, "Downloading")
        number = len(job.attempts) + 1
        if self._choices.draw(f"sagemaker: job {job.name}, start {number}", self._swarm.start) is not None:
            return
        table = self._swarm.image if job.is_on_demand else ()
        image_seconds = self._choices.draw(f"sagemaker: job {job.name}, image {number}", table)
        self._in_phase(job, image_seconds or 30.0, self._run)

    def _run(self, job: TrainingJob) -> None:
        job.hosts[-1].started_seconds = self._scheduler.now_seconds
        number = len(job.attempts) + 1
        table = self._swarm.on_demand_host if job.is_on_demand else self._swarm.host
        fate = self._choices.draw(f"sagemaker: job {job.name}, host {number}", table)
        if fate == "does not start":
            self._fail(job, SERVICE_ERROR)
            return
        self._enter(job, "Training")
        job.container = self._hooks.start_container(self, job, number)
        self._in_phase(job, self._seconds_left(job), lambda job: self._stop(job, MAX_RUNTIME))
        if fate is not None:
            after = self._choices.among(
                f"sagemaker: job {job.name}, host {number} after", (700.0, 5.0, 45.0, 1210.0, 2500.0)
            )
            self._in_phase(job, after, lambda job: self._take_machines(job, is_warned=fate == "notice"))

    def _seconds_left(self, job: TrainingJob) -> float:
        trained = [host for host in job.hosts if host.started_seconds is not None and host.released_seconds is not None]
        used = sum((host.released_seconds or 0.0) - (host.started_seconds or 0.0) for host in trained)
        limit: float = job.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        return max(0.0, limit - used)

    def _take_machines(self, job: TrainingJob, *, is_warned: bool) -> None:
        if not is_warned:
            self.lose_host(job)
            return
        self._trace("sagemaker", f"SIGTERM for {job.name}, its machines are taken")
        job.container.request_stop()
        self._in_phase(job, STOP_SECONDS, self.lose_host)

    def lose_host(self, job: BatchJob) -> None:
        """The machines are gone: SageMaker starts a spot job again, and gives one on on-demand up."""
        assert isinstance(job, TrainingJob)
        job.container.kill()
        if job.is_stopping:
            self._end_stop(job)
        elif job.is_on_demand:
            self._fail(job, SERVICE_ERROR)
        else:
            self._release(job)
            self._enter(job, INTERRUPTED)
            self._queue(job)

    def exited(self, job: BatchJob, number: int, exit_code: int) -> None:
        """The containers ended by themselves, which ends the job whatever the reason."""
        assert isinstance(job, TrainingJob)
        if job.status is not JobStatus.RUNNING or number != len(job.attempts):
            return
        if job.is_stopping:
            self._in_phase(job, 0.0, self._end_stop)
        elif exit_code == 0:
            self._enter(job, "Uploading")
            self._in_phase(job, UPLOAD_SECONDS, lambda job: self._end(job, "Completed", "Completed"))
        else:
            job.has_failed_by_itself = exit_code not in OWN_EXIT_CODES
            words = self._choices.shape(f"sagemaker: job {job.name}, words {number}", FAILURES)
            told = words if job.has_failed_by_itself else FAILURES[0]
            self._fail(job, told.format(exit_code=exit_code))

    def _stop(self, job: TrainingJob, secondary: str, reason: str | None = None) -> None:
        if job.has_ended or job.is_stopping:
            return
        job.is_stopping, job.stop_reason = True, reason
        is_training = job.secondary == "Training"
        job.failure = secondary
        self._enter(job, "Stopping" if is_training else job.secondary)
        if is_training:
            job.container.request_stop()
        self._in_phase(job, STOP_SECONDS if is_training else 1.0, self._kill)

    def _kill(self, job: TrainingJob) -> None:
        if job.container is not None:
            job.container.kill()
        self._end_stop(job)

    def _end_stop(self, job: TrainingJob) -> None:
        secondary, job.failure = job.failure or "Stopped", None
        self._end(job, "Stopped", secondary)

    def _fail(self, job: TrainingJob, reason: str) -> None:
        job.failure = reason
        self._end(job, "Failed", "Failed")

    def _end(self, job: TrainingJob, overall: str, secondary: str) -> None:
        self._release(job)
        job.overall = overall
        job.ended_seconds = self._scheduler.now_seconds
        job.stopped_at = iso(job.ended_seconds)
        self._enter(job, secondary)

    def _release(self, job: TrainingJob) -> None:
        for host in job.hosts:
            host.released_seconds = host.released_seconds or self._scheduler.now_seconds

    def _enter(self, job: TrainingJob, secondary: str) -> None:
        now = _moment(self._scheduler.now_seconds)
        job.phase += 1
        if job.transitions and job.secondary != secondary:
            job.transitions[-1]["EndTime"] = now
        if job.secondary != secondary or not job.transitions:
            job.transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": ""})
        job.secondary = secondary
        seen = self._seen(job)
        job.status, job.status_reason, job.attempts = seen.status, seen.status_reason, list(seen.attempts)
        self._trace("sagemaker", f"job {job.name} is {secondary}{f': {job.status_reason}' if job.has_ended else ''}")
        self._hooks.job_changed(job)

    def _in_phase(self, job: TrainingJob, seconds: float, action: Callable[[TrainingJob], None]) -> None:
        phase = job.phase

        def act() -> None:
            if job.phase == phase:
                action(job)

        self._scheduler.after(seconds, act)

    # What DescribeTrainingJob tells

    def _seen(self, job: TrainingJob) -> Job:
        detail = _told(job.job_id, job.request, created_seconds=job.created_seconds)
        detail |= {
            "TrainingJobStatus": job.overall,
            "SecondaryStatus": job.secondary,
            "SecondaryStatusTransitions": job.transitions,
        }
        if job.ended_seconds is not None:
            detail |= {"TrainingEndTime": _moment(job.ended_seconds), "BillableTimeInSeconds": job.billed_seconds()}
        if job.hosts and "InstancePreferences" in job.request["ResourceConfig"]:
            selected = {"SelectedInstanceType": job.type, "SelectedInstanceCount": job.num_nodes}
            detail["ResourceConfig"] = {**job.request["ResourceConfig"], **selected}
        if job.overall == "Failed":
            detail["FailureReason"] = job.failure
        return self._read(detail, job.stop_reason if job.overall == "Stopped" else None)

    def _read(self, detail: Mapping[str, Any], stop_reason: str | None = None) -> Job:
        return self._job_of(detail, prefix=PREFIX, stop_reason=stop_reason)


def _told(job_id: str, request: Mapping[str, Any], *, created_seconds: float) -> dict[str, Any]:
    return {
        "TrainingJobArn": job_id,
        "TrainingJobName": request["TrainingJobName"],
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "CreationTime": _moment(created_seconds),
        "Environment": request["Environment"],
        "ResourceConfig": request["ResourceConfig"],
        "AlgorithmSpecification": request["AlgorithmSpecification"],
        "StoppingCondition": request["StoppingCondition"],
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromisoformat(iso(seconds))
