"""Submit a run.

    intent recorded (SUBMITTING) -> SubmitJob with a deterministic name -> job id recorded (SUBMITTED)

A crash between any two leaves something that `finish` finishes: SubmitJob has no idempotency token, so the job is
looked up by its name before any second SubmitJob. A twin that look-up could not see yet is refused its claim.

A call that is refused says nothing about an earlier one of the same submission whose reply was lost: the run rests, or
ends, only once no look-up can show a job of that one any more. A call that is not allowed says nothing about the run at
all: the run stays as it is, and is submitted when that has been mended.
"""

from typing import Any, Final

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import tags, training
from spotkeeper.contract.entry_point import ENTRY_POINT
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name
from spotkeeper.control import reserve, training_types, waits
from spotkeeper.control.classify import CANCEL_REASON, PAUSE_REASON, TWIN_REASON
from spotkeeper.control.lookup import LOOK_UP_SECONDS, find_jobs
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import (
    Batch,
    Conflict,
    Ledger,
    NameTaken,
    NotAllowed,
    Ports,
    QuotaReached,
    Refused,
    ReplyLost,
    Throttled,
    UnknownRun,
)
from spotkeeper.control.requeue import after
from spotkeeper.control.run import HistoryEvent, Run
from spotkeeper.control.submission_rate import may_submit
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.control.training_request import training_request
from spotkeeper.policy.money import format_usd
from spotkeeper.policy.placement import Market
from spotkeeper.policy.reservation import MOST_TWINS

PROMPT_SECONDS: Final = 60
"""A call so soon after its intent was recorded needs no time of its own: `LOOK_UP_SECONDS` has room for that."""
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


def request_of(run: Run, terms: EnvironmentTerms) -> dict[str, Any]:
    """Return what is asked of AWS for the run's current submission, of SageMaker or of AWS Batch.

    Raises:
        Refused: the environment has no such profile of SageMaker any more, or isolates it from the network since.
    """
    if not training.is_queue(run.job_queue):
        return job_request(run)
    profile = terms.profiles.get(run.profile)
    if profile is None or profile.training is None:
        raise Refused(f"environment {run.environment!r} has no profile {run.profile!r} on SageMaker any more")
    if profile.training.is_isolated and not run.is_isolated:
        # Its checkpoints are where an isolated container cannot read them.
        raise Refused(
            f"environment {run.environment!r} isolates training jobs from the network now, and this run was submitted "
            "before: set is_isolated=False until it has ended, or submit it again as a new run"
        )
    return training_request(run, profile=profile)


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
        "refused_at": None,
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
        Refused: Batch rejects the request; the run is closed as FAILED with Batch's words.
        NotAllowed, Throttled, ReplyLost: the run stays SUBMITTING; the sweeper calls `finish`, as may anybody.
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
        is_new: Nobody can have called SubmitJob for it yet, but for somebody who submits the very same run.
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
    is_first = is_new and run.sent_at is None
    if not is_first:
        jobs = find_jobs(run, run.submission, queue=run.job_queue, batch=ports.batch)
        if jobs:
            return _record(run, jobs[0].job_id, ledger=ports.ledger, batch=ports.batch)
    if run.is_array_child or run.cancel_requested_at is not None or run.pause_requested_at is not None:
        return run
    if run.refused_at is not None and _is_of_this_submission(run, run.refused_at):
        # A function of an older release calls once more, and then a job can have been made after the refusal.
        calls = (run.refused_at, run.sent_at or run.refused_at)
        is_certain = min(seconds_between(call, now) for call in calls) >= LOOK_UP_SECONDS
        return close_refused(run, run.reason or "", ledger=ports.ledger, now=now) if is_certain else run
    secured = secure(run, ports=ports, now=now)
    if secured.state is not RunState.SUBMITTING:
        return secured
    # At the last moment, so that it counts the second in which AWS is called.
    if is_limited and not may_submit(run.team, ledger=ports.ledger, now=now):
        raise Throttled("all submissions of this second are taken")
    return _send(secured, ports, now, is_first=is_first)


