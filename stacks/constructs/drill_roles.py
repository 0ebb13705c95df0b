"""Who may interrupt hosts in a drill: the service, within its tags, and people, by these experiments alone."""

import aws_cdk as cdk
from aws_cdk import aws_fis as fis
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.nag_finding import wildcard_finding


class ExperimentRole(iam.Role):
    """What AWS FIS takes on for an experiment of this account: interrupt instances that carry the tags."""

    def __init__(self, scope: Construct, id_: str, *, target_tags: dict[str, str]) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: AWS FIS interrupts spot hosts that are tagged for drills",
            assumed_by=iam.ServicePrincipal(
                "fis.amazonaws.com",
                conditions={
                    "StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID},
                    "ArnLike": {
                        "aws:SourceArn": stack.format_arn(service="fis", resource="experiment", resource_name="*")
                    },
                },
            ),
        )
        instances = stack.format_arn(service="ec2", resource="instance", resource_name="*")
        self.add_to_policy(iam.PolicyStatement(sid="FindHosts", actions=["ec2:DescribeInstances"], resources=["*"]))
        self.add_to_policy(
            iam.PolicyStatement(
                sid="InterruptHostsForDrills",
                actions=["ec2:SendSpotInstanceInterruptions"],
                resources=[instances],
                conditions={"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in target_tags.items()}},
            )
        )
        cdk.Validations.of(self).acknowledge(
            *(
                cdk.Acknowledgment(id=id_, reason=reason)
                for id_, reason in (
                    (
                        "AwsSolutions-IAM5[Resource::*]",
                        "ec2:DescribeInstances, which only reads, has no resource-level permission in IAM.",
                    ),
                    (
                        wildcard_finding(instances),
                        "Hosts come and go; which of them may be interrupted the condition on their tags says.",
                    ),
                )
            )
        )


class DrillPolicy(iam.ManagedPolicy):
    """Start these experiments, watch and stop them. For who leads a drill, and for no role of the environment."""

    def __init__(self, scope: Construct, id_: str, *, templates: list[fis.CfnExperimentTemplate]) -> None:
        stack = cdk.Stack.of(scope)
        experiments = stack.format_arn(service="fis", resource="experiment", resource_name="*")
        of_ours = [
            stack.format_arn(service="fis", resource="experiment-template", resource_name=template.attr_id)
            for template in templates
        ]
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: start, watch and stop the drills of this environment",
            statements=[
                iam.PolicyStatement(
                    sid="StartDrills", actions=["fis:StartExperiment"], resources=[*of_ours, experiments]
                ),
                iam.PolicyStatement(
                    sid="WatchAndStopDrills",
                    actions=["fis:GetExperiment", "fis:StopExperiment"],
                    resources=[experiments],
                ),
            ],
        )
        cdk.Validations.of(self).acknowledge(
            cdk.Acknowledgment(
                id=wildcard_finding(experiments),
                reason="An experiment's id is made when it starts, and only these templates can be started.",
            )
        )
