"""A CodeBuild project that builds trainer images in the account, for environments without a Docker machine."""

import json
from typing import Any, Final

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from spotkeeper.contract import image_build
from spotkeeper.contract.image_variant import IMAGE_VARIANTS
from stacks.constructs.image_repository import ImageRepository
from stacks.constructs.trainer_image import DOCKERFILE, ImageSource
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment

BUILD_MINUTES: Final = 60
"""A build that hangs is billed by the minute until then."""

BUILD_SPEC: Final[dict[str, Any]] = {
    "version": "0.2",
    "phases": {
        "build": {
            # One phase: the first command that fails ends it, and nothing is pushed.
            "commands": [
                'IMAGE="$REPOSITORY:$VARIANT-$SOURCE"',
                'aws ecr get-login-password | docker login --username AWS --password-stdin "${REPOSITORY%%/*}"',
                # Without provenance an image is one manifest, and its digest is the one that hosts pull.
                'docker build --provenance=false --build-arg "VARIANT=$VARIANT" --file "$DOCKERFILE" --tag "$IMAGE" .',
                'docker push "$IMAGE"',
            ]
        }
    },
}


class ImagesStack(EnvironmentStack):
    """Builds from the source that was deployed with it, whoever starts it: `make image` gives the variant alone."""

    def __init__(
        self, scope: Construct, id_: str, *, environment: Environment, repository: ImageRepository, **kwargs: Any
    ) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        source = ImageSource(self, "Source")
        log_group = logs.LogGroup(
            self, "Logs", retention=environment.log_retention, removal_policy=cdk.RemovalPolicy.DESTROY
        )
        fingerprint = source.asset_hash[:16]
        project = codebuild.CfnProject(
            self,
            "Project",
            description=f"Spotkeeper: build the trainer image of {environment.name}",
            service_role=self._role(source, repository, log_group).role_arn,
            source=codebuild.CfnProject.SourceProperty(
                type="S3",
                location=f"{source.s3_bucket_name}/{source.s3_object_key}",
                build_spec=json.dumps(BUILD_SPEC),
            ),
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_CONTAINER",
                # Memory 7 GB, 128 GB of disk: the image with CUDA's libraries is several GB before it is packed.
                compute_type=codebuild.ComputeType.MEDIUM.value,
                image=codebuild.LinuxBuildImage.AMAZON_LINUX_2023_6.image_id,
                # Building an image needs Docker's daemon, which CodeBuild gives to privileged builds only. It runs on a
                # host of CodeBuild's own, in none of our networks, with a role that can push to one repository.
                privileged_mode=True,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(name=name, value=value)
                    for name, value in (
                        ("DOCKERFILE", DOCKERFILE),
                        ("REPOSITORY", repository.uri),
                        ("SOURCE", fingerprint),
                        ("VARIANT", IMAGE_VARIANTS[0]),
                    )
                ],
            ),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=log_group.log_group_name
                )
            ),
            timeout_in_minutes=BUILD_MINUTES,
            queued_timeout_in_minutes=BUILD_MINUTES,
            concurrent_build_limit=len(IMAGE_VARIANTS),
        )
        cdk.CfnOutput(self, image_build.PROJECT_OUTPUT, value=project.ref)
        cdk.CfnOutput(self, image_build.SOURCE_OUTPUT, value=fingerprint)
        cdk.Validations.of(project).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-CB4",
                reason="The key would encrypt artifacts, and there are none: the image goes to ECR, which encrypts it.",
            ),
        )

    def _role(self, source: ImageSource, repository: ImageRepository, log_group: logs.ILogGroup) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal(
                "codebuild.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                    # The project's own name is given when it is made, and it needs the role to be made.
                    "ArnLike": {
                        "aws:SourceArn": self.format_arn(service="codebuild", resource="project", resource_name="*")
                    },
                },
            ),
        )
        bucket = f"arn:{cdk.Aws.PARTITION}:s3:::{source.s3_bucket_name}"
        for statement in (
            iam.PolicyStatement(
                sid="ReadSource",
                actions=["s3:GetObject", "s3:GetObjectVersion"],
                resources=[f"{bucket}/{source.s3_object_key}"],
            ),
            iam.PolicyStatement(
                sid="FindBucket", actions=["s3:GetBucketAcl", "s3:GetBucketLocation"], resources=[bucket]
            ),
            iam.PolicyStatement(
                sid="Push",
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    # docker push asks for the manifest of the tag first: AWS's page image-push-iam lists it.
                    "ecr:BatchGetImage",
                    "ecr:CompleteLayerUpload",
                    "ecr:InitiateLayerUpload",
                    "ecr:PutImage",
                    "ecr:UploadLayerPart",
                ],
                resources=[repository.repository_arn],
            ),
            iam.PolicyStatement(sid="LogIn", actions=["ecr:GetAuthorizationToken"], resources=["*"]),
        ):
            role.add_to_policy(statement)
        log_group.grant_write(role)
        cdk.Validations.of(role).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-IAM5[Resource::*]",
                reason="ecr:GetAuthorizationToken, the login before a push, has no resource-level permission.",
            )
        )
        return role
