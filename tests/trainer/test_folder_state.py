"""What of a checkpoint folder counts as complete."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spotkeeper.trainer.folder_state import defect_of, is_growing, scan, units_of, written_now


def put(folder: Path, path: str, content: bytes = b"x") -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def safetensors(num_bytes: int, offsets: tuple[int, int]) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [offsets[1]], "data_offsets": offsets}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(num_bytes)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path / "none") == {}


def test_what_frameworks_call_temporary_is_left_out_with_all_that_is_in_it(tmp_path: Path) -> None:
    for path in ("tmp-checkpoint-9/model.pt", "a.tmp", "b.lock", "c.pt.1a2b.partial", "checkpoint-9/model.pt"):
        put(tmp_path, path)

    assert set(scan(tmp_path)) == {"checkpoint-9/model.pt"}


def test_a_rewrite_with_the_same_size_and_a_time_that_was_set_back_is_still_another_state(tmp_path: Path) -> None:
    file = put(tmp_path, "model.pt", b"one")
    before, times = scan(tmp_path), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert scan(tmp_path) != before


def test_links_within_the_folder_are_kept_as_links_and_those_out_of_it_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    put(folder, "epoch=3.ckpt")
    (folder / "last.ckpt").symlink_to("epoch=3.ckpt")
    (folder / "secret").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("../out.txt")

    found = scan(folder)

    assert set(found) == {"epoch=3.ckpt", "last.ckpt"}
    assert found["last.ckpt"].link == "epoch=3.ckpt"


def test_each_folder_below_is_a_unit_and_the_loose_files_together_are_one(tmp_path: Path) -> None:
    for path in ("checkpoint-1/a", "checkpoint-1/deep/b", "checkpoint-2/a", "model.pt", "optimizer.pt"):
        put(tmp_path, path)

    units = units_of(scan(tmp_path))

    assert {name: set(files) for name, files in units.items()} == {
        "checkpoint-1": {"checkpoint-1/a", "checkpoint-1/deep/b"},
        "checkpoint-2": {"checkpoint-2/a"},
        "": {"model.pt", "optimizer.pt"},
    }


def test_files_that_only_grow_are_known_by_their_names() -> None:
    assert all(is_growing(path) for path in ("runs/x/events.out.tfevents.17", "train.log", "logs/metrics.csv"))
    assert not any(is_growing(path) for path in ("trainer_state.json", "model.safetensors", "catalogue"))


def test_a_file_that_another_process_has_open_to_write_is_named_and_one_that_is_read_is_not(tmp_path: Path) -> None:
    put(tmp_path, "read.pt")
    program = (
        "import sys; w = open(sys.argv[1], 'wb'); r = open(sys.argv[2], 'rb'); print(flush=True); sys.stdin.read()"
    )
    paths = [str(tmp_path / "written.pt"), str(tmp_path / "read.pt")]
    with subprocess.Popen(
        [sys.executable, "-c", program, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while_open = written_now(tmp_path)
        process.communicate()

    assert while_open == {"written.pt"}
    assert written_now(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.safetensors", safetensors(7, (0, 8)), "instead of"),
        ("m.safetensors", safetensors(8, (0, 8))[:20], "cut off in its header"),
        ("m.safetensors", b"", "cut off in its header"),
        ("m.safetensors", (5).to_bytes(8, "little") + b"xxxxx", "cannot be read"),
        ("m.pt", b"PK\x03\x04 and then nothing", "no directory"),
        ("m.ckpt", b"", "is empty"),
        ("trainer_state.json", b'{"step": 5', "not whole JSON"),
        ("m.safetensors.index.json", b'{"weight_map": {"a": "m-1-of-2.safetensors"}}', "m-1-of-2.safetensors"),
    ],
)
def test_what_was_cut_off_is_seen_by_its_format(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    put(tmp_path, name, content)

    assert said in str(defect_of(tmp_path, name))


def test_whole_files_and_formats_that_nobody_can_judge_pass(tmp_path: Path) -> None:
    put(tmp_path, "m.safetensors", safetensors(8, (0, 8)))
    put(tmp_path, "old.pt", b"\x80\x02 a pickle")
    put(tmp_path, "state.json", b"[1, 2]")
    put(tmp_path, "notes", b"")
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("data.pkl", b"1")

    names = ("m.safetensors", "old.pt", "state.json", "notes", "m.pt")

    assert [defect_of(tmp_path, name) for name in names] == [None] * 5


def test_what_torch_saves_passes_and_any_prefix_of_it_does_not(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.ones(100)}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()

    assert defect_of(tmp_path, "whole.pt") is None
    for end in range(2, len(content) - 1, 97):
        put(tmp_path, "cut.pt", content[:end])
        assert defect_of(tmp_path, "cut.pt"), end
