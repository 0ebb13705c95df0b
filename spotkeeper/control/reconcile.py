"""Move a run one step toward where it should be, from what is true now, whatever woke us.

    SUBMITTING            its job is looked up by name, then submitted
    SUBMITTED, RUNNING    its job is read again; if that has ended, `requeue` decides what follows
    WAITING               once it is due, the next submission begins
    PARKED, PAUSED        left to a person

Both callers do the same: the handler of an event, which only says where to look, and the sweeper, which looks
everywhere. Nothing is concluded from a job that Batch does not know or a call that failed. Every step is one write,
conditional on the version read; what was cut off after it is found by the next reconciliation.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.training import service_of
from spotkeeper.control import (
    adoption,
    backlog,
    begin,
    cancel,
    first_lease,
    isolated,
    observe,
    others,
    pause,
    reserve,
    standby,
    submit,
    training_types,
    unknown_job,
    waits,
)
from spotkeeper.control.choice import Choice, choose
from spotkeeper.control.classify import (
    CANCEL_REASON,
    PAUSE_REASON,
    STUCK_REASON,
    TWIN_REASON,
    WAITED_REASON,
    Cause,
    ending_of,
)
from spotkeeper.control.closing import close, close_if_over
from spotkeeper.control.lookup import LOOK_UP_SECONDS, find_jobs
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Folded, Observation, Outcome, Unowned
from spotkeeper.control.ports import JobStatus, NotAllowed, Ports, Refused, ReplyLost, Throttled, UnknownRun
from spotkeeper.control.requeue import Action, Decision, History, after, decide
from spotkeeper.control.run import HistoryEvent, Lack, Run
from spotkeeper.control.shortage import allows_fallback, patience, shortage
from spotkeeper.policy.placement import Market

SUBMITTER_SECONDS: Final = 60
"""A submission younger than this is left to whoever began it: longer than a handler or the command line takes."""
GIVE_UP_SECONDS: Final = 2 * LOOK_UP_SECONDS
"""A job that AWS never confirmed, and that no look-up has shown for so long, does not exist."""


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
        seen = _look_at_job(run, run.job_id, ports, now)
    else:
        # The record of a run without network may come when its job has ended long ago.
        seen = _without_job(isolated.complete(run, ports=ports), ports, now)
    attempts = ports.ledger.attempts(run_id)
    if observe.correct_causes(attempts, ledger=ports.ledger, now=now) and seen.outcome is Outcome.UNCHANGED:
        return Observation(outcome=Outcome.RECORDED, reason="a warning came late", run=seen.run)
    return seen


def _without_job(run: Run, ports: Ports, now: str) -> Observation:
    if run.is_complete:
        # Its last attempt was given up for lost and finished all the same, before another had begun.
        return _closed(close(run, RunState.SUCCEEDED, ledger=ports.ledger, at=now))
    if run.cancel_requested_at is not None:
        return _as_wished(cancel.cancel(run.run_id, ports=ports, now=now))
    if run.pause_requested_at is not None:
        return _as_wished(pause.pause(run.run_id, ports=ports, now=now))
    if run.state is RunState.SUBMITTING:
        return _finish_submission(run, ports, now)
    if run.state is RunState.WAITING and is_due(run, now):
        return _after_wait(run, ports, now)
    return _unchanged(run, run.reason or run.state)


def _look_at_job(run: Run, job_id: str, ports: Ports, now: str) -> Observation:
    seen = observe_job(job_id, ports=ports, now=now)
    return unknown_job.tend(run, ports=ports, now=now) if seen.is_unknown else seen


def observe_job(job_id: str, *, ports: Ports, now: str) -> Observation:
    """Read a job again, bring the ledger up to it, and do what follows if it was its run's and has ended.

    Raises:
        Conflict: somebody wrote in between; observe again.
    """
    folded = observe.fold(job_id, ledger=ports.ledger, batch=ports.batch)
    if isinstance(folded, Unowned):
        return _observe_others(folded, ports, now)
    run, job = folded.run, folded.job
    if folded.is_surplus and not job.has_ended:
        # It would be refused its claim, on a machine that is paid for.
        ports.batch.terminate(job.job_id, TWIN_REASON)
        return _unchanged(run, f"job {job.job_id}, which it is not in, is stopped")
    if folded.is_current and run.is_live:
        run = first_lease.hold(run, job, ports=ports, now=now)
        folded = replace(folded, run=run)
        if job.has_ended:
            return _after_job(folded, ports, now)
        _stop_unwanted(folded, ports, now)
        run = waits.note(run, job, folded.last, ledger=ports.ledger, now=now)
    run = standby.tend(run, ports=ports, now=now)
    outcome = Outcome.RECORDED if folded.is_news else Outcome.UNCHANGED
    return Observation(outcome=outcome, reason=f"the job is {job.status}", run=run)


def _observe_others(unowned: Unowned, ports: Ports, now: str) -> Observation:
    """Record a job of others; or take it for a run, where its submitter has said so, and go on as with any run."""
    if unowned.job is None or ports.others is None:
        return Observation(outcome=Outcome.IGNORED, reason=unowned.reason, is_unknown=unowned.is_unknown)
    adopted = adoption.run_of(unowned.job, terms=ports.terms)
    if isinstance(adopted, Run):
        if ports.ledger.get(adopted.run_id) is None:
            # Somebody may observe it at this moment too, and a Conflict makes this one look again.
            ports.ledger.create(adopted)
            return observe_job(unowned.job.job_id, ports=ports, now=now)
        adopted = f"there is a run {adopted.run_id} already"
    return others.record(unowned.job, why_not_adopted=adopted, ports=ports, now=now)


def _stop_unwanted(folded: Folded, ports: Ports, now: str) -> None:
    """Stop the job: the call of whoever recorded the user's wish may have been lost; or it has waited long enough.

    Or its container does not start, for which a machine is paid: AWS Batch would let it go on for ever.
    """
    run, job = folded.run, folded.job
    if run.cancel_requested_at is not None:
        ports.batch.terminate(job.job_id, CANCEL_REASON)
    elif run.pause_requested_at is not None:
        ports.batch.terminate(job.job_id, PAUSE_REASON)
    elif job.status is JobStatus.RUNNABLE and _has_waited(folded, ports, now):
        ports.batch.withdraw(job.job_id, WAITED_REASON)
    elif waits.is_stuck(run, job, folded.last, now=now):
        ports.batch.terminate(job.job_id, STUCK_REASON)


def _has_waited(folded: Folded, ports: Ports, now: str) -> bool:
    """Tell whether a job has waited in its queue for as long as placement lets it, and has somewhere else to go.

    Batch's own limit acts only on the head of a queue, and not when it cannot tell why the job is stuck.
    """
    run = folded.run
    waited_seconds = max(0.0, seconds_between(waits.waiting_since(run, folded.job, folded.last), now))
    if training_types.makes_way(run, waited_seconds=waited_seconds, ports=ports):
        return True
    told = patience(run, waited_seconds=waited_seconds, ports=ports, now=now)
    if waited_seconds < told.seconds:
        return False
    last_start, within_seconds = ports.ledger.last_start, told.seconds
    # Nobody knows when a job's turn comes, so a deadline that needs on-demand now does not wait for it.
    if not told.is_over and backlog.has_backlog(
        run.job_queue, last_start=last_start, within_seconds=within_seconds, now=now
    ):
        return False
    # On-demand without capacity goes back to spot. Spot goes on waiting, which is free, unless on-demand can be paid.
    return run.market == Market.ON_DEMAND or (
        allows_fallback(run, ports) and reserve.affords_on_demand(run, ports=ports, now=now)
    )


def _after_job(folded: Folded, ports: Ports, now: str) -> Observation:
    """Do what follows from the end of the run's job: its completion first, then the user's word, then the budgets."""
    run, job = folded.run, folded.job
    ended_at = job.stopped_at or now
    if run.is_complete or run.cancel_requested_at is not None or run.pause_requested_at is not None:
        standby.dismiss(run, ports.batch)
    closed = close_if_over(run, ports=ports, at=ended_at)
    if closed is not None:
        return _closed(closed)
    newest_step = isolated.newest_step(run, ports)
    if run.pause_requested_at is not None:
        run = ports.ledger.advance(run, **pause.paused(), committed_step=newest_step)
        return Observation(outcome=Outcome.PAUSED, reason="as the user wished", run=run)
    if isolated.awaits_record(run, job, now=now):
        return _unchanged(run, "its job has ended, and its completion record may still be on its way")
    is_segment = run.limit_seconds < run.attempt_seconds
    ending = isolated.without_proof(run, ending_of(job, folded.last, is_segment=is_segment))
    history = History(
        had_attempts=bool(job.attempts),
        newest_step=newest_step,
        committed_step=run.committed_step,
        num_stalls=run.num_stalls,
        num_capacity_waits=run.num_capacity_waits,
    )
    decision = decide(ending, history, now=now)
    # With a machine, however short, the drought was over until it was lost; on-demand says nothing about it.
    had_machine_until = (folded.last.stopped_at if folded.last is not None else None) or ended_at
    has_had_machine = history.had_attempts or run.market == Market.ON_DEMAND
    dry_since = had_machine_until if has_had_machine else run.dry_since
    if decision.action is Action.FAIL:
        standby.dismiss(run, ports.batch)
        return _closed(close(run, RunState.FAILED, ledger=ports.ledger, at=ended_at, reason=decision.reason))
    counts = {
        "committed_step": newest_step,
        "num_stalls": decision.num_stalls,
        "num_capacity_waits": decision.num_capacity_waits,
        "dry_since": dry_since,
    }
    chosen = choose(replace(run, dry_since=dry_since, committed_step=newest_step), ending, decision, ports, now)
    if chosen.instance_type is not None:
        counts["instance_type"] = chosen.instance_type
    elif ending.cause is Cause.NO_CAPACITY and run.market == Market.SPOT:
        # Back on spot, the row of types goes on; after its last one it begins anew.
        counts["instance_type"] = training_types.following(run, ports.terms)
    return _go_on(run, chosen, counts, ports, now)


def _go_on(run: Run, chosen: Choice, counts: dict[str, Any], ports: Ports, now: str) -> Observation:
    """Carry a choice out: begin the next submission, or rest."""
    decision, submission = chosen.decision, run.submission
    if chosen.heir is not None:
        changes = {**counts, **standby.taking_over(run, chosen.heir, now=now)}
        moved, outcome, reason = ports.ledger.advance(run, **changes), Outcome.REQUEUED, "its standby takes over"
    elif chosen.market is not None:
        standby.dismiss(run, ports.batch)
        if run.standby_submission is not None:
            counts = {**counts, "standby_ended_at": now, "num_failed_standbys": run.num_failed_standbys + 1}
        is_dry = decision.lacks == Lack.CAPACITY
        moved, outcome, reason = _begin(run, chosen.market, decision.reason, counts, ports, now, is_dry=is_dry)
    else:
        standby.dismiss(run, ports.batch)
        moved, outcome, reason = _rest(run, decision, counts, ports), _RESTING[decision.action], decision.reason
    _note(moved, submission, outcome, reason, ports, now)
    if moved.state is not RunState.SUBMITTING:
        return Observation(outcome=outcome, reason=reason, run=moved)
    return _submit(moved.run_id, ports, now, done=outcome, reason=reason)


def _begin(
    run: Run, market: Market, reason: str, counts: dict[str, Any], ports: Ports, now: str, *, is_dry: bool = False
) -> tuple[Run, Outcome, str]:
    """Begin the next submission on a market, or on spot where on-demand cannot be paid; rest if that cannot either.

    `is_dry`: spot has just given nothing, so that there is no hurry to ask it again.
    """
    if market is Market.ON_DEMAND:
        begun = begin.on_demand(run, ports=ports, now=now, **counts)
        if isinstance(begun, Run):
            return begun, Outcome.FELL_BACK, f"{reason}: on-demand"
        reason = f"{reason}; on-demand is not possible: {begun.reason}"
        if is_dry:
            wait_until = after(now, counts["num_capacity_waits"])
            return _wait(run, reason, wait_until, Lack.CAPACITY, counts, ports), Outcome.WAITING, reason
    begun = begin.on_spot(run, ports=ports, now=now, **counts)
    if isinstance(begun, Run):
        return begun, Outcome.REQUEUED, reason
    reason = f"{reason}; spot is not possible: {begun.reason}"
    if begun.is_own:
        told = {"wait_until": None, "reason": reason, "lacks": begun.lacks}
        return _resting(run, RunState.PARKED, {**told, **counts}, ports), Outcome.PARKED, reason
    counts = {**counts, "num_money_waits": run.num_money_waits + 1}
    wait_until = after(now, run.num_money_waits)
    return _wait(run, reason, wait_until, begun.lacks, counts, ports), Outcome.WAITING, reason


def _wait(
    run: Run, reason: str, wait_until: str | None, lacks: Lack | None, counts: Mapping[str, Any], ports: Ports
) -> Run:
    if lacks is Lack.CAPACITY:
        # Counted here, where a run does wait: what it asks for at once instead makes no later wait longer.
        counts = {**counts, "num_capacity_waits": counts["num_capacity_waits"] + 1}
    changes = {"reason": reason, "wait_until": wait_until, "lacks": lacks, **counts}
    return _resting(run, RunState.WAITING, changes, ports)


_RESTING: Final = {Action.WAIT: Outcome.WAITING, Action.PARK: Outcome.PARKED}


def _rest(run: Run, decision: Decision, counts: dict[str, Any], ports: Ports) -> Run:
    if decision.action is Action.WAIT:
        return _wait(run, decision.reason, decision.wait_until, decision.lacks, counts, ports)
    told = {"wait_until": decision.wait_until, "reason": decision.reason, "lacks": decision.lacks}
    return _resting(run, RunState.PARKED, {**told, **counts}, ports)


def _resting(run: Run, state: RunState, changes: Mapping[str, Any], ports: Ports) -> Run:
    # A run that rests has no standby: whose money is set aside for one that the run names would never be settled.
    return ports.ledger.advance(run, state=state, **changes, **standby.forgotten())


def _note(run: Run, submission: int, outcome: Outcome, reason: str, ports: Ports, now: str) -> None:
    event = HistoryEvent(
        at=now,
        event_id=f"submission-{submission}",
        kind=outcome.value,
        message=f"submission {submission}: {reason}",
    )
    ports.ledger.append_event(run.run_id, event)


def _after_wait(run: Run, ports: Ports, now: str) -> Observation:
    """Begin the next submission of a run whose wait is over, where placement now wants it."""
    market, reason = Market.SPOT, "its wait is over"
    if run.lacks == Lack.CAPACITY and run.market == Market.SPOT:  # where on-demand had nothing, spot is next
        placed = shortage(run, ports=ports, now=now).placement
        market, reason = placed.market, placed.reason
    moved, outcome, reason = _begin(run, market, reason, {}, ports, now)
    if market is Market.ON_DEMAND or outcome is not Outcome.REQUEUED:  # to ask spot again is no news
        _note(moved, run.submission, outcome, reason, ports, now)
    if moved.state is not RunState.SUBMITTING:
        return Observation(outcome=Outcome.UNCHANGED, reason=reason, run=moved)
    done = Outcome.FELL_BACK if outcome is Outcome.FELL_BACK else Outcome.SUBMITTED
    return _submit(moved.run_id, ports, now, done=done, reason=reason)


def _finish_submission(run: Run, ports: Ports, now: str) -> Observation:
    age_seconds = seconds_between(run.intent_at or run.created_at, now)
    if age_seconds < SUBMITTER_SECONDS:
        return _unchanged(run, "its submission has just begun")
    if run.is_array_child:
        return _find_child(run, age_seconds, ports, now)
    if run.market == Market.ON_DEMAND and run.refused_at is None and age_seconds > GIVE_UP_SECONDS:
        # Whether the replies were lost, or on-demand alone is not allowed: spot may be there.
        jobs = find_jobs(run, run.submission, queue=run.job_queue, batch=ports.batch)
        if not jobs:
            because = run.reason or "AWS did not answer"
            reason = f"no job on on-demand could be submitted in {GIVE_UP_SECONDS // 60} minutes: {because}"
            waiting = _wait(run, reason, after(now, 0), None, {}, ports)
            return Observation(outcome=Outcome.WAITING, reason=reason, run=waiting)
    return _submit(run.run_id, ports, now, done=Outcome.SUBMITTED)


def _find_child(run: Run, age_seconds: float, ports: Ports, now: str) -> Observation:
    """Take up the child of the sweep's array job; if there is no array after all, let the member go on by itself.

    Nobody but the user's own command submits the array, so none can come twice. Children of one that shows up later
    still are refused their claims, as the member is past its first submission.
    """
    found = submit.finish(run.run_id, ports=ports, now=now)
    if found.state is not RunState.SUBMITTING:
        return Observation(outcome=Outcome.SUBMITTED, reason="a child of the sweep's array job", run=found)
    if age_seconds < GIVE_UP_SECONDS:
        return _unchanged(found, "the sweep's array job has not shown up yet")
    reason = "the sweep's array job has not shown up; it is submitted by itself"
    waiting = ports.ledger.advance(found, state=RunState.WAITING, wait_until=now, reason=reason)
    return Observation(outcome=Outcome.WAITING, reason=reason, run=waiting)


def _submit(run_id: str, ports: Ports, now: str, *, done: Outcome, reason: str = "") -> Observation:
    """Submit the run's job, if there is none yet and this second allows it."""
    run = ports.ledger.get(run_id)
    if run is None:
        raise UnknownRun(run_id)
    try:
        run = submit.finish(run_id, ports=ports, now=now, is_limited=True)
    except (ReplyLost, Throttled) as error:
        return Observation(outcome=Outcome.DEFERRED, reason=f"{type(error).__name__}: {error}", run=run)
    except NotAllowed:
        raise  # no run's affair: whoever runs the environment is to hear of it
    except Refused as refusal:
        run = ports.ledger.get(run_id) or run
        reason = f"{service_of(run.job_queue)} refused the job: {refusal}"
        return Observation(outcome=_unsubmitted(run, done), reason=reason, run=run)
    outcome = _unsubmitted(run, done)
    because = reason if outcome is done else run.reason
    return Observation(outcome=outcome, reason=because or f"submission {run.submission}", run=run)


def _unsubmitted(run: Run, done: Outcome) -> Outcome:
    """Return what a submission came to that AWS Batch has refused, or `done` if it has not."""
    if run.is_closed:
        return Outcome.CLOSED
    refused = {RunState.PARKED: Outcome.PARKED, RunState.SUBMITTING: Outcome.DEFERRED}
    return refused.get(run.state, done)


def _closed(run: Run) -> Observation:
    return Observation(outcome=Outcome.CLOSED, reason=run.reason or run.state, run=run)


def _as_wished(run: Run) -> Observation:
    outcomes = {RunState.CANCELLED: Outcome.CLOSED, RunState.PAUSED: Outcome.PAUSED}
    return Observation(outcome=outcomes.get(run.state, Outcome.RECORDED), reason="as the user wished", run=run)


def _unchanged(run: Run, reason: str) -> Observation:
    return Observation(outcome=Outcome.UNCHANGED, reason=reason, run=run)


def is_due(run: Run, now: str) -> bool:
    """Tell whether the wait of a waiting run is over. `now` is ISO 8601, UTC."""
    return run.wait_until is None or seconds_between(run.wait_until, now) >= 0
