"""What can still be saved before a host goes. Pure; asked when a notice comes, and again after each save that it chose.

The budget is what is left until the deadline, less a margin, because the announced time is approximate: EC2 gives two
minutes (docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html), ECS and Batch 30 seconds
between SIGTERM and SIGKILL (StopTimeout). What does not fit is not begun: an upload that the end of the host cuts off
has delayed everything else for nothing.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LARGEST_MARGIN_SECONDS: Final = 8.0
"""Kept free before the announced time: it is approximate, and the operating system takes some seconds to go down."""
LARGEST_MARGIN_SHARE: Final = 1 / 3
"""Of a short notice, such as SIGTERM where containers are stopped within seconds."""
COMMIT_SECONDS: Final = 0.5
"""For the look at the epochs and the manifest, before they have been measured."""


class EmergencySave(StrEnum):
    """What to do now."""

    FRESH = "fresh"
    """Save the end of this step; a save in flight is given up then."""
    FINISH_IN_FLIGHT = "finish in flight"
    """Begin nothing before the save in flight is committed; then ask again."""
    NOTHING = "nothing"
    """Nothing can be finished: give up the save in flight, and wait for the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InFlight:
    """A save whose snapshot is taken and which is being written."""

    bytes_left: int
    gain_seconds: float
    """Training time between its step and the step that a fresh save would have: what finishing it alone would lose."""


def margin_seconds(notice_seconds: float) -> float:
    """Return how long before the deadline everything is to be finished, for a notice that came so long before it."""
    return min(LARGEST_MARGIN_SECONDS, max(0.0, notice_seconds) * LARGEST_MARGIN_SHARE)


def choose(
    *,
    budget_seconds: float | None,
    step_seconds: float,
    staging_seconds: float,
    total_bytes: int,
    in_flight: InFlight | None,
    bytes_per_second: float | None,
    commit_seconds: float = COMMIT_SECONDS,
) -> EmergencySave:
    """Decide what is saved before the host goes.

    While one save is in flight no other can be, so the newest state often takes both: first finish, then save afresh.
    That is the choice wherever there is time for it, as the first commit cannot be lost any more when the second fails.
    Where only one of them fits, a fresh save must win back more training than it delays the commit.

    Args:
        budget_seconds: From now to the deadline, less the margin; negative when it is too late. None if nobody knows,
            as when the time had passed before the notice was first seen, which says more about a clock than about the
            host: then a save is tried, as nothing can be lost by it.
        step_seconds: Until the step that is being computed ends; 0 at a boundary.
        staging_seconds: What a snapshot takes.
        total_bytes: Of a whole checkpoint.
        in_flight: The save that is being written, if there is one.
        bytes_per_second: What this training's uploads dependably reached (`dependable_bytes_per_second`); None while
            nothing has been measured: then a save is tried if everything else fits.
        commit_seconds: From the last byte to the manifest.
    """
    if budget_seconds is None:
        return EmergencySave.FINISH_IN_FLIGHT if in_flight else EmergencySave.FRESH
    fresh_seconds = staging_seconds + _upload_seconds(total_bytes, bytes_per_second) + commit_seconds
    fresh_at = step_seconds + fresh_seconds
    if in_flight is None:
        return EmergencySave.FRESH if fresh_at <= budget_seconds else EmergencySave.NOTHING
    finished_at = _upload_seconds(in_flight.bytes_left, bytes_per_second) + commit_seconds
    both_at = max(step_seconds, finished_at) + fresh_seconds
    if both_at <= budget_seconds:
        return EmergencySave.FINISH_IN_FLIGHT
    delay_seconds = fresh_at - finished_at
    if fresh_at <= budget_seconds and (finished_at > budget_seconds or in_flight.gain_seconds > delay_seconds):
        return EmergencySave.FRESH
    return EmergencySave.FINISH_IN_FLIGHT if finished_at <= budget_seconds else EmergencySave.NOTHING


def _upload_seconds(num_bytes: int, bytes_per_second: float | None) -> float:
    return num_bytes / bytes_per_second if bytes_per_second else 0.0
