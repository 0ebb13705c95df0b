"""Return to spot, make before break: place a standby for a run on on-demand, and let it take over or go.

The standby's job is that of a later submission, already submitted. It takes over by becoming the run's current
submission once the on-demand job has ended; until then it is refused its claim. It costs only itself, whatever becomes
of it.
"""

from dataclasses import replace
from typing import Any

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract import training
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import job_name
from spotkeeper.control import outlook, reserve, waits
from spotkeeper.control.classify import STANDBY_REASON
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.ports import Batch, Conflict, Job, JobStatus, NotAllowed, Ports, Refused, ReplyLost, Throttled
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run
from spotkeeper.control.submission_rate import may_submit
from spotkeeper.control.submit import request_of
from spotkeeper.policy.placement import Market, decide, standby_is_due


def forgotten() -> dict[str, Any]:
    """Return the changes by which a run forgets its standby."""
    return {"standby_submission": None, "standby_job_id": None, "standby_ready_at": None, "handover_asked_at": None}


def as_standby(run: Run, ports: Ports) -> Run:
    """Return the run as its standby's job is to see it."""
    assert run.standby_submission is not None
    terms = ports.terms.placement
    ages = {
        variables.STANDBY_AGE_SECONDS: str(terms.standby_age_seconds),
        variables.STANDBY_PATIENCE_SECONDS: str(terms.standby_patience_seconds),
    }
    return replace(
        run,
        variables={**run.variables, **ages},
        submission=run.standby_submission,
        market=Market.SPOT.value,
        job_queue=ports.terms.profiles[run.profile].spot_queue,
        segment_seconds=None,
    )


def tend(run: Run, *, ports: Ports, now: str) -> Run:
    """Place, finish placing, or forget the standby of a run that is on on-demand. Return the run.

    Raises:
        Conflict: somebody wrote in between; decide anew.
    """
    if run.state is not RunState.RUNNING or run.market != Market.ON_DEMAND or run.profile not in ports.terms.profiles:
        return run
    if run.standby_submission is None:
        return _place(run, ports, now) if _is_due(run, ports, now) else run
    if run.standby_job_id is None:
        return _submit(run, ports, now, is_late=True)
    job = ports.batch.describe(run.standby_job_id)
    # A job that Batch does not know at the moment is no job that has ended.
    return _failed(run, ports, now) if job is not None and job.has_ended else run


def heir(run: Run, ports: Ports) -> Job | None:
    """Return the standby's job if it can take the run over: it has a machine, which proves that spot is there."""
    if run.standby_job_id is None:
        return None
    job = ports.batch.describe(run.standby_job_id)
    return job if job is not None and job.status in (JobStatus.STARTING, JobStatus.RUNNING) else None


def taking_over(run: Run, job: Job, *, now: str) -> dict[str, Any]:
    """Return the changes by which the standby's submission becomes the run's current one."""
    return {
        "state": RunState.SUBMITTED,
        "submission": run.standby_submission,
        "job_id": job.job_id,
        "market": Market.SPOT.value,
        "job_queue": job.order.queue,
        "segment_seconds": None,
        "intent_at": now,
        "on_demand_since": None,
        "num_failed_standbys": 0,
        "wait_until": None,
        "reason": None,
        **waits.forgotten(),
        **forgotten(),
    }


def dismiss(run: Run, batch: Batch) -> None:
    """Stop the standby's job of a run that does not want it any more; it would leave by itself, later."""
    if run.standby_job_id is not None:
        batch.terminate(run.standby_job_id, STANDBY_REASON)


def _is_due(run: Run, ports: Ports, now: str) -> bool:
    if training.is_queue(run.job_queue):
        return False  # no standby there: the run asks spot again when its segment ends
    if run.claimed_at is None or run.cancel_requested_at is not None or run.pause_requested_at is not None:
        return False
    newest_step = ports.checkpoints.newest_step(run.run_id)
    if newest_step is None:
        return False  # what was never saved would begin again on spot
    at = outlook.on_demand(run, newest_step=newest_step, now=now)
    if at is not None and not decide(at).wants_standby:
        return False  # the deadline does not allow a return
    since = run.on_demand_since or run.claimed_at
    return standby_is_due(
        on_demand_seconds=seconds_between(since, now),
        since_last_seconds=seconds_between(run.standby_ended_at, now) if run.standby_ended_at else None,
        num_failed=run.num_failed_standbys,
        terms=ports.terms.placement,
    )


def _place(run: Run, ports: Ports, now: str) -> Run:
    number = run.highest + 1
    changes = {
        **forgotten(),
        "standby_submission": number,
        "highest_submission": number,
        "on_demand_since": run.on_demand_since or run.claimed_at,
    }
    placed = reserve.spot(run, changes, ports=ports, now=now, submission=number)
    if isinstance(placed, Held):
        return run
    return _submit(placed, ports, now)


def _submit(run: Run, ports: Ports, now: str, *, is_late: bool = False) -> Run:
    """Submit the standby's job if look-up shows none; record its id."""
    request = as_standby(run, ports)
    named = ports.batch.find(job_name(run.run_id, request.submission), queue=request.job_queue)
    if named:
        return _record(run, named[0].job_id, ports)
    if not may_submit(run.team, ledger=ports.ledger, now=now):
        return run
    if is_late:
        # Before: whoever settles the standby's lease goes by when a job can have been made last.
        run = ports.ledger.advance(run, sent_at=now)
    try:
        return _record(run, ports.batch.submit(request_of(request, ports.terms)), ports)
    except (ReplyLost, Throttled):
        return run
    except NotAllowed:
        raise  # as with every submission: that says nothing about the run
    except Refused:
        return _failed(run, ports, now)


def _record(run: Run, job_id: str, ports: Ports) -> Run:
    """Record the job's id; stop the job if the run does not want it any more."""
    submission = run.standby_submission
    current: Run | None = run
    while current is not None and current.standby_submission == submission and current.standby_job_id is None:
        try:
            current = ports.ledger.advance(current, standby_job_id=job_id)
        except Conflict:
            current = ports.ledger.get(run.run_id)
    if current is None:
        return run
    is_wanted = current.standby_job_id == job_id or current.submission == submission
    if not is_wanted:
        ports.batch.terminate(job_id, STANDBY_REASON)
    return current


def _failed(run: Run, ports: Ports, now: str) -> Run:
    changes = {**forgotten(), "standby_ended_at": now, "num_failed_standbys": run.num_failed_standbys + 1}
    return ports.ledger.advance(run, **changes)
