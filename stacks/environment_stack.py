"""What the stacks of an environment have in common."""

from typing import Any

import aws_cdk as cdk
from constructs import Construct

from stacks.settings import Environment


class EnvironmentStack(cdk.Stack):
    """A stack in the region of its environment, and as protected from deletion as the settings say."""

    def __init__(self, scope: Construct, id_: str, *, environment: Environment, **kwargs: Any) -> None:
        super().__init__(
            scope,
            id_,
            env=cdk.Environment(region=environment.region),
            termination_protection=environment.is_protected,
            **kwargs,
        )
