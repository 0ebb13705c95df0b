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
from spotkeeper.trainer.engine import Engine, Progress
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.restore import restored
from spotkeeper.trainer.run import Run
from spotkeeper.trainer.stateful import Stateful, restore_objects
from spotkeeper.trainer.store_address import open_store
from spotkeeper.trainer.writer_client import WriterSettings

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
        self._saving_step = 0
        next(self._steps)

    def begin_step(self) -> None:
        """Go on in the library's loop."""
        next(self._steps)

    def save(self) -> None:
        """Ask for a save at the end of the step, which is now."""
        self._before = self._newest()
        self._run.save_now()
        next(self._steps)
        self._saving_step = self._run.step

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
        """Let the library learn of the commit, so that its next save need not wait. Retention is a part of its cost."""
        while self._run.committed_step != self._saving_step:
            next(self._steps)

    def _newest(self) -> str:
        # os.listdir, because it is asked while steps are timed. Files that are not complete have another suffix.
        names = os.listdir(self._commits) if self._commits.exists() else ()  # noqa: PTH208
        return max((name for name in names if name.endswith(".json")), default="")


class SpotkeeperBlocking(Spotkeeper):
    """The library's engine with the overlap off, as for a last save: all is copied before the training goes on."""

    def __init__(self, training: Training, folder: Path) -> None:
        Method.__init__(self, training, folder)
        self._objects: dict[str, Stateful] = {"model": training.model, "opt": training.opt}
        writes = WriterSettings(checkpoint_uri=str(folder), run_id=RUN_ID, keep=2, epoch=EPOCH, parent=None)
        self._engine = Engine(self._objects, writes, EventLog(RUN_ID, EPOCH))
        self._engine.start()
        self._step = 0
        self._is_durable = False

    def begin_step(self) -> None:
        """Do nothing: this is not the library's loop."""

    def save(self) -> None:
        """Copy, and leave the rest to the writer."""
        self._step += 1
        self._is_durable = False
        self._engine.begin(step=self._step, cause="requested", loop={}, gradients={}, at_once=True)

    def is_durable(self) -> bool:
        """Ask the engine."""
        return self._learn(self._engine.poll())

    def wait(self) -> None:
        """Wait for the engine."""
        if not self._is_durable:
            assert self._learn(self._engine.wait()), "the save failed"

    def forget(self) -> None:
        """Leave that to the library."""

    def _learn(self, progress: Progress) -> bool:
        self._is_durable = self._is_durable or progress is Progress.COMMITTED
        return self._is_durable
