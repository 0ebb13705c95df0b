"""The thread that asks the metadata service on behalf of a program that does not: one without the library."""

import os
import signal
import threading
from types import TracebackType
from typing import Self

from spotkeeper.trainer.imds import Imds, ImdsUnavailableError
from spotkeeper.trainer.notice import ABSENT_POLL_SECONDS, POLL_SECONDS, Interruption, read_interruption
from spotkeeper.trainer.side_thread import start_without_signals


class InterruptionWatch:
    """Asks while its `with` block runs, until EC2 has announced that it takes the host; then wakes `run_child`."""

    def __init__(self, imds: Imds) -> None:
        self.interruption: Interruption | None = None
        self._imds = imds
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        start_without_signals(threading.Thread(target=self._watch, name="spotkeeper-interruption", daemon=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        pause_seconds = ABSENT_POLL_SECONDS
        while not self._ended.is_set():
            try:
                self.interruption = read_interruption(self._imds)
                pause_seconds = POLL_SECONDS
            except ImdsUnavailableError:
                pass
            if self.interruption is not None:
                os.kill(os.getpid(), signal.SIGCHLD)
                return
            self._ended.wait(pause_seconds)
