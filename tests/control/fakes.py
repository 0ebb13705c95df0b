"""In-memory ports: atomic, honest about versions, and with replies that can be lost."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import member_id
from spotkeeper.control.budget import Budget, Limits, Switch
from spotkeeper.control.listing import Listed, Position
from spotkeeper.control.others import OthersJob
from spotkeeper.control.ports import Conflict, Job, JobOrder, JobStatus, Ports, ReplyLost
from spotkeeper.control.priority import USUAL
from spotkeeper.control.run import Attempt, Completion, HistoryEvent, Interruption, Run
from spotkeeper.control.sweep_record import SweepRecord
from spotkeeper.control.terms import EnvironmentTerms, ProfileTerms
from spotkeeper.policy.placement import Terms
from tests.simulation.budget_table import BudgetTable
from tests.simulation.listed import in_order

NOW = "2026-11-23T18:00:00+00:00"


def new_run(run_id: str = "digits-7fq2", **changes: Any) -> Run:
    run = Run(
        run_id=run_id,
        created_at=NOW,
        environment="dev",
        team="research",
        profile="cpu",
        market="spot",
        job_queue="arn:aws:batch:us-east-1:123456789012:job-queue/spot",
        job_definition="arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        command=("python", "train.py"),
        variables={"SPOTKEEPER_MAX_LOST_SECONDS": "900"},
        attempt_seconds=3600,
    )
    return replace(run, **changes)


@dataclass
class MemoryLedger:
    runs: dict[str, Run] = field(default_factory=dict)
    attempt_items: dict[tuple[str, int, int], Attempt] = field(default_factory=dict)
    interruptions: dict[str, Interruption] = field(default_factory=dict)
    events: dict[tuple[str, str, str], HistoryEvent] = field(default_factory=dict)
    states_seen: list[tuple[int, RunState]] = field(default_factory=list)
    slots: Counter[tuple[int, str]] = field(default_factory=Counter)
    positions: dict[str, Position] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)

    def create(self, run: Run) -> Run:
        if self.runs.setdefault(run.run_id, run) != run:
            raise Conflict
        self.states_seen.append((run.submission, run.state))
        return run

    def get(self, run_id: str) -> Run | None:
        return self.runs.get(run_id)

    def get_many(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        assert len(run_ids) <= 100
        return tuple(self.runs[run_id] for run_id in run_ids if run_id in self.runs)

    def advance(self, run: Run, **changes: Any) -> Run:
        self.check(run)
        self.runs[run.run_id] = run.advanced(**changes)
        after = self.runs[run.run_id]
        self.states_seen.append((after.submission, after.state))
        return after

    def check(self, run: Run) -> None:
        if self.runs[run.run_id].version != run.version:
            raise Conflict

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        return tuple(item for key, item in sorted(self.attempt_items.items()) if key[0] == run_id)

    def record_attempt(self, attempt: Attempt, **changes: Any) -> Attempt:
        key = (attempt.run_id, attempt.submission, attempt.attempt)
        stored = self.attempt_items.get(key, replace(attempt, version=0))
        if stored.version != attempt.version:
            raise Conflict
        self.attempt_items[key] = replace(stored, **changes, version=stored.version + 1)
        return replace(attempt, **changes, version=attempt.version + 1)

    def record_interruption(self, interruption: Interruption, *, expires_at: int) -> None:
        assert expires_at > 0
        known = self.interruptions.get(interruption.instance_id, interruption)
        self.interruptions[interruption.instance_id] = Interruption(
            instance_id=known.instance_id,
            warned_at=known.warned_at or interruption.warned_at,
            action=known.action or interruption.action,
            rebalance_at=known.rebalance_at or interruption.rebalance_at,
        )

    def interruption_of(self, instance_id: str) -> Interruption | None:
        return self.interruptions.get(instance_id)

    def list_runs(self, listing: str, limit: int) -> tuple[Run, ...]:
        listed = [run for run in self.runs.values() if run.listing == listing]
        return tuple(sorted(listed, key=lambda run: run.created_at, reverse=True)[:limit])

    def open_runs(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        listed = [
            Listed(created_at=run.created_at, run_id=run.run_id) for run in self.runs.values() if not run.is_closed
        ]
        yield from in_order(listed, behind)

    def position(self, listing: str) -> Position | None:
        return self.positions.get(listing)

    def keep_position(self, listing: str, position: Position) -> None:
        self.positions[listing] = position

    def record_start(self, queue: str, *, at: str) -> None:
        self.starts[queue] = max(at, self.starts.get(queue, at))

    def last_start(self, queue: str) -> str | None:
        return self.starts.get(queue)

    def take_submission_slot(self, *, second: int, team: str, limit: int, team_limit: int) -> bool:
        taken = sum(count for (of, _), count in self.slots.items() if of == second)
        if taken >= limit or self.slots[second, team] >= team_limit:
            return False
        self.slots[second, team] += 1
        return True

    def append_event(self, run_id: str, event: HistoryEvent) -> None:
        self.events.setdefault((run_id, event.at, event.event_id), event)

    def history(self, run_id: str) -> tuple[HistoryEvent, ...]:
        return tuple(event for key, event in sorted(self.events.items()) if key[0] == run_id)

    def claim(self, run_id: str, job_id: str, attempt: int) -> None:
        """What the trainer's conditional write does when it succeeds."""
        run = self.runs[run_id]
        self.runs[run_id] = replace(
            run,
            state=RunState.RUNNING,
            job_id=job_id,
            claimed_job_id=job_id,
            claimed_attempt=attempt,
            claimed_at=NOW,
            epoch=run.epoch + 1,
            version=run.version + 1,
            waits_since=None,
            waits_why=None,
        )

    def complete(self, run_id: str, epoch: int) -> None:
        run = self.runs[run_id]
        assert run.epoch == epoch, "the completion's own condition"
        completion = Completion(epoch=epoch, completed_at=NOW, step=100)
        self.runs[run_id] = replace(run, completion=completion, version=run.version + 1)


