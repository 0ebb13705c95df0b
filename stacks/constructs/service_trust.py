"""Whom a role of ours lets a service act for."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam


def any_account(service: str) -> iam.ServicePrincipal:
    """Return the service, trusted whomever it acts for.

    For Lambda: its guide documents no source for execution roles (aws:SourceArn "applies only to policies where your
    Lambda function is the target": docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html). A
    function could not be made if Lambda sent none, and a condition buys little: a role is given to a function by
    iam:PassRole, which reaches no role of another account.
    """
    return iam.ServicePrincipal(service)


def own_account(service: str) -> iam.ServicePrincipal:
    """Return the service, trusted on behalf of this account alone: nobody else can have it use our roles.

    Only for services that say whom they act for: of any other, the condition never holds and the role is unusable. ECS
    documents it for tasks (docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html), and for EC2's
    instance profiles nothing does. docs/live-checks.md says how to check.
    """
    return iam.ServicePrincipal(service, conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}})
