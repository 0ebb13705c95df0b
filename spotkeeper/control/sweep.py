"""Look after all open runs and all reserved money, so that everything converges without any event.

Money and runs take turns, so that neither starves the other; each is a round of its own, which goes on where the last
sweep stopped (`rounds`). What is on SageMaker has rounds of its own beside those of AWS Batch, so that a service which
is slow, or does not answer, holds up nothing of the other's (`service_breaker`).

A turn on AWS Batch is a page, read and described in a few calls; only what needs a step is looked at by itself.
SageMaker describes one job at a time: a turn there ends with its time, in the middle of a page. In the end come the
jobs of others, as far as there is time.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from spotkeeper.contract.budgets import LISTING_UNSETTLED
from spotkeeper.contract.ledger import LISTING_OPEN
from spotkeeper.contract.training import AWS_BATCH, SAGEMAKER, service_of, service_of_job
from spotkeeper.control import others, reservations, training_adoption
from spotkeeper.control.budget import Reservation
from spotkeeper.control.described import Described
from spotkeeper.control.first_lease import SweepIsCapped, capped_sweeps
from spotkeeper.control.glance import glance
from spotkeeper.control.listing import Listed
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Outcome
from spotkeeper.control.overdue import is_drought, overdue
from spotkeeper.control.ports import Conflict, Job, Ports, TrainingJobs
from spotkeeper.control.reconcile import observe_job, reconcile
from spotkeeper.control.reservations import Tended, tend
from spotkeeper.control.rounds import Round
from spotkeeper.control.run import Run
from spotkeeper.control.run_dollars import RunDollars, dollars
from spotkeeper.control.service_breaker import ServiceBreaker

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
TURN_SECONDS: Final = 10
"""A turn of what is on SageMaker: about what a page on AWS Batch takes."""


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
    """For how long the oldest of the rounds that it has left goes on."""

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
    way = _Way(done, ports, clock, has_time)
    way.take_turns()
    done.oldest_round_seconds = max((seconds_between(began_at, clock()) for began_at in way.began_at), default=0.0)
    way.look_at_others()
    return done


class _Way:
    """One sweep's way over runs and money, in turns."""

    def __init__(self, done: Sweep, ports: Ports, clock: Callable[[], str], has_time: Callable[[], bool]) -> None:
        self._done, self._clock, self._has_time = done, clock, has_time
        self._breaker = ServiceBreaker(ports.batch)
        self.ports = replace(ports, batch=self._breaker)
        self._rounds: list[Round] = []
        self._turns: deque[tuple[str, Iterator[None]]] = deque()
        self._services: set[str] = set()

    @property
    def began_at(self) -> list[str]:
        """When each of the rounds began that it has left."""
        return [round_.began_at for round_ in self._rounds if round_.began_at is not None]

    def take_turns(self) -> None:
        """Go on with all rounds while there is time."""
        self._go(AWS_BATCH)
        if any(profile.training is not None for profile in self.ports.terms.profiles.values()):
            self._go(SAGEMAKER)
        while self._turns:
            name, round_ = self._turns.popleft()
            try:
                next(round_)
            except StopIteration:
                continue
            except Exception as error:  # noqa: BLE001  the other rounds go on
                self._done.failures[name] = f"{type(error).__name__}: {error}"
                continue
            self._turns.append((name, round_))

    def _go(self, service: str) -> None:
        """Take up the rounds over what is on a service."""
        if service in self._services:
            return
        self._services.add(service)
        ledger, budgets, suffix = self.ports.ledger, self.ports.budgets, _SUFFIXES[service]
        listings = (
            (LISTING_UNSETTLED, lambda last: budgets.unsettled(behind=last), self._reservations, "reservations"),
            (LISTING_OPEN, lambda last: ledger.open_runs(behind=last), self._runs, "open runs"),
        )
        for listing, entries, steps, what in listings:
            round_ = Round(listing + suffix, entries, ledger=ledger, clock=self._clock)
            self._rounds.append(round_)
            name = f"the round over {what}" + (f" on {service}" if suffix else "")
            self._turns.append((name, self._went(round_, service, steps)))
        if service == SAGEMAKER and self.ports.training_jobs is not None:
            self._turns.append(("the list of training jobs", self._looked_for_runs(self.ports.training_jobs())))

    def _looked_for_runs(self, listed: TrainingJobs) -> Iterator[None]:
        """Go on with the round over training jobs, and look at those of which nothing was heard: they may be runs."""
        if self._breaker.is_open(SAGEMAKER) or not self._has_time():
            return
        round_ = Round(
            _TRAINING_JOBS, lambda last: listed.in_progress(behind=last), ledger=self.ports.ledger, clock=self._clock
        )

        def steps(page: Sequence[Listed], _: str) -> Iterator[Callable[[], None] | None]:
            for job_id in training_adoption.unheard(page, self.ports):
                yield partial(self._observe, job_id) if job_id is not None else None

        yield from self._went(round_, SAGEMAKER, steps)

    def _observe(self, job_id: str) -> None:
        def step() -> Outcome:
            return observe_job(job_id, ports=self.ports, now=self._clock()).outcome

        self._done.attempt(f"training job {job_id}", self._done.outcomes, step, conflict=Outcome.UNCHANGED)

    def _went(self, round_: Round, service: str, steps: "_Steps") -> Iterator[None]:
        """Go on with a round: take the steps of its entries that are on the service, and yield after each turn."""
        began_at = self._clock()
        for page in round_.pages():
            for number, step in enumerate(steps(page, service)):
                if step is None:
                    continue
                # What is left of the round has its turn in the next sweep, and when the service answers again.
                if not self._has_time() or self._breaker.is_open(service):
                    round_.stop(number)
                    return
                step()
                if service == SAGEMAKER and seconds_between(began_at, self._clock()) >= TURN_SECONDS:
                    yield
                    began_at = self._clock()
            yield
            began_at = self._clock()

    def _runs(self, page: Sequence[Listed], service: str) -> Iterator[Callable[[], None] | None]:
        """Yield the step of each open run that is on the service; None for one on the other."""
        found = {run.run_id: run for run in self.ports.ledger.get_many([entry.run_id for entry in page])}
        jobs, sweep_is_capped = self._jobs_of(found.values(), service), capped_sweeps(self.ports.budgets)
        for entry in page:
            run = found.get(entry.run_id)
            if not self._is_on(service, run.job_queue if run is not None else None):
                yield None
            elif run is None:
                # By itself, it says why it cannot be read.
                yield partial(self._reconcile_unread, entry.run_id)
            else:
                yield partial(self._reconcile, run, jobs, sweep_is_capped)

    def _reservations(self, page: Sequence[Listed], service: str) -> Iterator[Callable[[], None] | None]:
        """Yield the step of each reservation whose job is on the service; None for one on the other."""
        held = {(item.run_id, item.submission): item for item in self.ports.budgets.get_many(page)}
        found = {run.run_id: run for run in self.ports.ledger.get_many(list({entry.run_id: None for entry in page}))}
        jobs = self._jobs_of(found.values(), service)
        for entry in page:
            reservation = held.get((entry.run_id, entry.submission or 0))
            if self._is_on(service, reservation.job_queue if reservation is not None else None):
                yield partial(self._tend, entry, found.get(entry.run_id), reservation, jobs)
            else:
                yield None

    def _is_on(self, service: str, queue: str | None) -> bool:
        """Tell whether something is on a service, by its queue; what cannot be read has its turn beside AWS Batch."""
        if queue is not None and service_of(queue) == SAGEMAKER:
            # Also where the environment's settings have it no more.
            self._go(SAGEMAKER)
            return service == SAGEMAKER
        return service == AWS_BATCH

    def _jobs_of(self, runs: Iterable[Run], service: str) -> dict[str, Job]:
        """Describe the jobs on AWS Batch that runs are in, all at once; one that is missing is asked for by itself."""
        job_ids = [
            run.job_id
            for run in runs
            if run.is_live and run.job_id is not None and service_of(run.job_queue) == AWS_BATCH
        ]
        if service != AWS_BATCH or not job_ids:
            return {}
        try:
            return {job.job_id: job for job in self._breaker.describe_many(job_ids)}
        except Exception as error:  # noqa: BLE001  runs that need no job go on, and each of the others tells why it cannot
            self._done.failures[f"jobs of {service}"] = f"{type(error).__name__}: {error}"
            return {}

    def _job_of(self, run: Run, jobs: Mapping[str, Job]) -> Job | None:
        """Return the job that a run is in, as read; None: it has none, or whoever needs it is to ask for it."""
        if run.job_id is None or not run.is_live:
            return None
        return self._breaker.describe(run.job_id) if service_of(run.job_queue) == SAGEMAKER else jobs.get(run.job_id)

    def _reconcile_unread(self, run_id: str) -> None:
        def step() -> Outcome:
            return reconcile(run_id, ports=self.ports, now=self._clock()).outcome

        self._done.attempt(run_id, self._done.outcomes, step, conflict=Outcome.UNCHANGED)

    def _reconcile(self, run: Run, jobs: Mapping[str, Job], sweep_is_capped: SweepIsCapped) -> None:
        done, ports = self._done, self.ports

        def step() -> Outcome:
            job = self._job_of(run, jobs)
            now = self._clock()
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

    def _tend(self, entry: Listed, run: Run | None, reservation: Reservation | None, jobs: Mapping[str, Job]) -> None:
        submission = entry.submission or 0

        def step() -> Tended:
            job = self._job_of(run, jobs) if run is not None else None
            now = self._clock()
            seen = None
            if run is not None and reservation is not None:
                seen = reservations.glance(run, reservation, job, ports=self.ports, now=now)
            return seen or tend(entry.run_id, submission, ports=self.ports, now=now)

        name = f"{entry.run_id}, submission {submission}"
        self._done.attempt(name, self._done.reservations, step, conflict=Tended.LEFT)

    def look_at_others(self) -> None:
        """Look again at the jobs of others that had not ended."""
        try:
            listed = others.unended(self.ports)
        except Exception as error:  # noqa: BLE001  as above: what was done for the runs is still to be reported
            self._done.failures["the list of others' jobs"] = f"{type(error).__name__}: {error}"
            return
        for job in listed:
            if not self._has_time():
                return
            if self._breaker.is_open(service_of_job(job.job_id)):
                continue
            try:
                seen = observe_job(job.job_id, ports=self.ports, now=self._clock()).outcome
                if seen is Outcome.IGNORED:
                    others.forget(job, ports=self.ports, now=self._clock())
                self._done.outcomes[seen] += 1
            except Exception as error:  # noqa: BLE001  as above
                self._done.failures[f"job {job.job_id} of others"] = f"{type(error).__name__}: {error}"


_Steps = Callable[[Sequence[Listed], str], Iterator[Callable[[], None] | None]]
_TRAINING_JOBS: Final = "training-jobs"
"""The name under which the ledger keeps how far the round over SageMaker's own list has come."""
_SUFFIXES: Final = {AWS_BATCH: "", SAGEMAKER: "-sagemaker"}
"""Of the names under which the ledger keeps how far a round has come."""


def _note_wait(done: Sweep, run: Run, ports: Ports, now: str) -> None:
    terms = ports.terms.placement
    waits = overdue([run], terms=terms, now=now)
    done.waits.update(waits)
    if waits and is_drought(run, last_start=ports.ledger.last_start, terms=terms, now=now):
        done.droughts.add(run.run_id)
