"""Real processes, killed and resumed: what comes out must equal, bit for bit, a training that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.contract.exit_codes import EXIT_FENCED, EXIT_YIELDED
from spotkeeper.trainer import safetensors
from spotkeeper.trainer.notice import INTERRUPTION_PATH, REBALANCE_PATH
from tests.trainer.conftest import REPOSITORY, clean_environ
from tests.trainer.fake_imds import FakeImds
from tests.trainer.program import Program, drive, forked, running
from tests.trainer.tiny_training import TOTAL


def trained(folder: Path, run_id: str = "tiny") -> tuple[bytes, Any]:
    """Return the bytes of the newest checkpoint's tensors, and the rest of its state."""
    manifest = max((folder / "commit" / run_id).glob("*.json"))
    newest = json.loads(manifest.read_text(), parse_constant=lambda name: pytest.fail(f"JSON has no {name}"))
    assert newest["step"] == TOTAL
    return (folder / newest["objects"][0]["key"]).read_bytes(), newest["state"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    # In a Python of its own: what forks of another one end with must equal it.
    assert drive(folder, "none", start=running) == 0
    return trained(folder)


def test_a_kill_in_every_single_step_changes_no_bit(undisturbed: tuple[bytes, Any], tmp_path: Path) -> None:
    steps = [str(step) for step in range(TOTAL)]

    assert drive(tmp_path, "step", *steps, "15") == TOTAL + 1

    assert trained(tmp_path) == undisturbed


def test_a_kill_in_every_step_of_accumulating_gradients_changes_no_bit(tmp_path: Path) -> None:
    assert drive(tmp_path / "undisturbed", "none", ACCUMULATE="4") == 0

    assert drive(tmp_path / "killed", "step", *map(str, range(4, 12)), ACCUMULATE="4") == 8

    assert trained(tmp_path / "killed") == trained(tmp_path / "undisturbed")


def test_kills_in_the_middle_of_restores_one_after_the_other_change_no_bit(
    undisturbed: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert drive(tmp_path, "restore", "5") == 6

    assert trained(tmp_path) == undisturbed


def test_a_training_whose_loss_weights_and_moments_are_not_numbers_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    assert drive(tmp_path / "undisturbed", "none", POISONED_FROM="6") == 0

    assert drive(tmp_path / "killed", "step", *map(str, range(5, 10)), POISONED_FROM="6") == 5

    tensors, state = trained(tmp_path / "killed")
    assert (tensors, state) == trained(tmp_path / "undisturbed")
    loaded = safetensors.load(memoryview(tensors))
    assert loaded["objects.model.first.weight"].isnan().all()
    assert loaded["objects.opt.state.0.exp_avg"].isnan().all()


def test_kills_with_worker_processes_change_no_bit(undisturbed: tuple[bytes, Any], tmp_path: Path) -> None:
    assert drive(tmp_path, "step", "4", "5", "13", NUM_WORKERS="2") == 3

    assert trained(tmp_path) == undisturbed


@pytest.mark.parametrize("dataset", ["weighted", "sampler", "stream"])
def test_a_kill_in_every_step_changes_no_bit_whatever_orders_the_samples(tmp_path: Path, dataset: str) -> None:
    assert drive(tmp_path / "undisturbed", "none", DATASET=dataset) == 0

    assert drive(tmp_path / "killed", "step", *map(str, range(TOTAL)), DATASET=dataset) == TOTAL

    assert trained(tmp_path / "killed") == trained(tmp_path / "undisturbed")


def test_kills_change_no_bit_of_a_training_on_a_stream_that_worker_processes_read(tmp_path: Path) -> None:
    assert drive(tmp_path / "undisturbed", "none", DATASET="stream", NUM_WORKERS="2") == 0

    # Twice in one epoch, at its end, and in two more.
    assert drive(tmp_path / "killed", "step", "1", "2", "4", "9", "13", DATASET="stream", NUM_WORKERS="2") == 5

    assert trained(tmp_path / "killed") == trained(tmp_path / "undisturbed")


def test_a_kill_at_every_file_operation_of_the_training_process_changes_no_bit(
    undisturbed: tuple[bytes, Any], tmp_path: Path
) -> None:
    assert drive(tmp_path, "file") > 5

    assert trained(tmp_path) == undisturbed


@pytest.mark.parametrize("victims", ["writer", "both"])
def test_a_kill_at_every_file_operation_of_a_save_changes_no_bit(
    victims: str, undisturbed: tuple[bytes, Any], tmp_path: Path
) -> None:
    crash_points = f"{REPOSITORY}:{Path(__file__).parent / 'crash_points'}"
    assert drive(tmp_path, victims, PYTHONPATH=crash_points) > 20

    assert trained(tmp_path) == undisturbed


@contextmanager
def started(folder: Path, *arguments: str, **variables: str) -> Iterator[Program]:
    environ = clean_environ(
        SPOTKEEPER_URI=str(folder), SPOTKEEPER_RUN_ID="tiny", SPOTKEEPER_PROGRESS_SECONDS="0.1", **variables
    )
    with forked(["-m", "tests.trainer.slow_training", *arguments], environ) as program:
        yield program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_makes_it_save_at_the_end_of_the_step_and_yield(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, SPOTKEEPER_OUTCOME_FILE=str(tmp_path / "outcome.json")) as program:
        program.wait_for("progress")
        program.process.send_signal(number)

        assert program.end() == EXIT_YIELDED

    assert program.events() == ["started", "notice", "committed", "yielded"]
    committed = program.lines[-2]
    assert (committed["cause"], program.lines[-1]["reason"]) == ("signal", number.name)
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"outcome": "yielded", "step": committed["step"]}
    with started(tmp_path) as again:
        assert again.wait_for("resumed")["step"] == committed["step"]


IS_TOLD_AS_IT_HEARS_OF_A_COMMIT = """
import io, os, signal, sys, time
import spotkeeper
from torch import nn
from tests.trainer.tiny_training import Noisy

class Output(io.TextIOBase):
    def write(self, text):
        written = sys.__stdout__.write(text)
        if '"committed"' in text and '"requested"' in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return written
    def flush(self):
        sys.__stdout__.flush()

sys.stdout = Output()
run = spotkeeper.Run(model=nn.Linear(2, 2))
for step, _ in run.steps(run.loader(Noisy(), batch_size=4), total=400):
    if step == 0:
        run.save_now()
    time.sleep(0.02)
"""


def test_a_signal_that_comes_after_notices_were_looked_for_is_told_before_the_attempt_yields(tmp_path: Path) -> None:
    environ = clean_environ(SPOTKEEPER_URI=str(tmp_path), SPOTKEEPER_RUN_ID="tiny")
    with running(["-c", IS_TOLD_AS_IT_HEARS_OF_A_COMMIT], environ) as program:
        assert program.end() == EXIT_YIELDED

    events = program.events()
    assert events[-2:] == ["committed", "yielded"]
    assert "notice" in events


def test_code_after_the_loop_does_not_run_when_the_attempt_yields(tmp_path: Path) -> None:
    with started(tmp_path) as program:
        program.wait_for("progress")
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED

    assert [line for line in program.other_output if not line.startswith("spotkeeper: ")] == []


def test_worker_processes_survive_the_signal_until_the_save_is_done(tmp_path: Path) -> None:
    with started(tmp_path, NUM_WORKERS="2") as program:
        program.wait_for("progress")
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED

    assert program.events() == ["started", "notice", "committed", "yielded"]


def announce(imds: FakeImds, in_seconds: float) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=in_seconds)
    imds.documents[INTERRUPTION_PATH] = json.dumps(
        {"action": "terminate", "time": deadline.strftime("%Y-%m-%dT%H:%M:%SZ")}
    )


