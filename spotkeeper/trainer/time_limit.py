"""When an attempt that Batch will end has to be told: Batch does not retry one that has met its time limit."""

from typing import Final

LARGEST_MARGIN_SECONDS: Final = 300.0
"""Enough for the rest of a step and the save of tens of gigabytes; more would be paid for and not trained in."""
SMALLEST_MARGIN_SECONDS: Final = 30.0
"""What Batch leaves between SIGTERM and SIGKILL; a shorter warning would be none."""


def seconds_until_warning(limit_seconds: float) -> float:
    """Return how long after its start an attempt is told to save: a tenth of the limit before the limit.

    The margin lies between 30 and 300 seconds, and is never more than half of the limit (Batch's shortest limit is
    60 seconds). Batch's clock starts a moment before ours, at the start of the container; the margin has room for it.
    """
    margin = min(LARGEST_MARGIN_SECONDS, max(SMALLEST_MARGIN_SECONDS, limit_seconds / 10))
    return limit_seconds - min(margin, limit_seconds / 2)
