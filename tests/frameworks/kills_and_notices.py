"""Programs of Hugging Face and Lightning, killed and told to end under `spotkeeper-exec`: they end with the same bits.

`make test-frameworks` runs this, with the frameworks in an environment of their own. `make test`, which lacks them,
collects no file of this name.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from spotkeeper.contract.exit_codes import EXIT_COMPLETED, EXIT_YIELDED
from spotkeeper.trainer.notice import INTERRUPTION_PATH
from tests.trainer.conftest import REPOSITORY, clean_environ, imds
from tests.trainer.fake_imds import FakeImds
from tests.trainer.program import Program, running

__all__ = ["imds"]
PYTHON: Final = os.environ.get("FRAMEWORKS_PYTHON", "")
"""The interpreter that has them."""
if not PYTHON:
    raise pytest.UsageError("run this with `make test-frameworks`, which sets FRAMEWORKS_PYTHON")

pytestmark = pytest.mark.timeout(600)

EXAMPLES: Final = {
    "train_transformers.py": (["--steps", "60"], ["--notice-signal", "TERM"]),
    "train_lightning.py": (["--epochs", "6"], ["--notice-signal", "USR1"]),
}
SLOWLY: Final = ["--seconds-a-step", "0.7"]
"""So that a checkpoint lies there for longer than it must to be complete, before the next one comes."""


@contextmanager
def attempt(example: str, folder: Path, store: Path, *arguments: str, imds: FakeImds) -> Iterator[Program]:
    """An attempt of the example on a host where `folder` is what its folder is."""
    environ = clean_environ(
        SPOTKEEPER_URI=str(store),
        SPOTKEEPER_RUN_ID="frameworks",
        AWS_EC2_METADATA_SERVICE_ENDPOINT=imds.endpoint,
        HF_HUB_OFFLINE="1",
    )
    options, exec_options = EXAMPLES[example]
    command = ["-m", "spotkeeper.trainer.exec", "--checkpoint-folder", str(folder), *exec_options, "--", PYTHON]
    program = [str(REPOSITORY / "examples" / example), "--folder", str(folder), *options]
    with running([*command, *program, *arguments], environ) as started:
        yield started


def results(folder: Path) -> dict[str, Any]:
    """Return what the training has made, of the newest checkpoint in the folder."""
    if newest := max(folder.glob("*.ckpt"), default=None):
        import torch

        state = torch.load(newest, weights_only=True)
        return {name: tensor.tolist() for name, tensor in state["state_dict"].items()} | {"step": state["global_step"]}
    newest = folder / "checkpoint-60"
    return {"model": (newest / "model.safetensors").read_bytes(), "optimizer": (newest / "optimizer.pt").read_bytes()}


def announce_the_end_of_a_host_that_is_gone(imds: FakeImds) -> None:
    """Two minutes of lingering are over already."""
    gone = datetime.now(UTC) - timedelta(seconds=200)
    imds.documents[INTERRUPTION_PATH] = json.dumps({"action": "terminate", "time": gone.strftime("%Y-%m-%dT%H:%M:%SZ")})


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_training_that_is_killed_then_told_to_end_and_then_finished_equals_one_that_nobody_disturbed(
    example: str, tmp_path: Path, imds: FakeImds
) -> None:
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    with attempt(example, undisturbed, tmp_path / "other-store", imds=imds) as program:
        assert program.end() == EXIT_COMPLETED, program.other_output

    with attempt(example, tmp_path / "host-1", store, *SLOWLY, imds=imds) as killed:
        killed.wait_for("committed")
        pid = killed.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        killed.process.send_signal(signal.SIGKILL)
        os.kill(int(child), signal.SIGKILL)

    with attempt(example, tmp_path / "host-2", store, *SLOWLY, imds=imds) as told:
        assert told.wait_for("resumed")["files"] > 0
        told.wait_for("committed")
        announce_the_end_of_a_host_that_is_gone(imds)
        assert told.end() == EXIT_YIELDED, told.other_output
    assert told.events()[-3:] == ["committed", "lingering", "yielded"]
    imds.documents.clear()

    with attempt(example, tmp_path / "host-3", store, imds=imds) as finished:
        assert finished.wait_for("resumed")["step"] > told.lines[0]["step"]
        assert finished.end() == EXIT_COMPLETED, finished.other_output
    assert results(tmp_path / "host-3") == results(undisturbed)
