"""The key of the environment's own under which checkpoints and ledger are encrypted."""

from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

_SERVICES: Final = ("s3", "dynamodb")


class StorageKey(kms.Key):
    """Whoever may use the bucket or the table may use this key through them, and only through them.

    The policy is that of AWS's own keys, `aws/s3` and `aws/dynamodb`: roles need no permission on the key, so switching
    it on or off never leaves a running job, deployed with the roles of before, unable to save or to resume. What a key
    of one's own adds is a record of each use in CloudTrail, rotation, and the power to shut everything by disabling it.

    It is retained: without it, nothing that was encrypted under it can be read again.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(
            scope,
            id_,
            description="Spotkeeper: checkpoints and ledger",
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        region = cdk.Stack.of(self).region
        self.add_to_resource_policy(
            iam.PolicyStatement(
                sid="ThroughStorageOnly",
                principals=[iam.AnyPrincipal()],
                # docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html; S3 needs a part.
                actions=[
                    "kms:CreateGrant",
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={
                    "StringEquals": {
                        "kms:CallerAccount": cdk.Aws.ACCOUNT_ID,
                        "kms:ViaService": [f"{service}.{region}.amazonaws.com" for service in _SERVICES],
                    }
                },
            )
        )
