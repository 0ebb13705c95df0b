"""Submit a run.

    intent recorded (SUBMITTING) -> SubmitJob with a deterministic name -> job id recorded (SUBMITTED)

A crash between any two leaves something that `finish` finishes: SubmitJob has no idempotency token, so the job is
looked up by its name before any second SubmitJob. A twin that look-up could not see yet is refused its claim.
"""

from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name
from spotkeeper.control import reserve, waits
from spotkeeper.control.classify import CANCEL_REASON, PAUSE_REASON, TWIN_REASON
from spotkeeper.control.lookup import find_jobs
from spotkeeper.control.ports import (
    Batch,
    Conflict,
    Ledger,
    NotAllowed,
    Ports,
    Refused,
    ReplyLost,
    Throttled,
    UnknownRun,
)
from spotkeeper.control.requeue import after
from spotkeeper.control.run import HistoryEvent, Run
from spotkeeper.control.submission_rate import may_submit
from spotkeeper.policy.money import format_usd
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import MOST_TWINS

CAP_CROSSED: Final = "cap-crossed"
"""Kind of the history event."""


def job_request(run: Run) -> dict[str, Any]:
    """Return the parameters of SubmitJob for the run's current submission: a function of the run alone."""
    environment = {
        **run.variables,
        variables.RUN_ID: run.run_id,
        variables.SUBMISSION: str(run.submission),
        variables.ATTEMPT_SECONDS: str(run.limit_seconds),
    }
    request: dict[str, Any] = {
        "jobName": job_name(run.run_id, run.submission),
        "jobQueue": run.job_queue,
        "jobDefinition": run.job_definition,
        "shareIdentifier": run.team,
        "containerOverrides": {
            "command": [*ENTRY_POINT, *run.command],
            "environment": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        },
        "timeout": {"attemptDurationSeconds": run.limit_seconds},
        "tags": {
            tags.PROJECT: tags.PROJECT_VALUE,
            tags.ENVIRONMENT: run.environment,
            tags.TEAM: run.team,
            tags.PROFILE: run.profile,
            tags.MARKET: run.market,
            tags.RUN: run.run_id,
            **({tags.SWEEP: run.sweep} if run.sweep is not None else {}),
        },
        # Tags reach the ECS task only this way, and cost allocation reads them there.
        "propagateTags": True,
    }
    if run.priority is not None:
        request["schedulingPriorityOverride"] = run.priority
    if run.market == Market.ON_DEMAND:
        # One attempt: the reservation covers no second one.
        request["retryStrategy"] = {"attempts": 1}
    return request


def next_submission(run: Run, *, now: str) -> dict[str, Any]:
    """Return the changes that record the intent of the run's next submission, on the run's market."""
    return {
        "state": RunState.SUBMITTING,
        "submission": run.highest + 1,
        "highest_submission": None,
        "job_id": None,
        "intent_at": now,
        "num_sends": 0,
        "sent_at": None,
        "over_cap_microusd": None,
        "num_money_waits": 0,
        "lacks": None,
        "wait_until": None,
        "reason": None,
        **waits.forgotten(),
    }


def submit(run: Run, *, ports: Ports, now: str) -> Run:
    """Record a new run, submit its first job, and return the run as the ledger then holds it.

    A run whose first hour its own cap does not allow is PARKED, and WAITING where another's does not, with the reason.

    Raises:
        Conflict: the run id is taken.
        Refused: Batch rejects the request; the run is closed as FAILED with Batch's words, or PARKED if it is
            `NotAllowed`.
        Throttled, ReplyLost: the run stays SUBMITTING; call `finish`.
    """
    ports.ledger.create(run)
    return finish(run.run_id, ports=ports, now=now, is_new=True)


