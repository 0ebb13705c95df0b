"""How cdk-nag names what it finds, for acknowledgements that name exactly one finding."""

import aws_cdk as cdk


def wildcard_finding(arn: str) -> str:
    """Return the id of the finding that a policy allows something on an ARN with a wildcard."""
    named = arn.replace(cdk.Aws.ACCOUNT_ID, "<AWS::AccountId>").replace(cdk.Aws.PARTITION, "<AWS::Partition>")
    return f"AwsSolutions-IAM5[Resource::{named}]"
