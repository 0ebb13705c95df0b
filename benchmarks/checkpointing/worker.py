"""A process that trains and saves in one or several ways, and times a round of each when it is told to.

    python -m benchmarks.checkpointing.worker SIZE_MB THREADS FOLDER METHOD…

Reads the name of a method a line, and answers with a line of JSON. Methods that leave the process as it was share one;
those that keep memory, threads or processes of their own have one each.
"""

import json
import os
import sys
from pathlib import Path

import torch

from benchmarks.checkpointing import methods
from benchmarks.checkpointing.methods import Measured
from benchmarks.checkpointing.ours import Spotkeeper, SpotkeeperBlocking
from benchmarks.checkpointing.training import Training, seconds_of

METHODS: dict[str, type[methods.Method]] = {
    "memcpy": methods.Memcpy,
    "raw_write": methods.RawWrite,
    "raw_direct_write": methods.RawDirectWrite,
    "torch_save": methods.TorchSave,
    "torch_save_mmap": methods.TorchSaveMapped,
    "safetensors": methods.Safetensors,
    "dcp_async": methods.DcpSave,
    "dcp_async_cached_stager": methods.DcpCachedStager,
    "dcp_async_process": methods.DcpProcess,
    "spotkeeper": Spotkeeper,
    "spotkeeper_blocking": SpotkeeperBlocking,
}
WARM_UP_STEPS = 3
LEAST_STEPS = 2


class Round:
    """Rounds of one method."""

    def __init__(self, training: Training, method: methods.Method) -> None:
        self._training = training
        self._method = method
        self._num_steps = LEAST_STEPS
        self._is_odd = False

    def warm_up(self) -> None:
        """Save twice and restore, so that all memory has been used once; check that it was restored."""
        for _ in range(2):
            self._steps_with_save()
            self._method.forget()
        if Measured.RESTORE in self._method.measured:
            self._method.save()
            self._method.wait()
            saved = self._training.checksum()
            self._training.spoil()
            self._method.restore()
            assert self._training.checksum() == saved, "what was restored is not what was saved"
        self._method.forget()

    def run(self) -> dict[str, float]:
        """Return one round's figures: of training, of a save for which the training waits, of a restore."""
        figures: dict[str, float] = {}
        if Measured.TRAINING in self._method.measured:
            figures |= self._train()
            self._method.forget()
        if Measured.STALL in self._method.measured:
            figures["stall_ms"] = 1e3 * seconds_of(self._method.save)
        if Measured.SAVE in self._method.measured:
            figures["save_mb_s"] = self._training.num_bytes() / 1e6 / seconds_of(self._save_and_wait)
            self._method.forget()
        if Measured.RESTORE in self._method.measured:
            self._method.restore()  # brings the file into the page cache, where a method wrote past it
            figures["restore_ms"] = 1e3 * seconds_of(self._method.restore)
        return figures

    def _train(self) -> dict[str, float]:
        """Train some steps with a save and as many without."""
        # Every other round the other way round: whatever drifts is then on both sides.
        before = seconds_of(self._steps) if self._is_odd else None
        num_steps = self._num_steps
        with_save, stall = self._steps_with_save()
        without = before if before is not None and num_steps == self._num_steps else seconds_of(self._steps)
        self._is_odd = not self._is_odd
        return {"stall_ms": 1e3 * stall, "lost_ms": 1e3 * (with_save - without)}

    def _step(self) -> None:
        self._method.begin_step()
        self._training.step()

    def _steps(self) -> None:
        for _ in range(self._num_steps):
            self._step()

    def _steps_with_save(self) -> tuple[float, float]:
        """Train until the save is durable, and a step more; return the seconds, and those of the stall."""
        stall = 0.0

        def train() -> None:
            nonlocal stall
            stall = seconds_of(self._method.save)
            self._training.step()
            stall += self._training.join_seconds
            num_steps = 1
            was_durable = False
            while not was_durable or num_steps < LEAST_STEPS:
                was_durable = self._method.is_durable()
                self._step()
                num_steps += 1
            self._num_steps = num_steps

        seconds = seconds_of(train)
        self._method.wait()
        return seconds, stall

    def _save_and_wait(self) -> None:
        self._method.save()
        self._method.wait()


def main() -> None:
    """Answer until the input ends."""
    size_mb, threads, folder, *chosen = sys.argv[1:]
    # What methods print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(int(threads))
    training = Training(int(size_mb))
    for _ in range(WARM_UP_STEPS):
        training.step()
    rounds = {}
    for name in chosen:
        path = Path(folder) / name
        path.mkdir(parents=True)
        method = METHODS[name](training, path)
        training.time_hooks_registered_until_now()
        rounds[name] = Round(training, method)
        rounds[name].warm_up()
    print(json.dumps({"bytes": training.num_bytes()}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(rounds[line.strip()].run()), file=answers, flush=True)
    os._exit(0)  # threads and processes of methods end with this one, and must not keep it


if __name__ == "__main__":
    main()
