"""Bring the ledger up to what Batch says of a job.

An event is only the hint that made us look: the job is read again, its attempts are folded into the ledger, and a
job that has ended ends its run. Facts are added and never taken back, and a cause is a function of recorded facts;
so any order, delay or repetition of job events leads to the same ledger.

A warning of EC2 counts if it is recorded before some later observation of the job: the cause of an attempt that had
ended is then corrected. Nothing is observed after the job's last event, so a warning that comes later still leaves
the last attempt as host-lost, and the reason of its run as it was. Neither state nor retry depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import parse_job_name
from spotkeeper.control.classify import classify, explain, instance_of
from spotkeeper.control.ports import Batch, Job, Ledger
from spotkeeper.control.run import Attempt, Run


class Outcome(StrEnum):
    """What an observation did."""

    IGNORED = "ignored"
    """Not a job of ours, or Batch does not know it."""
    UNCHANGED = "unchanged"
    """The ledger said so already."""
    RECORDED = "recorded"
    """Facts were added; the run goes on."""
    CLOSED = "closed"
    """The run ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What an observation found, for the log."""

    outcome: Outcome
    reason: str
    run: Run | None = None


def observe(job_id: str, *, ledger: Ledger, batch: Batch, now: str) -> Observation:
    """Read a job again and fold it into the ledger.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    # The job before the run: an attempt records its completion before its job ends, so a run read after the end
    # of its job has the record if there is one.
    job = batch.describe(job_id)
    if job is None:
        return Observation(outcome=Outcome.IGNORED, reason=f"Batch does not know job {job_id}")
    named = parse_job_name(job.name)
    run = ledger.get(named[0]) if named else None
    if named is None or run is None:
        return Observation(outcome=Outcome.IGNORED, reason=f"job {job.name} belongs to no run of ours")
    submission = named[1]
    is_current = submission == run.submission

    adopted = is_current and run.job_id is None and not run.is_closed
    if adopted:
        # The reply to SubmitJob was lost, or is not recorded yet.
        run = ledger.advance(run, state=RunState.SUBMITTED, job_id=job.job_id)
    if (is_current and run.job_id != job.job_id) or submission > run.submission:
        reason = f"run {run.run_id} is held by job {run.job_id}, not by {job.job_id}"
        return Observation(outcome=Outcome.IGNORED, reason=reason, run=run)

    last, added = _fold(run, submission, job, ledger)
    if job.has_ended and is_current and not run.is_closed:
        run = ledger.advance(run, closed_at=job.stopped_at or now, **_ending(run, job, last))
        return Observation(outcome=Outcome.CLOSED, reason=run.reason or run.state, run=run)
    outcome = Outcome.RECORDED if adopted or added else Outcome.UNCHANGED
    return Observation(outcome=outcome, reason=f"the job is {job.status}", run=run)


def _fold(run: Run, submission: int, job: Job, ledger: Ledger) -> tuple[Attempt | None, bool]:
    """Add what the job says to its attempts; return the last attempt and whether anything was new."""
    known = {item.attempt: item for item in ledger.attempts(run.run_id) if item.submission == submission}
    last: Attempt | None = None
    added = False
    for number, told in enumerate(job.attempts, start=1):
        attempt = known.get(number) or Attempt(run_id=run.run_id, submission=submission, attempt=number)
        ends_job = job.has_ended and number == len(job.attempts)
        facts = {
            "job_id": job.job_id,
            "started_at": told.started_at,
            "stopped_at": told.stopped_at,
            "exit_code": told.exit_code,
            "status_reason": told.status_reason,
            "reason": told.reason,
            "log_stream": told.log_stream,
            "job_status_reason": job.status_reason if ends_job else None,
        }
        changes = _additions(attempt, facts, ledger)
        last = ledger.record_attempt(attempt, **changes) if changes else attempt
        added = added or bool(changes)
    return last, added


def _additions(attempt: Attempt, facts: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return the fields that are news, with the cause that all facts together give."""
    news = {name: value for name, value in facts.items() if value is not None and value != getattr(attempt, name)}
    merged = replace(attempt, **news)
    instance_id = instance_of(merged)
    if merged.stopped_at is not None and merged.warned_at is None and instance_id is not None:
        # Read after the attempt, so that a slower observer can never replace a better-informed cause.
        interruption = ledger.interruption_of(instance_id)
        warned_at = interruption.warned_at if interruption else None
        if warned_at is not None and warned_at <= merged.stopped_at:
            news["warned_at"] = warned_at
            merged = replace(merged, warned_at=warned_at)
    cause = classify(merged)
    if cause is not None and cause != attempt.cause:
        news["cause"] = cause
    return news


def _ending(run: Run, job: Job, last: Attempt | None) -> dict[str, Any]:
    """Return state and reason of a run whose job has ended. Only a completion record makes success."""
    if run.is_complete:
        return {"state": RunState.SUCCEEDED, "reason": None}
    if run.cancel_requested_at is not None:
        return {"state": RunState.CANCELLED, "reason": None}
    return {"state": RunState.FAILED, "reason": explain(last, job.status_reason)}
