"""How a state becomes a checkpoint while training goes on.

1. At a step boundary the state is captured: a fraction of a millisecond (`capture`).
2. A thread copies it into the arena while the next forward and backward compute; the hook before `optimizer.step`
   waits for that copy (`snapshot`).
3. The writer process makes it durable and commits it (`writer`), while training goes on.
4. At a later boundary `poll` learns of that.

Between two boundaries the state of the first may be kept (`keep`), captured and not copied, until an optimizer steps:
so long another thread can still save it (`save_kept`), however long the step takes.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from queue import SimpleQueue
from typing import Any, Final

from torch import nn
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
    is_mid_step: bool = False
    """Begun by another thread while the training is in the step after the boundary."""
    stall_seconds: float = 0.0
    seconds: float = 0.0
    reply: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def is_committed(self) -> bool:
        """Whether it has ended well."""
        return "committed" in self.reply


@dataclass(frozen=True, eq=False, slots=True)
class _Kept:
    """A boundary that can still be saved."""

    step: int
    capture: Capture


class Engine:
    """Saves one run's objects. All methods but `save_kept` are for the thread that trains."""

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
        self._saves: deque[_Save] = deque()
        """Those whose end the training has not learnt of, oldest first; all but the last have ended."""
        self._kept: _Kept | None = None
        self._guard = threading.Lock()
        """Of the two above: a kept boundary is either being saved, or given up, before an optimizer steps."""
        self._steps_begun = 0
        self._begun: SimpleQueue[_Save | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.saved_bytes = 0
        """Of the checkpoint that was committed last; 0 before the first."""
        self.upload_seconds = 0.0
        """From the end of its stall until it was committed."""
        self.ended_step = 0
        """Of the save that `poll` or `wait` told of last."""
        self.ended_in_mid_step = False
        """Whether that one was a `save_kept`."""
        self._changes_early: set[int] = set()
        """Addresses of tensors that were found to change while they were being copied."""
        self._hooks = [
            each.register_step_pre_hook(lambda *_: self._before_optimizer_step())
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
        """Whether a save is under way, or has ended and not been told of."""
        return bool(self._saves)

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer has begun to step since the last `forget`."""
        return self._steps_begun > 0

    @property
    def keeps_boundary(self) -> bool:
        """Whether a boundary is kept that can still be saved."""
        return self._kept is not None

    @property
    def may_keep(self) -> bool:
        """Whether everything that is trained is in an optimizer of the run, which says before it changes that."""
        optimizers = [each for each in self._saved.values() if isinstance(each, Optimizer)]
        held = {id(one) for each in optimizers for group in each.param_groups for one in group["params"]}
        modules = [each for each in self._saved.values() if isinstance(each, nn.Module)]
        trained = [one for each in modules for one in each.parameters() if one.requires_grad]
        return self._ranks is None and bool(held) and all(id(one) in held for one in trained)

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
        assert not self._saves
        began = time.monotonic()
        capture = self._captured(loop, gradients, borrows=not at_once)
        save = _Save(step, cause, Snapshot(capture, self._arena), began)
        self._saves.append(save)
        self._begun.put(save)
        save.snapshot.wait_for_large()
        save.stall_seconds += time.monotonic() - began

    def keep(self, *, step: int, loop: Mapping[str, Any], gradients: Mapping[str, Any]) -> bool:
        """Capture the state of this boundary, so that it can still be saved until `forget`, or an optimizer's step.

        Return False, and keep nothing, where large tensors would have to be cloned because anybody may change them.
        """
        capture = self._captured(loop, gradients, borrows=True)
        if capture.at_once:
            return False
        with self._guard:
            self._kept = _Kept(step, capture)
        return True

    def forget(self) -> None:
        """Give up what is kept, because the state becomes another one. A save of it that has begun goes on."""
        with self._guard:
            self._kept = None
            self._steps_begun = 0

    def save_kept(self, cause: str) -> bool:
        """Save what is kept, if anything is: from another thread than that which trains, and wait for the end of it.

        Return False where it may be tried again: it failed, or another save was under way.
        """
        with self._guard:
            kept, last = self._kept, self._saves[-1] if self._saves else None
            if kept is None:
                return True
            if last is not None and not last.ended.is_set():
                return False
            if last is not None and last.step == kept.step and last.is_committed:
                return True
            save = _Save(kept.step, cause, Snapshot(kept.capture, self._arena), time.monotonic(), is_mid_step=True)
            self._saves.append(save)
            self._begun.put(save)
        save.ended.wait()
        if isinstance(save.error, OSError) or "failed" in save.reply:
            return False
        self._give_up(kept)  # it is committed, or never will be
        return True

    def _give_up(self, kept: _Kept) -> None:
        with self._guard:
            if self._kept is kept:
                self._kept = None

    def poll(self) -> Progress:
        """Tell, once, what became of the save that was begun.

        Raises:
            FencedError: if a newer attempt owns the run.
            ValueError: if the state holds what a checkpoint cannot.
        """
        if not self._saves:
            return Progress.NONE
        save = self._saves[0]
        if not save.ended.is_set():
            return Progress.UNDER_WAY
        with self._guard:
            self._saves.popleft()
        self.ended_step, self.ended_in_mid_step = save.step, save.is_mid_step
        return self._ended(save)

    def wait(self) -> Progress:
        """Wait for the save that was begun, and tell what became of it. Raises as `poll` does."""
        if self._saves:
            self._saves[0].ended.wait()
        return self.poll()

    def close(self) -> None:
        """Finish what is under way, end the writer, and let the optimizers go. A second call does nothing."""
        self.forget()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._thread is not None:
            self._begun.put(None)
            self._thread.join(END_SECONDS)
            self._thread = None

    def _captured(self, loop: Mapping[str, Any], gradients: Mapping[str, Any], *, borrows: bool) -> Capture:
        capture = Capture(self._changes_early, borrows=borrows)
        capture.add_objects(self._saved)
        capture.add_loop(loop, gradients)
        return capture

    def _before_optimizer_step(self) -> None:
        """Hold training back while its state is still being copied."""
        with self._guard:
            self._kept = None
            self._steps_begun += 1
            saves = list(self._saves)
        for save in saves:
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
                with suppress(OSError):  # whoever read the output may be gone
                    self._tell_of_mid_step(save)
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
        if not save.is_mid_step:
            self._log_committed(save)
        return Progress.COMMITTED

    def _tell_of_mid_step(self, save: _Save) -> None:
        """Log at once what became of a save in the middle of a step: nobody knows whether that step will end."""
        if not save.is_mid_step or "fenced" in save.reply:
            return
        if save.is_committed:
            self._log_committed(save)
        elif isinstance(save.error, VoidError):
            self._log_failed(save, "this step has changed the state already, other than by an optimizer")
        else:
            self._log_failed(save, str(save.error or save.reply.get("failed")))

    def _log_committed(self, save: _Save) -> None:
        self._log.write(
            LogEvent.COMMITTED,
            step=save.step,
            cause=save.cause,
            seconds=round(save.seconds, 3),
            stall_seconds=round(save.stall_seconds, 6),
            bytes=save.snapshot.total_bytes,
        )

    def _failed(self, save: _Save, reason: str) -> Progress:
        if not save.is_mid_step:
            self._log_failed(save, reason)
        return Progress.FAILED

    def _log_failed(self, save: _Save, reason: str) -> None:
        self._log.write(LogEvent.SAVE_FAILED, step=save.step, cause=save.cause, reason=reason)


def check_storable(state: Mapping[str, Any]) -> None:
    """Refuse now what a save would refuse in the middle of a training.

    Raises:
        ValueError: naming the path of what a checkpoint cannot hold.
    """
    encoder = Encoder()
    for name, part in state.items():
        encoder.encode(part, name)
