"""How cdk-nag names what it finds, for acknowledgements that name exactly one finding."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3


def wildcard_finding(arn: str) -> str:
    """Return the id of the finding that a policy allows something on an ARN with a wildcard."""
    named = arn.replace(cdk.Aws.ACCOUNT_ID, "<AWS::AccountId>").replace(cdk.Aws.PARTITION, "<AWS::Partition>")
    return f"AwsSolutions-IAM5[Resource::{named}]"


def objects_finding(bucket: s3.IBucket, keys: str) -> str:
    """Return the same id where the ARN is of objects, and their bucket of another stack.

    cdk-nag names such a bucket by the name under which that stack exports it.
    """
    exported: str = bucket.stack.resolve(bucket.stack.export_value(bucket.bucket_arn))["Fn::ImportValue"]
    return f"AwsSolutions-IAM5[Resource::{exported}/{keys}]"