def _is_of_this_submission(run: Run, refused_at: str) -> bool:
    """Tell whether a refusal is not one of before, which a function of an older release has left standing."""
    return run.intent_at is None or seconds_between(run.intent_at, refused_at) >= 0


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


def _send(run: Run, ports: Ports, now: str, *, is_first: bool) -> Run:
    ledger, batch = ports.ledger, ports.batch
    run = _noted(run, ports, now)
    if run.state is not RunState.SUBMITTING:
        return run
    try:
        job_id = batch.submit(request_of(run, ports.terms))
    except Throttled:
        _uncount(run, run.reason, ledger)
        raise
    except NotAllowed as refusal:
        _uncount(run, f"AWS does not allow its job to be submitted: {refusal}", ledger)
        raise
    except ReplyLost as lost:
        jobs = find_jobs(run, run.submission, queue=run.job_queue, batch=batch)
        if not jobs:
            if isinstance(lost, NameTaken):
                reason = f"{lost}, which is not this run's: submit it again under another run id"
                ledger.advance(run, refused_at=now, reason=reason)
            raise
        job_id = jobs[0].job_id
    except QuotaReached as refusal:
        return ledger.advance(run, **training_types.without_quota(run, str(refusal), ports=ports, now=now))
    except Refused as refusal:
        reason = f"{training.service_of(run.job_queue)} refused the job: {refusal}"
        if is_first:
            close_refused(run, reason, ledger=ledger, now=now)
        else:
            ledger.advance(run, refused_at=now, reason=reason)
        raise
    return _record(run, job_id, ledger=ledger, batch=batch)


def _noted(run: Run, ports: Ports, now: str) -> Run:
    """Record, before it is made, the call that others have to know of.

    That is whoever settles the submission's money, by when a job of it can have been made last; and whoever submits the
    very same run meanwhile, so that a refusal of one call does not end it while the other's job begins.
    """
    if run.market == Market.ON_DEMAND:
        return _counted(run, ports, now)
    if run.submission == 1 or seconds_between(run.intent_at or run.created_at, now) > PROMPT_SECONDS:
        return ports.ledger.advance(run, sent_at=now)
    return run


def _counted(run: Run, ports: Ports, now: str) -> Run:
    """Count a call of SubmitJob on on-demand before it is made; or let the run wait, if on-demand is switched off."""
    if run.num_sends > MOST_TWINS:
        raise ReplyLost(f"its job was asked for {run.num_sends} times and no look-up shows one yet")
    if ports.budgets.switch().is_off:
        reason = "on-demand was switched off before its job was submitted"
        return ports.ledger.advance(run, state=RunState.WAITING, wait_until=now, reason=reason)
    run = _told_if_over_cap(run, ports)
    # First: what a lost reply leaves behind must be covered by the reservation.
    return ports.ledger.advance(run, num_sends=run.num_sends + 1, sent_at=now)


def _uncount(run: Run, reason: str | None, ledger: Ledger) -> None:
    """Take back the count of a call that had no effect, and say why it had none, where that is news."""
    uncounted = {"num_sends": run.num_sends - 1} if run.market == Market.ON_DEMAND else {}
    if uncounted or run.reason != reason:
        ledger.advance(run, reason=reason, **uncounted)


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
            current = ledger.advance(current, state=RunState.SUBMITTED, job_id=job_id, reason=None)
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


def close_refused(run: Run, reason: str, *, ledger: Ledger, now: str) -> Run:
    """End a run whose first job Batch refuses; park one that has had a job. Return it."""
    try:
        if run.submission == 1:
            return ledger.advance(run, state=RunState.FAILED, closed_at=now, reason=reason)
        # The run has work to lose; a queue that is disabled or a definition that is gone, a person can mend.
        return ledger.advance(run, state=RunState.PARKED, reason=reason)
    except Conflict:
        # Somebody cancelled or paused meanwhile; that ends a submission without a job just as well.
        return run
