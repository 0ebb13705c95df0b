"""Checkpoints of a real training whose bytes are not what was written: always found out, never resumed."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spotkeeper.contract.log_lines import parse_line
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.local_store import LocalStore
from tests.trainer.program import drive

NUM_FLIPS = 200


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that has ended, with its two newest checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    drive(folder, "none")
    assert len(list(folder.glob("commit/tiny/*.json"))) == 2
    return folder


class Folder:
    """A copy of it, and how the newest checkpoint in it is found."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.older, self.newest = sorted(root.glob("commit/tiny/*.json"))
        step = self.newest.stem.partition("-")[2]
        (self.data,) = root.glob(f"data/tiny/*-s{step}-*/*")
        self._next = Checkpoints(LocalStore(root), run_id="tiny", keep=2, epoch=2)

    def found(self) -> Path | None:
        found = self._next.newest_valid()
        return None if found is None else self._root / found.key


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Folder:
    shutil.copytree(trained, tmp_path / "copy")
    return Folder(tmp_path / "copy")


def damaged(output: str) -> list[str]:
    lines = [parse_line(line) for line in output.splitlines()]
    return [line["manifest"] for line in lines if line is not None and line["event"] == "damaged" and line["reason"]]


@pytest.mark.parametrize("part", ["data", "newest"])
def test_of_200_flipped_bits_each_is_found_and_the_checkpoint_before_is_resumed(
    folder: Folder, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    victim: Path = getattr(folder, part)
    whole = victim.read_bytes()
    chance = random.Random(5)
    resumed = []
    for bit in chance.sample(range(8 * len(whole)), NUM_FLIPS):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(content)
        resumed.append(folder.found())

    assert resumed == [folder.older] * NUM_FLIPS
    assert len(damaged(capsys.readouterr().out)) == NUM_FLIPS
    victim.write_bytes(whole)
    assert folder.found() == folder.newest


def header_bytes(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


LENGTHS: dict[str, Callable[[bytes], int]] = {
    "nothing": lambda _content: 0,
    "a byte": lambda _content: 1,
    "less than the length of the header": lambda _content: 7,
    "the length of the header": lambda _content: 8,
    "half a header": lambda content: header_bytes(content) // 2,
    "all but a byte of the header": lambda content: header_bytes(content) - 1,
    "the header": header_bytes,
    "a byte of the first tensor": lambda content: header_bytes(content) + 1,
    "half": lambda content: len(content) // 2,
    "all but a byte": lambda content: len(content) - 1,
    "a byte more": lambda content: len(content) + 1,
}


@pytest.mark.parametrize("left", LENGTHS)
def test_data_of_any_other_length_is_found_and_the_checkpoint_before_is_resumed(
    folder: Folder, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    os.truncate(folder.data, LENGTHS[left](folder.data.read_bytes()))

    assert folder.found() == folder.older
    assert damaged(capsys.readouterr().out) == [f"commit/tiny/{folder.newest.name}"]


@pytest.mark.parametrize("left", ["nothing", "a byte", "half", "all but a byte", "a byte more"])
def test_a_manifest_of_any_other_length_is_found_and_the_checkpoint_before_is_resumed(
    folder: Folder, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    os.truncate(folder.newest, LENGTHS[left](folder.newest.read_bytes()))

    assert folder.found() == folder.older
    assert damaged(capsys.readouterr().out) == [f"commit/tiny/{folder.newest.name}"]


def test_a_manifest_without_its_data_is_found_and_data_without_a_manifest_is_no_checkpoint(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.data.unlink()
    without_data = folder.found()
    folder.newest.unlink()
    folder.older.unlink()

    assert without_data == folder.older
    assert damaged(capsys.readouterr().out) == [f"commit/tiny/{folder.newest.name}"]
    assert folder.found() is None
    assert list(folder.older.parents[2].glob("data/tiny/*/*"))


def test_a_training_goes_on_from_the_checkpoint_before_and_ends_with_the_same_bits(
    trained: Path, folder: Folder
) -> None:
    os.truncate(folder.data, folder.data.stat().st_size - 1)
    root = folder.newest.parents[2]

    drive(root, "none", SPOTKEEPER_MAX_LOST_SECONDS="900")

    (_, newest) = sorted(trained.glob("data/tiny/*/*"))
    (again,) = root.glob("data/tiny/e000003-*/*")
    assert again.read_bytes() == newest.read_bytes()
