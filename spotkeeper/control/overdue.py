"""Runs that wait for longer than placement lets a run wait for spot, each with why: for the log and an alarm."""

from collections.abc import Iterable
from typing import Final

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.run import Run
from spotkeeper.policy.placement import Market, Terms

MOST_LISTED: Final = 1000
"""Newest open runs among which waits are looked for at each sweep: a few reads of the index."""


def overdue(runs: Iterable[Run], *, terms: Terms, now: str) -> dict[str, str]:
    """Return run -> why it waits, of those that wait and had no machine for the fallback limit. `now` is ISO 8601, UTC.

    They are not stuck. Spot is dry, and they lack money or permission for on-demand: a person can give it, or let them
    wait.
    """
    return {
        run.run_id: run.reason or "its job waits for spot capacity"
        for run in runs
        if _waits_for_spot(run) and _dry_seconds(run, now) > terms.fallback_after_seconds
    }


def _waits_for_spot(run: Run) -> bool:
    return run.market == Market.SPOT and run.state in (RunState.WAITING, RunState.SUBMITTING, RunState.SUBMITTED)


def _dry_seconds(run: Run, now: str) -> float:
    return seconds_between(run.dry_since or run.created_at, now)