def test_an_interruption_notice_is_answered_by_a_commit_and_by_staying_until_the_host_goes(
    tmp_path: Path, imds: FakeImds
) -> None:
    with started(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint) as program:
        program.wait_for("progress")
        announce(imds, 60)
        lingering = program.wait_for("lingering")

        assert program.events() == ["started", "notice", "committed", "lingering"]
        assert program.lines[-2]["cause"] == "notice"
        assert lingering["committed_step"] == lingering["step"]
        assert lingering["num_steps"] == lingering["step"], "they may be its last words"
        assert program.process.poll() is None
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED

    assert program.events()[-1] == "yielded"


@contextmanager
def busy(folder: Path, imds: FakeImds, moment: str) -> Iterator[Program]:
    """A training that has come to this moment of its work, and stays in it."""
    environ = clean_environ(
        SPOTKEEPER_URI=str(folder),
        SPOTKEEPER_RUN_ID="tiny",
        SPOTKEEPER_PROGRESS_SECONDS="0.01",
        AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint,
    )
    with forked(["-m", "tests.trainer.endless_training", moment], environ) as program:
        program.wait_to_hear("busy")
        yield program


def a_first_attempt(folder: Path, imds: FakeImds) -> int:
    with busy(folder, imds, "0") as program:
        program.process.send_signal(signal.SIGTERM)
        program.wait_to_hear("asked")
        program.go_on()
        assert program.end() == EXIT_YIELDED
    step: int = program.lines[-1]["committed_step"]
    return step


