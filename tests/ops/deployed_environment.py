"""An environment as the stacks leave it, in moto: descriptor, ledger, bucket, queue, job definition, log group."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from spotkeeper.contract.descriptor import Caps, Descriptor, Profile, Training, TrainingProfile
from spotkeeper.contract.names import descriptor_parameter
from spotkeeper.ops.connection import Connection, connect
from tests.control.ledger_table import TABLE, create_table
from tests.control.mocked_aws import REGION, client, mocked_aws

BUCKET = "checkpoints"
LOG_GROUP = "jobs"
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:wandb-AbCdEf"
DATA = "s3://datasets/public/"
DIGEST = "repository@sha256:" + "a" * 64


USD_PER_HOUR = "3.60"
"""A thousandth of a dollar a second."""


ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/spotkeeper-dev-training"
TRAINING = Training(
    role_arn=ROLE,
    default_profile="train-cpu",
    profiles={
        "train-cpu": TrainingProfile(
            spot_instance_types=("ml.m5.xlarge", "ml.c5.2xlarge"),
            on_demand_instance_types=("ml.m5.xlarge",),
            gpus=0,
            volume_gb=50,
            image_variant="cpu",
            usd_per_hour={"ml.m5.xlarge": USD_PER_HOUR, "ml.c5.2xlarge": USD_PER_HOUR},
        )
    },
)


def descriptor(
    *,
    queue: str = "arn:queue",
    on_demand_queue: str = "arn:on-demand-queue",
    job_definition: str = "arn:definition",
    **changes: Any,
) -> Descriptor:
    profile = Profile(
        spot_queue=queue,
        on_demand_queue=on_demand_queue,
        job_definition=job_definition,
        vcpus=2,
        memory_mib=4096,
        gpus=0,
        spot_instance_types=("m6i.xlarge", "m7i.xlarge"),
        on_demand_instance_types=("m6i.xlarge",),
        usd_per_hour={"m6i.xlarge": USD_PER_HOUR, "m7i.xlarge": USD_PER_HOUR},
    )
    fields: dict[str, Any] = {
        "environment": "dev",
        "region": REGION,
        "checkpoint_bucket": BUCKET,
        "ledger_table": TABLE,
        "job_log_group": LOG_GROUP,
        "default_profile": "cpu",
        # The price of gpu-24gb is not known.
        "profiles": {"cpu": profile, "gpu-24gb": replace(profile, usd_per_hour={})},
        "caps": Caps(fallback_usd="50"),
        "teams": ("research",),
        "data_prefixes": (DATA,),
        "secret_arns": (SECRET,),
        "trainer_images": {"cpu": DIGEST, "gpu": DIGEST},
        "max_attempt_seconds": 7 * 86400,
        "runnable_limit_seconds": 600,
        "spot_max_vcpus": 64,
        "on_demand_max_vcpus": 16,
    }
    return Descriptor(**{**fields, **changes})


def put(described: Descriptor) -> None:
    """Let the environment be described otherwise from now on."""
    client("ssm").put_parameter(
        Name=descriptor_parameter("dev"), Value=described.to_json(), Type="String", Overwrite=True
    )


def _create_queues_and_definition() -> tuple[str, str, str]:
    iam = client("iam")
    role = iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    batch = client("batch")
    host = batch.create_compute_environment(
        computeEnvironmentName="hosts", type="UNMANAGED", state="ENABLED", serviceRole=role
    )
    spot, on_demand = (
        batch.create_job_queue(
            jobQueueName=market,
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": host["computeEnvironmentArn"]}],
        )["jobQueueArn"]
        for market in ("spot", "on-demand")
    )
    definition = batch.register_job_definition(
        jobDefinitionName="cpu",
        type="container",
        containerProperties={
            "image": "trainer@sha256:" + "0" * 64,
            "command": ["true"],
            "resourceRequirements": [{"type": "VCPU", "value": "2"}, {"type": "MEMORY", "value": "4096"}],
            "user": "1000",
        },
        retryStrategy={"attempts": 10, "evaluateOnExit": [{"onStatusReason": "Host EC2*", "action": "RETRY"}]},
        timeout={"attemptDurationSeconds": 604800},
    )
    return spot, on_demand, definition["jobDefinitionArn"]


def with_clients(connection: Connection, clients: Mapping[str, Any]) -> Connection:
    """Return the connection, whose clients of some services are these: the mapping may still grow."""
    return replace(connection, client=lambda service: clients.get(service) or connection.client(service))


@contextmanager
def deployed() -> Iterator[Connection]:
    with mocked_aws():
        queue, on_demand, definition = _create_queues_and_definition()
        create_table(client("dynamodb"))
        client("s3").create_bucket(Bucket=BUCKET)
        client("logs").create_log_group(logGroupName=LOG_GROUP)
        client("ssm").put_parameter(
            Name=descriptor_parameter("dev"),
            Value=descriptor(queue=queue, on_demand_queue=on_demand, job_definition=definition).to_json(),
            Type="String",
        )
        yield connect("dev", region=REGION)
