"""Batch jobs and their attempts, and how Batch's API shows them."""

import copy
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from emulation.ec2.market import Instance
from emulation.ec2.prices import InstanceType
from emulation.templates.deployment import JobQueue


class Status(StrEnum):
    """A job's state, in the order in which a job passes through them. PENDING is an array until its last child ends."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


FINISHED: Final = frozenset({Status.SUCCEEDED, Status.FAILED})

TIMED_OUT: Final = "Job attempt duration exceeded timeout"
EXITED: Final = "Essential container in task exited"
NOT_STARTED: Final = "Task failed to start"

_CONTAINER_LISTS: Final = ("volumes", "environment", "mountPoints", "ulimits", "networkInterfaces",
                           "resourceRequirements", "secrets")  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One container of a job. Times are milliseconds since 1970; None is what is not known (yet)."""

    number: int
    """From 1: what the job sees as AWS_BATCH_JOB_ATTEMPT."""
    instance: Instance
    compute_environment: str
    """Name of the compute environment that the instance belongs to."""
    container_instance_arn: str
    task_arn: str
    log_group: str
    log_stream: str
    log_path: Path
    """The same output as in the log stream."""
    started_at_ms: int | None = None
    stopped_at_ms: int | None = None
    exit_code: int | None = None
    """None as well when the host died under the container: Batch then does not know."""
    unreported_exit_code: int | None = None
    """How the container ended on a host that was cut off. Batch never says it."""
    reason: str | None = None
    status_reason: str | None = None
    timed_out: bool = False

    def describe(self) -> dict[str, Any]:
        """Return botocore's AttemptDetail."""
        container: dict[str, Any] = {
            "containerInstanceArn": self.container_instance_arn,
            "taskArn": self.task_arn,
            "exitCode": self.exit_code,
            "reason": self.reason,
            "logStreamName": self.log_stream if self.started_at_ms is not None else None,
            "networkInterfaces": [],
        }
        return _known(
            container=_known(**container),
            startedAt=self.started_at_ms,
            stoppedAt=self.stopped_at_ms,
            statusReason=self.status_reason,
        )


@dataclass(kw_only=True, slots=True)
class Job:
    """A job, from SubmitJob on."""

    id: str
    arn: str
    name: str
    sequence: int
    """Order of submission."""
    queue: JobQueue
    definition_arn: str
    container: dict[str, Any]
    """The job definition's container properties with this job's overrides applied, in the API's camelCase."""
    parameters: dict[str, str]
    attempts_allowed: int
    evaluate_on_exit: list[dict[str, str]]
    timeout_seconds: int | None
    """AWS seconds that an attempt may run."""
    share_identifier: str | None
    scheduling_priority: int
    propagate_tags: bool
    platform_capabilities: list[str]
    tags: dict[str, str]
    defect: str | None
    """Why Batch, which took the job, fails it without running it."""
    created_at_ms: int
    children: "tuple[Job, ...]" = ()
    """Of an array job, by index."""
    array_index: int | None = None
    """Of a child of an array job."""
    status: Status = Status.SUBMITTED
    status_reason: str | None = None
    stopped_at_ms: int | None = None
    attempts: list[Attempt] = field(default_factory=list)
    """Every attempt that reached STARTING, the current one included."""
    head_since_ms: int | None = None
    """Since when it has been the first of its queue."""
    is_cancelled: bool = False
    is_terminated: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether nothing happens to the job any more."""
        return self.status in FINISHED

    def fits(self, kind: InstanceType) -> bool:
        """Say whether an instance of this type has what the job requires."""
        return (
            self.requires("VCPU") <= kind.vcpus
            and self.requires("MEMORY") <= kind.memory_mib
            and self.requires("GPU") <= kind.gpus
        )

    def reason_of(self, attempt: Attempt, *, was_lost: bool) -> str | None:
        """Return Batch's status reason for an attempt that has ended."""
        if was_lost:
            return f"Host EC2 (instance {attempt.instance.id}) terminated."
        if attempt.timed_out:
            return TIMED_OUT
        if self.is_terminated:
            return self.status_reason
        return EXITED if attempt.started_at_ms is not None else NOT_STARTED

    def describe_array(self) -> dict[str, Any] | None:
        """Return botocore's ArrayPropertiesDetail of an array job and of its children."""
        if self.array_index is not None:
            return {"index": self.array_index}
        if not self.children:
            return None
        counts = Counter(child.status for child in self.children)
        return {"size": len(self.children), "statusSummary": {status.value: counts[status] for status in Status}}

    def requires(self, kind: str) -> int:
        """Return how much the job needs of VCPU, MEMORY (MiB) or GPU."""
        for requirement in self.container.get("resourceRequirements", ()):
            if requirement["type"] == kind:
                return int(float(requirement["value"]))
        return int(self.container.get({"VCPU": "vcpus", "MEMORY": "memory"}.get(kind, ""), 0))

    def describe(self) -> dict[str, Any]:
        """Return botocore's JobDetail. Like AWS's, it lacks `startedAt` until an attempt has started."""
        current = self.attempts[-1] if self.attempts else None
        container: dict[str, Any] = {name: [] for name in _CONTAINER_LISTS} | copy.deepcopy(self.container)
        if current is not None:
            container |= current.describe()["container"]
        return _known(
            jobArn=self.arn,
            jobName=self.name,
            jobId=self.id,
            jobQueue=self.queue.arn,
            status=self.status.value,
            shareIdentifier=self.share_identifier,
            schedulingPriority=self.scheduling_priority if self.share_identifier else None,
            attempts=[attempt.describe() for attempt in self.attempts if attempt.stopped_at_ms is not None],
            statusReason=self.status_reason,
            createdAt=self.created_at_ms,
            retryStrategy={
                "attempts": self.attempts_allowed,
                "evaluateOnExit": copy.deepcopy(self.evaluate_on_exit),
            },
            startedAt=current.started_at_ms if current else None,
            stoppedAt=self.stopped_at_ms,
            dependsOn=[],
            jobDefinition=self.definition_arn,
            parameters=dict(self.parameters),
            container=container,
            arrayProperties=self.describe_array(),
            timeout={"attemptDurationSeconds": self.timeout_seconds} if self.timeout_seconds else None,
            tags=dict(self.tags),
            propagateTags=self.propagate_tags,
            platformCapabilities=list(self.platform_capabilities),
            isCancelled=self.is_cancelled,
            isTerminated=self.is_terminated,
        )

    def summarize(self) -> dict[str, Any]:
        """Return botocore's JobSummary."""
        detail = self.describe()
        same = ("jobArn", "jobId", "jobName", "createdAt", "shareIdentifier", "status", "statusReason", "startedAt",
                "stoppedAt", "jobDefinition", "isCancelled", "isTerminated")  # fmt: skip
        container = {name: value for name, value in detail["container"].items() if name in {"exitCode", "reason"}}
        array = {name: value for name, value in (self.describe_array() or {}).items() if name in {"size", "index"}}
        summary = {name: detail[name] for name in same if name in detail} | {"container": container}
        return summary | _known(arrayProperties=array or None)


def _known(**fields: Any) -> dict[str, Any]:
    """Return the fields that have a value: AWS leaves the others out."""
    return {name: value for name, value in fields.items() if value is not None}
