"""What the stacks of an environment have in common."""

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.settings import Environment


class EnvironmentStack(cdk.Stack):
    """A stack in the region of its environment, protected from deletion and its roles bounded as the settings say."""

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, **kwargs: Any) -> None:
        super().__init__(
            scope,
            id_,
            env=cdk.Environment(region=environment.region),
            termination_protection=environment.is_protected,
            **kwargs,
        )
        if environment.permissions_boundary_arn is not None:
            boundary = iam.ManagedPolicy.from_managed_policy_arn(
                self, "PermissionsBoundary", environment.permissions_boundary_arn
            )
            # An aspect: it finds every role of the stack, those that a construct makes by itself too.
            iam.PermissionsBoundary.of(self).apply(boundary)
