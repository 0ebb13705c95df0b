"""The roles of a job: what its program may do, what starts its container, what its host may do."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout
from spotkeeper.contract.ledger import run_partition
from stacks.constructs.nag_finding import objects_finding
from stacks.constructs.service_trust import own_account

_PREFIXES = (layout.DATA_PREFIX, layout.COMMIT_PREFIX, layout.EPOCH_PREFIX, layout.SOURCE_PREFIX)


class JobRole(iam.Role):
    """The program: checkpoints, runs' ledger items and the data of the settings, nothing else.

    It may delete objects, as retention does, but no versions, whatever is attached to it later: what a broken program
    deletes can be restored for as long as the lifecycle keeps it.

    All runs of an environment share it, and IAM cannot tell them apart (docs/decisions/0010-one-job-role.md): a hostile
    program can read, add to and delete the checkpoints of other runs, and read and update their ledger items. It cannot
    overwrite a manifest, an epoch or a source, nor touch ledger items of other kinds. The fence protects runs from each
    other's mistakes, not from malice; teams that do not trust each other need an environment each.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        data_prefixes: tuple[str, ...],
        service: str = "ecs-tasks.amazonaws.com",
    ) -> None:
        super().__init__(scope, id_, assumed_by=own_account(service))
        data, commit, epoch, source = (checkpoints.arn_for_objects(f"{prefix}*") for prefix in _PREFIXES)
        self._allow("ReadCheckpoints", ["s3:GetObject"], [data, commit, epoch, source])
        self._allow("WriteCheckpoints", ["s3:PutObject"], [data, commit, epoch])
        self._allow("TidyCheckpoints", ["s3:AbortMultipartUpload", "s3:DeleteObject"], [data, commit])
        self.add_to_policy(
            iam.PolicyStatement(
                sid="NeverDeleteVersions",
                effect=iam.Effect.DENY,
                # Directly, by way of the lifecycle, and by lifting what the bucket's policy forbids.
                actions=[
                    "s3:DeleteObjectVersion",
                    "s3:PutLifecycleConfiguration",
                    "s3:PutBucketVersioning",
                    "s3:PutBucketPolicy",
                    "s3:DeleteBucketPolicy",
                ],
                resources=[checkpoints.bucket_arn, checkpoints.arn_for_objects("*")],
            )
        )
        # Without a condition on the prefix: a read of a missing object then answers 404 instead of AccessDenied,
        # which a resuming attempt could not tell from a broken role. It reveals names only.
        self._allow("FindCheckpoints", ["s3:ListBucket"], [checkpoints.bucket_arn])
        self.add_to_policy(
            iam.PolicyStatement(
                # Reading is for handovers: a standby and the attempt that it follows look at the run's item.
                sid="ClaimAndComplete",
                actions=["dynamodb:GetItem", "dynamodb:UpdateItem"],
                resources=[ledger.table_arn],
                conditions={
                    "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [run_partition("*")]},
                    # ForAllValues holds for a request that names no key at all.
                    "Null": {"dynamodb:LeadingKeys": "false"},
                },
            )
        )
        for prefix in data_prefixes:
            self._allow_reading(prefix)
        _acknowledge_prefixes(self, checkpoints)

    def _allow(self, sid: str, actions: list[str], resources: list[str]) -> None:
        self.add_to_policy(iam.PolicyStatement(sid=sid, actions=actions, resources=resources))

    def _allow_reading(self, s3_uri: str) -> None:
        bucket_name, _, prefix = s3_uri.removeprefix("s3://").partition("/")
        objects = f"arn:{cdk.Aws.PARTITION}:s3:::{bucket_name}/{prefix}*"
        self.add_to_policy(iam.PolicyStatement(actions=["s3:GetObject"], resources=[objects]))
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[f"arn:{cdk.Aws.PARTITION}:s3:::{bucket_name}"],
                conditions={"StringLike": {"s3:prefix": [f"{prefix}*"]}},
            )
        )
        cdk.Validations.of(self).acknowledge(
            cdk.Acknowledgment(
                id=f"AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:s3:::{bucket_name}/{prefix}*]",
                reason="A data set is a prefix: the settings of the environment name it, and it may only be read.",
            )
        )


