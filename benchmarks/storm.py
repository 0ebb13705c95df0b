"""A storm: 10,000 interruptions in one virtual minute, and the shipped control functions: python -m benchmarks.storm.

Half of the jobs Batch retries by itself; the others have used up Batch's ten attempts, so that each needs a submission
of ours, which all handlers together must keep below 40 a second. Events come twice (10 %) or not at all (5 %); 16
handlers work at once and give way to one another at every call of a port; a sweeper comes every five minutes. The clock
is virtual: what is measured is whether every run settles, once, and what that costs this machine. AWS's own latencies
are not.

`events_per_second` is real: how many events one core parses and reconciles, against ports in memory.
"""

import argparse
import json
import resource
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any, Final

from benchmarks.result import write
from spotkeeper.contract.events import BATCH_SOURCE, JOB_STATE_CHANGE
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.events import JobChanged, parse
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Conflict, Job, JobAttempt, JobStatus, Ports
from spotkeeper.control.reconcile import observe_job
from spotkeeper.control.run import Attempt, Run
from spotkeeper.control.submit import job_request
from spotkeeper.control.sweep import sweep
from tests.control.fakes import TERMS, MemoryBatch, MemoryBudgets, MemoryCheckpoints, MemoryLedger, new_run, order_of
from tests.simulation.sched import Scheduler

INTERRUPTIONS: Final = 10_000
STORM_SECONDS: Final = 60.0
HANDLERS: Final = 16
TEAMS: Final = ("applied", "platform", "research", "vision")
CALL_SECONDS: Final = 0.005
"""Virtual time of one call to AWS."""
SWEEP_SECONDS: Final = 300.0
VISIBILITY_SECONDS: Final = 60.0
BOOT_SECONDS: Final = 90.0
TRAIN_SECONDS: Final = 300.0
ACCOUNT, REGION = "123456789012", "us-east-1"
HOST: Final = "Host EC2 (instance i-0b662ef9931388ba0) terminated."
NORMAL: Final = "Essential container in task exited"
START: Final = datetime(2026, 11, 23, 18, tzinfo=UTC)
MOST_SUBMITS: Final = 40
"""A second; the account's other 10 are for people."""
TIMED_EVENTS: Final = 20_000


def iso(seconds: float) -> str:
    """Return a virtual time as the product writes times."""
    return (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


class IndexedLedger(MemoryLedger):
    """A ledger in memory that finds a run's attempts, and a second's slots, without looking at all others."""

    def __init__(self) -> None:
        super().__init__()
        self._attempts: dict[str, dict[tuple[int, int], Attempt]] = defaultdict(dict)
        self._slots: dict[int, Counter[str]] = defaultdict(Counter)

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:  # noqa: D102  as all methods here: of the port
        return tuple(attempt for _, attempt in sorted(self._attempts[run_id].items()))

    def record_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:  # noqa: D102
        after = super().record_attempt(attempt, **changes)
        self._attempts[after.run_id][after.submission, after.attempt] = after
        return after

    def take_submission_slot(self, *, second: int, team: str, limit: int, team_limit: int) -> bool:  # noqa: D102
        taken = self._slots[second]
        if taken.total() >= limit or taken[team] >= team_limit:
            return False
        taken[team] += 1
        return True


class GivingWay:
    """A port that lets the other programs go on whenever it is called."""

    def __init__(self, port: Any, scheduler: Scheduler) -> None:
        self._port, self._scheduler = port, scheduler

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._port, name)

        def called(*arguments: Any, **named: Any) -> Any:
            self._scheduler.pause(CALL_SECONDS)
            return call(*arguments, **named)

        return called


@dataclass
class Figures:
    """What happened."""

    submits: Counter[int] = field(default_factory=Counter)
    our_submissions: int = 0
    doubled: int = 0
    busy: int = 0
    most_busy: int = 0
    events: int = 0


