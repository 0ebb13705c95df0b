"""The role by which GitHub Actions deploys an environment, without a key that could be stolen."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

ISSUER: Final = "token.actions.githubusercontent.com"
AUDIENCE: Final = "sts.amazonaws.com"

BOOTSTRAP_ROLES: Final = ("deploy", "file-publishing", "lookup")
"""Roles of CDK's bootstrap stack that `cdk deploy` and `cdk diff` assume. Not image-publishing: no stack has images."""


class DeployRole(iam.Role):
    """One environment of one GitHub repository may assume it, and it may only assume CDK's bootstrap roles.

    Both conditions are exact: a token of another branch, repository, pull request or audience is refused. What a
    deployment may do is the bootstrap's to say, as it is for people who deploy.

    The identity provider is the account's, which has one for each issuer: it is made once, not by an environment.
    """

    def __init__(self, scope: Construct, id_: str, *, subject: str) -> None:
        stack = cdk.Stack.of(scope)
        provider = f"arn:{cdk.Aws.PARTITION}:iam::{cdk.Aws.ACCOUNT_ID}:oidc-provider/{ISSUER}"
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: GitHub Actions deploys this environment",
            assumed_by=iam.WebIdentityPrincipal(
                provider, conditions={"StringEquals": {f"{ISSUER}:aud": AUDIENCE, f"{ISSUER}:sub": subject}}
            ),
            max_session_duration=cdk.Duration.hours(1),
        )
        qualifier = cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER
        self.add_to_policy(
            iam.PolicyStatement(
                sid="DeployByBootstrapRoles",
                actions=["sts:AssumeRole"],
                resources=[
                    f"arn:{cdk.Aws.PARTITION}:iam::{cdk.Aws.ACCOUNT_ID}:role/"
                    f"cdk-{qualifier}-{name}-role-{cdk.Aws.ACCOUNT_ID}-{stack.region}"
                    for name in BOOTSTRAP_ROLES
                ],
            )
        )
