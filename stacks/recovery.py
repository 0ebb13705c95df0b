"""From AWS's events to the ledger: three rules, each with a queue and a function of its own."""

import json
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
from stacks.constructs.deployed_length import most_characters
from stacks.constructs.event_function import EventFunction
from stacks.constructs.handler_code import handler_code
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment

POWERTOOLS_VERSION: Final = "3.37.0"
"""AWS publishes the layer of each version under an SSM parameter, which CloudFormation reads when it deploys."""

PATTERN_CHARACTERS: Final = 2048
"""What EventBridge takes: docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"""

JOB_STATUSES: Final = ["RUNNABLE", "RUNNING", "SUCCEEDED", "FAILED"]
"""States in which the ledger may have something to learn; a job that Batch retries goes back to RUNNABLE."""


class RecoveryStack(EnvironmentStack):
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
        super().__init__(scope, id_, environment=environment, **kwargs)
        shared: dict[str, Any] = {
            "code": handler_code(),
            "powertools": self._powertools(),
            "ledger": ledger,
            "log_retention": environment.log_retention,
        }
        self._check_pattern(environment.name, job_queue_arns)
        # Weak references, because an export of a queue's ARN would keep a profile from ever being disabled. The price:
        # CloudFormation reads them only while it updates this very stack, and CDK skips a stack whose template is
        # unchanged. A queue that is replaced under its old logical id (no change of MarketQueue does so today) goes
        # unwatched until this stack is deployed with a change.
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

    def _check_pattern(self, environment: str, job_queue_arns: list[str]) -> None:
        pattern = {
            "account": [cdk.Aws.ACCOUNT_ID],
            "source": [BATCH_SOURCE],
            "detail-type": [JOB_STATE_CHANGE],
            "detail": {"jobQueue": job_queue_arns, "status": JOB_STATUSES},
        }
        characters = most_characters(self, json.dumps(pattern))
        if characters > PATTERN_CHARACTERS:
            raise ValueError(
                f"the event pattern over the {len(job_queue_arns)} queues of environment {environment!r} may take "
                f"{characters} characters, and EventBridge takes {PATTERN_CHARACTERS}: enable fewer profiles, or "
                "divide them between two environments"
            )

    def _powertools(self) -> lambda_.ILayerVersion:
        parameter = f"/aws/service/powertools/python/arm64/python3.13/{POWERTOOLS_VERSION}"
        return lambda_.LayerVersion.from_layer_version_arn(
            self, "Powertools", ssm.StringParameter.value_for_string_parameter(self, parameter)
        )
