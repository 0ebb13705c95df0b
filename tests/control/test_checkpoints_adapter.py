from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from spotkeeper.contract.checkpoint_layout import manifest_key
from spotkeeper.control.aws.checkpoints import S3Checkpoints

REGION = "us-east-1"


@pytest.fixture
def checkpoints() -> Iterator[S3Checkpoints]:
    with mock_aws():
        client = boto3.client("s3", region_name=REGION)
        client.create_bucket(Bucket="checkpoints")
        yield S3Checkpoints(client, "s3://checkpoints")


def commit(run_id: str, epoch: int, step: int) -> None:
    key = manifest_key(run_id, epoch, step)
    boto3.client("s3", region_name=REGION).put_object(Bucket="checkpoints", Key=key, Body=b"{}")


def test_a_run_without_checkpoints_has_no_step(checkpoints: S3Checkpoints) -> None:
    commit("digits-7fq2-x", 1, 5)  # another run's, whose name begins alike

    assert checkpoints.newest_step("digits-7fq2") is None


def test_the_newest_epochs_last_step_counts_though_a_damaged_one_was_later(checkpoints: S3Checkpoints) -> None:
    for epoch, step in ((1, 100), (1, 900), (2, 300), (2, 200)):
        commit("digits-7fq2", epoch, step)

    assert checkpoints.newest_step("digits-7fq2") == 300


def test_more_manifests_than_a_page_holds_are_all_read(checkpoints: S3Checkpoints) -> None:
    for step in range(1, 1003):
        commit("digits-7fq2", 1, step)

    assert checkpoints.newest_step("digits-7fq2") == 1002


def test_what_is_no_manifest_is_passed_over(checkpoints: S3Checkpoints) -> None:
    client = boto3.client("s3", region_name=REGION)
    client.put_object(Bucket="checkpoints", Key="commit/digits-7fq2/notes.txt", Body=b"")

    assert checkpoints.newest_step("digits-7fq2") is None
