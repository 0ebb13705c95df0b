"""How long a text will be, before anybody knows the names in it."""

import json

import aws_cdk as cdk
from constructs import IConstruct

_MOST_AROUND_AN_ID = 80


def most_characters(scope: IConstruct, text: str) -> int:
    """Return how many characters a text may have once CloudFormation has replaced the references in it.

    A reference becomes a name or an ARN: the logical id, and around it what CloudFormation and AWS Batch generate.
    Of those here `arn:aws-us-gov:batch:us-gov-west-1:123456789012:job-definition/<id>-<16 characters>:99999` is the
    longest: 86 characters. The reference itself as JSON, `{"Ref": "<id>"}`, counts for 11 of them.
    """
    resolved = cdk.Stack.of(scope).resolve(text)
    parts = resolved["Fn::Join"][1] if isinstance(resolved, dict) else [resolved]
    return sum(len(part) if isinstance(part, str) else len(json.dumps(part)) + _MOST_AROUND_AN_ID for part in parts)
