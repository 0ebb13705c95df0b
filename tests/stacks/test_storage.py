from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import assertions

from stacks.environments import DEV
from stacks.storage import StorageStack
from tests.stacks.replacement import lost
from tests.stacks.synthesized import Assembly, Template


def storage_of(**settings: Any) -> Template:
    stack = StorageStack(cdk.App(), "storage", environment=replace(DEV, **settings))
    template: Template = dict(assertions.Template.from_stack(stack).to_json())
    return template


def test_logical_ids_of_stateful_resources_never_change(any_environment: Assembly) -> None:
    # Another id is a new, empty resource: a run would start again at step 0. Never edit these lines.
    assert list(any_environment.resources("storage", "AWS::S3::Bucket")) == ["Checkpoints620E2F20"]
    assert list(any_environment.resources("storage", "AWS::DynamoDB::Table")) == ["LedgerB7379752"]
    assert list(any_environment.resources("storage", "AWS::ECR::Repository")) == ["Images2D38C313"]


def test_bucket_ledger_images_and_key_outlive_their_stack(any_environment: Assembly) -> None:
    for type_ in ("AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::ECR::Repository", "AWS::KMS::Key"):
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


def test_the_bucket_refuses_old_tls_and_overwritten_commits_epochs_and_sources(dev: Assembly) -> None:
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
            [f"{bucket}/commit/*", f"{bucket}/epoch/*", f"{bucket}/source/*"],
        ),
    ]
    assert len(statements) == len(denied)


@pytest.mark.parametrize(("environment", "protected"), [("dev", False), ("staging", True), ("prod", True)])
def test_the_ledger_has_the_contract_keys_recovery_and_protection_by_setting(
    environment: str, protected: bool, synthesize: Callable[[str], Assembly]
) -> None:
    table = synthesize(environment).one("storage", "AWS::DynamoDB::Table")
    del table["Tags"]
    table.pop("SSESpecification", None)

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


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_an_own_key_encrypts_bucket_and_ledger_and_is_rotated(
    environment: str, synthesize: Callable[[str], Assembly]
) -> None:
    assembly = synthesize(environment)
    (key,) = assembly.resources("storage", "AWS::KMS::Key")
    arn = {"Fn::GetAtt": [key, "Arn"]}
    (rule,) = assembly.one("storage", "AWS::S3::Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}
    assert rule["BucketKeyEnabled"] is True
    assert assembly.one("storage", "AWS::DynamoDB::Table")["SSESpecification"] == {
        "SSEEnabled": True,
        "SSEType": "KMS",
        "KMSMasterKeyId": arn,
    }
    assert assembly.one("storage", "AWS::KMS::Key")["EnableKeyRotation"] is True


def test_without_an_own_key_there_is_none_to_pay_for(dev: Assembly) -> None:
    assert not dev.resources("storage", "AWS::KMS::Key")


@pytest.mark.parametrize(
    "change",
    [
        {"has_own_key": True},
        {"is_protected": True},
        {"has_own_key": True, "is_protected": True, "name": "renamed", "teams": ("other",)},
    ],
)
def test_no_setting_replaces_bucket_or_ledger(change: dict[str, Any]) -> None:
    before, after = storage_of(), storage_of(**change)

    assert before != after
    assert lost(before, after) == {}


def test_when_the_own_key_is_given_up_only_cloudformation_forgets_it() -> None:
    before, after = storage_of(has_own_key=True), storage_of()

    (key,) = lost(before, after)
    assert before["Resources"][key]["Type"] == "AWS::KMS::Key"
    assert before["Resources"][key]["DeletionPolicy"] == "Retain"
