"""How often a training saves. Pure; asked again after every save, so that it follows what is measured.

The interval balances the training time that a checkpoint costs against the work that an interruption loses
(`optimal_interval`), at the hazard of the machine's age (`hazard`): a young machine saves more often. The bounds around
it are ours: at most one save in flight, and never more at stake than the user allows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spotkeeper.policy.hazard import PRIOR_LIFETIME
from spotkeeper.policy.measured_saves import MeasuredSave, typical_lost_seconds, typical_upload_seconds
from spotkeeper.policy.optimal_interval import exact_seconds

DEFAULT_MAX_LOST_SECONDS: Final = 900.0
LONGEST_MAX_LOST_SECONDS: Final = 3600.0
"""What a user may set ends here: a checkpoint costs too little to risk more than an hour. 1 minute is a sensible least;
shorter ones, which tests and demonstrations need, are taken as they are."""

FIRST_SAVE_SECONDS: Final = 60.0
"""The first save of a training comes early, because it measures what the interval depends on."""
UPLOAD_MARGIN: Final = 1.2
"""The shortest interval in uploads: at most one save is in flight, and one may take longer than the others."""

PRIOR_INTERRUPTIONS: Final = 1.0
"""What is known of pools in general counts as much as so many interruptions of this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The time between the beginnings of two saves, and what decided it."""

    seconds: float
    reason: str


def check_max_lost(seconds: float) -> float:
    """Return the user's bound on lost work.

    Raises:
        ValueError: if it is not above 0 and at most an hour.
    """
    if not 0 < seconds <= LONGEST_MAX_LOST_SECONDS:
        raise ValueError(
            f"max_lost must be more than 0 and at most {LONGEST_MAX_LOST_SECONDS:.0f} s (1h); got {seconds:g} s"
        )
    return seconds


def seconds_between_interruptions(*, age_seconds: float, machine_seconds: float, num_interruptions: int) -> float:
    """Return the mean time between interruptions at the hazard that a machine of this age has.

    The hazard by age is that of recorded GPU pools, scaled by what this run has met: its interruptions over those that
    were to be expected, both with one more that was expected. Of its machines only the sum of their time is known; they
    are taken to have lasted alike, which expects the most interruptions.

    Args:
        age_seconds: Of the present machine.
        machine_seconds: For which the run has had machines, over all its attempts.
        num_interruptions: How many of them were taken away.
    """
    num_machines = num_interruptions + 1
    expected = num_machines * PRIOR_LIFETIME.expected_events(machine_seconds / num_machines / 3600)
    ratio = (PRIOR_INTERRUPTIONS + num_interruptions) / (PRIOR_INTERRUPTIONS + expected)
    return 3600 / (ratio * PRIOR_LIFETIME.per_hour(age_seconds / 3600))


def choose(
    saves: Sequence[MeasuredSave],
    *,
    between_interruptions_seconds: float,
    rescued_share: float,
    max_lost_seconds: float = DEFAULT_MAX_LOST_SECONDS,
) -> Interval:
    """Return how long after the beginning of one save the next one begins.

    Args:
        saves: The latest of this training; the first attempt has none yet.
        between_interruptions_seconds: Mean time between interruptions, above 0.
        rescued_share: Of the interruptions, how many (0 to 1) ended in a successful emergency save: they lose
            nothing, so only the others call for checkpoints.
        max_lost_seconds: The user's bound.

    Raises:
        ValueError: naming the argument that is out of its range.
    """
    check_max_lost(max_lost_seconds)
    if not between_interruptions_seconds > 0:
        raise ValueError(f"between_interruptions_seconds must be above 0, got {between_interruptions_seconds}")
    if not 0 <= rescued_share <= 1:
        raise ValueError(f"rescued_share must be from 0 to 1, got {rescued_share}")
    if not saves:
        if max_lost_seconds <= FIRST_SAVE_SECONDS:
            return _at_the_bound(max_lost_seconds)
        return Interval(seconds=FIRST_SAVE_SECONDS, reason="nothing is measured yet")
    lost_seconds, upload_seconds = typical_lost_seconds(saves), typical_upload_seconds(saves)
    shortest_seconds = UPLOAD_MARGIN * upload_seconds
    if shortest_seconds >= max_lost_seconds:
        return Interval(
            seconds=shortest_seconds,
            reason=f"an upload takes {upload_seconds:.3g} s, and max_lost of {max_lost_seconds:g} s has no room for it",
        )
    if rescued_share == 1 or math.isinf(between_interruptions_seconds):
        return _at_the_bound(max_lost_seconds)
    between_losses_seconds = between_interruptions_seconds / (1 - rescued_share)
    best_seconds = exact_seconds(lost_seconds=lost_seconds, between_losses_seconds=between_losses_seconds)
    if best_seconds >= max_lost_seconds:
        return _at_the_bound(max_lost_seconds)
    if best_seconds <= shortest_seconds:
        return Interval(seconds=shortest_seconds, reason=f"an upload takes {upload_seconds:.3g} s")
    return Interval(
        seconds=best_seconds,
        reason=f"a checkpoint costs {lost_seconds:.3g} s of training, and work is lost every "
        f"{between_losses_seconds:.0f} s",
    )


def is_due(
    interval: Interval,
    *,
    since_save_seconds: float,
    upload_seconds: float | None,
    rebalance_recommended: bool,
) -> bool:
    """Tell whether an ordinary save should begin.

    A rebalance recommendation, which has not led to a save yet, brings it forward: to a quarter of the interval, but
    not into the upload of the last one. Training goes on either way.

    Args:
        interval: What `choose` returned.
        since_save_seconds: Since the last save began, or training did.
        upload_seconds: What an upload takes; None if this attempt has committed nothing yet.
        rebalance_recommended: EC2 expects an interruption.
    """
    if not rebalance_recommended:
        return since_save_seconds >= interval.seconds
    if upload_seconds is None:
        return True
    return since_save_seconds >= min(interval.seconds, max(2 * upload_seconds, interval.seconds / 4))


def _at_the_bound(max_lost_seconds: float) -> Interval:
    return Interval(seconds=max_lost_seconds, reason=f"max_lost is {max_lost_seconds:g} s")
