"""What the example program says to whoever changes its options between two starts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.conftest import clean_environ

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_digits.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of a finished run of 3 steps."""
    folder = tmp_path_factory.mktemp("finished")
    train(folder, "--steps", "3")
    return folder


def train(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(EXAMPLE), "--width", "2", *options],
        cwd=folder, env=clean_environ(), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def test_two_processes_train_one_model_together(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(EXAMPLE), "--width", "2", "--steps", "12", "--drop-last"],
        cwd=tmp_path, env=clean_environ(), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip

    told = re.findall(r"test accuracy (\S+%) on 360 images", done.stdout)
    assert len(told) == 2, done.stderr
    assert len(set(told)) == 1, "each has the same model"


def test_a_finished_run_says_how_to_start_afresh(folder: Path) -> None:
    again = train(folder, "--steps", "3")

    assert "nothing was left to train. To start afresh: another name (SPOTKEEPER_RUN_ID=digits-2), or" in again.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--steps", "5"],
            "--steps must be at most 3, for which this run's learning rates were laid out, got 5. To start",
        ),
        (["--steps", "3", "--batch-size", "64"], "train_digits.py: step 3 of the checkpoint means other samples"),
        (["--steps", "3", "--width", "3"], "train_digits.py: commit/"),
        (["--steps", "0"], "argument --steps: must be a whole number from 1, got '0'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_fit_are_answered_in_one_sentence(folder: Path, options: list[str], told: str) -> None:
    refused = train(folder, *options)

    assert refused.returncode != 0
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
