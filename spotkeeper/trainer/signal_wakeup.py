"""News of a signal for another thread, while the main thread waits in a call of C code and cannot handle it.

Python runs its handlers in the main thread, between two bytecodes. A training on a GPU may wait for a whole step in one
call. The number of a signal is written to the wakeup descriptor at once, by the handler in C.
"""

import os
import signal
import socket
import threading
from collections.abc import Collection

_open: list["SignalWakeup"] = []


class SignalWakeup:
    """The descriptor, as long as nobody else, such as asyncio, has one."""

    def __init__(self, numbers: Collection[int]) -> None:
        """Listen for these signals. To be called in the main thread, as `close` is."""
        self._numbers = numbers
        self._has_come = False
        self._guard = threading.Lock()
        self._ours, self._pythons = socket.socketpair()
        self._ours.settimeout(0)
        self._pythons.settimeout(0)
        others = signal.set_wakeup_fd(self._pythons.fileno(), warn_on_full_buffer=False)
        if others == -1:
            _open.append(self)
        else:
            signal.set_wakeup_fd(others)

    def has_come(self) -> bool:
        """Tell, in any thread, whether one of the signals has come."""
        with self._guard:
            try:
                while told := self._ours.recv(4096):
                    self._has_come |= any(number in self._numbers for number in told)
            except OSError:  # there is no more, or it is closed
                pass
            return self._has_come

    def close(self) -> None:
        """Listen no more."""
        if self in _open:
            _open.remove(self)
            signal.set_wakeup_fd(-1)
        self._ours.close()
        self._pythons.close()


def _leave_to_parent() -> None:
    """Keep the signals of a forked process, such as those that end a loader's workers, from its parent."""
    if _open:
        signal.set_wakeup_fd(-1)
        _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