def _acknowledge_prefixes(role: iam.Role, checkpoints: s3.IBucket) -> None:
    cdk.Validations.of(role).acknowledge(
        *(
            cdk.Acknowledgment(
                id=objects_finding(checkpoints, f"{prefix}*"),
                reason="Keys begin with the kind of object and then the run; one role serves all runs of an "
                "environment, so it ends at the kind.",
            )
            for prefix in _PREFIXES
        )
    )


class ExecutionRole(iam.Role):
    """What the ECS agent does for a job: pull its image, open its log stream, read the secrets of the settings."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        image_repositories: list[ecr.IRepository],
        log_group: logs.ILogGroup,
        secret_arns: tuple[str, ...],
    ) -> None:
        super().__init__(scope, id_, assumed_by=own_account("ecs-tasks.amazonaws.com"))
        for repository in image_repositories:
            repository.grant_pull(self)
        log_group.grant_write(self)
        if secret_arns:
            self.add_to_policy(
                iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=list(secret_arns))
            )
        cdk.Validations.of(self).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-IAM5[Resource::*]",
                reason="ecr:GetAuthorizationToken, the login before a pull, has no resource-level permission. "
                "Every other action names its repository, log group or secret.",
            )
        )


class HostRole(iam.Role):
    """The ECS agent joins the cluster of its compute environment, takes tasks and reports their states; no more.

    Containers can read these credentials (see JobHost), so this is AWS's AmazonEC2ContainerServiceforEC2Role without
    images and logs, for which the agent takes the job's execution role, and without creating clusters. With them
    a hostile program can disturb other hosts of AWS Batch in the account and region, but read and write no data.

    Clusters are named by AWS Batch, `AWSBatch-<compute environment>-<uuid>`, and CloudFormation does not tell
    the name; Batch's own service-linked role relies on the same prefix. No emulator checks this policy: see
    docs/live-checks.md.
    """

    instance_profile_arn: str

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_, assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"))
        ecs = f"arn:{cdk.Aws.PARTITION}:ecs:{cdk.Stack.of(self).region}:{cdk.Aws.ACCOUNT_ID}"
        clusters, hosts = f"{ecs}:cluster/AWSBatch*", f"{ecs}:container-instance/*"
        statements = (
            # Where to poll; it has no resource-level permission and tells an address only.
            iam.PolicyStatement(sid="FindEcs", actions=["ecs:DiscoverPollEndpoint"], resources=["*"]),
            iam.PolicyStatement(
                sid="JoinAndReport",
                actions=[
                    "ecs:DeregisterContainerInstance",
                    "ecs:RegisterContainerInstance",
                    "ecs:SubmitAttachmentStateChanges",
                    "ecs:SubmitContainerStateChange",
                    "ecs:SubmitTaskStateChange",
                ],
                resources=[clusters],
            ),
            iam.PolicyStatement(
                sid="TakeTasksAndDrain",
                actions=["ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState"],
                resources=[hosts],
                conditions={"ArnLike": {"ecs:cluster": clusters}},
            ),
            iam.PolicyStatement(
                sid="TagOnJoining",
                actions=["ecs:TagResource"],
                resources=[hosts],
                conditions={"StringEquals": {"ecs:CreateAction": "RegisterContainerInstance"}},
            ),
        )
        for statement in statements:
            self.add_to_policy(statement)
        self.instance_profile_arn = iam.CfnInstanceProfile(self, "InstanceProfile", roles=[self.role_name]).attr_arn
        _acknowledge_clusters(self)


def _acknowledge_clusters(role: HostRole) -> None:
    ecs = f"Resource::arn:<AWS::Partition>:ecs:{cdk.Stack.of(role).region}:<AWS::AccountId>"
    reasons = {
        "Resource::*": "ecs:DiscoverPollEndpoint, which tells where to poll, has no resource-level permission.",
        f"{ecs}:cluster/AWSBatch*": "AWS Batch names its clusters when it makes them, and CloudFormation does not "
        "tell the name; the prefix is Batch's own.",
        f"{ecs}:container-instance/*": "The id of a host is given when it registers; conditions bind the actions to "
        "Batch's clusters and to the act of registering.",
    }
    cdk.Validations.of(role).acknowledge(
        *(cdk.Acknowledgment(id=f"AwsSolutions-IAM5[{what}]", reason=why) for what, why in reasons.items())
    )
