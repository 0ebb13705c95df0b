"""Bring the ledger up to what Batch says of a job.

An event is only the hint that made us look: the job is read again and its attempts are folded into the ledger. Facts
are added and never taken back, and a cause is a function of recorded facts; so any order, delay or repetition of job
events leads to the same ledger. What follows from a job that has ended is for `reconcile` to do.

A warning of EC2 that is recorded after the end of its attempt corrects the attempt's cause at the next observation of
the job, or at the next sweep while the run is open. The reason of a run that has ended stays as it was; neither state
nor retry depends on it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import isolated
from spotkeeper.control.classify import Cause, classify, instance_of
from spotkeeper.control.lookup import is_job_of, submission_of
from spotkeeper.control.ports import Batch, Job, JobAttempt, Ledger
from spotkeeper.control.run import Attempt, Run
from spotkeeper.policy.market import Market

LATEST_WARNING_SECONDS: Final = 24 * 3600
"""EventBridge delivers an event at most this late."""


class Outcome(StrEnum):
    """What an observation did."""

    IGNORED = "ignored"
    """Not a job of ours, or Batch does not know it."""
    UNCHANGED = "unchanged"
    """The ledger said so already."""
    RECORDED = "recorded"
    """Facts were added; the run goes on."""
    SUBMITTED = "submitted"
    """A submission that was due, or had been cut off, was made."""
    NOTED = "noted"
    """A job of others was recorded, with what it costs."""
    DEFERRED = "deferred"
    """The submission is left to the next reconciliation: no slot, or AWS did not answer."""
    REQUEUED = "requeued"
    """The job had ended; the next submission was begun."""
    FELL_BACK = "fell-back"
    """The next submission was begun on on-demand."""
    WAITING = "waiting"
    """The job had ended; the next submission waits."""
    PARKED = "parked"
    """The job had ended; the run needs a person."""
    PAUSED = "paused"
    """The job had ended, as the user wished."""
    CLOSED = "closed"
    """The run ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What was found and done, for the log."""

    outcome: Outcome
    reason: str
    run: Run | None = None
    is_unknown: bool = False
    """Batch does not know the job, or not at the moment."""

    @property
    def is_cap_crossed(self) -> bool:
        """Whether a job was submitted for which the run's own cap was crossed; told once for each."""
        is_submitted = self.outcome in (Outcome.SUBMITTED, Outcome.FELL_BACK) and self.run is not None
        return is_submitted and self.run is not None and self.run.is_live and self.run.over_cap_microusd is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """A job of a run, once its attempts are in the ledger."""

    run: Run
    job: Job
    last: Attempt | None
    is_current: bool
    """The job is the one that the run is in now."""
    is_news: bool
    """The ledger did not say all of it."""
    is_surplus: bool
    """The run is in another job, or wants none: this one was submitted by a call whose reply was lost, or came late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unowned:
    """A job that is of no run, and why."""

    reason: str
    job: Job | None = None
    """The job, if it is one of others."""
    is_unknown: bool = False
    """Batch does not know it, or not at the moment."""


def fold(job_id: str, *, ledger: Ledger, batch: Batch) -> Folded | Unowned:
    """Read a job again and fold it into the ledger; or tell why not, if no run is in it.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    # The job before the run: an attempt records its completion before its job ends, so a run read after the end
    # of its job has the record if there is one.
    job = batch.describe(job_id)
    if job is None:
        return Unowned(reason=f"AWS does not know job {job_id}", is_unknown=True)
    if job.array_size is not None:
        return Unowned(reason=f"job {job_id} is an array; its children have events of their own")
    named = submission_of(job)
    run = ledger.get(named[0]) if named else None
    if named is None or run is None or not is_job_of(run, named[1], job):
        return Unowned(reason=f"job {job.name} belongs to no run of ours", job=job)
    submission = named[1]
    if submission > run.highest:
        return Unowned(reason=f"run {run.run_id} has had {run.highest} submissions; job {job.name} is of none")
    is_current = submission == run.submission

    adopted = _adoption(run, submission, job)
    if adopted:
        run = ledger.advance(run, **adopted)
    known = {item.attempt: item for item in ledger.attempts(run.run_id) if item.submission == submission}
    holder = run.job_id if is_current else _holder(run, submission, known.values()) or job.job_id
    if holder != job.job_id:
        return Folded(run=run, job=job, last=None, is_current=False, is_news=False, is_surplus=True)
    if is_current:
        # Before its attempts are recorded: after that, nobody would look whether it was claimed.
        run = isolated.claim(run, job, ledger=ledger)
    last, is_added = _fold_attempts(run, submission, job, known, ledger)
    return Folded(
        run=run,
        job=job,
        last=last,
        is_current=is_current,
        is_news=bool(adopted) or is_added,
        is_surplus=not (run.is_live and submission in (run.submission, run.standby_submission)),
    )


