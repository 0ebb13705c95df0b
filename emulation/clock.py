"""The emulation's only clock: what time it is, how long AWS's delays take here, and what to do later.

Programs under emulation see real time and real deadlines; the emulation alone shortens AWS's own delays. An
instance that takes 90 s to boot takes 90 s / speed, and a two-minute notice ends after 120 s / speed, but never
sooner than a real program needs to save its work.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Self

SPOT_NOTICE_SECONDS: Final = 120.0
"""docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"""

_log = logging.getLogger(__name__)


def check_speed(speed: float) -> float:
    """Return a speed that a clock can have.

    Raises:
        ValueError: if it is out of range.
    """
    if not 1 <= speed <= 100_000:
        raise ValueError(f"speed must be from 1 (real time) to 100000; got {speed:g}")
    return speed


class Timer:
    """A callback that is due later; `cancel` it as long as it has not run."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the callback. Harmless after it ran."""
        self._callback = None

    def run(self) -> None:
        """Call the callback, at most once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Clock:
    """Real time, AWS's delays divided by `speed`, and one thread that runs callbacks when they are due.

    Use it as a context manager, or call `stop`.

    Args:
        speed: AWS seconds that pass in one real second, 1 to 100,000.
        shortest_grace_seconds: Real seconds that a notice and a stop time-out last at least.

    Raises:
        ValueError: if `speed` is out of range.
    """

    def __init__(self, speed: float = 1.0, *, shortest_grace_seconds: float = 5.0) -> None:
        self.speed = check_speed(speed)
        self.shortest_grace_seconds = shortest_grace_seconds
        self.failures: list[Exception] = []
        """What callbacks raised: bugs of the emulation. Whoever stops the clock looks here."""
        self._due: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="emulation-clock", daemon=True)
        self._thread.start()

    def now(self) -> datetime:
        """Return the real time, in UTC."""
        return datetime.now(UTC)

    def now_ms(self) -> int:
        """Return the real time in milliseconds since 1970, as Batch states it."""
        return int(self.now().timestamp() * 1000)

    def real_seconds(self, aws_seconds: float) -> float:
        """Return how long a delay of AWS's takes here."""
        return aws_seconds / self.speed

    def grace_seconds(self, aws_seconds: float) -> float:
        """Return how long a program has here to save its work when AWS would give it `aws_seconds`."""
        return max(self.shortest_grace_seconds, self.real_seconds(aws_seconds))

    @property
    def notice_seconds(self) -> float:
        """Real seconds from a spot interruption notice to its deadline."""
        return self.grace_seconds(SPOT_NOTICE_SECONDS)

    def after(self, real_seconds: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` on the clock's thread after `real_seconds`; callbacks never overlap one another."""
        timer = Timer(callback)
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + max(0.0, real_seconds), next(self._sequence), timer))
            self._changed.notify()
        return timer

    def stop(self) -> None:
        """Run nothing more, and wait for the callback that runs."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            try:
                timer.run()
            except Exception as error:  # noqa: BLE001  the outermost loop: one bad callback must not stop time
                self.failures.append(error)
                _log.error("a callback of the emulation failed", exc_info=error)

    def _next(self) -> Timer | None:
        """Wait for the next timer that is due; None once stopped."""
        with self._changed:
            while not self._stopped:
                wait_seconds = self._due[0][0] - time.monotonic() if self._due else None
                if wait_seconds is not None and wait_seconds <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait_seconds)
        return None
