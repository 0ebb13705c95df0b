"""Whom a role of ours lets a service act for."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam


def own_account(service: str) -> iam.ServicePrincipal:
    """Return the service, trusted on behalf of this account alone: nobody else can have it use our roles.

    For services that say whom they act for, as ECS tasks and Lambda functions do:
    docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html. EC2 does not, for instance profiles.
    """
    return iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}})