def _adoption(run: Run, submission: int, job: Job) -> dict[str, Any]:
    """Return the changes by which a run takes up a job: the reply to SubmitJob was lost, or is not recorded yet."""
    if not run.is_live:
        return {}
    if submission == run.submission and run.job_id is None:
        return {"state": RunState.SUBMITTED, "job_id": job.job_id, "reason": None}
    if submission == run.standby_submission and run.standby_job_id is None:
        return {"standby_job_id": job.job_id}
    return {}


def _holder(run: Run, submission: int, known: Iterable[Attempt]) -> str | None:
    """Return the job that a submission other than the current one is in, as far as that is known."""
    if submission == run.standby_submission:
        return run.standby_job_id
    # The run has forgotten who held any other submission; its attempts have not.
    return next((item.job_id for item in known if item.job_id is not None), None)


def is_recorded(job: Job, known: Iterable[Attempt]) -> bool:
    """Tell whether the ledger's attempts of a submission say all that its job, which goes on, says of them."""
    by_number = {attempt.attempt: attempt for attempt in known}
    for number, told in enumerate(job.attempts, start=1):
        attempt = by_number.get(number)
        if attempt is None or _news(attempt, _facts(job, number, told)):
            return False
    return True


def correct_causes(attempts: Iterable[Attempt], *, ledger: Ledger, now: str) -> bool:
    """Join warnings that came after the loss of a host was recorded. Return whether a cause changed.

    Raises:
        Conflict: somebody wrote in between; try again.
    """
    is_changed = False
    for attempt in attempts:
        if attempt.cause != Cause.HOST_LOST or attempt.stopped_at is None:
            continue
        age = datetime.fromisoformat(now) - datetime.fromisoformat(attempt.stopped_at)
        if age.total_seconds() > LATEST_WARNING_SECONDS:
            continue
        changes = _additions(attempt, {}, ledger)
        if changes:
            ledger.record_attempt(attempt, **changes)
            is_changed = True
    return is_changed


def _fold_attempts(
    run: Run, submission: int, job: Job, known: Mapping[int, Attempt], ledger: Ledger
) -> tuple[Attempt | None, bool]:
    """Add what the job says to its attempts; return the last attempt and whether anything was new."""
    market = _market_of(run, submission)
    last: Attempt | None = None
    added = False
    for number, told in enumerate(job.attempts, start=1):
        attempt = known.get(number) or Attempt(run_id=run.run_id, submission=submission, attempt=number)
        facts = {**_facts(job, number, told), "market": market}
        if run.is_isolated and (run.claimed_job_id, run.claimed_attempt) == (job.job_id, number):
            facts |= {"epoch": run.epoch, "claimed_at": run.claimed_at}
        changes = _additions(attempt, facts, ledger)
        if told.started_at is not None and "started_at" in changes:
            # First: what was cut off after it is found again, since the attempt does not know its start yet.
            ledger.record_start(job.order.queue, at=told.started_at)
        last = ledger.record_attempt(attempt, **changes) if changes else attempt
        added = added or bool(changes)
    return last, added


def _market_of(run: Run, submission: int) -> str | None:
    """Return the market of a submission's machines, as far as the run remembers it."""
    if submission == run.submission:
        return run.market
    return Market.SPOT.value if submission == run.standby_submission else None


def _facts(job: Job, number: int, told: JobAttempt) -> dict[str, Any]:
    """Return what AWS says of one attempt of a job, in the ledger's fields."""
    ends_job = job.has_ended and number == len(job.attempts)
    return {
        "job_id": job.job_id,
        "instance_type": job.instance_type,
        "started_at": told.started_at,
        "stopped_at": told.stopped_at,
        "exit_code": told.exit_code,
        "status_reason": told.status_reason,
        "reason": told.reason,
        "log_stream": told.log_stream,
        "job_status_reason": job.status_reason if ends_job else None,
        "job_billed_seconds": job.billed_seconds if ends_job else None,
    }


def _news(attempt: Attempt, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None and value != getattr(attempt, name)}


def _additions(attempt: Attempt, facts: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return the fields that are news, with the cause that all facts together give."""
    news = _news(attempt, facts)
    merged = replace(attempt, **news) if news else attempt
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
