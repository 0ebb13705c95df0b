"""Look after all open runs and all reserved money, so that everything converges without any event.

Money and runs take turns, a page of each, so that neither starves the other; each is a round of its own, which goes on
where the last sweep stopped (`rounds`). A page is read and described in a few calls; only what needs a step is looked
at by itself. In the end come the jobs of others, as far as there is time.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from spotkeeper.contract.budgets import LISTING_UNSETTLED
from spotkeeper.contract.ledger import LISTING_OPEN
from spotkeeper.control import others, reservations, training_adoption
from spotkeeper.control.budget import Reservation
from spotkeeper.control.described import Described
from spotkeeper.control.first_lease import SweepIsCapped, capped_sweeps
from spotkeeper.control.glance import glance
from spotkeeper.control.listing import Listed
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Outcome
from spotkeeper.control.overdue import is_drought, overdue
from spotkeeper.control.ports import Conflict, Job, Ports
from spotkeeper.control.reconcile import observe_job, reconcile
from spotkeeper.control.reservations import Tended, tend
from spotkeeper.control.rounds import Round
from spotkeeper.control.run import Run
from spotkeeper.control.run_dollars import RunDollars, dollars

_Done = TypeVar("_Done", Outcome, Tended)

REPAIRS: Final = frozenset(
    {
        Outcome.RECORDED,
        Outcome.CLOSED,
        Outcome.REQUEUED,
        Outcome.FELL_BACK,
        Outcome.WAITING,
        Outcome.PARKED,
        Outcome.PAUSED,
    }
)
"""What an event should have done already. To begin what was due or deferred is the sweeper's own work."""
LATE_SECONDS: Final = 1200
"""A round that takes longer is late: three sweeps, and the pause before the first, as `renew.MARGIN_SECONDS` has it."""


@dataclass(kw_only=True, slots=True)
class Sweep:
    """What a sweep did."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reservations: Counter[Tended] = field(default_factory=Counter)
    num_caps_crossed: int = 0
    """Submissions for which their run's own cap was crossed."""
    failures: dict[str, str] = field(default_factory=dict)
    """Run -> why it could not be reconciled; the next sweep tries again."""
    waits: dict[str, str] = field(default_factory=dict)
    """Run -> why it waits, of those that it looked at and that wait for longer than placement lets a run wait."""
    droughts: set[str] = field(default_factory=set)
    """Of these, the runs that wait for spot capacity and nothing else."""
    dollars: RunDollars = field(default_factory=RunDollars)
    """What the runs cost that it closed."""
    oldest_round_seconds: float = 0.0
    """For how long the older of the two rounds that it has left goes on."""

    @property
    def is_on_time(self) -> bool:
        """Whether every open run and every reservation has its turn within `LATE_SECONDS`: the sweeper's heartbeat."""
        return self.oldest_round_seconds <= LATE_SECONDS

    @property
    def num_repairs(self) -> int:
        """How many runs were not where the events should have brought them: what was lost, or is very late."""
        return sum(self.outcomes[outcome] for outcome in REPAIRS)

    def attempt(self, name: str, counts: Counter[_Done], step: Callable[[], _Done], *, conflict: _Done) -> None:
        """Take a step for a run and count what came of it. One that fails never stops the others."""
        try:
            counts[step()] += 1
        except Conflict:
            # Somebody moves it at this moment, which is as good.
            counts[conflict] += 1
        except Exception as error:  # noqa: BLE001  one run's trouble, of whatever kind, must not become all runs'
            self.failures[name] = f"{type(error).__name__}: {error}"


def sweep(*, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]) -> Sweep:
    """Go on with both rounds while there is time.

    Args:
        ports: The world.
        clock: Returns the time, ISO 8601, UTC; asked for each run, since submissions are counted by the second.
        has_time: Whether to go on with another run.
    """
    done = Sweep()
    money = Round(
        LISTING_UNSETTLED, lambda last: ports.budgets.unsettled(behind=last), ledger=ports.ledger, clock=clock
    )
    runs = Round(LISTING_OPEN, lambda last: ports.ledger.open_runs(behind=last), ledger=ports.ledger, clock=clock)
    turns = deque(
        [
            ("the round over reservations", _tend_money(done, money, ports, clock, has_time)),
            ("the round over open runs", _reconcile_runs(done, runs, ports, clock, has_time)),
        ]
    )
    while turns:
        name, pages = turns.popleft()
        try:
            next(pages)
        except StopIteration:
            continue
        except Exception as error:  # noqa: BLE001  the other round goes on
            done.failures[name] = f"{type(error).__name__}: {error}"
            continue
        turns.append((name, pages))
    began = [round_.began_at for round_ in (money, runs) if round_.began_at is not None]
    done.oldest_round_seconds = max((seconds_between(began_at, clock()) for began_at in began), default=0.0)
    _look_at_others(done, ports=ports, clock=clock, has_time=has_time)
    _look_for_training_jobs(done, ports=ports, clock=clock, has_time=has_time)
    return done