@pytest.mark.parametrize("step", [0, 3], ids=["first step", "evaluation"])
@pytest.mark.parametrize("is_signal", [False, True], ids=["notice", "signal"])
def test_a_notice_in_the_first_step_or_in_an_evaluation_saves_at_the_end_of_that_step(
    tmp_path: Path, imds: FakeImds, step: int, is_signal: bool
) -> None:
    with busy(tmp_path, imds, str(step)) as program:
        if is_signal:
            program.process.send_signal(signal.SIGTERM)
        else:
            announce(imds, 60)
        program.wait_to_hear("asked")
        program.go_on()
        program.wait_for("committed")
        assert program.lines[-1]["step"] == step + 1
        assert program.lines[-1]["cause"] == ("signal" if is_signal else "notice")

    imds.documents.clear()
    with busy(tmp_path, imds, str(step + 1)) as again:
        assert (again.lines[0]["event"], again.lines[0]["step"]) == ("resumed", step + 1)


def test_what_is_announced_twice_and_by_signals_too_is_saved_for_once(tmp_path: Path, imds: FakeImds) -> None:
    with busy(tmp_path, imds, "3") as program:
        announce(imds, 60)
        program.wait_to_hear("asked")
        announce(imds, 30)
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGUSR1)
        program.go_on()
        assert program.end() == EXIT_YIELDED

    told = program.events()
    assert told.count("committed") == 1
    assert (told[0], told[-1]) == ("started", "yielded")
    assert set(told[1:-1]) == {"notice", "committed"}
    assert [line["kind"] for line in program.lines if line["event"] == "notice"].count("interruption") == 1


def test_a_notice_in_the_middle_of_a_restore_is_answered_as_soon_as_the_training_goes_on(
    tmp_path: Path, imds: FakeImds
) -> None:
    first = a_first_attempt(tmp_path, imds)
    with busy(tmp_path, imds, "restore") as program:
        announce(imds, 60)
        program.go_on()
        committed = program.wait_for("lingering")["committed_step"]

        assert program.events() == ["resumed", "notice", "committed", "lingering"]

    assert first == 1
    assert committed > first


def test_a_signal_in_the_middle_of_a_restore_ends_the_attempt_and_the_next_one_resumes_the_same(
    tmp_path: Path, imds: FakeImds
) -> None:
    first = a_first_attempt(tmp_path, imds)
    with busy(tmp_path, imds, "restore") as program:
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == -signal.SIGTERM

    with busy(tmp_path, imds, "restore") as again:
        again.go_on()
        assert again.wait_for("resumed")["step"] == first


