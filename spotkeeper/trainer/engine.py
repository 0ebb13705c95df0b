"""How a state becomes a checkpoint while training goes on.

1. At a step boundary the state is captured: a fraction of a millisecond (`capture`).
2. A thread copies it into the arena while the next forward and backward compute; the hook before `optimizer.step`
   waits for that copy (`snapshot`).
3. The writer process makes it durable and commits it (`writer`), while training goes on.
4. At a later boundary `poll` learns of that.
"""

import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from queue import SimpleQueue
from typing import Any, Final

from torch.optim import Optimizer

from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.arena import Arena
from spotkeeper.trainer.capture import Capture
from spotkeeper.trainer.checkpoint import FencedError, RankPart
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.ranks import CollectParts, Ranks
from spotkeeper.trainer.snapshot import Snapshot, VoidError
from spotkeeper.trainer.state_tree import Encoder
from spotkeeper.trainer.stateful import Stateful
from spotkeeper.trainer.writer_client import WriterClient, WriterSettings

END_SECONDS: Final = 120.0
"""How long a save that is under way may take when the program ends for another reason than a notice."""


class Progress(Enum):
    """What became of the last save that was begun."""

    NONE = auto()
    """There was none, or it was told before."""
    UNDER_WAY = auto()
    COMMITTED = auto()
    FAILED = auto()
    VOID = auto()
    """The state changed under the copy, as a forward that renormalizes weights does: save again."""


