import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from spotkeeper.contract.checkpoint_layout import completion_key, manifest_key, mirror_prefix
from spotkeeper.control.aws.mirrors import MOST_LOOKED_AT, S3Mirrors
from spotkeeper.control.condition import Commit

REGION = "us-east-1"
RUN = "digits-7fq2"
MADE_AT = "2026-11-26T18:00:00.000+00:00"


@pytest.fixture
def mirrors() -> Iterator[S3Mirrors]:
    with mock_aws():
        client = boto3.client("s3", region_name=REGION)
        client.create_bucket(Bucket="checkpoints")
        yield S3Mirrors(client, "s3://checkpoints")


def bring(key: str, body: bytes, run_id: str = RUN) -> None:
    boto3.client("s3", region_name=REGION).put_object(Bucket="checkpoints", Key=mirror_prefix(run_id) + key, Body=body)


def data_key(step: int) -> str:
    return f"data/{RUN}/e000001-s{step:012d}-abc/r0.safetensors"


def bring_manifest(step: int, *, epoch: int = 1, **changes: Any) -> None:
    manifest = {"created_at": MADE_AT, "objects": [{"key": data_key(step), "bytes": 4}], **changes}
    bring(manifest_key(RUN, epoch, step), json.dumps(manifest).encode())


def test_of_a_run_of_which_nothing_has_arrived_nothing_is_told(mirrors: S3Mirrors) -> None:
    assert mirrors.newest_whole(RUN) is None
    assert mirrors.completion(RUN) is None


def test_the_newest_whole_checkpoint_counts_and_is_as_old_as_it_was_made(mirrors: S3Mirrors) -> None:
    for step in (1, 2):
        bring_manifest(step)
        bring(data_key(step), b"1234")
    bring_manifest(1, epoch=2, objects=[{"key": data_key(2), "bytes": 4}])

    assert mirrors.newest_whole(RUN) == Commit(epoch=2, step=1, at=MADE_AT)


@pytest.mark.parametrize("body", [None, b"12"], ids=["missing", "cut"])
def test_a_manifest_whose_object_has_not_arrived_whole_is_passed_over(mirrors: S3Mirrors, body: bytes | None) -> None:
    bring_manifest(1)
    bring(data_key(1), b"1234")
    bring_manifest(2)
    if body is not None:
        bring(data_key(2), body)

    assert mirrors.newest_whole(RUN) == Commit(epoch=1, step=1, at=MADE_AT)


def test_one_of_several_objects_that_is_missing_keeps_a_checkpoint_from_being_whole(mirrors: S3Mirrors) -> None:
    both = [{"key": data_key(step), "bytes": 4} for step in (1, 2)]
    bring_manifest(2, objects=both)
    bring(data_key(2), b"1234")
    assert mirrors.newest_whole(RUN) is None

    bring(data_key(1), b"1234")
    assert mirrors.newest_whole(RUN) == Commit(epoch=1, step=2, at=MADE_AT)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"objects": 7}', b'{"objects": [{"key": 7}]}', b'{"objects": [], "created_at": "x"}'],
)
def test_a_manifest_that_says_nonsense_is_passed_over(mirrors: S3Mirrors, body: bytes) -> None:
    bring_manifest(1)
    bring(data_key(1), b"1234")
    bring(manifest_key(RUN, 1, 2), body)

    newest = mirrors.newest_whole(RUN)

    assert newest is not None
    assert newest.step == 1


def test_leftovers_objects_without_manifest_and_other_runs_are_no_checkpoints(mirrors: S3Mirrors) -> None:
    bring(f"{manifest_key(RUN, 1, 1)}.sagemaker-uploading", b"{}")
    bring(data_key(1), b"1234")
    bring(manifest_key("digits-7fq2-x", 1, 1), b'{"objects": [], "created_at": "' + MADE_AT.encode() + b'"}')

    assert mirrors.newest_whole(RUN) is None


def test_one_look_opens_a_bounded_number_of_manifests(mirrors: S3Mirrors) -> None:
    bring_manifest(1)
    bring(data_key(1), b"1234")
    for step in range(2, MOST_LOOKED_AT + 2):
        bring_manifest(step)

    assert mirrors.newest_whole(RUN) is None


def record(**changes: Any) -> bytes:
    return json.dumps({"run_id": RUN, "step": 16, "completed_at": MADE_AT, **changes}).encode()


def test_a_completion_record_is_read_once_it_has_arrived(mirrors: S3Mirrors) -> None:
    bring(completion_key(RUN), record())

    assert mirrors.completion(RUN) == {"run_id": RUN, "step": 16, "completed_at": MADE_AT}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", record(run_id="other"), record(step="16"), record(completed_at="yesterday")],
)
def test_what_is_no_completion_record_of_the_run_proves_nothing(mirrors: S3Mirrors, body: bytes) -> None:
    bring(completion_key(RUN), body)

    assert mirrors.completion(RUN) is None