def finish(run_id: str, *, ports: Ports, now: str, is_new: bool = False, is_limited: bool = False) -> Run:
    """Finish a submission that was cut off, if it was. Raises as `submit` does.

    The child of an array job is only looked for: the array is submitted by `array.submit`, once.

    Args:
        run_id: The run.
        ports: The world.
        now: ISO 8601, UTC.
        is_new: Nobody can have called SubmitJob for it yet.
        is_limited: Take one of this second's submissions (see `submission_rate`), as everybody but people must; where
            there is none left, it is `Throttled`.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    run = ports.ledger.get(run_id)
    if run is None:
        raise UnknownRun(run_id)
    if run.state is not RunState.SUBMITTING:
        return run
    if not is_new:
        jobs = find_jobs(run, run.submission, queue=run.job_queue, batch=ports.batch)
        if jobs:
            return _record(run, jobs[0].job_id, ledger=ports.ledger, batch=ports.batch)
    if run.is_array_child:
        return run
    secured = secure(run, ports=ports, now=now)
    if secured.state is not RunState.SUBMITTING:
        return secured
    # At the last moment, so that it counts the second in which AWS is called.
    if is_limited and not may_submit(run.team, ledger=ports.ledger, now=now):
        raise Throttled("all submissions of this second are taken")
    return _send(secured, ports, now)


def secure(run: Run, *, ports: Ports, now: str) -> Run:
    """Set the first submission's lease aside; every later one has its own from the write that began it.

    Where that cannot be, the run rests, with the reason.
    """
    if run.submission > 1 or not reserve.leases_spot(run, ports=ports, now=now):
        return run
    if any(reservation.submission == run.submission for reservation in ports.budgets.reservations(run.run_id)):
        return run
    held = reserve.spot(run, {}, ports=ports, now=now)
    if isinstance(held, Run):
        return held
    if held.is_own:
        return ports.ledger.advance(run, state=RunState.PARKED, lacks=held.lacks, reason=held.reason)
    waiting = {"wait_until": after(now, 0), "lacks": held.lacks, "num_money_waits": 1, "reason": held.reason}
    return ports.ledger.advance(run, state=RunState.WAITING, **waiting)


def _send(run: Run, ports: Ports, now: str) -> Run:
    ledger, batch = ports.ledger, ports.batch
    if run.market == Market.ON_DEMAND:
        if run.num_sends > MOST_TWINS:
            raise ReplyLost(f"SubmitJob was called {run.num_sends} times and no look-up shows a job yet")
        if ports.budgets.switch().is_off:
            reason = "on-demand was switched off before its job was submitted"
            return ledger.advance(run, state=RunState.WAITING, wait_until=now, reason=reason)
        run = _told_if_over_cap(run, ports)
        # Counted first: what a lost reply leaves behind must be covered by the reservation.
        run = ledger.advance(run, num_sends=run.num_sends + 1, sent_at=now)
    try:
        job_id = batch.submit(job_request(run))
    except Throttled:
        if run.market == Market.ON_DEMAND:
            ledger.advance(run, num_sends=run.num_sends - 1)
        raise
    except ReplyLost:
        jobs = batch.find(job_name(run.run_id, run.submission), queue=run.job_queue)
        if not jobs:
            raise
        job_id = jobs[0].job_id
    except Refused as refusal:
        close_refused(run, refusal, ledger=ledger, now=now)
        raise
    return _record(run, job_id, ledger=ledger, batch=batch)


def _told_if_over_cap(run: Run, ports: Ports) -> Run:
    """Tell, before the money can be spent, that the run's own cap is crossed: whoever finishes the submission."""
    if run.over_cap_microusd is None and (over := reserve.over_own_cap(run, ports=ports)) is not None:
        # The cap was lowered between the reading of the budget and the reservation.
        run = ports.ledger.advance(run, over_cap_microusd=over)
    if run.over_cap_microusd is not None:
        ports.ledger.append_event(run.run_id, cap_crossed(run))
    return run


def cap_crossed(run: Run) -> HistoryEvent:
    """Return the alert of a run that values its deadline above its own cap: the same each time it is asked for."""
    assert run.over_cap_microusd is not None
    over = format_usd(run.over_cap_microusd)
    message = f"{run.mode}: what is reserved for submission {run.submission} is {over} above the run's own cap"
    at = run.intent_at or run.created_at
    return HistoryEvent(at=at, event_id=f"cap-{run.submission}", kind=CAP_CROSSED, message=message)


def _record(run: Run, job_id: str, *, ledger: Ledger, batch: Batch) -> Run:
    """Record the job's id, unless its own claim or an observer did so first. Stop it if the run does not want it."""
    current: Run | None = run
    while current is not None and _lacks_job(current, run.submission):
        try:
            current = ledger.advance(current, state=RunState.SUBMITTED, job_id=job_id)
        except Conflict:
            current = ledger.get(run.run_id)
    if current is None:
        raise UnknownRun(run.run_id)
    if current.cancel_requested_at is not None:
        batch.terminate(job_id, CANCEL_REASON)
    elif current.pause_requested_at is not None or current.state is RunState.PAUSED:
        batch.terminate(job_id, PAUSE_REASON)
    elif current.submission != run.submission or current.job_id != job_id:
        batch.terminate(job_id, TWIN_REASON)
    return current


def _lacks_job(run: Run, submission: int) -> bool:
    return run.submission == submission and run.job_id is None and run.is_live


def close_refused(run: Run, refusal: Refused, *, ledger: Ledger, now: str) -> None:
    """End a run whose first job Batch refuses; park one that has had a job, or whose submitter may not submit."""
    reason = f"AWS Batch refused the job: {refusal}"
    try:
        # A permission that is missing, or that AWS Budgets has taken away, says nothing about the run.
        if run.submission == 1 and not isinstance(refusal, NotAllowed):
            ledger.advance(run, state=RunState.FAILED, closed_at=now, reason=reason)
        else:
            # The run has work to lose; a queue that is disabled or a definition that is gone, a person can mend.
            ledger.advance(run, state=RunState.PARKED, reason=reason)
    except Conflict:
        # Somebody cancelled or paused meanwhile; that ends a submission without a job just as well.
        return
