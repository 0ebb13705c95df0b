"""The roles of a job: what its program may do, what starts its container, what its host may do."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout

_PREFIXES = (layout.DATA_PREFIX, layout.COMMIT_PREFIX, layout.EPOCH_PREFIX, layout.SOURCE_PREFIX)


class JobRole(iam.Role):
    """The program: checkpoints, its ledger item and the data of the settings, nothing else.

    It may delete objects, as retention does, but no versions: what a broken program deletes can be restored.
    All runs of an environment share it; below the prefixes the fence keeps runs apart.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        data_prefixes: tuple[str, ...],
    ) -> None:
        super().__init__(scope, id_, assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
        data, commit, epoch, source = (checkpoints.arn_for_objects(f"{prefix}*") for prefix in _PREFIXES)
        self._allow("ReadCheckpoints", ["s3:GetObject", "s3:GetObjectVersion"], [data, commit, epoch, source])
        self._allow("WriteCheckpoints", ["s3:PutObject"], [data, commit, epoch])
        self._allow("TidyCheckpoints", ["s3:AbortMultipartUpload", "s3:DeleteObject"], [data, commit])
        # Without a condition on the prefix: a read of a missing object then answers 404 instead of AccessDenied,
        # which a resuming attempt could not tell from a broken role. It reveals names only.
        self._allow("FindCheckpoints", ["s3:ListBucket"], [checkpoints.bucket_arn])
        self._allow("ClaimAndComplete", ["dynamodb:GetItem", "dynamodb:UpdateItem"], [ledger.table_arn])
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
    # cdk-nag names a resource of another stack by the name under which that stack exports it.
    storage = cdk.Stack.of(checkpoints)
    bucket: str = storage.resolve(storage.export_value(checkpoints.bucket_arn))["Fn::ImportValue"]
    cdk.Validations.of(role).acknowledge(
        *(
            cdk.Acknowledgment(
                id=f"AwsSolutions-IAM5[Resource::{bucket}/{prefix}*]",
                reason="Keys begin with the kind of object and then the run; one role serves all runs of an "
                "environment, so it ends at the kind. The fence keeps runs apart.",
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
        super().__init__(scope, id_, assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
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
    """The host joins its ECS cluster, and no more: containers can read its credentials (see JobHost)."""

    instance_profile_arn: str

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(
            scope,
            id_,
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name("service-role/AmazonEC2ContainerServiceforEC2Role")
            ],
        )
        self.instance_profile_arn = iam.CfnInstanceProfile(self, "InstanceProfile", roles=[self.role_name]).attr_arn
        cdk.Validations.of(self).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
                "AmazonEC2ContainerServiceforEC2Role]",
                reason="AWS keeps this policy in step with the ECS agent that it ships in the machine image; "
                "a copy of ours would break hosts when the agent changes.",
            )
        )
