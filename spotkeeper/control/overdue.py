"""Runs that have no machine for longer than placement lets a run wait for spot, each with why: for log and metric."""

from collections.abc import Callable, Iterable
from typing import Final

from spotkeeper.contract import training
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import backlog
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.run import Lack, Run
from spotkeeper.policy.placement import Market, Terms

NO_CAPACITY: Final = "CAPACITY:"
"""How AWS Batch's reason begins, of a job at the head of a queue for which EC2 has no machine."""


def overdue(runs: Iterable[Run], *, terms: Terms, now: str) -> dict[str, str]:
    """Return run -> why it waits, of those that had no machine for the fallback limit. `now` is ISO 8601, UTC.

    They are not stuck: there is no capacity, or no money or permission for on-demand, which a person can give; or AWS
    does not answer.
    """
    found = {}
    for run in runs:
        since = _without_machine_since(run)
        if since is not None and seconds_between(since, now) > terms.fallback_after_seconds:
            found[run.run_id] = _words(run)
    return found


def is_drought(run: Run, *, last_start: Callable[[str], str | None], terms: Terms, now: str) -> bool:
    """Tell whether a run that is overdue waits for spot capacity, and for nothing else.

    AWS Batch has said that it has none, and has given no job of the queue a machine meanwhile: a queue that gets
    machines has a backlog. A job of SageMaker has no queue, and waits for nothing else. Who waits for money, for
    permission, to be submitted, or in a queue that is full of other jobs waits for no capacity.

    Args:
        run: One of those that `overdue` returns.
        last_start: Returns when a job of a queue got a machine last.
        terms: The environment's.
        now: ISO 8601, UTC.
    """
    if run.market != Market.SPOT or run.lacks == Lack.MONEY or not _lacks_capacity(run):
        return False
    within_seconds = terms.fallback_after_seconds
    return not backlog.has_backlog(run.job_queue, last_start=last_start, within_seconds=within_seconds, now=now)


def _lacks_capacity(run: Run) -> bool:
    if run.state is RunState.WAITING:
        return run.lacks == Lack.CAPACITY
    if training.is_queue(run.job_queue):
        # SageMaker has no queue to wait in: without a machine, a job of it waits for capacity.
        has_job = run.state is not RunState.SUBMITTING and run.job_unknown_since is None
        return has_job and run.starting_since is None
    # A job that was given up for want of capacity and is submitted again waits on.
    says_so = (run.waits_why or "").startswith(NO_CAPACITY)
    return says_so or (run.state is not RunState.RUNNING and run.num_capacity_waits > 0)


def _without_machine_since(run: Run) -> str | None:
    """Return since when the run has no machine although it wants one; None: it has one, or wants none."""
    match run.state:
        case RunState.RUNNING:
            return run.waits_since
        case RunState.WAITING:
            return run.dry_since or run.created_at
        case RunState.SUBMITTING | RunState.SUBMITTED:
            # On spot a job that was withdrawn and submitted again waits on; on-demand is another market.
            return (run.dry_since if run.market == Market.SPOT else run.intent_at) or run.created_at
        case _:
            return None


def _words(run: Run) -> str:
    what = "has no job yet" if run.state is RunState.SUBMITTING else "has not started yet"
    return run.why or f"submission {run.submission} {what}"
