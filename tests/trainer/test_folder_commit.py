"""Committing what another framework writes into a folder, and bringing it back."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract.checkpoint_layout import manifest_key
from spotkeeper.trainer.checkpoint import Checkpoints, FencedError
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.folder_commit import FolderCommit
from spotkeeper.trainer.folder_restore import RestoredFolder, restore_folder
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.manifest import seal
from spotkeeper.trainer.store import Stat, Store
from tests.trainer.test_checkpoint import events, s3_bucket, store
from tests.trainer.test_folder_state import put

__all__ = ["s3_bucket", "store"]
LONG_SECONDS = 10_000.0


def attempt(store: Store, epoch: int | None = None) -> Checkpoints:
    return Checkpoints(store, run_id="hf", keep=2, epoch=epoch)


def committing(
    folder: Path, checkpoints: Checkpoints, restored: RestoredFolder | None = None, *, quiet_seconds: float = 0.0
) -> FolderCommit:
    return FolderCommit(
        folder,
        checkpoints,
        EventLog("hf", checkpoints.epoch),
        step=restored.step if restored else 0,
        stored=restored.stored if restored else {},
        quiet_seconds=quiet_seconds,
    )


def restored_into(folder: Path, store: Store) -> dict[str, bytes]:
    """What a next attempt, on another host, finds."""
    restore_folder(folder, attempt(store))
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_complete_is_committed_and_comes_back_byte_for_byte(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, "checkpoint-5/model.bin", bytes(range(256)) * 1000)
    put(out, "checkpoint-5/empty", b"")
    put(out, "run.sh", b"#!").chmod(0o750)
    (out / "last").symlink_to("checkpoint-5")

    assert committing(out, attempt(store)).look()

    other = tmp_path / "other"
    assert restored_into(other, store) == contents(out)
    assert (other / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (other / "last").readlink() == Path("checkpoint-5")


def test_nothing_is_committed_while_it_changes_or_somebody_writes_it(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "model.bin", b"half")

    assert not committing(out, attempt(kept), quiet_seconds=LONG_SECONDS).look()
    with (out / "model.bin").open("ab") as writer:
        writer.write(b" whole")
        assert not committing(out, attempt(kept)).look()

    assert restore_folder(tmp_path / "other", attempt(kept)) is None


def test_while_a_unit_is_rewritten_its_former_content_stays_committed_with_what_is_new(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "model.bin", b"first")
    commit = committing(out, attempt(kept))
    commit.look()
    with (out / "model.bin").open("wb") as writer:
        writer.write(b"sec")
        writer.flush()
        put(out, "checkpoint-2/model.bin", b"second")
        commit.look()

    assert restored_into(tmp_path / "other", kept) == {"model.bin": b"first", "checkpoint-2/model.bin": b"second"}


def test_a_framework_that_keeps_one_checkpoint_never_leaves_none_committed(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    first = put(out, "checkpoint-1/model.bin", b"first")
    commit = committing(out, attempt(kept))
    commit.look()

    first.unlink()
    first.parent.rmdir()
    with put(out, "checkpoint-2/model.bin").open("wb") as writer:
        writer.write(b"sec")
        writer.flush()
        put(out, "results.json", b"{}")
        commit.look()
        shutil.copytree(tmp_path / "kept", tmp_path / "kept-then")
    commit.look()

    during = restored_into(tmp_path / "during", LocalStore(tmp_path / "kept-then"))
    assert during == {"checkpoint-1/model.bin": b"first", "results.json": b"{}"}
    assert restored_into(tmp_path / "after", kept) == {"checkpoint-2/model.bin": b"sec", "results.json": b"{}"}


def test_a_folder_that_was_emptied_does_not_empty_what_is_committed(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    file = put(out, "checkpoint-1/model.bin", b"first")
    commit = committing(out, attempt(kept))
    commit.look()
    file.unlink()

    commit.look(program_ended=True)

    assert restored_into(tmp_path / "other", kept) == {"checkpoint-1/model.bin": b"first"}


def test_a_log_that_grows_holds_nothing_back_and_comes_along_as_long_as_it_is(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    with put(out, "train.log").open("wb") as log:
        log.write(b"step 1\n")
        log.flush()
        put(out, "model.bin", b"first")
        commit = committing(out, attempt(kept))
        assert commit.look()
        log.write(b"step 2\n")
        log.flush()
        assert commit.look(), "a line in a log is no new checkpoint"

    assert restored_into(tmp_path / "other", kept) == {"train.log": b"step 1\n", "model.bin": b"first"}


def test_a_file_that_was_cut_off_is_said_and_not_committed_even_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "checkpoint-1/state.json", b'{"step": 1}')
    put(out, "checkpoint-2/state.json", b'{"step"')

    assert committing(out, attempt(kept)).look(program_ended=True)

    (failed,) = events(capsys.readouterr().out, "save_failed")
    assert failed["reason"] == "not committed: checkpoint-2: state.json is not whole JSON"
    assert set(restored_into(tmp_path / "other", kept)) == {"checkpoint-1/state.json"}


def test_a_file_that_has_not_changed_is_uploaded_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "checkpoint-1/model.bin", bytes(1000))
    commit = committing(out, attempt(kept))
    commit.look()
    put(out, "checkpoint-2/model.bin", bytes(10))
    commit.look()

    assert [line["bytes"] for line in events(capsys.readouterr().out, "committed")] == [1000, 10]


def test_the_next_attempt_uploads_nothing_of_what_it_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "checkpoint-1/model.bin", bytes(1000))
    committing(out, attempt(kept)).look()
    other, checkpoints = tmp_path / "other", attempt(kept)
    commit = committing(other, checkpoints, restore_folder(other, checkpoints))
    capsys.readouterr()

    assert commit.look()
    assert events(capsys.readouterr().out, "committed") == []
    put(other, "checkpoint-2/model.bin", bytes(10))
    commit.look()

    (line,) = events(capsys.readouterr().out, "committed")
    assert (line["step"], line["bytes"]) == (2, 10)
    assert set(restored_into(tmp_path / "third", kept)) == {"checkpoint-1/model.bin", "checkpoint-2/model.bin"}


def test_retention_and_the_sweep_of_a_next_attempt_spare_what_several_checkpoints_share(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "base/model.bin", b"shared")
    commit = committing(out, attempt(kept))
    for number in range(5):
        put(out, "adapter/model.bin", b"%d" % number)
        commit.look()
    other, checkpoints = tmp_path / "other", attempt(kept)
    second = committing(other, checkpoints, restore_folder(other, checkpoints))
    put(other, "adapter/model.bin", b"5")
    second.look()

    assert len(kept.list("commit/")) == 2
    assert restored_into(tmp_path / "third", kept) == {"base/model.bin": b"shared", "adapter/model.bin": b"5"}
    named = {key for key in kept.list("data/") if kept.get(key) == b"shared"}
    assert len(named) == 1
    assert len(kept.list("data/")) == 3, "nothing that no checkpoint names is left"


class FailingStore(LocalStore):
    """Loses power at one operation, and stays dead."""

    def __init__(self, root: Path, fails_at: int) -> None:
        super().__init__(root)
        self._left = fails_at

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError("the store is gone")

    def put_if_absent(self, key: str, body: bytes) -> bool:
        self._count()
        return super().put_if_absent(key, body)

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
        self._count()
        return super().write(key, chunks, total_bytes)

    def head(self, key: str) -> Stat | None:
        self._count()
        return super().head(key)

    def list(self, prefix: str) -> list[str]:
        self._count()
        return super().list(prefix)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


@pytest.mark.parametrize("fails_at", range(30))
def test_a_store_that_is_lost_at_any_operation_leaves_a_whole_checkpoint(tmp_path: Path, fails_at: int) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    states: list[dict[str, bytes]] = []
    first = committing(out, attempt(kept))
    for number in range(2):
        put(out, f"checkpoint-{number}/model.bin", b"%d" % number)
        put(out, "shared/base.bin", b"base")
        first.look()
        states.append(contents(out))
    try:
        other = tmp_path / "other"
        checkpoints = attempt(FailingStore(tmp_path / "kept", fails_at), epoch=2)
        commit = committing(other, checkpoints, restore_folder(other, checkpoints))
        put(other, "checkpoint-2/model.bin", b"2")
        commit.look()
        states.append(contents(other))
    except OSError:
        pass

    found = restored_into(tmp_path / "third", kept)

    assert found in states[-2:]
    # And the store, once it is there again, takes the next.
    checkpoints = attempt(kept)
    again = committing(tmp_path / "third", checkpoints, restore_folder(tmp_path / "third", checkpoints))
    put(tmp_path / "third", "checkpoint-3/model.bin", b"3")
    assert again.look()
    assert restored_into(tmp_path / "fourth", kept) == {**found, "checkpoint-3/model.bin": b"3"}


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_restored_without_a_trace_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "a/model.bin", b"first")
    commit = committing(out, attempt(kept))
    commit.look()
    put(out, "b/model.bin", b"second")
    commit.look()
    damaged = next(path for path in (tmp_path / "kept" / "data").rglob("f*") if path.read_bytes() == b"second")
    damaged.chmod(0o600)
    damaged.write_bytes(b"sec0nd")

    assert restored_into(tmp_path / "other", kept) == {"a/model.bin": b"first"}
    (line,) = events(capsys.readouterr().out, "damaged")
    assert line["manifest"] == manifest_key("hf", 1, 2)


def test_what_lies_in_the_folder_and_nobody_has_verified_is_set_aside(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "checkpoint-1/model.bin", b"first")
    committing(out, attempt(kept)).look()
    put(out, "checkpoint-2/model.bin", b"ha")

    restored = restore_folder(out, attempt(kept))

    assert restored is not None
    assert restored.set_aside is not None
    assert (restored.set_aside / "checkpoint-2/model.bin").read_bytes() == b"ha"
    assert not (out / "checkpoint-2").exists()
    assert (out / "checkpoint-1/model.bin").read_bytes() == b"first"


def test_a_file_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    file = put(out, "checkpoint-1/model.bin", b"first")
    committing(out, attempt(kept)).look()
    inode = file.stat().st_ino
    put(out, "checkpoint-1/other.bin", b"x").unlink()

    restore_folder(out, attempt(kept))

    assert file.stat().st_ino == inode


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "../x", "object": 0, "mode": 0o644},
        {"path": "/etc/x", "object": 0, "mode": 0o644},
        {"path": "a", "link": "../../etc/passwd", "mode": 0},
        {"path": "a", "link": "/etc/passwd", "mode": 0},
        {"path": "a", "object": 7, "mode": 0o644},
        {"path": "a", "mode": 0o644},
    ],
)
def test_a_manifest_that_leads_out_of_the_folder_is_damaged_although_it_matches_its_checksum(
    tmp_path: Path, entry: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "model.bin", b"first")
    committing(out, attempt(kept)).look()
    forged = json.loads(kept.get(manifest_key("hf", 1, 1)))
    del forged["crc64nvme"]
    kept.put_if_absent(manifest_key("hf", 1, 2), seal({**forged, "step": 2, "files": [entry]}))

    assert restored_into(tmp_path / "deep" / "other", kept) == {"model.bin": b"first"}
    assert len(events(capsys.readouterr().out, "damaged")) == 1


def test_a_newer_attempt_fences_the_older_which_commits_nothing_more(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "model.bin", b"first")
    old = committing(out, attempt(kept))
    old.look()
    attempt(kept)
    put(out, "model.bin", b"zombie")

    with pytest.raises(FencedError) as raised:
        old.look()
    assert raised.value.reason == "epoch 2 has started; this attempt has epoch 1"

    assert restored_into(tmp_path / "other", kept) == {"model.bin": b"first"}


def test_neither_takes_the_others_checkpoints_for_its_own(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", LocalStore(tmp_path / "kept")
    put(out, "model.bin", b"first")
    committing(out, attempt(kept)).look()
    with pytest.raises(ValueError, match="is the checkpoint of a folder"):
        attempt(kept).newest_valid()

    library = Checkpoints(kept, run_id="lib", keep=2, epoch=None)
    stored = library.write_data(step=1, chunks=[memoryview(b"x")], total_bytes=1)
    library.commit(step=1, cause="periodic", stored=stored, state={})
    with pytest.raises(ValueError, match=r"was saved by spotkeeper\.Run"):
        restore_folder(tmp_path / "other", Checkpoints(kept, run_id="lib", keep=2, epoch=None))