@dataclass
class MemoryCheckpoints:
    steps: dict[str, int] = field(default_factory=dict)

    def newest_step(self, run_id: str) -> int | None:
        return self.steps.get(run_id)


def order_of(request: Mapping[str, Any]) -> JobOrder:
    """What Batch tells of the order of a job that was submitted so."""
    container = request["containerOverrides"]
    return JobOrder(
        queue=request["jobQueue"],
        definition=request["jobDefinition"],
        created_at=NOW,
        team=request["shareIdentifier"],
        command=tuple(container["command"]),
        variables={pair["name"]: pair["value"] for pair in container["environment"]},
        tags=request["tags"],
        attempt_seconds=request["timeout"]["attemptDurationSeconds"],
        priority=request.get("schedulingPriorityOverride", USUAL),
    )


@dataclass
class MemoryBatch:
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    terminated: list[tuple[str, str]] = field(default_factory=list)
    withdrawn: list[tuple[str, str]] = field(default_factory=list)
    lost_replies: int = 0
    """How many submissions take effect without a reply."""
    lost_requests: int = 0
    """How many submissions are lost before they take effect."""

    def submit(self, request: Mapping[str, Any]) -> str:
        self.requests.append(request)
        if self.lost_requests:
            self.lost_requests -= 1
            raise ReplyLost
        job_id = f"job-{len(self.jobs) + 1}"
        size = request.get("arrayProperties", {}).get("size")
        self.jobs[job_id] = Job(
            job_id=job_id,
            name=request["jobName"],
            status=JobStatus.SUBMITTED,
            order=order_of(request),
            array_size=size,
        )
        for index in range(size or 0):
            child = replace(self.jobs[job_id], job_id=f"{job_id}:{index}", array_size=None, array_index=index)
            self.jobs[child.job_id] = child
        if self.lost_replies:
            self.lost_replies -= 1
            raise ReplyLost
        return job_id

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        assert queue
        # The children of an array are not listed in a queue.
        return tuple(job for job in self.jobs.values() if job.name == name and job.array_index is None)

    def describe(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        assert len(job_ids) <= 100
        return tuple(self.jobs[job_id] for job_id in job_ids if job_id in self.jobs)

    def terminate(self, job_id: str, reason: str) -> None:
        self.terminated.append((job_id, reason))

    def withdraw(self, job_id: str, reason: str) -> None:
        self.withdrawn.append((job_id, reason))


class MemorySweeps:
    """Sweeps beside a ledger in memory."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.records: dict[str, SweepRecord] = {}
        self._ledger = ledger

    def create(self, sweep: SweepRecord) -> SweepRecord:
        return self.records.setdefault(sweep.name, sweep)

    def get(self, name: str) -> SweepRecord | None:
        return self.records.get(name)

    def mark_sent(self, sweep: SweepRecord, *, at: str | None) -> SweepRecord:
        if self.records[sweep.name].sent_at != sweep.sent_at:
            raise Conflict
        self.records[sweep.name] = replace(sweep, sent_at=at)
        return self.records[sweep.name]

    def create_members(self, runs: Sequence[Run]) -> None:
        known = self._ledger.runs
        for run in runs:
            found = known.get(run.run_id, run)
            if (found.sweep, found.array_index) != (run.sweep, run.array_index):
                raise Conflict
        for run in runs:
            if run.run_id not in known:
                self._ledger.create(run)

    def members(self, sweep: SweepRecord) -> Iterator[Run]:
        ids = [member_id(sweep.name, index) for index in range(sweep.size)]
        yield from [self._ledger.runs[run_id] for run_id in ids if run_id in self._ledger.runs]


@dataclass
class MemoryOthers:
    """The record of others' jobs."""

    jobs: dict[str, OthersJob] = field(default_factory=dict)
    expires_at: dict[str, int] = field(default_factory=dict)

    def record(self, job: OthersJob, *, expires_at: int) -> bool:
        known = self.jobs.get(job.job_id)
        if known is not None and (known.facts, known.observed_at) >= (job.facts, job.observed_at):
            return False
        self.jobs[job.job_id] = job
        self.expires_at[job.job_id] = expires_at
        return known is None or known.facts < job.facts

    def list_jobs(self, limit: int) -> tuple[OthersJob, ...]:
        return tuple(sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=True)[:limit])


