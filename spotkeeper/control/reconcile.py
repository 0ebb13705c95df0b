"""Move a run one step toward where it should be, from what is true now, whatever woke us.

    SUBMITTING            its job is looked up by name, then submitted
    SUBMITTED, RUNNING    its job is read again; if that has ended, `requeue` decides what follows
    WAITING               once it is due, the next submission begins
    PARKED, PAUSED        left to a person

Both callers do the same: the handler of an event, which only says where to look, and the sweeper, which looks
everywhere. Nothing is concluded from a job that Batch does not know or a call that failed. Every step is one write,
conditional on the version read; what was cut off after it is found by the next reconciliation.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import cancel, observe, pause, submit
from spotkeeper.control.classify import CANCEL_REASON, PAUSE_REASON, ending_of
from spotkeeper.control.closing import close, close_if_over
from spotkeeper.control.observe import Folded, Observation, Outcome
from spotkeeper.control.ports import Ports, Refused, ReplyLost, Throttled, UnknownRun
from spotkeeper.control.requeue import Action, Decision, History, decide
from spotkeeper.control.run import HistoryEvent, Run
from spotkeeper.control.submission_rate import may_submit

SUBMITTER_SECONDS: Final = 60
"""A submission younger than this is left to whoever began it: longer than a handler or the command line takes."""


def reconcile(run_id: str, *, ports: Ports, now: str) -> Observation:
    """Move a run one step. `now` is ISO 8601, UTC.

    Raises:
        UnknownRun: the ledger has no such run.
        Conflict: somebody else moved it meanwhile.
    """
    run = ports.ledger.get(run_id)
    if run is None:
        raise UnknownRun(run_id)
    if run.is_closed:
        return _unchanged(run, f"it has ended: {run.state}")
    if run.is_live and run.job_id is not None:
        seen = observe_job(run.job_id, ports=ports, now=now)
    elif run.is_complete:
        # Its last attempt was given up for lost and finished all the same, before another had begun.
        seen = _closed(close(run, RunState.SUCCEEDED, ledger=ports.ledger, at=now))
    elif run.cancel_requested_at is not None:
        seen = _as_wished(cancel.cancel(run_id, ledger=ports.ledger, batch=ports.batch, now=now))
    elif run.pause_requested_at is not None:
        seen = _as_wished(pause.pause(run_id, ledger=ports.ledger, batch=ports.batch, now=now))
    elif run.state is RunState.SUBMITTING:
        seen = _finish_submission(run, ports, now)
    elif run.state is RunState.WAITING and _is_due(run, now):
        _begin_next(run, ports, now)
        seen = _submit(run.run_id, ports, now, done=Outcome.SUBMITTED)
    else:
        seen = _unchanged(run, run.reason or run.state)
    if observe.correct_causes(run, ledger=ports.ledger, now=now) and seen.outcome is Outcome.UNCHANGED:
        return Observation(outcome=Outcome.RECORDED, reason="a warning came late", run=seen.run)
    return seen


def observe_job(job_id: str, *, ports: Ports, now: str) -> Observation:
    """Read a job again, bring the ledger up to it, and do what follows if it was its run's and has ended.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    folded = observe.fold(job_id, ledger=ports.ledger, batch=ports.batch)
    if isinstance(folded, str):
        return Observation(outcome=Outcome.IGNORED, reason=folded)
    run, job = folded.run, folded.job
    if folded.is_current and run.is_live:
        if job.has_ended:
            return _after_job(folded, ports, now)
        _stop_unwanted(run, job.job_id, ports)
    outcome = Outcome.RECORDED if folded.is_news else Outcome.UNCHANGED
    return Observation(outcome=outcome, reason=f"the job is {job.status}", run=run)


def _stop_unwanted(run: Run, job_id: str, ports: Ports) -> None:
    """Stop the job again: the call of whoever recorded the user's wish may have been lost."""
    if run.cancel_requested_at is not None:
        ports.batch.terminate(job_id, CANCEL_REASON)
    elif run.pause_requested_at is not None:
        ports.batch.terminate(job_id, PAUSE_REASON)


