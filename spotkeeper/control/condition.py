"""What can be measured of a run, its attempts and its money, for alarms. Pure: every fact is an argument.

Levels, not events: each is read from what is true now, so a lost event or a sweep that did not happen hides nothing.
Times are ISO 8601, UTC.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Budget
from spotkeeper.control.classify import Cause
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.requeue import MAX_STALLS
from spotkeeper.control.run import Attempt, Run
from spotkeeper.policy.checkpoint_interval import DEFAULT_MAX_LOST_SECONDS
from spotkeeper.policy.placement import Mode

RECENT_SECONDS: Final = 900
"""Three periods of the sweeper: what happened since is seen by at least one sweep, though two should fail."""
START_SECONDS: Final = 1800
"""An attempt may restore and compile for so long before it is asked when it saves."""
FRESH_SECONDS: Final = 120
"""As long as a notice is: an attempt that saved within so long before one has as good as saved on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """A committed checkpoint, as its manifest's key and age tell."""

    epoch: int
    step: int
    at: str


def checkpoint_age_seconds(run: Run, attempts: Iterable[Attempt], commits: Sequence[Commit], *, now: str) -> float:
    """Return how much work the attempt that holds the run has not saved; 0 if no attempt is at work.

    It counts from the attempt's newest commit. One that has none yet still starts, restores or compiles, for
    `START_SECONDS` after its claim; of a run that has none at all nobody knows here whether it is to save: a program
    with the library tells its age itself (`metrics.CHECKPOINT_AGE`), and one without has chosen to begin again.
    """
    if not _is_held(run, attempts):
        return 0.0
    assert run.claimed_at is not None
    own = [commit.at for commit in commits if commit.epoch == run.epoch]
    if own:
        return max(0.0, seconds_between(max(own, key=datetime.fromisoformat), now))
    return max(0.0, seconds_between(run.claimed_at, now) - START_SECONDS) if commits else 0.0


def _is_held(run: Run, attempts: Iterable[Attempt]) -> bool:
    """Tell whether an attempt is at work; where it has ended, AWS Batch looks for another machine."""
    if run.state is not RunState.RUNNING or run.claimed_at is None:
        return False
    holder = (run.claimed_job_id, run.claimed_attempt)
    return not any(attempt.stopped_at and (attempt.job_id, attempt.attempt) == holder for attempt in attempts)


def mirrored_age_seconds(run: Run, attempts: Iterable[Attempt], newest_whole: Commit | None, *, now: str) -> float:
    """Return how much work of a run without network has not arrived in S3; 0 if no attempt is at work.

    As `checkpoint_age_seconds`, but an attempt of which nothing has arrived counts too: a program that saves nothing
    looks the same from outside as a mirror that brings nothing.
    """
    if not _is_held(run, attempts):
        return 0.0
    assert run.claimed_at is not None
    if newest_whole is not None and seconds_between(run.claimed_at, newest_whole.at) > 0:
        return max(0.0, seconds_between(newest_whole.at, now))
    return max(0.0, seconds_between(run.claimed_at, now) - START_SECONDS)


def mirror_delay_seconds(run: Run, age_seconds: float) -> float:
    """Return by how much a mirror is late that has brought nothing for so long: 0 within the run's own `max_lost`."""
    return max(0.0, age_seconds - _max_lost_seconds(run))


def _max_lost_seconds(run: Run) -> float:
    told = run.variables.get(variables.MAX_LOST_SECONDS, "")
    return float(told) if told.isdecimal() else DEFAULT_MAX_LOST_SECONDS


def hosts_lost(attempts: Iterable[Attempt], *, now: str) -> int:
    """Count the attempts that lost their host within `RECENT_SECONDS`."""
    return sum(
        attempt.cause in (Cause.INTERRUPTED, Cause.HOST_LOST) and _is_recent(attempt, now) for attempt in attempts
    )


def warned(attempts: Iterable[Attempt], *, now: str) -> tuple[Attempt, ...]:
    """Return the attempts that had work to save when they were warned, and lost their host within `RECENT_SECONDS`."""
    return tuple(
        attempt
        for attempt in attempts
        if attempt.cause == Cause.INTERRUPTED
        and _is_recent(attempt, now)
        and attempt.epoch is not None
        and attempt.warned_at is not None
        and attempt.claimed_at is not None
        # A warning tells whole seconds, a claim their parts: what was claimed within the second came before it.
        and seconds_between(attempt.claimed_at, attempt.warned_at) > -1
    )


def has_honoured(attempt: Attempt, commits: Sequence[Commit]) -> bool:
    """Tell whether a warned attempt committed a checkpoint after its warning, or `FRESH_SECONDS` before it.

    One that has no commit at all saves nothing by choice, or had still to start, restore or compile; or retention has
    deleted what it had, once a later attempt had some. Nothing is held against it.
    """
    assert attempt.epoch is not None
    assert attempt.warned_at is not None
    own = [commit.at for commit in commits if commit.epoch == attempt.epoch]
    # S3 tells whole seconds, and so does the warning.
    return not own or seconds_between(attempt.warned_at, max(own, key=datetime.fromisoformat)) >= -FRESH_SECONDS


def is_without_progress(run: Run) -> bool:
    """Tell whether a run is parked, or will be if its next submission brings no newer checkpoint either."""
    return run.state is RunState.PARKED or is_stalled(run)


def is_stalled(run: Run) -> bool:
    """Tell whether submissions of an open run brought no newer checkpoint, and one more would park it, or has."""
    return not run.is_closed and run.num_stalls >= MAX_STALLS - 1


def left_percent(budget: Budget) -> float:
    """Return what is left of a holder's caps, of the one with least left: 0 to 100; 100 if it has none above $0."""
    caps = [cap for cap in (budget.fallback, budget.total) if 0 < cap.limit < UNLIMITED_MICROUSD]
    return min((max(0.0, 100 * cap.available / cap.limit) for cap in caps), default=100.0)


def may_cross_own_cap(run: Run) -> bool:
    """Tell whether the run's own cap is no limit to it."""
    return run.mode == Mode.DEADLINE_FIRST


def is_over(budget: Budget) -> bool:
    """Tell whether more is reserved and spent than a cap of the holder allows."""
    return budget.fallback.available < 0 or budget.total.available < 0


def _is_recent(attempt: Attempt, now: str) -> bool:
    return attempt.stopped_at is not None and seconds_between(attempt.stopped_at, now) <= RECENT_SECONDS