class Storm:
    """The world of the storm."""

    def __init__(self, interruptions: int, seed: int) -> None:
        self.scheduler = Scheduler()
        self.random = Random(seed)
        self.figures = Figures()
        self.ledger = IndexedLedger()
        self.batch = StormBatch(self)
        self.queue: deque[dict[str, Any]] = deque()
        self.checkpoints = MemoryCheckpoints()
        memory = {
            "ledger": self.ledger,
            "budgets": MemoryBudgets(self.ledger),
            "batch": self.batch,
            "checkpoints": self.checkpoints,
        }
        ports: dict[str, Any] = {name: GivingWay(port, self.scheduler) for name, port in memory.items()}
        self.ports = Ports(**ports, terms=TERMS)
        for number in range(interruptions):
            self._start_run(number, STORM_SECONDS * number / interruptions)

    def blow(self) -> None:
        """Let everything happen that is going to."""
        for number in range(HANDLERS):
            self._every(f"handler {number}", 1.0, self._handle)
        self._every("sweeper", SWEEP_SECONDS, self._sweep)
        while not self.is_settled() and self.scheduler.now_seconds < 86400:
            self.scheduler.after(10.0, lambda: None)
            self.scheduler.run(self.scheduler.now_seconds + 10.0)
        self.scheduler.close()

    def is_settled(self) -> bool:
        """Tell whether every run has ended."""
        return all(run.is_closed for run in self.ledger.runs.values())

    def emit(self, job: Job) -> None:
        """Send an event of the job, mostly once."""
        event = {
            "source": BATCH_SOURCE,
            "detail-type": JOB_STATE_CHANGE,
            "account": ACCOUNT,
            "region": REGION,
            "time": iso(self.scheduler.now_seconds),
            "id": f"{job.job_id}-{job.status}-{len(job.attempts)}",
            "detail": {"jobId": job.job_id, "jobName": job.name, "status": job.status.value},
        }
        drawn = self.random.random()
        for _ in range(0 if drawn < 0.05 else 2 if drawn < 0.15 else 1):
            self.scheduler.after(self.random.uniform(0.2, 5.0), lambda: self.queue.append(event))

    # Runs and their jobs

    def _start_run(self, number: int, interrupted_at: float) -> None:
        run = new_run(f"storm-{number:05d}", team=TEAMS[number % len(TEAMS)])
        job_id = f"job-{number}"
        self.ledger.runs[run.run_id] = replace(
            run, state=RunState.RUNNING, job_id=job_id, claimed_job_id=job_id, claimed_attempt=1, epoch=1, version=3
        )
        running = JobAttempt(started_at=iso(-600.0))
        self.batch.jobs[job_id] = Job(
            job_id=job_id,
            name=f"{run.run_id}-1",
            status=JobStatus.RUNNING,
            order=order_of(job_request(run)),
            attempts=(running,),
        )
        self.checkpoints.steps[run.run_id] = 1
        is_retried = number % 2 == 0
        self.scheduler.after(interrupted_at, lambda: self.batch.interrupt(job_id, is_retried=is_retried))

    # Programs

    def _every(self, name: str, seconds: float, body: Callable[[], None]) -> None:
        def again() -> None:
            self.scheduler.start(name, run)

        def run() -> None:
            body()
            self.scheduler.after(seconds, again, background=True)

        again()

    def _handle(self) -> None:
        while self.queue:
            event = self.queue.popleft()
            self.figures.events += 1
            self.figures.busy += 1
            self.figures.most_busy = max(self.figures.most_busy, self.figures.busy)
            try:
                self._react(event)
            except Conflict:
                self.scheduler.after(VISIBILITY_SECONDS, partial(self.queue.append, event))
            finally:
                self.figures.busy -= 1

    def _react(self, event: dict[str, Any]) -> None:
        parsed = parse(event, account=ACCOUNT, region=REGION)
        assert isinstance(parsed, JobChanged)
        observe_job(parsed.job_id, ports=self.ports, now=iso(self.scheduler.now_seconds))

    def _sweep(self) -> None:
        give_up_at = self.scheduler.now_seconds + SWEEP_SECONDS - 10
        done = sweep(
            ports=self.ports,
            clock=lambda: iso(self.scheduler.now_seconds),
            has_time=lambda: self.scheduler.now_seconds < give_up_at,
        )
        assert not done.failures, done.failures


class StormBatch(MemoryBatch):
    """Batch, whose jobs get a machine after a while, claim, train and complete."""

    def __init__(self, storm: Storm) -> None:
        super().__init__()
        self._storm = storm

    def submit(self, request: Any) -> str:  # noqa: D102
        job_id = super().submit(request)
        figures = self._storm.figures
        figures.submits[int(self._storm.scheduler.now_seconds)] += 1
        figures.our_submissions += 1
        self._storm.scheduler.after(BOOT_SECONDS, lambda: self._run(job_id))
        return job_id

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:  # noqa: ARG002, D102
        # By its number, because looking at 20,000 jobs for each of 5,000 submissions measures the fake.
        return tuple(self.jobs[job_id] for job_id in self.by_name.get(name, ()))

    @property
    def by_name(self) -> dict[str, list[str]]:
        """Return job ids by name."""
        if not hasattr(self, "_by_name"):
            self._by_name: dict[str, list[str]] = defaultdict(list)
            self._num_named = 0
        names = list(self.jobs)
        for job_id in names[self._num_named :]:
            self._by_name[self.jobs[job_id].name].append(job_id)
        self._num_named = len(names)
        return self._by_name

    def interrupt(self, job_id: str, *, is_retried: bool) -> None:
        """Take the host of a job's attempt."""
        job = self.jobs[job_id]
        now = iso(self._storm.scheduler.now_seconds)
        lost = replace(job.attempts[-1], stopped_at=now, status_reason=HOST)
        attempts = (*job.attempts[:-1], lost)
        if is_retried:
            self._change(job_id, status=JobStatus.RUNNABLE, attempts=attempts)
            self._storm.scheduler.after(BOOT_SECONDS, lambda: self._run(job_id))
        else:
            self._change(job_id, status=JobStatus.FAILED, attempts=attempts, status_reason=HOST, stopped_at=now)

    def _run(self, job_id: str) -> None:
        job = self.jobs[job_id]
        if job.has_ended:
            return
        attempts = (*job.attempts, JobAttempt(started_at=iso(self._storm.scheduler.now_seconds)))
        self._change(job_id, status=JobStatus.RUNNING, attempts=attempts)
        run = self._run_of(job)
        may_claim = run.is_live and run.submission == int(job.name[-1]) and run.job_id in (None, job_id)
        if not may_claim:
            self._storm.figures.doubled += 1
            return
        self._storm.ledger.claim(run.run_id, job_id, len(attempts))
        self._storm.scheduler.after(TRAIN_SECONDS, lambda: self._complete(job_id))

    def _complete(self, job_id: str) -> None:
        job = self.jobs[job_id]
        run = self._run_of(job)
        self._storm.ledger.complete(run.run_id, run.epoch)
        now = iso(self._storm.scheduler.now_seconds)
        done = replace(job.attempts[-1], stopped_at=now, exit_code=0, status_reason=NORMAL)
        self._change(
            job_id,
            status=JobStatus.SUCCEEDED,
            attempts=(*job.attempts[:-1], done),
            status_reason=NORMAL,
            stopped_at=now,
        )

    def _run_of(self, job: Job) -> Run:
        return self._storm.ledger.runs[job.name.rpartition("-")[0]]

    def _change(self, job_id: str, **changes: Any) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], **changes)
        self._storm.emit(self.jobs[job_id])


