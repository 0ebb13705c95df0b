"""Spotkeeper as a program uses it: `Run`, its loop, and `save_now`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import Dataset

from benchmarks.checkpointing.methods import Method
from benchmarks.checkpointing.training import Training
from spotkeeper.contract import environment_variables as names
from spotkeeper.contract.checkpoint_layout import commit_prefix
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.restore import restored
from spotkeeper.trainer.run import Run
from spotkeeper.trainer.stateful import Stateful, restore_objects
from spotkeeper.trainer.store_address import open_store

RUN_ID: Final = "benchmark"
EPOCH: Final = 1
POLL_SECONDS: Final = 0.0005


class Nothing(Dataset[Any]):
    """Samples that cost no time: what they would take is not a checkpoint's doing."""

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.empty(0)


class Spotkeeper(Method):
    """The library's own loop; each save is committed: written, synced, read back, fenced, and named by a manifest."""

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        os.environ |= {names.CHECKPOINT_URI: str(folder), names.RUN_ID: RUN_ID, names.PROGRESS_SECONDS: "1e6"}
        self._objects: dict[str, Stateful] = {"model": training.model, "opt": training.opt}
        self._run = Run(max_lost="1h", model=training.model, opt=training.opt)
        self._steps: Iterator[Any] = self._run.steps(self._run.loader(Nothing(), batch_size=1), total=1 << 40)
        self._commits = folder / commit_prefix(RUN_ID)
        self._before = ""
        next(self._steps)

    def begin_step(self) -> None:
        """Go on in the library's loop."""
        next(self._steps)

    def save(self) -> None:
        """Ask for a save at the end of the step, which is now."""
        self._before = self._newest()
        self._run.save_now()
        next(self._steps)

    def is_durable(self) -> bool:
        """Tell whether a newer manifest is there."""
        return self._newest() != self._before

    def wait(self) -> None:
        """Wait for the manifest."""
        while not self.is_durable():
            time.sleep(POLL_SECONDS)

    def restore(self) -> None:
        """Find the newest checkpoint, verify every byte of it, and load it."""
        checkpoints = Checkpoints(open_store(str(self.folder)), run_id=RUN_ID, keep=2, epoch=EPOCH)
        checkpoint = checkpoints.newest_valid()
        assert checkpoint is not None
        state = restored(checkpoint, self._objects)
        restore_objects(self._objects, state["objects"], {}, checkpoint.key)

    def forget(self) -> None:
        """Leave that to the library: its retention is a part of its cost."""

    def _newest(self) -> str:
        return max(os.listdir(self._commits), default="") if self._commits.exists() else ""  # noqa: PTH208  (faster)
