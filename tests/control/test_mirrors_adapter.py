import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from spotkeeper.contract.checkpoint_layout import completion_key, manifest_key, mirror_prefix
from spotkeeper.control.aws.mirrors import MOST_LOOKED_AT, PAGE, S3Mirrors
from spotkeeper.control.condition import Commit
from tests.control.mocked_aws import REGION, mocked_aws

RUN = "digits-7fq2"
MADE_AT = "2026-11-26T18:00:00.000+00:00"


@pytest.fixture
def mirrors() -> Iterator[S3Mirrors]:
    with mocked_aws():
        client = boto3.client("s3", region_name=REGION)
        client.create_bucket(Bucket="checkpoints")
        yield S3Mirrors(client, "s3://checkpoints")


def bring(key: str, body: bytes, run_id: str = RUN) -> None:
    boto3.client("s3", region_name=REGION).put_object(Bucket="checkpoints", Key=mirror_prefix(run_id) + key, Body=body)


def data_key(step: int, epoch: int = 1) -> str:
    return f"data/{RUN}/e{epoch:06d}-s{step:012d}-abc/r0.safetensors"


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


NUM_SAVES = 150
ALL_SAVES = [{"key": data_key(step), "bytes": 4} for step in range(1, NUM_SAVES + 1)]


def bring_data(*steps: int) -> None:
    stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # hundreds of requests would take a while
    for step in steps:
        stored.put_object("checkpoints", mirror_prefix(RUN) + data_key(step), b"1234")


def test_a_checkpoint_whose_files_are_of_more_than_a_hundred_saves_counts_once_all_of_them_have_arrived(
    mirrors: S3Mirrors,
) -> None:
    bring_manifest(NUM_SAVES, objects=ALL_SAVES)
    bring_data(*range(1, NUM_SAVES))
    assert mirrors.newest_whole(RUN) is None

    bring_data(NUM_SAVES)
    assert mirrors.newest_whole(RUN) == Commit(epoch=1, step=NUM_SAVES, at=MADE_AT)


def test_one_look_lists_no_folder_twice_and_many_folders_at_once() -> None:
    with mocked_aws():
        client = boto3.client("s3", region_name=REGION)
        client.create_bucket(Bucket="checkpoints")
        for step in (2, 3, NUM_SAVES, NUM_SAVES + 1):
            bring_manifest(step, objects=ALL_SAVES[:step])
        bring_data(1)
        lists: list[str] = []
        client.meta.events.register(
            "before-parameter-build.s3.ListObjectsV2", lambda params, **_: lists.append(params["Prefix"])
        )

        assert S3Mirrors(client, "s3://checkpoints").newest_whole(RUN) is None

    folders = [data_key(step).removesuffix("r0.safetensors") for step in (1, 2, 3)]
    assert lists == [mirror_prefix(RUN) + part for part in (f"commit/{RUN}/", f"data/{RUN}/", *folders)]


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


@pytest.mark.parametrize("lacks", ["manifest", "data", "the end of its data"])
def test_a_completion_record_proves_nothing_before_its_last_checkpoint_has_arrived_whole(
    mirrors: S3Mirrors, lacks: str
) -> None:
    bring_checkpoint(12)
    bring(completion_key(RUN), record(manifest=manifest_key(RUN, 1, 16)))
    if lacks != "manifest":
        bring_manifest(16, objects=[{"key": data_key(16), "bytes": 4}])
    if lacks == "the end of its data":
        bring(data_key(16), b"12")
    assert mirrors.completion(RUN) is None

    bring_checkpoint(16)

    assert mirrors.completion(RUN) == {"run_id": RUN, "step": 16, "completed_at": MADE_AT}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"record"',
        record(run_id="other"),
        record(manifest=7),
        record(step="16"),
        record(completed_at="yesterday"),
    ],
)
def test_what_is_no_completion_record_of_the_run_proves_nothing(mirrors: S3Mirrors, body: bytes) -> None:
    bring(completion_key(RUN), body)

    assert mirrors.completion(RUN) is None


def bring_checkpoint(step: int, *, epoch: int = 1, **changes: Any) -> None:
    bring_manifest(step, epoch=epoch, objects=[{"key": data_key(step, epoch), "bytes": 4}], **changes)
    bring(data_key(step, epoch), b"1234")


def let_go(mirrors: S3Mirrors, keep: int = 2) -> None:
    for page in mirrors.outlived(RUN, keep=keep):
        assert mirrors.delete(RUN, page) == {}


def keys(prefix: str = "") -> list[str]:
    listed = boto3.client("s3", region_name=REGION).get_paginator("list_objects_v2")
    pages = listed.paginate(Bucket="checkpoints", Prefix=prefix)
    return [stored["Key"] for page in pages for stored in page.get("Contents", [])]


def checkpoint_keys(*steps: int) -> set[str]:
    return {mirror_prefix(RUN) + key for step in steps for key in (manifest_key(RUN, 1, step), data_key(step))}


def test_the_newest_whole_checkpoints_stay_and_older_ones_go_with_all_that_they_have(mirrors: S3Mirrors) -> None:
    for step in (1, 2, 3, 4):
        bring_checkpoint(step)

    let_go(mirrors)

    assert set(keys()) == checkpoint_keys(3, 4)


def test_what_did_not_arrive_whole_is_not_counted_and_stays_as_long_as_it_is_newer(mirrors: S3Mirrors) -> None:
    for step in (1, 2, 3, 4, 5, 6):
        bring_checkpoint(step)
    for late in (1, 4, 6):
        bring(data_key(late), b"12")

    let_go(mirrors)

    assert set(keys()) == checkpoint_keys(3, 4, 5, 6)


