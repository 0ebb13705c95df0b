"""The private endpoints without which a job cannot start, run or be seen where there is no internet.

The network stack makes them, and `spotkeeper doctor` looks for them. Names are the part after `com.amazonaws.REGION.`
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

HOST_SERVICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ecs": "the ECS agent registers the host and reports the states of tasks",
        "ecs-agent": "the agent's control connection: over it tasks and their roles' credentials come",
        "ecs-telemetry": "the agent's telemetry connection; AWS asks for all three of ECS",
        "ecr.api": "the agent logs in to the registry",
        "ecr.dkr": "Docker reads an image's manifest; its layers come from S3, through the gateway",
        "logs": "Docker's log driver on the host writes the lines of the job",
    }
)
"""Interface endpoint -> why a host needs it. Sources: docs.aws.amazon.com/AmazonECS/latest/developerguide/\
vpc-endpoints.html, docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html,
docs.aws.amazon.com/batch/latest/userguide/vpc-interface-endpoints.html.

Left out, with the reason: `batch`, `events`, `sqs` and `lambda`, which only functions outside of the VPC call; `sts`,
since a job's credentials come from the agent; `kms`, since S3, DynamoDB and EBS call it themselves; `ssm`, since
neither agent nor job reads parameters and hosts take no sessions; `ec2`, which the agent only asks for instance tags
when ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM says so; `monitoring`, since jobs put no metrics.
"""

FOR_JOBS_WITH_SECRETS: Final = ("secretsmanager",)
"""Needed where the environment names any: the agent reads them."""

GATEWAY_SERVICES: Final[Mapping[str, str]] = MappingProxyType(
    {"s3": "checkpoints, sources and image layers", "dynamodb": "the ledger"}
)
"""Gateway endpoint -> what goes through it. They are free."""