def test_a_notice_whose_time_has_passed_is_no_reason_to_leave_before_the_host_goes(
    tmp_path: Path, imds: FakeImds
) -> None:
    with started(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint) as program:
        program.wait_for("progress")
        announce(imds, -3600)
        program.wait_for("lingering")
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED

    assert program.events() == ["started", "notice", "committed", "lingering", "yielded"]
    assert program.lines[-1]["reason"] == "SIGTERM"


def test_sagemaker_is_left_to_end_the_container_because_an_exit_would_end_the_job(tmp_path: Path) -> None:
    with started(tmp_path, TRAINING_JOB_NAME="tiny-2026-11-25") as program:
        program.wait_for("progress")
        program.process.send_signal(signal.SIGTERM)
        lingering = program.wait_for("lingering")

        assert program.events() == ["started", "notice", "committed", "lingering"]
        assert lingering["committed_step"] == lingering["step"]
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED


def test_a_second_sigterm_while_the_first_waits_for_the_step_changes_nothing(tmp_path: Path) -> None:
    with started(tmp_path, "2") as program:
        program.wait_for("progress")
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == EXIT_YIELDED

    assert program.events() == ["started", "notice", "committed", "yielded"]


def test_a_metadata_service_that_gives_no_token_does_not_disturb_the_training(tmp_path: Path, imds: FakeImds) -> None:
    imds.token_status = 403
    with started(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint) as program:
        while program.wait_for("progress")["step"] < 20:
            pass
        assert imds.requests

    assert program.events() == ["started"]


def test_a_rebalance_recommendation_brings_one_save_forward_and_training_goes_on(
    tmp_path: Path, imds: FakeImds
) -> None:
    imds.documents[REBALANCE_PATH] = '{"noticeTime": "2026-11-23T10:00:00Z"}'
    with started(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint) as program:
        assert program.wait_for("committed")["cause"] == "rebalance"
        saved_at = program.lines[-1]["step"]
        while program.wait_for("progress")["step"] < saved_at + 10:
            pass

    assert program.events().count("committed") == 1


def test_an_attempt_that_another_one_overtook_ends_with_the_fenced_code(tmp_path: Path) -> None:
    with started(tmp_path) as zombie:
        zombie.wait_for("progress")
        with started(tmp_path) as successor:
            successor.wait_for("started")
            zombie.process.send_signal(signal.SIGTERM)

            assert zombie.end() == EXIT_FENCED

    assert zombie.events()[-1] == "fenced"
    assert "committed" not in zombie.events()


def test_an_older_epoch_of_the_ledger_does_not_even_start(tmp_path: Path) -> None:
    with started(tmp_path, SPOTKEEPER_EPOCH="5") as newer:
        newer.wait_for("started")
        with started(tmp_path, SPOTKEEPER_EPOCH="4") as older:
            assert older.end() == EXIT_FENCED

    assert older.events() == ["fenced"]


def test_the_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with started(tmp_path, "30") as program:
        program.wait_for("progress")
        give_up_at = time.monotonic() + 20
        while program.process.poll() is None:
            assert time.monotonic() < give_up_at
            program.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                program.process.wait(0.02)

        assert program.end() == -signal.SIGINT


def test_digits_are_learned_although_the_training_is_killed(tmp_path: Path) -> None:
    example = REPOSITORY / "examples" / "train_digits.py"
    options = ["--steps", "150", "--batch-size", "64", "--width", "16"]
    environ = clean_environ(SPOTKEEPER_URI=str(tmp_path), SPOTKEEPER_MAX_LOST_SECONDS="0.2")
    with subprocess.Popen(
        [sys.executable, str(example), *options], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        program = Program(process)
        program.wait_for("committed")
        os.kill(process.pid, signal.SIGKILL)

    done = subprocess.run(
        [sys.executable, str(example), *options], env=environ, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"event":"resumed"' in done.stdout
    assert "test accuracy 9" in done.stdout
