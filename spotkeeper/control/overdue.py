"""Runs that have no machine for longer than placement lets a run wait for spot, each with why: for log and metric."""

from collections.abc import Iterable

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market, Terms


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