@pytest.mark.parametrize("num_whole", [0, 1])
def test_with_fewer_whole_checkpoints_than_are_kept_nothing_goes(mirrors: S3Mirrors, num_whole: int) -> None:
    for step in (1, 2, 3):
        bring_manifest(step)
    for step in range(1, num_whole + 1):
        bring(data_key(step), b"1234")

    assert list(mirrors.outlived(RUN, keep=2)) == []


def test_all_that_is_no_old_checkpoint_stays(mirrors: S3Mirrors) -> None:
    for step in (1, 2, 3):
        bring_checkpoint(step)
    bring(data_key(4), b"its manifest has not arrived")
    others = [completion_key(RUN), f"epoch/{RUN}/000001", f"data/{RUN}/notes.txt", "data/somebody.txt", "model.pt"]
    for key in others:
        bring(key, b"{}")
    bring(data_key(1), b"1234", run_id=f"{RUN}.output")
    bring(manifest_key(RUN, 1, 1), b"{}", run_id="digits-7fq2-x")
    before = set(keys())

    let_go(mirrors)

    assert before - set(keys()) == checkpoint_keys(1)


def test_what_an_old_save_left_goes_though_no_manifest_names_it(mirrors: S3Mirrors) -> None:
    for step in (2, 3):
        bring_checkpoint(step)
    left = [data_key(1), f"{data_key(1)}.sagemaker-uploading", f"{data_key(1)}.a1b2c3d4.partial"]
    for key in left:
        bring(key, b"12")

    let_go(mirrors)

    assert set(keys()) == checkpoint_keys(2, 3)


def test_a_file_that_a_newer_checkpoint_of_a_folder_shares_stays(mirrors: S3Mirrors) -> None:
    for step in (1, 2):
        bring_checkpoint(step)
    for step in (3, 4):
        bring_manifest(step, objects=[{"key": data_key(key), "bytes": 4} for key in (1, step)])
        bring(data_key(step), b"1234")

    let_go(mirrors)

    assert set(keys()) == checkpoint_keys(3, 4) | {mirror_prefix(RUN) + data_key(1)}


def test_files_that_a_hundred_saves_share_do_not_keep_older_checkpoints_from_going(mirrors: S3Mirrors) -> None:
    bring_data(*range(1, NUM_SAVES + 1))
    for step in (NUM_SAVES - 2, NUM_SAVES - 1, NUM_SAVES):
        bring_manifest(step, objects=[stored for stored in ALL_SAVES[:step] if stored["key"] != data_key(7)])

    let_go(mirrors)

    gone = {manifest_key(RUN, 1, NUM_SAVES - 2), data_key(7)}
    assert not {mirror_prefix(RUN) + key for key in gone} & set(keys())
    assert len(keys()) == NUM_SAVES - 1 + 2


def test_where_nobody_knows_what_a_checkpoint_that_stays_needs_nothing_goes(mirrors: S3Mirrors) -> None:
    for step in (1, 2, 3):
        bring_checkpoint(step)
    bring(manifest_key(RUN, 1, 4), b'{"objects": ')

    assert list(mirrors.outlived(RUN, keep=2)) == []


def test_manifests_go_before_data_and_never_with_it_so_what_is_cut_off_between_is_found_again(
    mirrors: S3Mirrors,
) -> None:
    for step in (1, 2, 3, 4):
        bring_checkpoint(step)
    first, second = mirrors.outlived(RUN, keep=2)
    assert set(first) == {manifest_key(RUN, 1, step) for step in (1, 2)}
    assert set(second) == {data_key(step) for step in (1, 2)}

    mirrors.delete(RUN, first)

    assert list(mirrors.outlived(RUN, keep=2)) == [second]


def test_more_objects_than_one_call_takes_go_in_several(mirrors: S3Mirrors) -> None:
    for step in (2, 3):
        bring_checkpoint(step)
    stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # a thousand requests would take a while
    for number in range(PAGE + 1):
        key = f"{mirror_prefix(RUN)}data/{RUN}/e000001-s{1:012d}-abc/f{number:06d}"
        stored.put_object("checkpoints", key, b"")

    assert [len(page) for page in mirrors.outlived(RUN, keep=2)] == [PAGE, 1]
    let_go(mirrors)

    assert set(keys()) == checkpoint_keys(2, 3)


def test_a_deletion_leaves_the_versions_to_the_buckets_lifecycle(mirrors: S3Mirrors) -> None:
    client = boto3.client("s3", region_name=REGION)
    client.put_bucket_versioning(Bucket="checkpoints", VersioningConfiguration={"Status": "Enabled"})
    bring_checkpoint(1)

    mirrors.delete(RUN, [data_key(1)])

    told = client.list_object_versions(Bucket="checkpoints", Prefix=mirror_prefix(RUN) + data_key(1))
    assert (len(told["Versions"]), len(told["DeleteMarkers"])) == (1, 1)


def test_what_s3_refuses_in_a_reply_of_200_is_told_by_key() -> None:
    client = boto3.client("s3", region_name=REGION)
    asked = [data_key(1), data_key(2)]
    refused = {"Key": mirror_prefix(RUN) + data_key(2), "Code": "AccessDenied", "Message": "Access Denied"}
    with Stubber(client) as stubber:
        stubber.add_response(
            "delete_objects",
            {"Errors": [refused]},
            {
                "Bucket": "checkpoints",
                "Delete": {"Objects": [{"Key": mirror_prefix(RUN) + key} for key in asked], "Quiet": True},
            },
        )
        told = S3Mirrors(client, "s3://checkpoints").delete(RUN, asked)
        stubber.assert_no_pending_responses()

    assert told == {data_key(2): "AccessDenied: Access Denied"}