def events_per_second() -> float:
    """Return how many events of ended attempts one core parses and brings into the ledger, with ports in memory."""
    ledger, batch = IndexedLedger(), MemoryBatch()
    ports = Ports(
        ledger=ledger, budgets=MemoryBudgets(ledger), batch=batch, checkpoints=MemoryCheckpoints(), terms=TERMS
    )
    bodies = []
    for number in range(TIMED_EVENTS):
        run, job_id = new_run(f"timed-{number:05d}"), f"job-{number}"
        ledger.runs[run.run_id] = replace(run, state=RunState.RUNNING, job_id=job_id, epoch=1, version=3)
        lost = JobAttempt(started_at=iso(-600.0), stopped_at=iso(0.0), status_reason=HOST)
        batch.jobs[job_id] = Job(
            job_id=job_id,
            name=f"{run.run_id}-1",
            status=JobStatus.RUNNABLE,
            order=order_of(job_request(run)),
            attempts=(lost,),
        )
        bodies.append(
            json.dumps(
                {
                    "source": BATCH_SOURCE,
                    "detail-type": JOB_STATE_CHANGE,
                    "account": ACCOUNT,
                    "region": REGION,
                    "time": iso(0.0),
                    "id": f"event-{number}",
                    "detail": {"jobId": job_id, "jobName": run.run_id, "status": "RUNNABLE"},
                }
            )
        )
    began = time.process_time()
    for body in bodies:
        parsed = parse(json.loads(body), account=ACCOUNT, region=REGION)
        assert isinstance(parsed, JobChanged)
        assert observe_job(parsed.job_id, ports=ports, now=iso(1.0)).outcome is Outcome.RECORDED
    return TIMED_EVENTS / (time.process_time() - began)


def measure(interruptions: int, seed: int) -> dict[str, Any]:
    """Let a storm blow and return its figures."""
    began = time.perf_counter()
    storm = Storm(interruptions, seed)
    storm.blow()
    wall_seconds = time.perf_counter() - began
    runs = storm.ledger.runs.values()
    settled = sum(run.state is RunState.SUCCEEDED and run.is_complete for run in runs)
    return {
        "interruptions": interruptions,
        "settled": settled,
        "lost": interruptions - settled,
        "doubled": storm.figures.doubled,
        "our_submissions": storm.figures.our_submissions,
        "max_submits_per_second": max(storm.figures.submits.values(), default=0),
        "handlers_at_once": storm.figures.most_busy,
        "events": storm.figures.events,
        "virtual_seconds": round(storm.scheduler.now_seconds),
        "wall_seconds": round(wall_seconds, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "events_per_second": round(events_per_second()),
    }


def main() -> None:
    """Print the figures and keep them with a date; exit with 1 if a run was lost or doubled, or the rate exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interruptions", type=int, default=INTERRUPTIONS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object and keep no file")
    options = parser.parse_args()
    if options.interruptions < 1:
        parser.error(f"--interruptions must be at least 1, got {options.interruptions}: no storm proves nothing")
    figures = measure(options.interruptions, options.seed)
    print(json.dumps(figures, indent=None if options.json else 2))
    if not options.json:
        write("storm", "python -m benchmarks.storm", figures)
    is_calm = figures["lost"] == figures["doubled"] == 0 and figures["max_submits_per_second"] <= MOST_SUBMITS
    sys.exit(0 if is_calm else 1)


if __name__ == "__main__":
    main()
