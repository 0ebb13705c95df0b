"""The thread that commits a checkpoint folder while `spotkeeper-exec` waits for the program."""

import os
import signal
import threading
import time
from types import TracebackType
from typing import Final, Self

from spotkeeper.trainer.checkpoint import FencedError
from spotkeeper.trainer.folder_commit import FolderCommit
from spotkeeper.trainer.side_thread import start_without_signals

POLL_SECONDS: Final = 2.0
FINAL_ATTEMPTS: Final = 5
FINAL_PAUSE_SECONDS: Final = 5.0
LOW_PRIORITY: Final = 10
"""Niceness: what trains goes first."""


class FolderWatch:
    """Looks at the folder while its `with` block runs, and once more after the program has ended.

    It wakes `run_child` by SIGCHLD when a newer attempt has started: the program is to end then, and nothing of it is
    committed any more.
    """

    def __init__(self, commit: FolderCommit, *, poll_seconds: float = POLL_SECONDS) -> None:
        self.fenced: FencedError | None = None
        self._commit = commit
        self._poll_seconds = poll_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spotkeeper-folder", daemon=True)

    def __enter__(self) -> Self:
        start_without_signals(self._thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def finish(self, cause: str, *, ended_by_itself: bool) -> bool:
        """Commit what the program has left, after the `with` block. Return whether that is done.

        What a program that was killed had just written is left out unless it had been complete for a while.

        Raises:
            FencedError: if a newer attempt has started.
        """
        if self.fenced is not None:
            raise self.fenced
        for attempt in range(1, FINAL_ATTEMPTS + 1):
            if self._commit.look(cause, program_ended=ended_by_itself):
                return True
            if not ended_by_itself:
                break
            if attempt < FINAL_ATTEMPTS:
                time.sleep(FINAL_PAUSE_SECONDS)
        return False

    def _watch(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        while not self._ended.wait(self._poll_seconds):
            try:
                self._commit.look()
            except FencedError as error:
                self.fenced = error
                os.kill(os.getpid(), signal.SIGCHLD)
                return
