"""What saves of this training have cost so far, and what the next one will probably cost. Pure arithmetic.

Only what was measured here counts: not what a network card or a disk promises.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredSave:
    """What one committed save took."""

    lost_seconds: float
    """Of training: the stall, and by how much steps were slower while it was written."""
    upload_seconds: float
    """From the end of the snapshot until the manifest was there."""
    bytes: int

    def __post_init__(self) -> None:
        for name in ("lost_seconds", "upload_seconds", "bytes"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


def typical_lost_seconds(saves: Sequence[MeasuredSave]) -> float:
    """Return the median of the training time lost, of at least one save: one slow disk moment must not move it."""
    return statistics.median(save.lost_seconds for save in saves)


def typical_upload_seconds(saves: Sequence[MeasuredSave]) -> float:
    """Return the median upload, of at least one save."""
    return statistics.median(save.upload_seconds for save in saves)


def dependable_bytes_per_second(saves: Sequence[MeasuredSave]) -> float | None:
    """Return the bandwidth that nine of ten saves reached (the 10th percentile), or None before the first.

    Of fewer than ten it is the slowest: a deadline is no occasion for optimism.
    """
    reached = sorted(save.bytes / save.upload_seconds for save in saves if save.bytes and save.upload_seconds)
    return reached[math.ceil(len(reached) / 10) - 1] if reached else None
