"""A run on memory ports, and what Batch and the trainer do to it."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.reconcile import observe_job, reconcile
from spotkeeper.control.run import Run
from spotkeeper.control.submit import submit
from spotkeeper.control.sweep import Sweep, sweep
from spotkeeper.control.terms import EnvironmentTerms
from tests.control.fakes import (
    NOW,
    TERMS,
    MemoryBatch,
    MemoryBudgets,
    MemoryCheckpoints,
    MemoryLedger,
    memory_ports,
    new_run,
)

NORMAL = "Essential container in task exited"
HOST = "Host EC2 (instance i-0abc1234) terminated."
CAPACITY = "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY"
RUN = "digits-7fq2"


def after(minutes: float) -> str:
    return (datetime.fromisoformat(NOW) + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


class World:
    """Memory ports with a run in them, and what Batch and the trainer do to it."""

    def __init__(
        self,
        ledger: MemoryLedger | None = None,
        batch: MemoryBatch | None = None,
        terms: EnvironmentTerms = TERMS,
    ) -> None:
        self.ledger = ledger or MemoryLedger()
        self.batch = batch or MemoryBatch()
        self.checkpoints = MemoryCheckpoints()
        self.budgets = MemoryBudgets(self.ledger)
        self.ports = memory_ports(self.ledger, self.batch, self.checkpoints, budgets=self.budgets, terms=terms)

    @property
    def run(self) -> Run:
        return self.ledger.runs[RUN]

    @property
    def summary(self) -> tuple[RunState, int]:
        return self.run.state, self.run.submission

    def submit(self, run: Run | None = None) -> Run:
        return submit(run or new_run(), ports=self.ports, now=NOW)

    def change(self, job_id: str, status: JobStatus, *attempts: JobAttempt, **facts: Any) -> None:
        self.batch.jobs[job_id] = replace(self.batch.jobs[job_id], status=status, attempts=attempts, **facts)

    def created(self, job_id: str, *, minute: float) -> None:
        job = self.batch.jobs[job_id]
        self.batch.jobs[job_id] = replace(job, order=replace(job.order, created_at=after(minute)))

    def lose_host(self, job_id: str, *, minute: float = 9, step: int | None = None) -> None:
        lost = JobAttempt(started_at=after(1), stopped_at=after(minute), status_reason=HOST)
        self.change(job_id, JobStatus.FAILED, lost, status_reason=HOST, stopped_at=after(minute))
        if step is not None:
            self.checkpoints.steps[RUN] = step

    def give_up(self, job_id: str, *, minute: float = 9) -> None:
        self.change(job_id, JobStatus.FAILED, status_reason=CAPACITY, stopped_at=after(minute))

    def complete(self, job_id: str) -> None:
        self.ledger.claim(RUN, job_id, 1)
        self.ledger.complete(RUN, self.run.epoch)
        done = JobAttempt(started_at=after(1), stopped_at=after(20), exit_code=0, status_reason=NORMAL)
        self.change(job_id, JobStatus.SUCCEEDED, done, status_reason=NORMAL, stopped_at=after(20))

    def look(self, minute: float = 10) -> Outcome:
        return reconcile(RUN, ports=self.ports, now=after(minute)).outcome

    def hear(self, job_id: str, minute: float = 10) -> Outcome:
        return observe_job(job_id, ports=self.ports, now=after(minute)).outcome

    def sweep(self, minute: float) -> Sweep:
        done = sweep(ports=self.ports, clock=lambda: after(minute), has_time=lambda: True)
        assert not done.failures, done.failures
        return done
