"""What people's roles are given to work with runs, and so that nobody spends around the reservation."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout
from spotkeeper.contract import ledger as ledger_keys
from stacks.constructs.deployed_length import most_characters
from stacks.constructs.nag_finding import objects_finding, wildcard_finding

POLICY_CHARACTERS: Final = 6144
"""What a managed policy takes, white space aside. docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


class SubmitPolicy(iam.ManagedPolicy):
    """All that `spotkeeper submit`, `sweep`, `status`, `logs`, `cancel`, `pause`, `resume` and `budget` ask of AWS.

    Attach it to the roles of people and pipelines; no other permission is needed for these commands. Whatever else such
    a role allows, it then submits to no on-demand queue, since only the control plane may, which reserves first, and
    registers no definition of a privileged container. A role without this policy that has `batch:SubmitJob` on
    everything can spend past every cap.

    Left to operators: bringing removed checkpoints back, which deletes versions, dead letters, and `doctor`.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_name: str,
        descriptor_parameter: str,
        spot_queue_arns: list[str],
        on_demand_queue_arns: list[str],
        job_roles: list[iam.IRole],
        job_logs: logs.ILogGroup,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
    ) -> None:
        stack = cdk.Stack.of(scope)
        definitions = stack.format_arn(service="batch", resource="job-definition", resource_name="*")
        jobs = stack.format_arn(service="batch", resource="job", resource_name="*")
        manifests = checkpoints.arn_for_objects(f"{layout.COMMIT_PREFIX}*")
        sources = checkpoints.arn_for_objects(f"{layout.SOURCE_PREFIX}*")
        statements = [
            _allow(
                "FindEnvironment",
                ["ssm:GetParameter"],
                [stack.format_arn(service="ssm", resource="parameter", resource_name=descriptor_parameter.lstrip("/"))],
            ),
            # Without deleting. A submission writes the run's items, its budget and the reservation in one transaction,
            # so whoever may submit could also write a cap: caps guard against accidents, not against colleagues.
            _allow(
                "KeepLedger",
                [
                    "dynamodb:BatchGetItem",
                    "dynamodb:ConditionCheckItem",
                    "dynamodb:GetItem",
                    "dynamodb:PutItem",
                    "dynamodb:Query",
                    "dynamodb:UpdateItem",
                ],
                [ledger.table_arn],
            ),
            _allow("ListRuns", ["dynamodb:Query"], [f"{ledger.table_arn}/index/{ledger_keys.LISTING_INDEX}"]),
            # Without a condition on the prefix, or S3 answers 403 instead of 404 for a source that is not there yet.
            _allow("FindObjects", ["s3:ListBucket", "s3:ListBucketVersions"], [checkpoints.bucket_arn]),
            _allow("SendSources", ["s3:GetObject", "s3:PutObject"], [sources]),
            # Deleting a manifest is a rollback: its version stays for 30 days.
            _allow("RollBack", ["s3:DeleteObject", "s3:GetObject"], [manifests]),
            _allow("SubmitToSpot", ["batch:SubmitJob"], [*spot_queue_arns, definitions]),
            _allow("DeriveDefinitions", ["batch:RegisterJobDefinition"], [definitions]),
            _allow("StopJobs", ["batch:CancelJob", "batch:TerminateJob"], [jobs]),
            # Checked for the tags with which a job is submitted and a definition is registered.
            _allow("TagThem", ["batch:TagResource"], [definitions, jobs]),
            _allow(
                "LookAtJobs",
                # AWS Batch has no resource-level permissions for them.
                ["batch:DescribeJobDefinitions", "batch:DescribeJobs", "batch:ListJobs"],
                ["*"],
            ),
            _allow("ReadJobLogs", ["logs:FilterLogEvents", "logs:GetLogEvents"], [job_logs.log_group_arn]),
            # EC2 has no resource-level permission for it.
            _allow("ReadSpotPrices", ["ec2:DescribeSpotPriceHistory"], ["*"]),
            iam.PolicyStatement(
                sid="PassJobRoles",
                actions=["iam:PassRole"],
                resources=[role.role_arn for role in job_roles],
                conditions={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
            ),
            iam.PolicyStatement(
                sid="NeverToOnDemand",
                effect=iam.Effect.DENY,
                actions=["batch:SubmitJob"],
                resources=on_demand_queue_arns,
            ),
            iam.PolicyStatement(
                sid="NeverPrivileged",
                effect=iam.Effect.DENY,
                actions=["batch:RegisterJobDefinition"],
                resources=["*"],
                conditions={"Bool": {"batch:Privileged": "true"}},
            ),
        ]
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: submit and follow runs on spot queues, and submit to no on-demand queue",
            statements=statements,
        )
        _check_length(self, environment_name, statements)
        cdk.Validations.of(self).acknowledge(
            *(
                cdk.Acknowledgment(id=finding, reason=reason)
                for finding, reason in (
                    (
                        wildcard_finding(definitions),
                        "Users' own definitions have names of their own, and every change makes a revision.",
                    ),
                    (wildcard_finding(jobs), "A job's id is made by AWS Batch when it is submitted."),
                    (
                        "AwsSolutions-IAM5[Resource::*]",
                        "AWS Batch has no resource-level permissions for describing and listing.",
                    ),
                    (
                        objects_finding(checkpoints, f"{layout.COMMIT_PREFIX}*"),
                        "Keys begin with the kind of object and then the run, whose id is made when it is submitted.",
                    ),
                    (
                        objects_finding(checkpoints, f"{layout.SOURCE_PREFIX}*"),
                        "A source's key is the checksum of what is in it.",
                    ),
                )
            )
        )


def _allow(sid: str, actions: list[str], resources: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, actions=actions, resources=resources)


def _check_length(scope: Construct, environment_name: str, statements: list[iam.PolicyStatement]) -> None:
    document = {"Version": "2012-10-17", "Statement": [statement.to_json() for statement in statements]}
    stack = cdk.Stack.of(scope)
    characters = most_characters(scope, stack.to_json_string(stack.resolve(document)))
    if characters > POLICY_CHARACTERS:
        raise ValueError(
            f"the policy of those who submit to environment {environment_name!r} may take {characters} characters, and "
            f"IAM takes {POLICY_CHARACTERS}: enable fewer profiles, or divide them between two environments"
        )
