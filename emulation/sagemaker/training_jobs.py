"""Training jobs: what was asked for, how far they are, and how SageMaker describes them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from emulation.ec2 import prices
from emulation.ec2.market import Instance

MESSAGES: Final = {
    "Starting": "Starting the training job",
    "Preparing": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Training job interrupted",
    "Stopping": "Stopping the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
INSUFFICIENT_CAPACITY: Final = "Insufficient capacity error from EC2 while launching instances, retrying!"

FINAL: Final = frozenset({"Completed", "Failed", "Stopped"})
_STATUS_OF: Final = {
    "Stopping": "Stopping",
    "Completed": "Completed",
    "Failed": "Failed",
    "Stopped": "Stopped",
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
}
_ECHOED: Final = (
    "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "VpcConfig",
    "StoppingCondition", "CheckpointConfig", "Environment",
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Transition:
    """A secondary status and its time."""

    status: str
    message: str
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(kw_only=True, slots=True)
class Period:
    """The time from one launch of the job's instances to the end of them all."""

    instances: tuple[Instance, ...]
    log_paths: tuple[Path, ...]
    """By node."""
    billed_from: datetime | None = None
    """When the first container could have started."""
    ended_at: datetime | None = None

    def seconds(self) -> float:
        """Return for how long it is billed, on each instance, before any discount."""
        if self.billed_from is None or self.ended_at is None:
            return 0.0
        return (self.ended_at - self.billed_from).total_seconds()

    def billable_seconds(self) -> float:
        """Return the same as SageMaker states it: the discount of spot is fewer seconds, not a lower price."""
        instance = self.instances[0]
        return self.seconds() * instance.usd_per_hour / prices.instance_type(instance.type).on_demand_usd_per_hour


@dataclass(kw_only=True, slots=True, eq=False)
class TrainingJob:
    """One training job. The executor writes it, under its lock."""

    name: str
    arn: str
    request: dict[str, Any]
    created_at: datetime
    tags: dict[str, str]
    status: str = "InProgress"
    secondary_status: str = "Starting"
    transitions: list[Transition] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    failure_reason: str | None = None
    is_stop_requested: bool = False
    is_wait_over: bool = False
    """Its MaxWaitTimeInSeconds is taken for used up, however little of it has passed."""
    model_artifacts: str | None = None

    @property
    def is_spot(self) -> bool:
        """Whether it trains on spot capacity."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def is_isolated(self) -> bool:
        """Whether its containers reach nothing."""
        return bool(self.request.get("EnableNetworkIsolation"))

    @property
    def is_finished(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in FINAL

    @property
    def node_count(self) -> int:
        """The number of instances."""
        resources = self.request["ResourceConfig"]
        preferences: Sequence[dict[str, Any]] = resources.get("InstancePreferences") or ({},)
        return int(resources.get("InstanceCount") or preferences[0].get("InstanceCount") or 1)

    @property
    def instance_types(self) -> list[str]:
        """What it may run on, the first that has capacity."""
        resources = self.request["ResourceConfig"]
        preferences = resources.get("InstancePreferences")
        return [each["InstanceType"] for each in preferences] if preferences else [resources["InstanceType"]]

    def move(self, secondary_status: str, message: str, now: datetime) -> None:
        """Begin a secondary status."""
        if self.transitions:
            self.transitions[-1].ended_at = now
        self.transitions.append(Transition(status=secondary_status, message=message, started_at=now))
        self.secondary_status = secondary_status
        if not (self.status == "Stopping" and secondary_status == "Uploading"):
            self.status = _STATUS_OF.get(secondary_status, "InProgress")
        if self.is_finished:
            self.transitions[-1].ended_at = now

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob says, with times as `datetime`."""
        request = self.request
        description: dict[str, Any] = {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": self.secondary_status,
            "CreationTime": self.created_at,
            "LastModifiedTime": self.transitions[-1].started_at if self.transitions else self.created_at,
            "EnableNetworkIsolation": self.is_isolated,
            "EnableInterContainerTrafficEncryption": bool(request.get("EnableInterContainerTrafficEncryption")),
            "EnableManagedSpotTraining": self.is_spot,
            "ResourceConfig": dict(request["ResourceConfig"]),
            "SecondaryStatusTransitions": [_transition(each) for each in self.transitions],
            **{name: request[name] for name in _ECHOED if name in request},
        }
        if self.failure_reason is not None:
            description["FailureReason"] = self.failure_reason
        if self.model_artifacts is not None:
            description["ModelArtifacts"] = {"S3ModelArtifacts": self.model_artifacts}
        if self.periods and request["ResourceConfig"].get("InstancePreferences"):
            description["ResourceConfig"]["SelectedInstanceType"] = self.periods[-1].instances[0].type
            description["ResourceConfig"]["SelectedInstanceCount"] = self.node_count
        self._tell_times(description)
        return description

    def _tell_times(self, description: dict[str, Any]) -> None:
        billed = [period for period in self.periods if period.billed_from is not None]
        if not billed:
            return
        description["TrainingStartTime"] = billed[0].billed_from
        if self.is_finished:
            description["TrainingEndTime"] = billed[-1].ended_at
            description["TrainingTimeInSeconds"] = math.ceil(sum(period.seconds() for period in billed))
            description["BillableTimeInSeconds"] = math.ceil(sum(period.billable_seconds() for period in billed))


def _transition(transition: Transition) -> dict[str, Any]:
    told = {"Status": transition.status, "StartTime": transition.started_at, "StatusMessage": transition.message}
    return told | ({"EndTime": transition.ended_at} if transition.ended_at else {})
