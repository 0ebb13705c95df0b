"""Measure the open runs after a sweep, for alarms. Nothing is changed, and nothing that fails here stops a sweep."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from spotkeeper.contract.budgets import environment_holder, month_of, run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import condition
from spotkeeper.control.condition import Commit
from spotkeeper.control.ports import Ports
from spotkeeper.control.rounds import PAGE
from spotkeeper.control.run import Run

MOST_LISTED: Final = 1000


class Commits(Protocol):
    """What is known of a run's checkpoints without opening them."""

    def commits(self, run_id: str) -> tuple[Commit, ...]:
        """Return the run's committed checkpoints, by epoch and step."""


@dataclass(kw_only=True, slots=True)
class Survey:
    """The condition of the oldest `MOST_LISTED` open runs, and of the environment's money."""

    checkpoint_age_seconds: float = 0.0
    num_hosts_lost: int = 0
    not_honoured: list[str] = field(default_factory=list)
    """Runs, one for each attempt that was warned and saved nothing."""
    without_progress: list[str] = field(default_factory=list)
    over_own_cap: list[str] = field(default_factory=list)
    budget_left_percent: float = 100.0
    failures: dict[str, str] = field(default_factory=dict)
    """Run -> why it could not be measured."""
    is_finished: bool = False
    """Whether there was time for all of them: what was measured of some is not the condition of all."""


def survey(*, ports: Ports, commits: Commits, now: str, has_time: Callable[[], bool]) -> Survey:
    """Measure the open runs, oldest first, while there is time.

    Args:
        ports: The world; it is only read.
        commits: Tells what is committed, and when.
        now: ISO 8601, UTC.
        has_time: Whether to go on with another run.
    """
    entries = tuple(islice(ports.ledger.open_runs(), MOST_LISTED))
    pages = (entries[start : start + PAGE] for start in range(0, len(entries), PAGE))
    runs = (run for page in pages for run in ports.ledger.get_many([entry.run_id for entry in page]))
    seen = Survey()
    for run in runs:
        if not has_time():
            return seen
        try:
            _measure(seen, run, ports, commits, now)
        except Exception as error:  # noqa: BLE001  one run's trouble, of whatever kind, must not hide all others'
            seen.failures[run.run_id] = f"{type(error).__name__}: {error}"
    holder = environment_holder(month_of(now))
    budget = ports.budgets.get(holder) or ports.terms.limits.open(holder)
    seen.budget_left_percent = condition.left_percent(budget)
    seen.is_finished = True
    return seen


def _measure(seen: Survey, run: Run, ports: Ports, commits: Commits, now: str) -> None:
    if condition.is_without_progress(run):
        seen.without_progress.append(run.run_id)
    if condition.may_cross_own_cap(run):
        own = ports.budgets.get(run_holder(run.run_id))
        if own is not None and condition.is_over(own):
            seen.over_own_cap.append(run.run_id)
    if not run.epoch:
        return  # no attempt ever held it
    attempts = ports.ledger.attempts(run.run_id)
    seen.num_hosts_lost += condition.hosts_lost(attempts, now=now)
    warned = condition.warned(attempts, now=now)
    if run.state is not RunState.RUNNING and not warned:
        return  # nothing to ask of the bucket
    committed = commits.commits(run.run_id)
    seen.not_honoured += [run.run_id for attempt in warned if not condition.has_honoured(attempt, committed)]
    age = condition.checkpoint_age_seconds(run, attempts, committed, now=now)
    seen.checkpoint_age_seconds = max(seen.checkpoint_age_seconds, age)
