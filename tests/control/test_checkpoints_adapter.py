from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest

from spotkeeper.contract.checkpoint_layout import manifest_key
from spotkeeper.control.aws.checkpoints import S3Checkpoints
from tests.control.mocked_aws import REGION, mocked_aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def s3() -> Iterator["S3Client"]:
    with mocked_aws():
        client = boto3.client("s3", region_name=REGION)
        client.create_bucket(Bucket="checkpoints")
        yield client


@pytest.fixture
def checkpoints(s3: "S3Client") -> S3Checkpoints:
    return S3Checkpoints(s3, "s3://checkpoints")


def commit(s3: "S3Client", run_id: str, epoch: int, step: int) -> None:
    s3.put_object(Bucket="checkpoints", Key=manifest_key(run_id, epoch, step), Body=b"{}")


def test_a_run_without_checkpoints_has_no_step(s3: "S3Client", checkpoints: S3Checkpoints) -> None:
    commit(s3, "digits-7fq2-x", 1, 5)  # another run's, whose name begins alike

    assert checkpoints.newest_step("digits-7fq2") is None


def test_the_newest_epochs_last_step_counts_though_a_damaged_one_was_later(
    s3: "S3Client", checkpoints: S3Checkpoints
) -> None:
    for epoch, step in ((1, 100), (1, 900), (2, 300), (2, 200)):
        commit(s3, "digits-7fq2", epoch, step)

    assert checkpoints.newest_step("digits-7fq2") == 300


def test_more_manifests_than_a_page_holds_are_all_read(s3: "S3Client", checkpoints: S3Checkpoints) -> None:
    for step in range(1, 1003):
        commit(s3, "digits-7fq2", 1, step)

    assert checkpoints.newest_step("digits-7fq2") == 1002


def test_what_is_no_manifest_is_passed_over(s3: "S3Client", checkpoints: S3Checkpoints) -> None:
    s3.put_object(Bucket="checkpoints", Key="commit/digits-7fq2/notes.txt", Body=b"")

    assert checkpoints.newest_step("digits-7fq2") is None
