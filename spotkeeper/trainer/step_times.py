"""How much slower steps are while a save is being written: the part of its cost that no stall shows."""

import statistics
from collections import deque
from typing import Final

REMEMBERED_STEPS: Final = 50
FEWEST_STEPS: Final = 5
"""Before so many undisturbed steps nothing can be said; the first ones are slow by themselves."""


class StepTimes:
    """The durations of the last steps that no save disturbed, and of those that one does."""

    def __init__(self) -> None:
        self._undisturbed: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._disturbed: list[float] = []

    def add(self, seconds: float, *, is_disturbed: bool) -> None:
        """Take note of a step."""
        (self._disturbed if is_disturbed else self._undisturbed).append(seconds)

    def take_slowdown_seconds(self) -> float:
        """Return by how much the disturbed steps since the last call were longer, all together; 0 if not known."""
        disturbed, self._disturbed = self._disturbed, []
        if len(self._undisturbed) < FEWEST_STEPS:
            return 0.0
        return max(0.0, sum(disturbed) - len(disturbed) * statistics.median(self._undisturbed))
