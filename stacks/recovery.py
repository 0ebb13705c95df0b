"""From AWS's events to the ledger and to the next submission: four rules, each with a queue and a function."""

import json
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from spotkeeper.contract import checkpoint_layout, environment_variables
from spotkeeper.contract.events import (
    BATCH_SOURCE,
    EC2_SOURCE,
    JOB_QUEUE_BLOCKED,
    JOB_STATE_CHANGE,
    REBALANCE_RECOMMENDATION,
    SAGEMAKER_SOURCE,
    SPOT_INTERRUPTION_WARNING,
    TRAINING_JOB_STATE_CHANGE,
)
from spotkeeper.contract.ledger import LISTING_INDEX
from spotkeeper.contract.names import descriptor_parameter
from stacks.constructs.deployed_length import most_characters
from stacks.constructs.event_function import EventFunction, own_events
from stacks.constructs.handler_code import handler_code
from stacks.constructs.mirror_access import acknowledge_mirror_clearing, mirror_clearing, mirror_reading
from stacks.constructs.nag_finding import wildcard_finding
from stacks.constructs.spending_stop import SpendingStop
from stacks.constructs.training_policies import allow_moving_training
from stacks.constructs.weak_reference import weak
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment

POWERTOOLS_VERSION: Final = "3.37.0"
"""AWS publishes the layer of each version under an SSM parameter, which CloudFormation reads when it deploys."""

PATTERN_CHARACTERS: Final = 2048
"""What EventBridge takes: docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"""

JOB_STATUSES: Final = ["RUNNABLE", "RUNNING", "SUCCEEDED", "FAILED"]
"""States in which the ledger may have something to learn; a job that Batch retries goes back to RUNNABLE."""

SWEEP_MINUTES: Final = 5
SWEEP_TIMEOUT_SECONDS: Final = 270
"""Below the period, so that a sweep ends before the next begins."""
SWEEP_CONCURRENCY: Final = 2
"""The least that Lambda takes. Two sweeps at once, after one that began late, look twice and do everything once: each
write is conditional on what was read."""
SWEEP_MEMORY_MB: Final = 1024
"""A page of a hundred runs is mostly work for the processor."""

# A transaction needs the permission of each action in it.
_MOVING_RUNS: Final = [
    "dynamodb:ConditionCheckItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:UpdateItem",
]