SPOT_QUEUE = "arn:aws:batch:us-east-1:123456789012:job-queue/spot"
ON_DEMAND_QUEUE = "arn:aws:batch:us-east-1:123456789012:job-queue/on-demand"
TERMS = EnvironmentTerms(
    placement=Terms(
        fallback_after_seconds=1800,
        segment_seconds=7200,
        standby_after_seconds=900,
        standby_age_seconds=1200,
        standby_patience_seconds=1800,
    ),
    profiles={
        "cpu": ProfileTerms(
            spot_queue=SPOT_QUEUE,
            on_demand_queue=ON_DEMAND_QUEUE,
            usd_per_hour={"m6a.xlarge": Decimal("0.5"), "m6i.xlarge": Decimal("1.0"), "m5.xlarge": Decimal("2.0")},
            spot_instance_types=("m6a.xlarge", "m5.xlarge"),
            on_demand_instance_types=("m6a.xlarge", "m6i.xlarge"),
        )
    },
    limits=Limits(),
    team_limits={},
)


class MemoryBudgets(BudgetTable):
    """The budgets beside a ledger in memory."""

    def __init__(self, ledger: MemoryLedger) -> None:
        super().__init__(ledger.check, lambda run, changes, _: ledger.advance(run, **changes))

    def get(self, holder: str) -> Budget | None:
        return self.budgets.get(holder)

    def switch(self) -> Switch:
        return self.turned


def memory_ports(
    ledger: MemoryLedger | None = None,
    batch: MemoryBatch | None = None,
    checkpoints: MemoryCheckpoints | None = None,
    *,
    budgets: MemoryBudgets | None = None,
    terms: EnvironmentTerms = TERMS,
    others: MemoryOthers | None = None,
) -> Ports:
    ledger = ledger or MemoryLedger()
    return Ports(
        ledger=ledger,
        budgets=budgets or MemoryBudgets(ledger),
        batch=batch or MemoryBatch(),
        checkpoints=checkpoints or MemoryCheckpoints(),
        terms=terms,
        others=others,
    )
