"""Whom a role of ours lets a service act for."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam


def own_account(service: str) -> iam.ServicePrincipal:
    """Return the service, trusted on behalf of this account alone: nobody else can have it use our roles.

    Only for services that say whom they act for: of any other, the condition never holds and the role is unusable. ECS
    documents it for tasks (docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html); of Lambda only
    AWS's samples show it, and of EC2's instance profiles nothing does. docs/live-checks.md says how to check.
    """
    return iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}})
