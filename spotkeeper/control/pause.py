"""Pause a run and let it go on: the user's word, against which no requeue stands.

Pausing records the wish first, and from then on no attempt can claim; then the job is stopped, which saves its work.
"""

from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import begin, isolated, standby
from spotkeeper.control.classify import PAUSE_REASON
from spotkeeper.control.lookup import find_jobs
from spotkeeper.control.ports import Conflict, Ledger, Ports, Refused, ReplyLost, Throttled, UnknownRun
from spotkeeper.control.reserve import Held
from spotkeeper.control.run import Run
from spotkeeper.control.submit import finish


def pause(run_id: str, *, ports: Ports, now: str) -> Run:
    """Pause a run and return it. One that has ended, is being cancelled or is parked stays as it is.

    A run whose job is known becomes PAUSED when AWS reports that the job ended; any other at once, but for one without
    network whose job may still appear: the sweeper looks for it until it cannot any more.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    while True:
        run = _get(run_id, ports.ledger)
        if run.cancel_requested_at is not None or not (run.is_live or run.state is RunState.WAITING):
            return run
        try:
            if run.is_live and run.pause_requested_at is None:
                run = ports.ledger.advance(run, pause_requested_at=now)
            standby.dismiss(run, ports.batch)
            if run.is_live and run.job_id is not None:
                ports.batch.terminate(run.job_id, PAUSE_REASON)
                return run
            # The reply to SubmitJob may be on its way: stop what has our name. What look-up does not show yet is
            # stopped by its submitter, and is refused its claim in any case.
            found = find_jobs(run, run.submission, queue=run.job_queue, batch=ports.batch)
            for job in found:
                ports.batch.terminate(job.job_id, PAUSE_REASON)
            stopping = [job for job in found if not job.has_ended]
            if run.is_isolated and run.is_live and stopping:
                # No claim of its next job would be refused while this one lives, so it is waited for.
                return ports.ledger.advance(run, state=RunState.SUBMITTED, job_id=stopping[0].job_id)
            if not found and isolated.may_have_job(run, now=now):
                return run
            return ports.ledger.advance(run, **paused())
        except Conflict:
            continue


def paused() -> dict[str, Any]:
    """Return the changes by which a run without a job becomes PAUSED."""
    return {
        "state": RunState.PAUSED,
        "pause_requested_at": None,
        "wait_until": None,
        "lacks": None,
        "reason": "`spotkeeper resume RUN` lets it go on",
        **standby.forgotten(),
    }


def resume(run_id: str, *, ports: Ports, now: str) -> Run:
    """Let a paused or parked run go on, or a waiting one at once, on spot, and return it. Others stay as they are.

    Its budgets of requeueing begin anew. A run whose job is still stopping goes on when that has stopped; one whose
    money is spent stays, with the reason.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    while True:
        run = _get(run_id, ports.ledger)
        try:
            resumed = _let_go_on(run, ports, now)
            break
        except Conflict:
            continue
    if resumed.submission == run.submission:
        return resumed
    try:
        return finish(run_id, ports=ports, now=now)
    except (Refused, ReplyLost, Throttled):
        # The intent is recorded: the sweeper finishes it, or the refusal stands in the run.
        return _get(run_id, ports.ledger)


def _let_go_on(run: Run, ports: Ports, now: str) -> Run:
    anew = {"num_stalls": 0, "num_capacity_waits": 0, "dry_since": now}
    if run.is_closed or run.cancel_requested_at is not None:
        return run
    if not run.is_live:
        begun = begin.on_spot(run, ports=ports, now=now, **anew)
        return ports.ledger.advance(run, reason=begun.reason) if isinstance(begun, Held) else begun
    if run.pause_requested_at is not None:
        return ports.ledger.advance(run, pause_requested_at=None, **anew)
    return run


def _get(run_id: str, ledger: Ledger) -> Run:
    run = ledger.get(run_id)
    if run is None:
        raise UnknownRun(run_id)
    return run