@dataclass(eq=False)
class _Save:
    """One save, from its boundary to its end."""

    step: int
    cause: str
    snapshot: Snapshot
    began: float
    stall_seconds: float = 0.0
    seconds: float = 0.0
    reply: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Saves one run's objects. All methods are for the thread that trains."""

    def __init__(
        self,
        objects: Mapping[str, Stateful],
        settings: WriterSettings,
        log: EventLog,
        *,
        ranks: Ranks | None = None,
        per_rank: Collection[str] = (),
    ) -> None:
        """Save `objects`; of several `ranks`, those other than rank 0 save the objects named in `per_rank` alone."""
        is_part = ranks is not None and not ranks.leads
        self._saved = {name: each for name, each in objects.items() if not is_part or name in per_rank}
        self._log = log
        self._ranks = ranks
        self._arena = Arena()
        self._writer = WriterClient(settings, self._arena)
        self._save: _Save | None = None
        self._begun: SimpleQueue[_Save | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.saved_bytes = 0
        """Of the checkpoint that was committed last; 0 before the first."""
        self.upload_seconds = 0.0
        """From the end of its stall until it was committed."""
        self._changes_early: set[int] = set()
        """Addresses of tensors that were found to change while they were being copied."""
        self._hooks = [
            each.register_step_pre_hook(lambda *_: self._join())
            for each in objects.values()
            if isinstance(each, Optimizer)
        ]

    def start(self) -> None:
        """Start thread and writer, so that the first save need not wait for them."""
        self._thread = threading.Thread(target=self._carry_out_all, name="spotkeeper-saves", daemon=True)
        self._thread.start()
        try:
            self._writer.start()
        except OSError as error:
            # It is tried again for the first save, which then says so itself.
            message = f"spotkeeper: the process that writes checkpoints cannot be started yet: {error}"
            print(message, file=sys.stderr, flush=True)

    @property
    def is_busy(self) -> bool:
        """Whether a save is under way."""
        return self._save is not None

    def begin(
        self,
        *,
        step: int,
        cause: str,
        loop: Mapping[str, Any],
        gradients: Mapping[str, Any],
        at_once: bool = False,
    ) -> None:
        """Begin to save the state of this boundary, and return as soon as training may go on.

        With `at_once` everything is copied before that, because training is to end here, or a copy was void.
        """
        assert self._save is None
        began = time.monotonic()
        capture = Capture(self._changes_early, borrows=not at_once)
        capture.add_objects(self._saved)
        capture.add_loop(loop, gradients)
        save = self._save = _Save(step, cause, Snapshot(capture, self._arena), began)
        self._begun.put(save)
        save.snapshot.wait_for_large()
        save.stall_seconds += time.monotonic() - began

    def poll(self) -> Progress:
        """Tell, once, what became of the save that was begun.

        Raises:
            FencedError: if a newer attempt owns the run.
            ValueError: if the state holds what a checkpoint cannot.
        """
        save = self._save
        if save is None:
            return Progress.NONE
        if not save.ended.is_set():
            return Progress.UNDER_WAY
        self._save = None
        return self._ended(save)

    def wait(self) -> Progress:
        """Wait for the save that was begun, and tell what became of it. Raises as `poll` does."""
        if self._save is not None:
            self._save.ended.wait()
        return self.poll()

    def close(self) -> None:
        """Finish what is under way, end the writer, and let the optimizers go. A second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._thread is not None:
            self._begun.put(None)
            self._thread.join(END_SECONDS)
            self._thread = None

    def _join(self) -> None:
        """Hold training back while its state is still being copied; called before every `optimizer.step`."""
        save = self._save
        if save is not None:
            began = time.monotonic()
            save.snapshot.join()
            save.stall_seconds += time.monotonic() - began

    def _carry_out_all(self) -> None:
        while (save := self._begun.get()) is not None:
            try:
                save.reply = self._carry_out(save)
            except Exception as error:  # noqa: BLE001  (it is raised, or told, in the thread that trains)
                save.error = error
            finally:
                save.snapshot.release()
                save.seconds = time.monotonic() - save.began
                save.ended.set()
        self._writer.close()

    def _carry_out(self, save: _Save) -> Mapping[str, Any]:
        if self._ranks is None:
            return self._write(save)
        return self._ranks.save(
            save.step, commit=lambda collect: self._write(save, collect), write_part=lambda: self._write_part(save)
        )

    def _write(self, save: _Save, collect_parts: CollectParts | None = None, *, rank: int = 0) -> Mapping[str, Any]:
        save.snapshot.copy()
        return self._writer.save(
            save.snapshot, step=save.step, cause=save.cause, rank=rank, collect_parts=collect_parts
        )

    def _write_part(self, save: _Save) -> RankPart:
        assert self._ranks is not None
        reply = self._write(save, rank=self._ranks.rank)
        if "fenced" in reply:
            raise FencedError(reply["fenced"])
        if "failed" in reply:
            raise OSError(reply["failed"])
        return RankPart(reply["written"], save.snapshot.tree)

    def _ended(self, save: _Save) -> Progress:
        match save.error:
            case None:
                pass
            case VoidError() as void:
                self._changes_early |= void.addresses
                return Progress.VOID
            case OSError() as error:
                return self._failed(save, str(error))
            case error:
                # It will be so at every save, and a training without checkpoints is not what was asked for.
                self._failed(save, str(error))
                raise error
        if "fenced" in save.reply:
            raise FencedError(save.reply["fenced"])
        if "failed" in save.reply:
            return self._failed(save, save.reply["failed"])
        self.saved_bytes = save.snapshot.total_bytes
        self.upload_seconds = max(0.0, save.seconds - save.stall_seconds)
        self._log.write(
            LogEvent.COMMITTED,
            step=save.step,
            cause=save.cause,
            seconds=round(save.seconds, 3),
            stall_seconds=round(save.stall_seconds, 6),
            bytes=save.snapshot.total_bytes,
        )
        return Progress.COMMITTED

    def _failed(self, save: _Save, reason: str) -> Progress:
        self._log.write(LogEvent.SAVE_FAILED, step=save.step, cause=save.cause, reason=reason)
        return Progress.FAILED


def check_storable(state: Mapping[str, Any]) -> None:
    """Refuse now what a save would refuse in the middle of a training.

    Raises:
        ValueError: naming the path of what a checkpoint cannot hold.
    """
    encoder = Encoder()
    for name, part in state.items():
        encoder.encode(part, name)
