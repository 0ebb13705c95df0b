"""What a survey measures of many runs, and how two of its parts come together. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Of all runs that were looked at together."""

    checkpoint_age_seconds: int = 0
    """Of the run that would lose most."""
    mirror_delay_seconds: int = 0
    """Of the run whose mirror is latest."""
    num_hosts_lost: int = 0
    num_not_honoured: int = 0
    num_without_progress: int = 0
    num_stalled_by_losses: int = 0
    num_over_own_cap: int = 0

    def plus(self, other: Self) -> Self:
        """Return the measures of these runs together with others."""
        summed, worst = self._joined(other, lambda one, two: one + two), self.worst(other)
        return replace(
            summed,
            checkpoint_age_seconds=worst.checkpoint_age_seconds,
            mirror_delay_seconds=worst.mirror_delay_seconds,
        )

    def worst(self, other: Self) -> Self:
        """Return the worse of two looks at the same runs, measure by measure."""
        return self._joined(other, max)

    def _joined(self, other: Self, join: Callable[[int, int], int]) -> Self:
        names = [one.name for one in fields(self)]
        return type(self)(**{name: join(getattr(self, name), getattr(other, name)) for name in names})
