"""A run's job that AWS Batch does not know: never a reason to act, but one to say so, and to keep the user's word.

Batch forgets a job about a week after its end, and may not know one for a moment. Whoever has cancelled or paused the
run has it ended or resting a day later: its job cannot claim from the moment of the wish on, known or not.
"""

from typing import Final

from spotkeeper.contract.training import service_of
from spotkeeper.control import waits
from spotkeeper.control.closing import close_if_over
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Observation, Outcome
from spotkeeper.control.pause import paused
from spotkeeper.control.ports import Ports
from spotkeeper.control.run import Run

PATIENCE_SECONDS: Final = 86400
"""So long a job is unknown before what is settled is carried out without it."""


def tend(run: Run, *, ports: Ports, now: str) -> Observation:
    """Note that Batch does not know the run's job; end or rest the run if that was settled long enough ago.

    Settled is what the user wished, and what its completion record says.

    Raises:
        Conflict: somebody moved the run meanwhile.
    """
    if run.job_unknown_since is None:
        noted = ports.ledger.advance(run, **{**waits.forgotten(), "job_unknown_since": now})
        return Observation(outcome=Outcome.UNCHANGED, reason=noted.why or "", run=noted)
    settled_at = run.cancel_requested_at or run.pause_requested_at
    if run.completion is not None and run.is_complete:
        settled_at = run.completion.completed_at
    if settled_at is None or _is_recent(run.job_unknown_since, now) or _is_recent(settled_at, now):
        return Observation(outcome=Outcome.UNCHANGED, reason=run.why or "", run=run)
    reason = f"{service_of(run.job_queue)} has not known its job {run.job_id} since {run.job_unknown_since}"
    closed = close_if_over(run, ports=ports, at=now, reason=reason)
    if closed is not None:
        return Observation(outcome=Outcome.CLOSED, reason=reason, run=closed)
    resting = ports.ledger.advance(run, **{**paused(), **waits.forgotten()})
    return Observation(outcome=Outcome.PAUSED, reason=reason, run=resting)


def _is_recent(moment: str, now: str) -> bool:
    return seconds_between(moment, now) < PATIENCE_SECONDS