def _reconcile_runs(
    done: Sweep, runs: Round, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]
) -> Iterator[None]:
    """Look at the open runs, oldest first, a page at each step."""
    for page in runs.pages():
        found = {run.run_id: run for run in ports.ledger.get_many([entry.run_id for entry in page])}
        jobs, sweep_is_capped = _jobs_of(found.values(), ports), capped_sweeps(ports.budgets)
        for number, entry in enumerate(page):
            if not has_time():
                runs.stop(number)
                return
            run = found.get(entry.run_id)
            if run is None:
                # By itself, it says why it cannot be read.
                done.attempt(
                    entry.run_id,
                    done.outcomes,
                    partial(_reconciled, entry.run_id, ports, clock()),
                    conflict=Outcome.UNCHANGED,
                )
            else:
                _reconcile(done, run, jobs.get(run.job_id), sweep_is_capped, ports, clock())
        yield


def _reconciled(run_id: str, ports: Ports, now: str) -> Outcome:
    return reconcile(run_id, ports=ports, now=now).outcome


def _reconcile(done: Sweep, run: Run, job: Job | None, sweep_is_capped: SweepIsCapped, ports: Ports, now: str) -> None:
    def step() -> Outcome:
        seen = glance(run, job, ports=ports, now=now, sweep_is_capped=sweep_is_capped)
        if seen is None:
            described = replace(ports, batch=Described(ports.batch, (job,) if job is not None else ()))
            seen = reconcile(run.run_id, ports=described, now=now)
        _note_wait(done, seen.run or run, ports, now)
        done.num_caps_crossed += seen.is_cap_crossed
        if seen.outcome is Outcome.CLOSED:
            done.dollars = done.dollars.plus(dollars(seen.run or run, ports=ports, now=now))
        return seen.outcome

    done.attempt(run.run_id, done.outcomes, step, conflict=Outcome.UNCHANGED)


def _note_wait(done: Sweep, run: Run, ports: Ports, now: str) -> None:
    terms = ports.terms.placement
    waits = overdue([run], terms=terms, now=now)
    done.waits.update(waits)
    if waits and is_drought(run, last_start=ports.ledger.last_start, terms=terms, now=now):
        done.droughts.add(run.run_id)


def _tend_money(
    done: Sweep, money: Round, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]
) -> Iterator[None]:
    """Look at the reservations that are not settled, oldest first, a page at each step."""
    for page in money.pages():
        held = {(item.run_id, item.submission): item for item in ports.budgets.get_many(page)}
        found = {run.run_id: run for run in ports.ledger.get_many(list({entry.run_id: None for entry in page}))}
        jobs = _jobs_of(found.values(), ports)
        for number, entry in enumerate(page):
            if not has_time():
                money.stop(number)
                return
            run, reservation = found.get(entry.run_id), held.get((entry.run_id, entry.submission or 0))
            _tend(done, entry, run, reservation, jobs.get(run.job_id) if run is not None else None, ports, clock())
        yield


def _tend(
    done: Sweep,
    entry: Listed,
    run: Run | None,
    reservation: Reservation | None,
    job: Job | None,
    ports: Ports,
    now: str,
) -> None:
    submission = entry.submission or 0

    def step() -> Tended:
        seen = None
        if run is not None and reservation is not None:
            seen = reservations.glance(run, reservation, job, ports=ports, now=now)
        return seen or tend(entry.run_id, submission, ports=ports, now=now)

    done.attempt(f"{entry.run_id}, submission {submission}", done.reservations, step, conflict=Tended.LEFT)


def _jobs_of(runs: Iterable[Run], ports: Ports) -> dict[str | None, Job]:
    """Describe the jobs that runs are in, all at once; a run whose job is missing is looked at by itself."""
    job_ids = [run.job_id for run in runs if run.is_live and run.job_id is not None]
    return {job.job_id: job for job in ports.batch.describe_many(job_ids)} if job_ids else {}


def _look_at_others(done: Sweep, *, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]) -> None:
    """Look again at the jobs of others that had not ended."""
    try:
        listed = others.unended(ports)
    except Exception as error:  # noqa: BLE001  as above: what was done for the runs is still to be reported
        done.failures["the list of others' jobs"] = f"{type(error).__name__}: {error}"
        return
    for job in listed:
        if not has_time():
            return
        try:
            seen = observe_job(job.job_id, ports=ports, now=clock()).outcome
            if seen is Outcome.IGNORED:
                others.forget(job, ports=ports, now=clock())
            done.outcomes[seen] += 1
        except Exception as error:  # noqa: BLE001  as above
            done.failures[f"job {job.job_id} of others"] = f"{type(error).__name__}: {error}"


def _look_for_training_jobs(
    done: Sweep, *, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]
) -> None:
    """Look at training jobs of which nothing was heard yet: they may ask to be runs."""
    try:
        unheard = training_adoption.unheard(ports)
    except Exception as error:  # noqa: BLE001  as above
        done.failures["the list of training jobs"] = f"{type(error).__name__}: {error}"
        return
    for job_id in unheard:
        if not has_time():
            return
        step = partial(_observed, job_id, ports, clock())
        done.attempt(f"training job {job_id}", done.outcomes, step, conflict=Outcome.UNCHANGED)


def _observed(job_id: str, ports: Ports, now: str) -> Outcome:
    return observe_job(job_id, ports=ports, now=now).outcome
