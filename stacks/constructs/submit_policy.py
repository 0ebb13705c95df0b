"""What people's roles are given so that nobody spends around the reservation."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.constructs.nag_finding import wildcard_finding


class SubmitPolicy(iam.ManagedPolicy):
    """Submit jobs to spot queues, and never to an on-demand queue: only the control plane may, which reserves first.

    Attach it to the roles of people and pipelines that call `spotkeeper submit`. The denial holds whatever else such a
    role allows; a role without this policy that has `batch:SubmitJob` on everything can spend past every cap.
    """

    def __init__(
        self, scope: Construct, id_: str, *, spot_queue_arns: list[str], on_demand_queue_arns: list[str]
    ) -> None:
        stack = cdk.Stack.of(scope)
        definitions = stack.format_arn(service="batch", resource="job-definition", resource_name="*")
        jobs = stack.format_arn(service="batch", resource="job", resource_name="*")
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: submit jobs to spot queues, and to no on-demand queue",
            statements=[
                iam.PolicyStatement(
                    sid="SubmitToSpot", actions=["batch:SubmitJob"], resources=[*spot_queue_arns, definitions]
                ),
                # Checked for the tags that a job is submitted with.
                iam.PolicyStatement(sid="TagJobs", actions=["batch:TagResource"], resources=[jobs]),
                iam.PolicyStatement(
                    sid="NeverToOnDemand",
                    effect=iam.Effect.DENY,
                    actions=["batch:SubmitJob"],
                    resources=on_demand_queue_arns,
                ),
            ],
        )
        cdk.Validations.of(self).acknowledge(
            *(
                cdk.Acknowledgment(id=wildcard_finding(arn), reason=reason)
                for arn, reason in (
                    (definitions, "Users' own definitions have names of their own, and every change makes a revision."),
                    (jobs, "A job's id is made by AWS Batch when it is submitted."),
                )
            )
        )
