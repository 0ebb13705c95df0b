"""Exceptions from cfn-lint, each on one resource, with the reason in a comment where it is made."""

from typing import cast

import aws_cdk as cdk
from constructs import IConstruct


def accept_lint(construct: IConstruct, *rules: str) -> None:
    """Tell cfn-lint that the resource of a construct breaks these rules on purpose."""
    resource = cast("cdk.CfnResource", construct.node.default_child)
    resource.add_metadata("cfn-lint", {"config": {"ignore_checks": list(rules)}})
