"""Saves in the middle of a step, for notices that come while a step takes longer than the host will be there.

Between two optimizer steps nothing that an optimizer trains changes, so the boundary before a step can be saved until
an optimizer begins to step: its parameters are still where they were, and what a forward may change has been copied at
the boundary. That copy is made before the first steps, which may compile, and from then on as long as all of them
together cost no more than a thousandth of the training; in an evaluation it is made in any case.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from spotkeeper.trainer.engine import Engine
from spotkeeper.trainer.notice import NoticeWatch

MOST_SHARE: Final = 0.001
"""Of the training's time, for keeping its boundaries."""
FIRST_STEPS: Final = 3
"""Before so many the cost does not count: they compile and warm up."""
HEAD_START_SECONDS: Final = 2.0
"""A step that ends so soon after a notice is saved as a whole; a save of its beginning would only delay that."""
POLL_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 1.0
LONG_STEP_SECONDS: Final = 5.0
"""From such a step on it is worth saying why a step cannot be saved in its middle."""

LARGE: Final = "the run has large tensors, other than parameters, that may change at any time"

BoundaryState = Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""Returns the state of the loop, and the gradients, at the boundary."""


class MidStepSaves:
    """Keeps what a boundary was, and saves it if a notice comes and the step does not end; in its `with` block."""

    def __init__(
        self,
        engine: Engine,
        watch: NoticeWatch,
        *,
        fits: Callable[[], bool],
        head_start_seconds: float = HEAD_START_SECONDS,
        long_step_seconds: float = LONG_STEP_SECONDS,
    ) -> None:
        """`fits` tells, in any thread, whether a save can still be finished before the host goes."""
        self._engine = engine
        self._watch = watch
        self._fits = fits
        self._head_start_seconds = head_start_seconds
        self._long_step_seconds = long_step_seconds
        self._ended = threading.Event()
        self._began_at = self._boundary_at = time.monotonic()
        self._num_first = 0
        self._spent_seconds = self._last_seconds = 0.0
        self._may_keep = True
        self._has_said_why_not = False

    def __enter__(self) -> Self:
        self._began_at = self._boundary_at = time.monotonic()
        self._may_keep = self._engine.may_keep
        self._engine.forget()
        threading.Thread(target=self._wait_for_notice, name="spotkeeper-mid-step", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._engine.forget()

    def at_boundary(self, step: int, state: BoundaryState) -> None:
        """Keep this boundary until an optimizer steps, if that costs next to nothing."""
        now = time.monotonic()
        last_was_long = now - self._boundary_at >= self._long_step_seconds
        self._boundary_at = now
        is_first = self._num_first < FIRST_STEPS
        if not is_first and self._spent_seconds + self._last_seconds > MOST_SHARE * (now - self._began_at):
            return
        reason = self._reason_not_to_keep(step, state)
        self._last_seconds = time.monotonic() - now
        if is_first:
            self._num_first += 1
        else:
            self._spent_seconds += self._last_seconds
        if reason is not None and last_was_long:
            self._say_once(f"a notice is answered at the end of the step, because {reason}")

    def _reason_not_to_keep(self, step: int, state: BoundaryState) -> str | None:
        """Keep the boundary, or return why it is not."""
        if not self._may_keep:
            return "not everything that is trained is in an optimizer that the run was given"
        loop, gradients = state()
        if gradients:
            # They would be held where the step is about to drop them, and needs their memory for the next ones.
            return "gradients are there at the beginning of a step: call zero_grad after opt.step(), not before"
        if not self._engine.keep(step=step, loop=loop, gradients={}):
            return f"{LARGE}, and would have to be copied before every step"
        return None

    @contextmanager
    def evaluation(self, step: int, state: BoundaryState, *, is_saved: bool) -> Iterator[None]:
        """Keep the boundary, whatever that costs, while the block runs: it takes long, and changes nothing.

        Raises:
            RuntimeError: if an optimizer has stepped since the boundary.
        """
        if self._engine.has_stepped:
            raise RuntimeError(
                f"an optimizer has stepped in step {step} before run.evaluation(): evaluate at the beginning of a "
                "step, before its training, so that a resumed run can repeat the evaluation and nothing else"
            )
        if is_saved or self._engine.keeps_boundary:
            yield
            return
        loop, gradients = state()
        if not self._engine.keep(step=step, loop=loop, gradients=gradients):
            self._say_once(f"a notice is answered after the evaluation, because {LARGE}")
        try:
            yield
        finally:
            if gradients or not self._may_keep:
                self._engine.forget()

    def _say_once(self, sentence: str) -> None:
        if not self._has_said_why_not:
            self._has_said_why_not = True
            print(f"spotkeeper: {sentence}", file=sys.stderr, flush=True)

    # In the thread

    def _wait_for_notice(self) -> None:
        pause_seconds = POLL_SECONDS
        heard_at = None
        while not self._ended.wait(pause_seconds):
            cause = self._watch.cause
            if cause is None:
                continue
            heard_at = heard_at or time.monotonic()
            if time.monotonic() - heard_at >= self._head_start_seconds and self._fits():
                is_done = self._engine.save_kept(cause)
                pause_seconds = POLL_SECONDS if is_done else RETRY_SECONDS
