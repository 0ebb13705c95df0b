"""References to another stack that do not tie it down."""

import aws_cdk as cdk


def weak(value: str) -> str:
    """Refer without an export, which would keep what is referred to from ever being removed.

    The price: CloudFormation reads the value only while it updates the stack that refers to it, and CDK skips a stack
    whose template is unchanged. What is replaced under its old logical id goes unwatched until that stack is deployed
    with a change.
    """
    reference: str = cdk.Stack.consume_reference(value, cdk.ReferenceStrength.WEAK)
    return reference
