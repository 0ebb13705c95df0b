"""A profile of SageMaker, and SageMaker in memory."""

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from spotkeeper.control.ports import ContainerInput, Job, JobOrder, JobStatus
from spotkeeper.control.run import Run
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms, TrainingTerms
from tests.control.fakes import TERMS, MemoryBatch, new_run

ACCOUNT: Final = "123456789012"
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/spotkeeper-dev-training"
IMAGE: Final = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/trainer@sha256:" + "ab" * 32
SPOT: Final = "sagemaker/train-cpu/spot"
ON_DEMAND: Final = "sagemaker/train-cpu/on-demand"
TYPES: Final = ("ml.m5.xlarge", "ml.c5.2xlarge", "ml.m4.xlarge")
USD_PER_HOUR: Final = Decimal("0.5")

TRAINING: Final = TrainingTerms(
    role_arn=ROLE,
    checkpoint_bucket="spotkeeper-dev-checkpoints",
    ledger_table="spotkeeper-dev-ledger",
    volume_gb=50,
    starting_seconds=1200,
)
PROFILE: Final = ProfileTerms(
    spot_queue=SPOT,
    on_demand_queue=ON_DEMAND,
    usd_per_hour=dict.fromkeys(TYPES, USD_PER_HOUR),
    spot_instance_types=TYPES,
    on_demand_instance_types=TYPES[:2],
    training=TRAINING,
)
TRAINING_TERMS: Final[EnvironmentTerms] = replace(TERMS, profiles={**TERMS.profiles, "train-cpu": PROFILE})


def training_run(**changes: Any) -> Run:
    return new_run(**{"profile": "train-cpu", "job_queue": SPOT, "job_definition": IMAGE, **changes})


def arn_of(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/{name}"


class MemoryTraining(MemoryBatch):
    """What the adapter makes of SageMaker: jobs behind the port of AWS Batch."""

    def submit(self, request: Any) -> str:
        self.requests.append(request)
        name = request["TrainingJobName"]
        told = request["Environment"]
        order = JobOrder(
            queue=told["SPOTKEEPER_QUEUE"],
            definition=request["AlgorithmSpecification"]["TrainingImage"],
            created_at="2026-11-23T18:00:00.000+00:00",
            variables=told,
            instance_type=request["ResourceConfig"].get("InstanceType"),
            is_isolated=request.get("EnableNetworkIsolation", False),
            inputs=frozenset(each for each in ContainerInput if each in request),
        )
        job = Job(job_id=arn_of(name), name=name.removeprefix("dev-"), status=JobStatus.RUNNABLE, order=order)
        self.jobs[job.job_id] = job
        return job.job_id
