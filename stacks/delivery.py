"""Who may deploy without a person: a role for GitHub Actions, where the settings name its subject."""

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from stacks.constructs.deploy_role import DeployRole
from stacks.environment_stack import EnvironmentStack
from stacks.settings import Environment


class DeliveryStack(EnvironmentStack):
    """The deploy role alone, so that a deployment that it makes never has to change the role it runs with."""

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, subject: str, **kwargs: Any) -> None:
        super().__init__(scope, id_, environment=environment, **kwargs)
        role = DeployRole(self, "DeployRole", subject=subject)
        cdk.CfnOutput(self, "DeployRoleArn", value=role.role_arn, description="role-to-assume of the workflow")