def _after_job(folded: Folded, ports: Ports, now: str) -> Observation:
    """Do what follows from the end of the run's job: its completion first, then the user's word, then the budgets."""
    run, job = folded.run, folded.job
    ended_at = job.stopped_at or now
    closed = close_if_over(run, ledger=ports.ledger, at=ended_at)
    if closed is not None:
        return _closed(closed)
    newest_step = ports.checkpoints.newest_step(run.run_id)
    if run.pause_requested_at is not None:
        run = ports.ledger.advance(run, **pause.paused(), committed_step=newest_step)
        return Observation(outcome=Outcome.PAUSED, reason="as the user wished", run=run)
    ending = ending_of(job, folded.last)
    history = History(
        had_attempts=bool(job.attempts),
        newest_step=newest_step,
        committed_step=run.committed_step,
        num_stalls=run.num_stalls,
        num_capacity_waits=run.num_capacity_waits,
    )
    decision = decide(ending, history, now=now)
    if decision.action is Action.FAIL:
        return _closed(close(run, RunState.FAILED, ledger=ports.ledger, at=ended_at, reason=decision.reason))
    return _carry_out(decision, _Ended(run=run, newest_step=newest_step), ports, now)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """A run whose job has ended, and how far it had come."""

    run: Run
    newest_step: int | None


def _carry_out(decision: Decision, ended: _Ended, ports: Ports, now: str) -> Observation:
    counts: dict[str, Any] = {
        "committed_step": ended.newest_step,
        "num_stalls": decision.num_stalls,
        "num_capacity_waits": decision.num_capacity_waits,
    }
    if decision.action is Action.REQUEUE:
        run = _begin_next(ended.run, ports, now, **counts)
        outcome = Outcome.REQUEUED
    elif decision.action is Action.WAIT:
        run = ports.ledger.advance(
            ended.run, state=RunState.WAITING, wait_until=decision.wait_until, reason=decision.reason, **counts
        )
        outcome = Outcome.WAITING
    else:
        run = ports.ledger.advance(ended.run, state=RunState.PARKED, reason=decision.reason, **counts)
        outcome = Outcome.PARKED
    submission = ended.run.submission
    event = HistoryEvent(
        at=now,
        event_id=f"submission-{submission}",
        kind=outcome.value,
        message=f"submission {submission}: {decision.reason}",
    )
    ports.ledger.append_event(run.run_id, event)
    if decision.action is not Action.REQUEUE:
        return Observation(outcome=outcome, reason=decision.reason, run=run)
    return _submit(run.run_id, ports, now, done=outcome, reason=decision.reason)


def _begin_next(run: Run, ports: Ports, now: str, **changes: Any) -> Run:
    return ports.ledger.advance(run, **submit.next_submission(run, now=now), **changes)


def _finish_submission(run: Run, ports: Ports, now: str) -> Observation:
    begun_at = datetime.fromisoformat(run.intent_at or run.created_at)
    if (datetime.fromisoformat(now) - begun_at).total_seconds() < SUBMITTER_SECONDS:
        return _unchanged(run, "its submission has just begun")
    return _submit(run.run_id, ports, now, done=Outcome.SUBMITTED)


def _submit(run_id: str, ports: Ports, now: str, *, done: Outcome, reason: str = "") -> Observation:
    """Submit the run's job, if there is none yet and this second has a slot for it."""
    run = ports.ledger.get(run_id)
    if run is None:
        raise UnknownRun(run_id)
    if not may_submit(run.team, ledger=ports.ledger, now=now):
        return Observation(outcome=Outcome.DEFERRED, reason="all submissions of this second are taken", run=run)
    try:
        run = submit.finish(run_id, ledger=ports.ledger, batch=ports.batch, now=now)
    except (ReplyLost, Throttled) as error:
        return Observation(outcome=Outcome.DEFERRED, reason=f"{type(error).__name__}: {error}", run=run)
    except Refused as refusal:
        run = ports.ledger.get(run_id)
        outcome = Outcome.CLOSED if run is not None and run.is_closed else Outcome.PARKED
        return Observation(outcome=outcome, reason=f"AWS Batch refused the job: {refusal}", run=run)
    return Observation(outcome=done, reason=reason or f"submission {run.submission}", run=run)


def _closed(run: Run) -> Observation:
    return Observation(outcome=Outcome.CLOSED, reason=run.reason or run.state, run=run)


def _as_wished(run: Run) -> Observation:
    outcomes = {RunState.CANCELLED: Outcome.CLOSED, RunState.PAUSED: Outcome.PAUSED}
    return Observation(outcome=outcomes.get(run.state, Outcome.RECORDED), reason="as the user wished", run=run)


def _unchanged(run: Run, reason: str) -> Observation:
    return Observation(outcome=Outcome.UNCHANGED, reason=reason, run=run)


def _is_due(run: Run, now: str) -> bool:
    return run.wait_until is None or datetime.fromisoformat(run.wait_until) <= datetime.fromisoformat(now)
