"""Look at a run as the sweeper has read it together with a hundred others, and tell whether that is all it needs.

Almost every open run needs nothing at a given moment. What was read for a hundred at once is seconds old, and the run
older than its job, so nothing is decided on it: whatever calls for a step is left to `reconcile`, which reads the run
again, after its job. A step that became due in these seconds is taken by the next sweep, or by its event.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zlib import crc32

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import first_lease, observe, training_types, waits
from spotkeeper.control.first_lease import SweepIsCapped
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Observation, Outcome
from spotkeeper.control.ports import Job, Ports
from spotkeeper.control.reconcile import is_due
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.shortage import allows_fallback
from spotkeeper.policy.placement import Market, Mode, longest_wait_seconds

RESTING_HOURS: Final = 6
"""In one hour of so many the sweeper looks at the attempts of a run that waits for a person: warnings may come late."""


def glance(run: Run, job: Job | None, *, ports: Ports, now: str, sweep_is_capped: SweepIsCapped) -> Observation | None:
    """Return what was found if the run needs nothing more; None: it needs to be reconciled.

    Args:
        run: As read.
        job: The run's job as read, if it has one that Batch knows and that could be read.
        ports: The world.
        now: ISO 8601, UTC.
        sweep_is_capped: As read for all that are looked at together.
    """
    if not run.is_closed and (run.is_complete or run.cancel_requested_at or run.pause_requested_at):
        return None
    if run.is_live:
        return _at_work(run, job, ports, now, sweep_is_capped) if job is not None else None
    needs_look = (run.state is RunState.WAITING and is_due(run, now)) or (run.needs_person and _is_its_hour(run, now))
    return None if needs_look else Observation(outcome=Outcome.UNCHANGED, reason=run.why or run.state, run=run)


def _at_work(run: Run, job: Job, ports: Ports, now: str, sweep_is_capped: SweepIsCapped) -> Observation | None:
    """Look at a run whose job Batch knows."""
    if run.state is RunState.SUBMITTING or job.has_ended:
        return None
    if run.market != Market.SPOT:
        return None  # its standby needs more than a look
    if not waits.is_noted(run, job) or _may_give_up(run, ports, now):
        return None
    if waits.is_stuck(run, job, None, now=now):
        return None
    if first_lease.is_missing(run, terms=ports.terms, now=now, sweep_is_capped=sweep_is_capped):
        return None
    attempts = ports.ledger.attempts(run.run_id)
    if not observe.is_recorded(job, _of_submission(attempts, run.submission)):
        return None
    is_corrected = observe.correct_causes(attempts, ledger=ports.ledger, now=now)
    outcome = Outcome.RECORDED if is_corrected else Outcome.UNCHANGED
    return Observation(outcome=outcome, reason=f"the job is {job.status}", run=run)


def _may_give_up(run: Run, ports: Ports, now: str) -> bool:
    """Tell whether the run's job waits long enough to be withdrawn, if there is a better place for it."""
    if run.waits_since is None:
        return False
    waited_seconds = seconds_between(run.waits_since, now)
    if training_types.makes_way(run, waited_seconds=waited_seconds, ports=ports):
        return True
    # A deadline may allow no wait at all, and what it allows takes a look at the checkpoints.
    is_timed = run.deadline_at is not None
    limit_seconds = 0 if is_timed else longest_wait_seconds(Mode(run.mode), ports.terms.placement)
    return waited_seconds >= limit_seconds and allows_fallback(run, ports)


def _of_submission(attempts: Sequence[Attempt], submission: int) -> list[Attempt]:
    return [attempt for attempt in attempts if attempt.submission == submission]


def _is_its_hour(run: Run, now: str) -> bool:
    """Spread the looks at resting runs over the hours."""
    hours = int(datetime.fromisoformat(now).timestamp()) // 3600
    return (hours + crc32(run.run_id.encode())) % RESTING_HOURS == 0
