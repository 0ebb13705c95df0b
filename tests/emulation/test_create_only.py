"""The bucket policy of the sample guards `commit/`: S3 refuses what moto would store."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.aws import Aws
from emulation.server import Server
from emulation.templates.assembly import Assembly
from emulation.templates.bucket_policy import create_only
from emulation.templates.deployment import CreateOnly, Resource, UnsupportedError
from emulation.templates.load import load


@pytest.fixture
def bucket(server: Server, aws: Aws, sample: Callable[..., Assembly]) -> str:
    server.deployment, _ = load(sample(), aws, environment="dev")
    return server.deployment.one("AWS::S3::Bucket").physical_id


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    with pytest.raises(ClientError) as refusal:
        call()
    return dict(refusal.value.response)


def test_a_write_below_the_prefix_needs_if_none_match(aws: Aws, bucket: str, server: Server) -> None:
    answer = refused(lambda: aws.s3.put_object(Bucket=bucket, Key="commit/run/1", Body=b"x"))

    assert answer["Error"]["Code"] == "AccessDenied"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert f's3:PutObject on resource: "arn:aws:s3:::{bucket}/commit/run/1"' in answer["Error"]["Message"]
    assert "Contents" not in aws.s3.list_objects_v2(Bucket=bucket)

    aws.s3.put_object(Bucket=bucket, Key="commit/run/1", Body=b"x", IfNoneMatch="*")
    again = refused(lambda: aws.s3.put_object(Bucket=bucket, Key="commit/run/1", Body=b"y", IfNoneMatch="*"))
    assert again["Error"]["Code"] == "PreconditionFailed"
    assert server.failures == ()


def test_other_keys_and_other_requests_are_left_alone(aws: Aws, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="data/run/1", Body=b"x")
    aws.s3.put_object(Bucket=bucket, Key="commitments", Body=b"x")
    aws.s3.put_object(Bucket=bucket, Key="commit/run/1", Body=b"x", IfNoneMatch="*")
    aws.s3.put_object_tagging(Bucket=bucket, Key="commit/run/1", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert aws.s3.get_object(Bucket=bucket, Key="commit/run/1")["Body"].read() == b"x"
    aws.s3.delete_object(Bucket=bucket, Key="commit/run/1")


def test_a_copy_below_the_prefix_is_a_write_too(aws: Aws, bucket: str) -> None:
    aws.s3.put_object(Bucket=bucket, Key="data/1", Body=b"x")
    source: Any = {"Bucket": bucket, "Key": "data/1"}
    answer = refused(lambda: aws.s3.copy_object(Bucket=bucket, Key="commit/1", CopySource=source))
    assert answer["Error"]["Code"] == "AccessDenied"


def test_parts_are_exempt_and_the_completion_is_not(aws: Aws, bucket: str) -> None:
    upload: dict[str, Any] = {"Bucket": bucket, "Key": "commit/large"}
    upload["UploadId"] = aws.s3.create_multipart_upload(**upload)["UploadId"]
    tag = aws.s3.upload_part(**upload, PartNumber=1, Body=b"x")["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": tag}]}

    answer = refused(lambda: aws.s3.complete_multipart_upload(**upload, MultipartUpload=parts))

    assert answer["Error"]["Code"] == "AccessDenied"
    aws.s3.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
    assert aws.s3.get_object(Bucket=bucket, Key="commit/large")["Body"].read() == b"x"


def policy(**statement: Any) -> Resource:
    given = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::b/commit/*"}
    document = {"Statement": [{**given, **statement}]}
    return Resource(
        stack="s",
        logical_id="Policy",
        type="AWS::S3::BucketPolicy",
        physical_id="",
        properties={"PolicyDocument": document},
    )


NOT_ONCE = {"s3:if-none-match": "true"}


def test_parts_are_guarded_too_where_the_statement_does_not_exempt_them() -> None:
    assert list(create_only(policy(Condition={"Null": NOT_ONCE}))) == [
        CreateOnly(bucket="b", key_prefix="commit/", exempts_parts=False)
    ]


@pytest.mark.parametrize(
    "statement",
    [
        {},
        {"Action": "s3:DeleteObject", "Condition": {"Null": NOT_ONCE}},
        {"Resource": "arn:aws:s3:::b/one", "Condition": {"Null": NOT_ONCE}},
        {"Condition": {"Null": NOT_ONCE, "StringEquals": {"aws:PrincipalArn": "x"}}},
        {"Condition": {"Null": NOT_ONCE, "Bool": {"s3:ObjectCreationOperation": "false"}}},
    ],
)
def test_a_denial_that_is_not_enforced_is_refused_when_it_is_loaded(statement: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="bucket policy Policy denies"):
        list(create_only(policy(**statement)))


@pytest.mark.parametrize(
    "condition", [{"Bool": {"aws:SecureTransport": "false"}}, {"NumericLessThan": {"s3:TlsVersion": 1.2}}]
)
def test_denials_of_transports_are_not_enforced(condition: dict[str, Any]) -> None:
    assert list(create_only(policy(Condition=condition))) == []