class RecoveryStack(EnvironmentStack):
    """Functions that record interruptions, move runs on, and record queues without capacity."""

    functions: tuple[EventFunction, ...]

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        job_queue_arns: list[str],
        on_demand_queue_arns: list[str],
        training_role_arn: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        shared: dict[str, Any] = {
            "code": handler_code(),
            "powertools": self._powertools(),
            "ledger": ledger,
            "variables": {
                environment_variables.CHECKPOINT_URI: f"s3://{checkpoints.bucket_name}",
                environment_variables.DESCRIPTOR_PARAMETER: descriptor_parameter(environment.name),
            },
            "log_retention": environment.log_retention,
        }
        self._check_pattern(environment.name, job_queue_arns)
        queues = [weak(arn) for arn in job_queue_arns]

        # These events name an instance and nothing of ours, so all of the account come; the function keeps them
        # for two weeks, and whoever loses a host looks there.
        record_interruption = EventFunction(
            self,
            "RecordInterruption",
            handler="record_interruption",
            description="Record that EC2 takes a spot instance back, or may soon",
            when=own_events(EC2_SOURCE, [SPOT_INTERRUPTION_WARNING, REBALANCE_RECOMMENDATION]),
            ledger_actions=["dynamodb:UpdateItem"],
            **shared,
        )
        observe_job = EventFunction(
            self,
            "ObserveJob",
            handler="observe_job",
            description="Bring the ledger up to what AWS Batch says of a job, and submit the next one if it is needed",
            when=own_events(BATCH_SOURCE, [JOB_STATE_CHANGE], {"jobQueue": queues, "status": JOB_STATUSES}),
            ledger_actions=_MOVING_RUNS,
            **shared,
        )
        record_blocked_queue = EventFunction(
            self,
            "RecordBlockedQueue",
            handler="record_blocked_queue",
            description="Record that the job at the head of a queue cannot be placed",
            when=own_events(BATCH_SOURCE, [JOB_QUEUE_BLOCKED], {"jobQueue": queues}),
            ledger_actions=["dynamodb:GetItem", "dynamodb:PutItem"],
            **shared,
        )
        sweep_runs = EventFunction(
            self,
            "SweepRuns",
            handler="sweep_runs",
            description="Reconcile all open runs, so that no event is needed to bring a run where it belongs",
            when=events.Schedule.rate(cdk.Duration.minutes(SWEEP_MINUTES)),
            timeout_seconds=SWEEP_TIMEOUT_SECONDS,
            batch_size=1,
            max_concurrency=SWEEP_CONCURRENCY,
            # A sweep that failed, or came too late, is the next one's work: its message must not come beside that.
            kept_seconds=SWEEP_MINUTES * 60,
            memory_mb=SWEEP_MEMORY_MB,
            ledger_actions=["dynamodb:BatchGetItem", *_MOVING_RUNS],
            **shared,
        )
        sweep_runs.role.add_to_policy(
            iam.PolicyStatement(
                sid="ListRuns", actions=["dynamodb:Query"], resources=[f"{ledger.table_arn}/index/{LISTING_INDEX}"]
            )
        )
        _allow_reading_jobs(record_blocked_queue.role, ["batch:DescribeJobs"])
        for unit in (observe_job, sweep_runs):
            _allow_reading_jobs(unit.role, ["batch:DescribeJobs", "batch:ListJobs", "ec2:DescribeSpotPriceHistory"])
            self._allow_moving_runs(unit.role, checkpoints, queues, descriptor_parameter(environment.name))
            if training_role_arn is not None:
                allow_moving_training(unit.role, environment, training_role_arn)
                for statement in (*mirror_reading(checkpoints), mirror_clearing(checkpoints)):
                    unit.role.add_to_policy(statement)
                acknowledge_mirror_clearing(unit.role, checkpoints)
        if training_role_arn is not None:
            sweep_runs.role.add_to_policy(
                iam.PolicyStatement(sid="ListTraining", actions=["sagemaker:ListTrainingJobs"], resources=["*"])
            )
            # All of the environment's jobs in all their states: what counts is read from SageMaker again.
            observe_job.also_on(
                "TrainingRule",
                "Training jobs of SageMaker",
                own_events(
                    SAGEMAKER_SOURCE,
                    [TRAINING_JOB_STATE_CHANGE],
                    {"TrainingJobName": [{"prefix": f"{environment.name}-"}]},
                ),
            )
        self.functions = (record_interruption, observe_job, record_blocked_queue, sweep_runs)
        if environment.budget_alert_emails:
            SpendingStop(
                self,
                "SpendingStop",
                environment=environment,
                roles=[observe_job.role, sweep_runs.role],
                on_demand_queue_arns=[weak(arn) for arn in on_demand_queue_arns],
            )

    def _allow_moving_runs(self, role: iam.Role, checkpoints: s3.IBucket, queues: list[str], descriptor: str) -> None:
        """Submit to the queues of both markets: these two functions reserve before they do, and nobody else may."""
        definitions = self.format_arn(service="batch", resource="job-definition", resource_name="*")
        jobs = self.format_arn(service="batch", resource="job", resource_name="*")
        for statement in (
            # TagResource is checked for the tags that a job is submitted with.
            iam.PolicyStatement(sid="SubmitJobs", actions=["batch:SubmitJob"], resources=[*queues, definitions]),
            iam.PolicyStatement(
                sid="StopAndTagJobs",
                actions=["batch:CancelJob", "batch:TagResource", "batch:TerminateJob"],
                resources=[jobs],
            ),
            iam.PolicyStatement(
                sid="ReadDescriptor",
                actions=["ssm:GetParameter"],
                resources=[
                    self.format_arn(service="ssm", resource="parameter", resource_name=descriptor.removeprefix("/"))
                ],
            ),
            iam.PolicyStatement(
                sid="FindCheckpoints",
                actions=["s3:ListBucket"],
                resources=[checkpoints.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [f"{checkpoint_layout.COMMIT_PREFIX}*"]}},
            ),
        ):
            role.add_to_policy(statement)
        cdk.Validations.of(role).acknowledge(
            *(
                cdk.Acknowledgment(id=wildcard_finding(arn), reason=reason)
                for arn, reason in (
                    (definitions, "A run is pinned to a revision, and users' own definitions have names of their own."),
                    (jobs, "A job's id is made by AWS Batch when it is submitted."),
                )
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


def _allow_reading_jobs(role: iam.Role, actions: list[str]) -> None:
    role.add_to_policy(iam.PolicyStatement(sid="ReadJobs", actions=actions, resources=["*"]))
    cdk.Validations.of(role).acknowledge(
        cdk.Acknowledgment(
            id="AwsSolutions-IAM5[Resource::*]",
            reason="batch:DescribeJobs, batch:ListJobs, ec2:DescribeSpotPriceHistory and sagemaker:ListTrainingJobs, "
            "which only read, have no resource-level permission in IAM.",
        )
    )
