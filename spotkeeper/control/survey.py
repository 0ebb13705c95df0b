"""Measure the open runs after a sweep, for alarms. Nothing is changed, and nothing that fails here stops a sweep.

A storm has more runs than a sweep has time to measure. So this goes round them page by page, as the sweep does, in a
share of time of its own, and keeps what it has measured: alarms are told of the last whole round or of the present one,
whichever is worse. They hear late of what ends in a storm, and never nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from spotkeeper.contract.budgets import environment_holder, month_of, run_holder, team_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import condition
from spotkeeper.control.budget import Limits
from spotkeeper.control.condition import Commit
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.measures import Measures
from spotkeeper.control.ports import Ports
from spotkeeper.control.rounds import PAGE
from spotkeeper.control.run import Attempt, Run

LISTING: Final = "survey"
"""Under which name the ledger keeps how far it has come."""


class Commits(Protocol):
    """What is known of a run's checkpoints without opening them."""

    def commits(self, run_id: str) -> tuple[Commit, ...]:
        """Return the run's committed checkpoints, by epoch and step."""


@dataclass(kw_only=True, slots=True)
class Survey:
    """The condition of the open runs, and of the money of environment and teams."""

    worst: Measures = field(default_factory=Measures)
    """Of the last whole round, or of the present one where that is worse already."""
    not_honoured: list[str] = field(default_factory=list)
    """Runs that were looked at now, one for each attempt that was warned and did not save what it had."""
    without_progress: list[str] = field(default_factory=list)
    over_own_cap: list[str] = field(default_factory=list)
    with_late_mirror: list[str] = field(default_factory=list)
    budget_left_percent: float = 100.0
    least_left: str = ""
    """Whose budget that is."""
    failures: dict[str, str] = field(default_factory=dict)
    """Run -> why it could not be measured."""


def survey(*, ports: Ports, commits: Commits, now: str, has_time: Callable[[], bool]) -> Survey:
    """Go on with the round over the open runs, oldest first, and begin another where there is time.

    Args:
        ports: The world; of it only the survey's own position is written.
        commits: Tells what is committed, and when.
        now: ISO 8601, UTC.
        has_time: Whether to go on with another run.
    """
    seen, teams = Survey(), set(ports.terms.team_limits)
    try:
        _go_round(seen, teams, ports, commits, now, has_time)
    except Exception as error:  # noqa: BLE001  what the sweep did is still to be reported, and money to be measured
        seen.failures["the survey"] = f"{type(error).__name__}: {error}"
    _measure_money(seen, teams, ports, now)
    return seen


def _go_round(
    seen: Survey, teams: set[str], ports: Ports, commits: Commits, now: str, has_time: Callable[[], bool]
) -> None:
    before = ports.ledger.position(LISTING) or Position(began_at=now)
    whole, part, last = before.whole, before.part or Measures(), before.last
    seen.worst = part.worst(whole) if whole is not None else part
    has_begun_anew = last is None
    while True:
        for run in _runs(ports, last):
            if not has_time():
                break
            part = part.plus(_measured(seen, run, ports, commits, now))
            teams.add(run.team)
            last = Listed(created_at=run.created_at, run_id=run.run_id)
        else:
            # A round is whole: what was before it counts no more.
            whole, part, last = part, Measures(), None
            if not has_begun_anew:
                has_begun_anew = True
                continue
        break
    seen.worst = part.worst(whole) if whole is not None else part
    ports.ledger.keep_position(LISTING, Position(began_at=now, last=last, whole=whole, part=part))


def _runs(ports: Ports, behind: Listed | None) -> Iterator[Run]:
    entries = ports.ledger.open_runs(behind=behind)
    while page := tuple(islice(entries, PAGE)):
        yield from ports.ledger.get_many([entry.run_id for entry in page])


def _measured(seen: Survey, run: Run, ports: Ports, commits: Commits, now: str) -> Measures:
    try:
        return _measure(seen, run, ports, commits, now)
    except Exception as error:  # noqa: BLE001  one run's trouble, of whatever kind, must not hide all others'
        seen.failures[run.run_id] = f"{type(error).__name__}: {error}"
        return Measures()


def _measure(seen: Survey, run: Run, ports: Ports, commits: Commits, now: str) -> Measures:
    is_stalled, is_over = condition.is_without_progress(run), _is_over_own_cap(run, ports)
    seen.without_progress += [run.run_id] if is_stalled else []
    seen.over_own_cap += [run.run_id] if is_over else []
    of_run = Measures(num_without_progress=int(is_stalled), num_over_own_cap=int(is_over))
    if not run.epoch:
        return of_run  # no attempt ever held it
    attempts = ports.ledger.attempts(run.run_id)
    num_hosts_lost = condition.hosts_lost(attempts, now=now)
    of_run = of_run.plus(
        Measures(
            num_hosts_lost=num_hosts_lost,
            num_stalled_by_losses=int(num_hosts_lost > 0 and condition.is_stalled(run)),
        )
    )
    if run.is_isolated:
        return of_run.plus(_of_mirror(seen, run, attempts, ports, now))
    warned = condition.warned(attempts, now=now)
    if run.state is not RunState.RUNNING and not warned:
        return of_run  # nothing to ask of the bucket
    committed = commits.commits(run.run_id)
    not_honoured = [run.run_id for attempt in warned if not condition.has_honoured(attempt, committed)]
    seen.not_honoured += not_honoured
    age_seconds = condition.checkpoint_age_seconds(run, attempts, committed, now=now)
    return of_run.plus(Measures(num_not_honoured=len(not_honoured), checkpoint_age_seconds=int(age_seconds)))


def _of_mirror(seen: Survey, run: Run, attempts: Sequence[Attempt], ports: Ports, now: str) -> Measures:
    """Measure what nobody else can tell of a run without network: no container sees what has arrived in S3."""
    if run.state is not RunState.RUNNING or ports.mirrors is None:
        return Measures()
    newest = ports.mirrors.newest_whole(run.run_id)
    age_seconds = condition.mirrored_age_seconds(run, attempts, newest, now=now)
    delay_seconds = condition.mirror_delay_seconds(run, age_seconds)
    seen.with_late_mirror += [run.run_id] if delay_seconds else []
    return Measures(mirror_delay_seconds=int(delay_seconds), checkpoint_age_seconds=int(age_seconds))


def _is_over_own_cap(run: Run, ports: Ports) -> bool:
    own = ports.budgets.get(run_holder(run.run_id)) if condition.may_cross_own_cap(run) else None
    return own is not None and condition.is_over(own)


def _measure_money(seen: Survey, teams: set[str], ports: Ports, now: str) -> None:
    month = month_of(now)
    limits = {environment_holder(month): ports.terms.limits}
    limits |= {team_holder(team, month): ports.terms.team_limits.get(team, Limits()) for team in sorted(teams)}
    for holder, capped in limits.items():
        try:
            left_percent = condition.left_percent(ports.budgets.get(holder) or capped.open(holder))
        except Exception as error:  # noqa: BLE001  as above
            seen.failures[holder] = f"{type(error).__name__}: {error}"
            continue
        if left_percent < seen.budget_left_percent:
            seen.budget_left_percent, seen.least_left = left_percent, holder
