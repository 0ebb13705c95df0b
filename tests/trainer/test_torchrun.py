"""Several real processes under torchrun: interrupted, failed and killed, they must end as if nothing had happened."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract.exit_codes import EXIT_FENCED
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.notice import INTERRUPTION_PATH
from tests.trainer.conftest import clean_environ
from tests.trainer.fake_imds import FakeImds
from tests.trainer.program import Program, forked, running
from tests.trainer.tiny_training import TOTAL

TRAINING = Path(__file__).with_name("ddp_training.py")
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""As in the trainer image: a restarted process group may else read addresses of the one before (pytorch #167288). So
both ways are tested, torchrun's store and one that rank 0 keeps."""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--monitor-interval=0.1"]


@contextmanager
def started(
    folder: Path, *, processes: int = 2, restarts: int = 0, is_forked: bool = True, **variables: str
) -> Iterator[Program]:
    """Start the training. Forked, torchrun and its processes begin with torch and what else each of them loads."""
    environ = clean_environ(
        SPOTKEEPER_URI=str(folder),
        SPOTKEEPER_RUN_ID="tiny",
        SPOTKEEPER_PROGRESS_SECONDS="0.05",
        SPOTKEEPER_OUTCOME_FILE=str(folder.parent / f"{folder.name}.json"),
        **variables,
    )
    arguments = ["-m", "tests.trainer.ddp_training"]
    if processes > 1:
        arguments = ["--start-method=fork", "--run-path", str(TRAINING)] if is_forked else arguments
        arguments = [*TORCHRUN, f"--nproc-per-node={processes}", f"--max-restarts={restarts}", *arguments]
    start = forked if is_forked else running
    with start(arguments, environ, end_by=signal.SIGTERM) as program:  # torchrun takes its processes with it
        yield program


def finish(folder: Path, **options: Any) -> Program:
    with started(folder, **options) as program:
        assert program.end() == 0, program.other_output
    return program


def newest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(max((folder / "commit" / "tiny").glob("*.json")).read_text())
    return manifest


def trained(folder: Path) -> tuple[list[bytes], Any, Any]:
    """Return what every process ended with, bit for bit."""
    manifest = newest(folder)
    assert manifest["step"] == TOTAL
    objects = [(folder / stored["key"]).read_bytes() for stored in manifest["objects"]]
    return objects, manifest["state"], manifest.get("rank_states")


