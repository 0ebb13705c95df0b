"""Where the time of an attempt goes: training, or what it takes to be able to go on with it.

Goodput is the share of the machine's time that ends up in the model. Each attempt counts its own seconds; what was
trained and then lost is known only once the next attempt has resumed (`policy.goodput` reads both from their lines).
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from spotkeeper.trainer.step_times import StepTimes


class Activity(StrEnum):
    """What the training thread does; each moment counts for one of them."""

    STEP = "step"
    """The program's own code for a step."""
    DATA = "data"
    """Waits for the loader."""
    STALL = "stall"
    """Waits for a save."""
    RESTORE = "restore"
    """Finds, verifies and loads a checkpoint."""
    LINGER = "linger"
    """Saved, waits for the host to go."""
    OTHER = "other"


class Goodput:
    """The counters of one attempt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = dict.fromkeys(Activity, 0.0)
        self._activity = Activity.OTHER
        self._entered_at = self._committed_at = clock()
        self._save_began_at: float | None = None
        self._stall_before_save = 0.0
        self._save_seconds = self._slowdown_seconds = 0.0
        self.num_steps = self._num_saves = 0
        self._step_times = StepTimes()

    def enter(self, activity: Activity) -> None:
        """Say that the training thread does this from now on."""
        now = self._clock()
        seconds = now - self._entered_at
        self._seconds[self._activity] += seconds
        if self._activity is Activity.STEP:
            self.num_steps += 1
            self._step_times.add(seconds, is_disturbed=self._save_began_at is not None)
        self._activity, self._entered_at = activity, now

    def begin_save(self) -> None:
        """Say that the state of this moment is being saved, before any of it is copied. One save at a time."""
        if self._save_began_at is not None:
            raise RuntimeError("a save is in flight: end it before the next begins")
        self._save_began_at = self._clock()
        self._stall_before_save = self._stall_seconds()

    def end_save(self, *, is_committed: bool) -> float:
        """Say that the save has ended, and return how much training time it cost: stall and slower steps."""
        if self._save_began_at is None:
            raise RuntimeError("no save is in flight: begin one first")
        slowdown_seconds = self._step_times.take_slowdown_seconds()
        self._slowdown_seconds += slowdown_seconds
        self._save_seconds += self._clock() - self._save_began_at
        self._num_saves += is_committed
        if is_committed:
            self._committed_at = self._save_began_at
        self._save_began_at = None
        return self._stall_seconds() - self._stall_before_save + slowdown_seconds

    def checkpoint_age_seconds(self) -> float:
        """Return how old the state of the newest committed checkpoint is, or this attempt if it is younger."""
        return self._clock() - self._committed_at

    def counters(self) -> dict[str, Any]:
        """Return what a progress line tells; the seconds and numbers are those since the attempt began."""
        passed = dict(self._seconds)
        passed[self._activity] += self._clock() - self._entered_at
        return {
            "checkpoint_age_seconds": round(self.checkpoint_age_seconds(), 3),
            "num_steps": self.num_steps,
            "num_saves": self._num_saves,
            "seconds": {
                **{activity.value: round(seconds, 3) for activity, seconds in passed.items()},
                "save": round(self._save_seconds, 3),
                "slowdown": round(self._slowdown_seconds, 3),
            },
        }

    def _stall_seconds(self) -> float:
        stalls_now = self._activity is Activity.STALL
        return self._seconds[Activity.STALL] + (self._clock() - self._entered_at if stalls_now else 0.0)
