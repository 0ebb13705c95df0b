"""Disks that are full, read-only, slow or limited, and processes killed for memory, under a training that goes on."""

import json
import os
import resource
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.trainer.conftest import clean_environ
from tests.trainer.program import Program, running


@contextmanager
def training(folder: Path, *, within: Sequence[str] = ()) -> Iterator[Program]:
    """A training that saves as often as it can, and says where it is all the time."""
    environ = clean_environ(
        SPOTKEEPER_URI=str(folder),
        SPOTKEEPER_RUN_ID="tiny",
        SPOTKEEPER_PROGRESS_SECONDS="0.01",
    )
    with running(["-m", "tests.trainer.endless_training", "saves"], environ, within=within) as program:
        yield program


def go_on_for(program: Program, num_steps: int) -> None:
    goal = program.wait_for("progress")["step"] + num_steps
    while program.wait_for("progress")["step"] < goal:
        pass


def commits_of(program: Program) -> list[int]:
    return [line["step"] for line in program.lines if line["event"] == "committed"]


def writer_of(program: Program) -> int:
    tasks = Path(f"/proc/{program.process.pid}/task").iterdir()
    children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    (writer,) = [pid for pid in children if b"spotkeeper.trainer.writer" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return writer


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process that may be another's child."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        readable, _, _ = select.select([descriptor], [], [], 60)
        os.close(descriptor)
        assert readable


def newest_step(folder: Path) -> int:
    step: int = json.loads(max((folder / "commit" / "tiny").glob("*.json")).read_text())["step"]
    return step


class Disk:
    """A disk of 1 MiB, seen by what runs within it alone, so that it can be filled and made read-only."""

    def __init__(self, holder: int, folder: Path) -> None:
        self.folder = folder
        self.within = ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={holder}"]
        self._seen_from_here = Path("/proc", str(holder), "root", *folder.parts[1:])

    def fill(self) -> None:
        with (self._seen_from_here / "filler").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        (self._seen_from_here / "filler").unlink()

    def make_read_only(self) -> None:
        # A disk on which a file is being written refuses, so it is asked until it takes it.
        while self._remount("ro"):
            pass

    def make_writable(self) -> None:
        assert self._remount("rw") == 0

    def _remount(self, how: str) -> int:
        command = [*self.within, "mount", "-o", f"remount,{how}", str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    script = "mount -t tmpfs -o size=1m tmpfs $0 && echo mounted && exec cat"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "mounted\n":
            pytest.skip(f"this machine lets nobody mount a disk in a namespace: {holder.communicate()[1]}")
        yield Disk(holder.pid, folder)
        holder.kill()


def check_that_saves_fail_and_the_training_goes_on(program: Program, reason: str) -> None:
    assert reason in program.wait_for("save_failed")["reason"]
    failed_at = len(program.lines)
    go_on_for(program, 50)
    assert {line["event"] for line in program.lines[failed_at:]} <= {"progress", "save_failed"}


def test_a_disk_that_fills_up_costs_checkpoints_and_not_the_training_or_the_earlier_checkpoint(disk: Disk) -> None:
    with training(disk.folder, within=disk.within) as program:
        program.wait_for("committed")
        # Until nothing more fits: what a commit lets go leaves room for one more.
        while program.lines[-1]["event"] != "save_failed":
            disk.fill()
            next(iter(program.read()))
        disk.fill()
        check_that_saves_fail_and_the_training_goes_on(program, "No space left on device")
        disk.empty()
        program.wait_for("committed")
        disk.fill()
        program.wait_for("save_failed")
    committed = commits_of(program)[-1]

    disk.empty()
    with training(disk.folder, within=disk.within) as again:
        assert again.wait_for("resumed")["step"] >= committed
        assert again.wait_for("committed")["step"] > committed


def test_a_disk_that_becomes_read_only_costs_checkpoints_and_not_the_training_or_the_earlier_checkpoint(
    disk: Disk,
) -> None:
    with training(disk.folder, within=disk.within) as program:
        program.wait_for("committed")
        disk.make_read_only()
        check_that_saves_fail_and_the_training_goes_on(program, "Read-only file system")
        writer = writer_of(program)
    committed = commits_of(program)[-1]

    wait_for_end(writer)
    disk.make_writable()
    with training(disk.folder, within=disk.within) as again:
        assert again.wait_for("resumed")["step"] == committed
        assert again.wait_for("committed")["step"] > committed


def test_files_above_a_limit_cost_checkpoints_until_the_limit_is_lifted(tmp_path: Path) -> None:
    with training(tmp_path) as program:
        program.wait_for("committed")
        writer = writer_of(program)
        soft, hard = resource.prlimit(writer, resource.RLIMIT_FSIZE)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (1000, hard))
        check_that_saves_fail_and_the_training_goes_on(program, "File too large")
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (soft, hard))
        committed = program.wait_for("committed")["step"]

    with training(tmp_path) as again:
        assert again.wait_for("resumed")["step"] >= committed


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, as a write does that does not come back."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_disk_that_does_not_answer_holds_one_save_and_not_the_training(tmp_path: Path) -> None:
    with training(tmp_path) as program:
        program.wait_for("committed")
        writer = writer_of(program)
        with stopped(writer):
            go_on_for(program, 50)  # what had been committed before is told by then
            told = len(program.lines)
            go_on_for(program, 200)
            assert {line["event"] for line in program.lines[told:]} == {"progress"}
            assert writer_of(program) == writer
            assert len(list(tmp_path.glob("data/tiny/*/*.partial"))) <= 1

        waited, fresh = program.wait_for("committed")["step"], program.wait_for("committed")["step"]

        assert waited < program.lines[told]["step"] < fresh
        assert "save_failed" not in program.events()

    with training(tmp_path) as again:
        assert again.wait_for("resumed")["step"] >= fresh


def test_what_a_training_has_handed_over_before_it_is_killed_for_memory_is_committed(tmp_path: Path) -> None:
    with training(tmp_path) as program:
        program.wait_for("committed")
        writer = writer_of(program)
        with stopped(writer):
            go_on_for(program, 500)  # the save that was begun since then waits in the arena
            known = commits_of(program)[-1]
            program.process.kill()
            program.process.wait()
        wait_for_end(writer)

    committed = newest_step(tmp_path)
    assert committed > known
    with training(tmp_path) as again:
        assert again.wait_for("resumed")["step"] == committed


def test_a_writer_that_is_killed_for_memory_in_a_save_is_replaced_and_the_save_committed(tmp_path: Path) -> None:
    with training(tmp_path) as program:
        program.wait_for("committed")
        writer = writer_of(program)
        with stopped(writer):
            go_on_for(program, 50)
            os.kill(writer, signal.SIGKILL)
            program.wait_for("committed")

        assert writer_of(program) != writer
        assert "save_failed" not in program.events()
