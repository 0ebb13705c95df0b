"""A SageMaker of its own for tests: an endpoint, a role, a bucket, and jobs that are tiny real programs."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emulation import aws as emulated_aws
from emulation.clock import Clock
from emulation.ec2.market import SpotMarket
from emulation.sagemaker.executor import Delays
from emulation.sagemaker.training_api import TrainingService
from emulation.server import Server
from tests.emulation.compute import eventually

ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/trainer@sha256:{'0' * 64}"
ZONE = "us-east-1a"
TYPE = "ml.m6i.xlarge"


@dataclass
class Training:
    clock: Clock
    market: SpotMarket
    service: TrainingService
    sagemaker: Any
    s3: Any
    session: Any
    endpoint_url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    """As SageMaker sent them."""

    def create(self, program: str, name: str = "job", **request: Any) -> str:
        """Create a spot job of one node that runs a Python program, unless the request says otherwise."""
        resources = {"InstanceType": TYPE, "InstanceCount": 1, "VolumeSizeInGB": 30}
        whole = {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": {
                "TrainingImage": IMAGE,
                "TrainingInputMode": "File",
                "ContainerEntrypoint": [sys.executable, "-I", "-S", "-c"],
                "ContainerArguments": [program],
            },
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
            "ResourceConfig": resources,
            "EnableManagedSpotTraining": True,
            "StoppingCondition": {"MaxRuntimeInSeconds": 36_000, "MaxWaitTimeInSeconds": 72_000},
            **request,
        }
        return str(
            self.sagemaker.create_training_job(**{key: value for key, value in whole.items() if value is not None})[
                "TrainingJobArn"
            ]
        )

    def describe(self, name: str = "job") -> Any:
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def ended(self, name: str = "job") -> Any:
        self.service.wait(name)
        return self.describe(name)

    def writes(self, name: str = "job", *, node: int = 1, times: int = 1) -> str:
        """Wait until the node's program has written its first line in so many periods."""
        return str(eventually(lambda: _output(self.service, name, node, times)))

    def keys(self, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
        return [each["Key"] for each in found]


def _output(service: TrainingService, name: str, node: int, times: int) -> str:
    if not service.periods(name):
        return ""
    text = service.output(name, node=node)
    return text if text.count("\n") >= times else ""


@contextmanager
def training(
    folder: Path,
    *,
    speed: float = 1000,
    grace_seconds: float = 5.0,
    mirror_seconds: float = 60.0,
) -> Iterator[Training]:
    """Run SageMaker at a speed at which its minutes take a fraction of a second; fail if it found a defect."""
    server = Server()
    with Clock(speed=speed, shortest_grace_seconds=grace_seconds) as clock:
        market = SpotMarket(clock=clock, seed=7)
        events: list[dict[str, Any]] = []
        session: Any = emulated_aws.session("us-east-1")
        iam, s3, sagemaker = (
            session.client(name, endpoint_url=server.endpoint_url) for name in ("iam", "s3", "sagemaker")
        )
        trust = {"Statement": [{"Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
        iam.create_role(RoleName="training", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17"} | trust))
        s3.create_bucket(Bucket="bucket")
        service = TrainingService(
            place=SimpleNamespace(account="123456789012", region="us-east-1"),
            zones=[ZONE],
            market=market,
            clock=clock,
            publish=lambda event: events.append(dict(event)),
            endpoint_url=server.endpoint_url,
            work_dir=folder,
            delays=Delays(boot_seconds=20, download_seconds=10, mirror_seconds=mirror_seconds),
        )
        server.training_operations = service
        try:
            yield Training(clock, market, service, sagemaker, s3, session, server.endpoint_url, events)
        finally:
            service.stop()
            server.stop()
        assert service.failures == ()
        assert server.failures == ()
