"""How a state becomes a checkpoint: in this form the training loop waits until it is durable."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer import safetensors
from spotkeeper.trainer.checkpoint import Checkpoint, Checkpoints, RankPart
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.state_tree import Encoder, decode


class SynchronousEngine:
    """Saves and restores states through the commit protocol."""

    def __init__(self, checkpoints: Checkpoints, log: EventLog) -> None:
        self._checkpoints = checkpoints
        self._log = log

    def check_storable(self, state: dict[str, Any]) -> None:
        """Refuse now what `save` would refuse in the middle of a training.

        Raises:
            ValueError: naming the path of what a checkpoint cannot hold.
        """
        encoder = Encoder()
        for name, part in state.items():
            encoder.encode(part, name)

    def save(
        self,
        *,
        step: int,
        cause: str,
        state: dict[str, Any],
        collect_parts: Callable[[], Sequence[RankPart]] = tuple,
    ) -> bool:
        """Commit the state of a step boundary. A store that fails is reported, and costs this checkpoint only.

        `collect_parts` is called between writing and committing; it returns what the other ranks have written.

        Raises:
            FencedError: if a newer attempt owns the run.
            ValueError: if the state holds what a checkpoint cannot.
        """
        began = time.monotonic()
        encoder = Encoder()
        try:
            tree = {name: encoder.encode(part, name) for name, part in state.items()}
        except ValueError as error:
            # It will be so at every save, and a training without checkpoints is not what was asked for.
            self._log.write(LogEvent.SAVE_FAILED, step=step, cause=cause, reason=str(error))
            raise
        tensors = safetensors.dump(encoder.tensors)
        try:
            stored = self._checkpoints.write_data(step=step, chunks=[memoryview(tensors)], total_bytes=len(tensors))
            self._checkpoints.commit(step=step, cause=cause, stored=stored, state=tree, parts=collect_parts())
        except OSError as error:
            self._log.write(LogEvent.SAVE_FAILED, step=step, cause=cause, reason=str(error))
            return False
        self._log.write(
            LogEvent.COMMITTED,
            step=step,
            cause=cause,
            seconds=round(time.monotonic() - began, 3),
            bytes=len(tensors),
        )
        return True

    def restore(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the state that `save` was given."""
        tensors = safetensors.load(checkpoint.tensors)
        return {name: decode(part, tensors) for name, part in checkpoint.manifest["state"].items()}
