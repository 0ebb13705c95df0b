"""The other side of a standby: the attempt that holds the run looks whether a standby asks for it."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from spotkeeper.contract.handover import POLL_SECONDS
from spotkeeper.policy.standby import StandbyView, gives_way
from spotkeeper.trainer.attempt_ledger import LedgerUnavailableError
from spotkeeper.trainer.side_thread import start_without_signals


class HandoverWatch:
    """Looks at the run while its `with` block runs, until `must_give_way` is true; it then stays so.

    A thread looks, because the ledger may take longer to answer than a signal to the program may wait. It wakes
    `run_child` by SIGCHLD, for which that waits and which does nothing to a process that does not.
    """

    def __init__(
        self,
        look: Callable[[], StandbyView],
        *,
        is_complete: Callable[[], bool],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Take how to look at the run, and how to tell whether the program has done all its work."""
        self.must_give_way = False
        self._look = look
        self._is_complete = is_complete
        self._poll_seconds = poll_seconds
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        start_without_signals(threading.Thread(target=self._watch, name="spotkeeper-handover", daemon=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        # Waits first: the claim has just shown that nobody asks.
        while not self._ended.wait(self._poll_seconds):
            try:
                view = self._look()
            except LedgerUnavailableError:
                continue
            except ValueError as error:
                print(f"spotkeeper-exec: cannot tell whether a standby asks: {error}", file=sys.stderr, flush=True)
                return
            if gives_way(view, is_complete=self._is_complete()):
                self.must_give_way = True
                os.kill(os.getpid(), signal.SIGCHLD)
                return
