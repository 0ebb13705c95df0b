"""From AWS's events to the ledger: three rules, each with a queue and a function of its own."""

from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from spotkeeper.contract.events import (
    BATCH_SOURCE,
    EC2_SOURCE,
    JOB_QUEUE_BLOCKED,
    JOB_STATE_CHANGE,
    REBALANCE_RECOMMENDATION,
    SPOT_INTERRUPTION_WARNING,
)
from stacks.constructs.event_function import EventFunction
from stacks.constructs.handler_code import handler_code
from stacks.environments import Environment

POWERTOOLS_VERSION: Final = "3.37.0"
"""AWS publishes the layer of each version under an SSM parameter, which CloudFormation reads when it deploys."""

JOB_STATUSES: Final = ["RUNNABLE", "RUNNING", "SUCCEEDED", "FAILED"]
"""States in which the ledger may have something to learn; a job that Batch retries goes back to RUNNABLE."""


class RecoveryStack(cdk.Stack):
    """Functions that record interruptions, observe jobs, and record queues without capacity."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        ledger: dynamodb.ITable,
        job_queue_arns: list[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            scope,
            id_,
            env=cdk.Environment(region=environment.region),
            termination_protection=environment.is_protected,
            **kwargs,
        )
        shared: dict[str, Any] = {
            "code": handler_code(),
            "powertools": self._powertools(),
            "ledger": ledger,
            "log_retention": environment.log_retention,
        }
        # Weak references: an export of a queue's ARN would keep a profile from ever being disabled.
        queues = [cdk.Stack.consume_reference(arn, cdk.ReferenceStrength.WEAK) for arn in job_queue_arns]

        # These events name an instance and nothing of ours, so all of the account come; the function keeps them
        # for two weeks, and whoever loses a host looks there.
        EventFunction(
            self,
            "RecordInterruption",
            handler="record_interruption",
            description="Record that EC2 takes a spot instance back, or may soon",
            source=EC2_SOURCE,
            detail_types=[SPOT_INTERRUPTION_WARNING, REBALANCE_RECOMMENDATION],
            ledger_actions=["dynamodb:UpdateItem"],
            **shared,
        )
        observe_job = EventFunction(
            self,
            "ObserveJob",
            handler="observe_job",
            description="Bring the ledger up to what AWS Batch says of a job",
            source=BATCH_SOURCE,
            detail_types=[JOB_STATE_CHANGE],
            detail={"jobQueue": queues, "status": JOB_STATUSES},
            ledger_actions=["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"],
            **shared,
        )
        record_blocked_queue = EventFunction(
            self,
            "RecordBlockedQueue",
            handler="record_blocked_queue",
            description="Record that the job at the head of a queue cannot be placed",
            source=BATCH_SOURCE,
            detail_types=[JOB_QUEUE_BLOCKED],
            detail={"jobQueue": queues},
            ledger_actions=["dynamodb:GetItem", "dynamodb:PutItem"],
            **shared,
        )
        for unit in (observe_job, record_blocked_queue):
            unit.role.add_to_policy(
                # DescribeJobs has no resource-level permission; it reads only.
                iam.PolicyStatement(sid="ReadJobs", actions=["batch:DescribeJobs"], resources=["*"])
            )
            cdk.Validations.of(unit.role).acknowledge(
                cdk.Acknowledgment(
                    id="AwsSolutions-IAM5[Resource::*]",
                    reason="batch:DescribeJobs, which only reads, has no resource-level permission in IAM.",
                )
            )

    def _powertools(self) -> lambda_.ILayerVersion:
        parameter = f"/aws/service/powertools/python/arm64/python3.13/{POWERTOOLS_VERSION}"
        return lambda_.LayerVersion.from_layer_version_arn(
            self, "Powertools", ssm.StringParameter.value_for_string_parameter(self, parameter)
        )
