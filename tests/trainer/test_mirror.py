"""Checkpoints in a folder that SageMaker mirrors: late, in no order, and perhaps no more."""

import io
import json
import os
import time
from contextlib import redirect_stdout
from pathlib import Path

import boto3
import pytest

from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.mirror_watch import MirrorWatch

RUN = "tiny"


def checkpoints(folder: Path, epoch: int | None = None) -> Checkpoints:
    return Checkpoints(LocalStore(folder), run_id=RUN, keep=3, epoch=epoch)


def save(run: Checkpoints, step: int) -> tuple[str, str]:
    """Make a checkpoint; return the keys of its manifest and its object."""
    stored = run.write_data(step=step, chunks=[memoryview(bytes([step]) * 100)], total_bytes=100)
    return run.commit(step=step, cause="periodic", stored=stored, state={}), stored["key"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as the next host finds it, with checkpoints of steps 1, 2 and 3."""
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("missing", ["object", "manifest", "half an object", "half a manifest"])
def test_the_newest_checkpoint_that_arrived_whole_is_resumed(folder: Path, missing: str) -> None:
    run = checkpoints(folder)
    _, (second, _), (third, data) = (save(run, step) for step in (1, 2, 3))
    late = folder / (data if "object" in missing else third)
    if missing.startswith("half"):
        late.write_bytes(late.read_bytes()[:50])
    else:
        late.unlink()

    resumed = checkpoints(folder)
    found = resumed.newest_valid()

    assert found is not None
    assert (found.key, found.manifest["step"]) == (second, 2)
    assert bytes(found.tensors) == bytes([2]) * 100
    assert resumed.epoch == 2


def test_what_was_on_its_way_is_no_checkpoint_and_no_epoch(folder: Path) -> None:
    run = checkpoints(folder)
    _, (second, data) = (save(run, step) for step in (1, 2))
    for key in (second, data, f"epoch/{RUN}/000001"):
        path = folder / key
        path.rename(path.with_name(path.name + ".sagemaker-uploading"))
    (folder / f"epoch/{RUN}/000009.sagemaker-uploading").write_bytes(b"{")

    resumed = checkpoints(folder)
    found = resumed.newest_valid()

    assert found is not None
    assert found.manifest["step"] == 1
    assert resumed.epoch == 2  # the manifests tell of epoch 1 by themselves


def test_an_epoch_of_which_nothing_arrived_may_be_used_again(folder: Path) -> None:
    save(checkpoints(folder), 1)
    second = checkpoints(folder)
    assert second.epoch == 2
    (folder / f"epoch/{RUN}/000002").unlink()

    third = checkpoints(folder)
    key, _ = save(third, 2)

    assert third.epoch == 2
    found = checkpoints(folder).newest_valid()
    assert found is not None
    assert found.key == key


def test_what_one_attempt_let_go_and_the_mirror_kept_does_not_come_before_what_is_newer(folder: Path) -> None:
    run = checkpoints(folder)
    kept = {path: path.read_bytes() for key in save(run, 1) for path in [folder / key]}
    newest = [save(run, step)[0] for step in (2, 3, 4)][-1]
    assert not any(path.exists() for path in kept)
    for path, body in kept.items():  # SageMaker copies all of S3 back
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    resumed = checkpoints(folder)
    found = resumed.newest_valid()
    assert found is not None
    assert found.key == newest
    save(resumed, 5)
    assert not any(path.exists() for path in kept)


class Mirrored:
    """A folder, its bucket, and the mirror between them, which is the test itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.s3 = boto3.client("s3")
        self.bucket = f"mirror-{time.time_ns()}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.watch = MirrorWatch(
            folder,
            f"s3://{self.bucket}/mirror/{RUN}",
            run_id=RUN,
            log=EventLog(RUN, 1),
            environment="dev",
            patience_seconds=1,
        )

    def copy(self, key: str, *, size: int | None = None) -> None:
        body = (self.folder / key).read_bytes()[:size]
        self.s3.put_object(Bucket=self.bucket, Key=f"mirror/{RUN}/{key}", Body=body)


@pytest.fixture
def mirrored(folder: Path, aws: dict[str, str]) -> Mirrored:
    assert aws
    return Mirrored(folder)


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_checkpoint_is_late_until_its_manifest_and_its_whole_object_are_in_s3(mirrored: Mirrored) -> None:
    assert mirrored.watch.look() == 0
    manifest, data = save(checkpoints(mirrored.folder), 1)
    age(mirrored.folder / manifest, 100)

    mirrored.copy(manifest)
    assert mirrored.watch.look() == pytest.approx(100, abs=30)
    mirrored.copy(data, size=50)
    assert mirrored.watch.look() == pytest.approx(100, abs=30)
    mirrored.copy(data)
    assert mirrored.watch.look() == 0


def test_a_mirror_that_stops_and_goes_on_is_told_of_once_each_and_its_delay_is_a_metric(mirrored: Mirrored) -> None:
    manifest, data = save(checkpoints(mirrored.folder), 1)
    age(mirrored.folder / manifest, 100)
    told = io.StringIO()
    with redirect_stdout(told), mirrored.watch:
        wait_for(told, "mirror_stopped")
        mirrored.copy(manifest)
        mirrored.copy(data)
        wait_for(told, "mirror_resumed")

    lines = told.getvalue().splitlines()
    assert sum("mirror_stopped" in line for line in lines) == 1
    delays = [json.loads(line)["MirrorDelay"] for line in lines if line.startswith("{")]
    assert delays[0] == pytest.approx(100, abs=30)
    assert delays[-1] == 0


def wait_for(told: io.StringIO, event: str) -> None:
    give_up = time.monotonic() + 30
    while event not in told.getvalue():
        assert time.monotonic() < give_up, told.getvalue()
        time.sleep(0.01)  # between two looks; the deadline is above
