"""Threads beside the main one of `spotkeeper-exec`, which waits for signals."""

import signal
import threading

from spotkeeper.trainer.child import WAITED


def start_without_signals(thread: threading.Thread) -> None:
    """Start a thread that is given no signal for which the main thread waits: there it would arrive and be lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
