"""As whom SageMaker runs a training job: what its program may do, and what SageMaker does for it."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract import checkpoint_layout as layout
from spotkeeper.contract.training import LOG_GROUP
from stacks.constructs.job_roles import JobRole
from stacks.constructs.nag_finding import objects_finding, wildcard_finding


class TrainingRole(JobRole):
    """What a job's role on AWS Batch may, and the mirror; SageMaker uses the same role for images, logs and network.

    SageMaker has no second role for these, so a program can write log lines of other training jobs of its environment,
    and metrics under SageMaker's name. As on AWS Batch, all runs of an environment share the role.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment_name: str,
        checkpoints: s3.IBucket,
        ledger: dynamodb.ITable,
        data_prefixes: tuple[str, ...],
        image_repositories: list[ecr.IRepository],
        key: kms.IKey | None,
        subnet_ids: list[str],
        security_group_id: str | None,
    ) -> None:
        super().__init__(
            scope,
            id_,
            checkpoints=checkpoints,
            ledger=ledger,
            data_prefixes=data_prefixes,
            service="sagemaker.amazonaws.com",
        )
        self._allow_mirror(checkpoints)
        for repository in image_repositories:
            repository.grant_pull(self)
        self._allow_telling(environment_name)
        if key is not None:
            # Output and, by a grant, the volume: docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html
            key.grant(
                self,
                "kms:CreateGrant",
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKey",
                "kms:GenerateDataKeyWithoutPlaintext",
            )
        if security_group_id is not None:
            self._allow_interfaces(subnet_ids, security_group_id)
        self._acknowledge(
            "AwsSolutions-IAM5[Resource::*]",
            "ecr:GetAuthorizationToken, cloudwatch:PutMetricData and reading what the network is have no "
            "resource-level permission; metrics are bound to SageMaker's namespace.",
        )

    def _allow_mirror(self, checkpoints: s3.IBucket) -> None:
        mirror = checkpoints.arn_for_objects(f"{layout.MIRROR_PREFIX}*")
        self._allow("Mirror", ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"], [mirror])
        self._acknowledge(
            objects_finding(checkpoints, f"{layout.MIRROR_PREFIX}*"),
            "Keys begin with the kind of object and then the run; one role serves all runs of an environment.",
        )

    def _allow_telling(self, environment_name: str) -> None:
        logs = f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Stack.of(self).region}:{cdk.Aws.ACCOUNT_ID}:log-group:{LOG_GROUP}"
        streams = f"{logs}:log-stream:{environment_name}-*"
        self._allow("FindLogs", ["logs:CreateLogGroup", "logs:DescribeLogStreams"], [f"{logs}:*"])
        self._allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [streams])
        self.add_to_policy(
            iam.PolicyStatement(
                sid="Metrics",
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": LOG_GROUP}},
            )
        )
        self._acknowledge(wildcard_finding(f"{logs}:*"), "A log group's ARN ends with its streams.")
        self._acknowledge(wildcard_finding(streams), "A stream is named by its job, and a job by environment and run.")

    def _allow_interfaces(self, subnet_ids: list[str], security_group_id: str) -> None:
        """Let SageMaker put interfaces into the subnets: docs.aws.amazon.com/sagemaker/latest/dg/train-vpc.html."""
        ec2 = f"arn:{cdk.Aws.PARTITION}:ec2:{cdk.Stack.of(self).region}:{cdk.Aws.ACCOUNT_ID}"
        interfaces = f"{ec2}:network-interface/*"
        subnets = [f"{ec2}:subnet/{subnet}" for subnet in subnet_ids]
        self._allow(
            "MakeInterfaces",
            ["ec2:CreateNetworkInterface"],
            [*subnets, f"{ec2}:security-group/{security_group_id}", interfaces],
        )
        self.add_to_policy(
            iam.PolicyStatement(
                sid="UseInterfaces",
                actions=[
                    "ec2:CreateNetworkInterfacePermission",
                    "ec2:DeleteNetworkInterface",
                    "ec2:DeleteNetworkInterfacePermission",
                ],
                resources=[interfaces],
                conditions={"ArnEquals": {"ec2:Subnet": subnets}},
            )
        )
        self._allow(
            "ReadNetwork",
            [
                "ec2:DescribeDhcpOptions",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            ["*"],
        )
        self._acknowledge(
            wildcard_finding(interfaces),
            "SageMaker makes an interface for each node; what it does to one is bound to the environment's subnets.",
        )

    def _acknowledge(self, finding: str, reason: str) -> None:
        cdk.Validations.of(self).acknowledge(cdk.Acknowledgment(id=finding, reason=reason))