def outcome(folder: Path) -> Any:
    return json.loads((folder.parent / f"{folder.name}.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "checkpoints"
    program = finish(folder, is_forked=False)  # as people start it
    assert program.events() == ["started", "committed"]  # one process speaks for both
    assert outcome(folder) == {"outcome": "completed", "step": TOTAL}
    return folder


def test_a_notice_makes_all_ranks_save_one_step_and_the_resumed_training_changes_no_bit(
    undisturbed: Path, tmp_path: Path, imds: FakeImds
) -> None:
    folder = tmp_path / "checkpoints"
    with started(
        folder, is_forked=False, STEP_SECONDS="0.4", AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint
    ) as program:
        program.wait_for("progress")
        deadline = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
        imds.documents[INTERRUPTION_PATH] = json.dumps({"action": "terminate", "time": deadline})
        program.wait_for("lingering")
        program.process.send_signal(signal.SIGTERM)
        assert program.end() != 0

    assert program.events() == ["started", "notice", "committed", "lingering", "yielded"]
    saved = newest(folder)
    assert saved["cause"] == "notice"
    assert 0 < saved["step"] < TOTAL
    assert [Path(stored["key"]).name for stored in saved["objects"]] == ["r0.safetensors", "r1.safetensors"]
    assert outcome(folder) == {"outcome": "yielded", "step": saved["step"]}
    assert not any("is through" in line for line in program.other_output)

    again = finish(folder)

    resumed = sorted(line.strip() for line in again.other_output if "resumes" in line)
    assert resumed == [f"rank {rank} of 2 resumes step {saved['step']}" for rank in (0, 1)]
    assert trained(folder) == trained(undisturbed)


def follower(program: Program) -> int:
    """Return the process of rank 1, which has told it before it trains."""
    (told,) = [line for line in program.other_output if line.startswith("rank 1 is process ")]
    return int(told.split()[-1])


def test_a_signal_that_only_one_rank_gets_stops_all_at_one_step_with_the_state_of_each(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with started(folder, STEP_SECONDS="0.1", PER_RANK="opt") as program:
        program.wait_for("progress")
        os.kill(follower(program), signal.SIGUSR1)
        assert program.end() != 0

    assert program.events() == ["started", "committed", "yielded"]
    assert program.lines[-1]["reason"] == "SIGUSR1"
    assert (newest(folder)["cause"], newest(folder)["world_size"]) == ("signal", 2)
    with started(folder, processes=1, PER_RANK="opt") as alone:
        assert alone.end() == 1
    assert "holds a state of opt for each of 2 processes, and there are 1 now" in "".join(alone.other_output)


def test_when_a_newer_attempt_has_started_all_ranks_stop_with_the_fenced_code(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with started(folder, STEP_SECONDS="0.1") as zombie:
        zombie.wait_for("progress")
        Checkpoints(LocalStore(folder), run_id="tiny", keep=2, epoch=None)
        zombie.process.send_signal(signal.SIGTERM)
        zombie.end()

    assert zombie.events()[-1] == "fenced"
    assert not (folder / "commit").exists()
    assert outcome(folder)["outcome"] == "fenced"
    assert "".join(zombie.other_output).count(f"is fenced: {EXIT_FENCED}") == 2


def test_a_rank_that_cannot_write_costs_this_checkpoint_only(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    program = finish(folder, FULL="1:3:8", SAVE_AT="5,10")

    told = [line for line in program.lines if line["event"] in ("save_failed", "committed")]
    assert [line["event"] for line in told] == ["save_failed", "committed", "committed"]
    assert "rank 1 could not write its part: [Errno 27] File too large" in told[0]["reason"]
    assert told[0]["step"] in (6, 7)
    assert told[1]["step"] in (11, 12)
    assert trained(folder) == trained(undisturbed)
    manifests = [json.loads(path.read_text()) for path in (folder / "commit" / "tiny").glob("*.json")]
    named = {stored["key"] for manifest in manifests for stored in manifest["objects"]}
    assert {path.relative_to(folder).as_posix() for path in folder.glob("data/*/*/*")} == named


def test_a_killed_rank_is_restarted_with_the_others_from_the_last_commit(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"

    program = finish(folder, restarts=1, KILL="1:9", SAVE_AT="4", **OWN_STORE)

    resumed = sorted(line.strip() for line in program.other_output if "resumes" in line)
    assert len(resumed) == 2
    assert {line.rpartition(" ")[2] for line in resumed} <= {"5", "6"}
    assert trained(folder) == trained(undisturbed)


def test_a_model_that_is_cut_over_the_ranks_is_saved_by_each_and_changes_no_bit(tmp_path: Path) -> None:
    finish(tmp_path / "undisturbed", SHARDED="yes")
    folder = tmp_path / "checkpoints"

    finish(folder, restarts=1, KILL="1:9", SAVE_AT="4", SHARDED="yes", **OWN_STORE)

    assert newest(folder)["state"]["loop"]["per_rank"] == ["model", "opt"]
    assert trained(folder) == trained(tmp_path / "undisturbed")


def test_another_number_of_processes_goes_on_with_the_replicated_state(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    step = 0
    for processes in (2, 1):
        with started(folder, processes=processes, STEP_SECONDS="0.1") as program:
            if step:
                assert program.wait_for("resumed")["step"] == step
            program.wait_for("progress")
            program.process.send_signal(signal.SIGTERM)
            program.end()
        assert (newest(folder)["world_size"], newest(folder)["cause"]) == (processes, "signal")
        step = newest(folder)["step"]

    again = finish(folder, processes=2)

    resumed = sorted(line.strip() for line in again.other_output if "resumes" in line)
    assert resumed == [f"rank {rank} of 2 resumes step {step}" for rank in (0, 1)]
    assert (newest(folder)["step"], newest(folder)["world_size"]) == (TOTAL, 2)
