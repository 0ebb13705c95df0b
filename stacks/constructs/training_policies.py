"""Who may create training jobs of an environment, and which."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from spotkeeper.contract.training import LOG_GROUP
from stacks.constructs.mirror_access import acknowledge_mirror_reading, mirror_reading, mirror_roll_back
from stacks.constructs.nag_finding import wildcard_finding
from stacks.settings import Environment
from stacks.training_settings import TrainingSettings

SERVICE: Final = "sagemaker.amazonaws.com"


def training_jobs(scope: Construct, environment: Environment) -> str:
    """Return the ARNs of an environment's training jobs: names begin with it.

    An environment whose name begins with that of another and a hyphen (`dev`, `dev-eu`) is inside of the other's.
    """
    return cdk.Stack.of(scope).format_arn(
        service="sagemaker", resource="training-job", resource_name=f"{environment.name}-*"
    )


def allow_moving_training(role: iam.Role, environment: Environment, training_role_arn: str) -> None:
    """Let a function that reserves first create, follow and stop training jobs in both markets."""
    jobs = training_jobs(role, environment)
    training = environment.training
    assert training is not None
    for statement in (
        iam.PolicyStatement(
            sid="CreateTrainingJobs",
            actions=["sagemaker:CreateTrainingJob"],
            resources=[jobs],
            # ForAllValues, which holds where the key is absent too: whether SageMaker fills it from
            # InstancePreferences, as the on-demand leg needs, is documented nowhere.
            conditions={
                "ForAllValues:StringEquals": {"sagemaker:InstanceTypes": list(training.instance_types)},
                **_protections(training),
            },
        ),
        _follow(jobs),
        _pass(training_role_arn),
    ):
        role.add_to_policy(statement)
    cdk.Validations.of(role).acknowledge(cdk.Acknowledgment(id=wildcard_finding(jobs), reason=_NAMES))


class SubmitTrainingPolicy(iam.ManagedPolicy):
    """What `SubmitPolicy` is for AWS Batch, for SageMaker; attach both.

    IAM has no condition for managed spot, so this policy cannot keep its holder from on-demand as `SubmitPolicy` does.
    It bounds what one machine of a job may cost instead: every instance type is one of the settings', and the longest
    time is the environment's. How many machines, no condition tells; the account's quotas do. Caps guard against
    accidents, not against colleagues.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        environment: Environment,
        training: TrainingSettings,
        training_role_arn: str,
        checkpoints: s3.IBucket,
        service_queue_arn: str | None,
    ) -> None:
        jobs = training_jobs(scope, environment)
        stack = cdk.Stack.of(scope)
        logs = f"arn:{cdk.Aws.PARTITION}:logs:{stack.region}:{cdk.Aws.ACCOUNT_ID}:log-group:{LOG_GROUP}"
        streams = f"{logs}:log-stream:{environment.name}-*"
        service_jobs = stack.format_arn(service="batch", resource="service-job", resource_name="*")
        protections = _protections(training)
        statements = [
            iam.PolicyStatement(
                sid="CreateBoundedTrainingJobs",
                actions=["sagemaker:CreateTrainingJob"],
                resources=[jobs],
                conditions={
                    "ForAllValues:StringEquals": {"sagemaker:InstanceTypes": list(training.instance_types)},
                    "NumericLessThanEquals": {"sagemaker:MaxRuntimeInSeconds": str(environment.max_attempt_seconds)},
                    **protections,
                    # ForAllValues holds for a request that names no type at all, and a spot job names its one.
                    "Null": {**protections.get("Null", {}), "sagemaker:InstanceTypes": "false"},
                },
            ),
            _follow(jobs),
            _pass(training_role_arn),
            iam.PolicyStatement(sid="ReadTrainingLogs", actions=["logs:DescribeLogStreams"], resources=[f"{logs}:*"]),
            iam.PolicyStatement(sid="ReadTrainingLines", actions=["logs:GetLogEvents"], resources=[streams]),
            *mirror_reading(checkpoints),
            mirror_roll_back(checkpoints),
        ]
        reasons = {
            wildcard_finding(jobs): _NAMES,
            wildcard_finding(f"{logs}:*"): "A log group's ARN ends with its streams.",
            wildcard_finding(streams): "A stream is named by its job, and a job by environment and run.",
        }
        if service_queue_arn is not None:
            statements += [
                iam.PolicyStatement(
                    sid="SubmitServiceJobs",
                    actions=["batch:SubmitServiceJob"],
                    resources=[service_queue_arn, service_jobs],
                ),
                iam.PolicyStatement(
                    sid="StopServiceJobs",
                    actions=["batch:TagResource", "batch:TerminateServiceJob"],
                    resources=[service_jobs],
                ),
                iam.PolicyStatement(
                    sid="LookAtServiceJobs",
                    actions=["batch:DescribeServiceJob", "batch:ListServiceJobs"],
                    resources=["*"],
                ),
            ]
            reasons[wildcard_finding(service_jobs)] = "A job's id is made by AWS Batch when it is submitted."
            reasons["AwsSolutions-IAM5[Resource::*]"] = "Describing and listing have no resource-level permission."
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: submit and follow training jobs of SageMaker, of the settings' types and length",
            statements=statements,
        )
        cdk.Validations.of(self).acknowledge(
            *(cdk.Acknowledgment(id=finding, reason=reason) for finding, reason in reasons.items())
        )
        acknowledge_mirror_reading(self, checkpoints)


_NAMES: Final = "A training job is named by its run and submission, which are made when it is submitted."


def _protections(training: TrainingSettings) -> dict[str, dict[str, str]]:
    """Return conditions under which a job is as closed as the settings want it, whoever writes the request."""
    switches = {
        "sagemaker:InterContainerTrafficEncryption": training.encrypts_between_nodes,
        "sagemaker:NetworkIsolation": training.is_isolated,
    }
    wanted = {name: "true" for name, is_on in switches.items() if is_on}
    # Present is enough: the role can make interfaces in the environment's subnets only.
    network = {"Null": {"sagemaker:VpcSubnets": "false"}} if training.is_in_vpc else {}
    return {**({"Bool": wanted} if wanted else {}), **network}


def _follow(jobs: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="FollowTrainingJobs",
        # AddTags is checked for the tags with which a job is created.
        # Why a job was stopped is told by a tag alone.
        actions=[
            "sagemaker:AddTags",
            "sagemaker:DescribeTrainingJob",
            "sagemaker:ListTags",
            "sagemaker:StopTrainingJob",
        ],
        resources=[jobs],
    )


def _pass(role_arn: str) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid="PassTrainingRole",
        actions=["iam:PassRole"],
        resources=[role_arn],
        conditions={"StringEquals": {"iam:PassedToService": SERVICE}},
    )
