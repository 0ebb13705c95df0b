"""When the next save is due, and what fits before the host goes: the policies, fed with what this attempt measures."""

from collections import deque
from typing import Final

from spotkeeper.policy import checkpoint_interval, emergency_save
from spotkeeper.policy.checkpoint_interval import Interval
from spotkeeper.policy.emergency_save import EmergencySave, InFlight
from spotkeeper.policy.measured_saves import (
    MeasuredSave,
    dependable_bytes_per_second,
    typical_lost_seconds,
    typical_upload_seconds,
)

LEAST_SECONDS: Final = 60.0
"""Every save is several requests to S3, which are paid for; work of less than a minute is not worth more of them. Who
allows less than a minute to be lost gets that."""
SAVES_TO_REFUSE_BY: Final = 3
"""Of fewer saves nobody knows how fast they are: the first one starts the writer and opens its connections."""
LOOK_SECONDS: Final = 1.0
"""An interval holds for this long: it is asked for at every step, and what it rests on changes with minutes."""
REMEMBERED_SAVES: Final = 20
"""Costs and bandwidth are those of the latest: a training's state grows, and hosts and networks differ."""


class SavePace:
    """The saves of one attempt, as far as they say something about the next."""

    def __init__(self, *, max_lost_seconds: float, num_interruptions: int, run_seconds: float) -> None:
        """Take the user's bound, and the run's past: how often it was interrupted, in how many seconds since it began.

        Those include its waits for machines, which are not known here.
        """
        self._max_lost_seconds = max_lost_seconds
        self._num_interruptions = num_interruptions
        self._run_seconds = run_seconds
        self._saves: deque[MeasuredSave] = deque(maxlen=REMEMBERED_SAVES)
        self._interval: Interval | None = None
        self._holds_until_seconds = 0.0

    def add(self, save: MeasuredSave) -> None:
        """Take note of a save that was committed."""
        self._saves.append(save)
        self._interval = None

    def interval(self, attempt_seconds: float) -> Interval:
        """Return the time between two saves, `attempt_seconds` after this attempt began.

        Every interruption counts as one that lost work: a notice is a bonus, and nothing is planned on it.
        """
        between_seconds = checkpoint_interval.seconds_between_interruptions(
            age_seconds=attempt_seconds,
            machine_seconds=self._run_seconds + attempt_seconds,
            num_interruptions=self._num_interruptions,
        )
        best = checkpoint_interval.choose(
            tuple(self._saves),
            between_interruptions_seconds=between_seconds,
            rescued_share=0,
            max_lost_seconds=self._max_lost_seconds,
        )
        least_seconds = min(LEAST_SECONDS, self._max_lost_seconds)
        if best.seconds >= least_seconds:
            return best
        return Interval(
            seconds=least_seconds, reason=f"more often than every {least_seconds:g} s is not worth its requests"
        )

    def is_due(self, *, since_save_seconds: float, attempt_seconds: float, rebalance_recommended: bool) -> bool:
        """Tell whether an ordinary save should begin now."""
        if self._interval is None or attempt_seconds >= self._holds_until_seconds:
            self._interval = self.interval(attempt_seconds)
            self._holds_until_seconds = attempt_seconds + LOOK_SECONDS
        return checkpoint_interval.is_due(
            self._interval,
            since_save_seconds=since_save_seconds,
            upload_seconds=typical_upload_seconds(self._saves) if self._saves else None,
            rebalance_recommended=rebalance_recommended,
        )

    def choose_last(
        self, *, budget_seconds: float | None, total_bytes: int, in_flight: InFlight | None
    ) -> EmergencySave:
        """Decide, at a step boundary of a host that is going, what is still saved; see `policy.emergency_save`.

        With nothing in flight a save delays nothing, so it takes more than one or two slow saves to give it up.
        """
        is_known = in_flight is not None or len(self._saves) >= SAVES_TO_REFUSE_BY
        saves = tuple(self._saves) if is_known else ()
        return emergency_save.choose(
            budget_seconds=budget_seconds,
            step_seconds=0.0,
            staging_seconds=typical_lost_seconds(saves) if saves else 0.0,
            total_bytes=total_bytes,
            in_flight=in_flight,
            bytes_per_second=dependable_bytes_per_second(saves),
        )
