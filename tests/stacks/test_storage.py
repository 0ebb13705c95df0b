from collections.abc import Callable

import pytest

from tests.stacks.synthesized import Assembly


def test_logical_ids_of_stateful_resources_never_change(any_environment: Assembly) -> None:
    # Another id is a new, empty resource: a run would start again at step 0. Never edit these two lines.
    assert list(any_environment.resources("storage", "AWS::S3::Bucket")) == ["Checkpoints620E2F20"]
    assert list(any_environment.resources("storage", "AWS::DynamoDB::Table")) == ["LedgerB7379752"]


def test_bucket_and_ledger_outlive_their_stack(any_environment: Assembly) -> None:
    for type_ in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):
        for resource in any_environment.resources("storage", type_).values():
            assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_checkpoint_bucket_is_private_versioned_and_tidy(dev: Assembly) -> None:
    bucket = dev.one("storage", "AWS::S3::Bucket")
    del bucket["Tags"]

    assert bucket == {
        "VersioningConfiguration": {"Status": "Enabled"},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
        "LifecycleConfiguration": {
            "Rules": [
                {
                    "Id": "leftovers",
                    "Status": "Enabled",
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    "ExpiredObjectDeleteMarker": True,
                },
                *(
                    {
                        "Id": prefix,
                        "Status": "Enabled",
                        "Prefix": f"{prefix}/",
                        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
                    }
                    for prefix, days in (("data", 1), ("mirror", 1), ("commit", 30), ("epoch", 30), ("source", 30))
                ),
            ]
        },
    }


def test_no_current_checkpoint_ever_expires(any_environment: Assembly) -> None:
    rules = any_environment.one("storage", "AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]

    assert not [rule for rule in rules if {"ExpirationInDays", "ExpirationDate", "Transitions"} & rule.keys()]


def test_the_bucket_refuses_old_tls_and_overwritten_commits(dev: Assembly) -> None:
    statements = dev.one("storage", "AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    denied = [
        (statement["Action"], statement["Condition"], dev.resolved("storage", statement["Resource"]))
        for statement in statements
        if statement["Effect"] == "Deny" and statement["Principal"] == {"AWS": "*"}
    ]
    bucket = "arn:aws:service:us-east-1:123456789012:Checkpoints620E2F20.Arn"

    assert denied == [
        ("s3:*", {"Bool": {"aws:SecureTransport": "false"}}, [bucket, f"{bucket}/*"]),
        ("s3:*", {"NumericLessThan": {"s3:TlsVersion": 1.2}}, [bucket, f"{bucket}/*"]),
        (
            "s3:PutObject",
            {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}},
            f"{bucket}/commit/*",
        ),
    ]
    assert len(statements) == len(denied)


@pytest.mark.parametrize(("environment", "protected"), [("dev", False), ("staging", True), ("prod", True)])
def test_the_ledger_has_the_contract_keys_recovery_and_protection_by_setting(
    environment: str, protected: bool, synthesize: Callable[[str], Assembly]
) -> None:
    table = synthesize(environment).one("storage", "AWS::DynamoDB::Table")
    del table["Tags"]

    assert table == {
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "listing", "created_at")
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "listing",
                "KeySchema": [
                    {"AttributeName": "listing", "KeyType": "HASH"},
                    {"AttributeName": "created_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
        "DeletionProtectionEnabled": protected,
    }
