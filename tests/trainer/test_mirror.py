"""Checkpoints in a folder that SageMaker mirrors: late, in no order, and perhaps no more."""

from pathlib import Path

import pytest

from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.local_store import LocalStore

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
