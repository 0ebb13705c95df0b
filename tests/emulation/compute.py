"""A small Batch deployment of our own for the executor's tests, and jobs that are tiny real programs."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation.batch.batch_api import BatchService
from emulation.batch.executor import Delays
from emulation.clock import Clock
from emulation.ec2.market import SpotMarket
from emulation.templates.deployment import ComputeEnvironment, Deployment, JobDefinition, JobQueue, StateTimeLimitAction

SPOT_QUEUE = "arn:aws:batch:us-east-1:123456789012:job-queue/spot"
ON_DEMAND_QUEUE = "arn:aws:batch:us-east-1:123456789012:job-queue/on-demand"
DEFINITION = "arn:aws:batch:us-east-1:123456789012:job-definition/trainer:3"
TYPES = ("m6i.xlarge", "m7i.xlarge", "r6i.xlarge")
ZONES = ("us-east-1a", "us-east-1b")
FINISHED = {"SUCCEEDED", "FAILED"}

# As the product's job definition has them: host loss and yielding retry, all else ends.
RULES = [
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onExitCode": "75", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
    {"onStatusReason": "*", "action": "EXIT"},
]


def eventually(condition: Callable[[], Any], *, timeout_seconds: float = 60.0) -> Any:
    """Return the condition's value as soon as it is true."""
    give_up = time.monotonic() + timeout_seconds
    while not (value := condition()):
        assert time.monotonic() < give_up, "it did not happen in time"
        threading.Event().wait(0.02)
    return value


def compute_environment(
    name: str,
    market: Any,
    *,
    max_vcpus: int = 256,
    stop_timeout_seconds: float = 110,
    metadata_reaches_containers: bool = True,
) -> ComputeEnvironment:
    return ComputeEnvironment(
        arn=f"arn:aws:batch:us-east-1:123456789012:compute-environment/{name}",
        name=name,
        market=market,
        instance_types=TYPES,
        zones=ZONES,
        max_vcpus=max_vcpus,
        stop_timeout_seconds=stop_timeout_seconds,
        metadata_reaches_containers=metadata_reaches_containers,
        enabled=True,
    )


def deployment(
    *,
    time_limit_seconds: int = 600,
    fair_share: bool = False,
    scheduling_priority: int | None = 0,
    definition_tags: Mapping[str, str] | None = None,
    **spot: Any,
) -> Deployment:
    environments = [
        compute_environment("spot-ce", "spot", **spot),
        compute_environment("on-demand-ce", "on-demand"),
    ]
    limit = StateTimeLimitAction(
        reason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        state="RUNNABLE",
        max_time_seconds=time_limit_seconds,
        action="CANCEL",
    )
    queues = [
        JobQueue(
            arn=arn,
            name=arn.rpartition("/")[2],
            priority=1,
            enabled=True,
            compute_environments=(environment.arn,),
            state_time_limit_actions=(limit,),
            scheduling_policy_arn="arn:aws:batch:us-east-1:123456789012:scheduling-policy/p" if fair_share else "",
        )
        for arn, environment in zip((SPOT_QUEUE, ON_DEMAND_QUEUE), environments, strict=True)
    ]
    definition = JobDefinition(
        arn=DEFINITION,
        name="trainer",
        revision=3,
        properties={
            "type": "container",
            "containerProperties": {
                "image": "trainer@sha256:0",
                "command": ["true"],
                "environment": [{"name": "FROM_DEFINITION", "value": "1"}, {"name": "BOTH", "value": "definition"}],
                "resourceRequirements": [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "14336"}],
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": "/spotkeeper/jobs", "awslogs-stream-prefix": "run"},
                },
            },
            "retryStrategy": {"attempts": 10, "evaluateOnExit": RULES},
            "timeout": {"attemptDurationSeconds": 36000},
            "platformCapabilities": ["EC2"],
            "tags": dict(definition_tags or {}),
            **({} if scheduling_priority is None else {"schedulingPriority": scheduling_priority}),
        },
    )
    return Deployment(
        environment="test",
        region="us-east-1",
        account="123456789012",
        stacks=(),
        resources=(),
        compute_environments={environment.arn: environment for environment in environments},
        job_queues={queue.arn: queue for queue in queues},
        job_definitions={definition.arn: definition},
    )


@dataclass
class Compute:
    """A running Batch service and what it published."""

    clock: Clock
    market: SpotMarket
    batch: BatchService
    work_dir: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    def submit(self, command: list[str], **request: Any) -> str:
        """Submit a job that runs `command` on the spot queue, unless the request says otherwise."""
        overrides = {"command": command, **request.pop("containerOverrides", {})}
        answer = self.batch.handle(
            "SubmitJob",
            {
                "jobName": "job",
                "jobQueue": SPOT_QUEUE,
                "jobDefinition": DEFINITION,
                "containerOverrides": overrides,
                **request,
            },
        )
        return str(answer["jobId"])

    def python(self, program: str, **request: Any) -> str:
        """Submit a job that runs a Python program."""
        return self.submit([sys.executable, "-I", "-S", "-c", program], **request)

    def wait(self, job_id: str, *states: str, timeout_seconds: float = 60.0) -> dict[str, Any]:
        return self.batch.wait(job_id, states or FINISHED, timeout_seconds)

    def describe(self, job_id: str) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = self.batch.handle("DescribeJobs", {"jobs": [job_id]})["jobs"]
        return jobs[0]

    def output(self, job_id: str, attempt: int = 1) -> str:
        return (self.work_dir / job_id / str(attempt) / "output.log").read_text()

    def of_type(self, detail_type: str, **detail: str) -> list[dict[str, Any]]:
        """Return the published events of a type whose detail has these values."""
        return [
            event
            for event in tuple(self.events)
            if event["detail-type"] == detail_type and detail.items() <= event["detail"].items()
        ]


@contextmanager
def compute(
    work_dir: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    speed: float = 1000,
    grace_seconds: float = 5.0,
    **service: Any,
) -> Iterator[Compute]:
    """Run a Batch service at a speed at which AWS's minutes take a fraction of a second; fail if it found a defect."""
    with Clock(speed=speed, shortest_grace_seconds=grace_seconds) as clock:
        market = SpotMarket(clock=clock, seed=7)
        events: list[dict[str, Any]] = []
        batch = BatchService(
            deployment=deployment(**(settings or {})),
            market=market,
            clock=clock,
            publish=events.append,
            work_dir=work_dir,
            delays=service.pop("delays", Delays(boot_seconds=20, pull_seconds=10)),
            **{"endpoint_url": "", **service},
        )
        try:
            yield Compute(clock, market, batch, work_dir, events)
        finally:
            batch.stop()
        assert batch.failures == ()
