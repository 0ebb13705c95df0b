"""AWS Batch or SageMaker is slow, or does not answer: what a sweep gets done all the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.client_config import LONGEST_CALL_SECONDS
from spotkeeper.control.aws.job_services import JobServices
from spotkeeper.control.ports import Job, JobAttempt, JobStatus, Throttled
from spotkeeper.control.submit import submit
from spotkeeper.control.sweep import Sweep, sweep
from spotkeeper.policy.money import MICROUSD_PER_USD as USD
from tests.control.fakes import NOW, MemoryBatch, new_run
from tests.control.reconciled import HOST, RUN, World
from tests.control.training import TRAINING_TERMS, MemoryTraining, training_run

START = datetime.fromisoformat(NOW)
LIMIT_SECONDS, PERIOD_SECONDS = 270, 300
MARGIN_SECONDS = 60
"""As `lambdas/sweep_runs` keeps them."""


class Ended(BaseException):
    """Lambda ends the function."""


@dataclass
class Clock:
    at: datetime = START
    ends: datetime | None = None

    def __call__(self) -> str:
        return self.at.isoformat(timespec="milliseconds")

    def after(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        if self.ends is not None and self.at >= self.ends:
            raise Ended


@dataclass
class Trouble:
    """How a service answers."""

    clock: Clock
    seconds: float = 0.0
    """A call."""
    fails: Callable[[str], bool] = lambda _: False
    """Whether the call about a job, or a name, fails."""
    calls: list[str] = field(default_factory=list)

    def ask(self, what: str) -> None:
        self.calls.append(what)
        self.clock.after(self.seconds)
        if self.fails(what):
            raise Throttled("it does not answer")


class Troubled:
    """A service in trouble; before its class in memory."""

    trouble: Trouble

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        self.trouble.ask(name)
        found: tuple[Job, ...] = super().find(name, queue=queue)  # type: ignore[misc]
        return found

    def describe(self, job_id: str) -> Job | None:
        self.trouble.ask(job_id)
        found: Job | None = super().describe(job_id)  # type: ignore[misc]
        return found

    def describe_many(self, job_ids: Sequence[str]) -> tuple[Job, ...]:
        self.trouble.ask(f"{len(job_ids)} jobs")
        found: tuple[Job, ...] = super().describe_many(job_ids)  # type: ignore[misc]
        return found


class TroubledBatch(Troubled, MemoryBatch):
    """AWS Batch."""


class TroubledTraining(Troubled, MemoryTraining):
    """SageMaker."""


class Both(World):
    """Runs on both services, whose events are all lost."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.aws_batch, self.sagemaker = TroubledBatch(), TroubledTraining()
        self.aws_batch.trouble, self.sagemaker.trouble = Trouble(self.clock), Trouble(self.clock)
        super().__init__(batch=self.aws_batch, terms=TRAINING_TERMS)
        self.ports = replace(self.ports, batch=JobServices(batch=self.aws_batch, sagemaker=lambda: self.sagemaker))

    def train(self, number: int, *, total_cap_usd: int | None = None) -> None:
        """Submit so many runs to SageMaker, whose jobs have all reached their time limit since."""
        cap = total_cap_usd * USD if total_cap_usd is not None else None
        for index in range(number):
            created_at = f"2026-11-23T10:{index // 60:02d}:{index % 60:02d}.000+00:00"
            run = training_run(run_id=f"train-{index:04d}", created_at=created_at, total_cap_microusd=cap)
            submit(run, ports=self.ports, now=self.clock())
        ran = JobAttempt(started_at="2026-11-23T18:00:10.000+00:00", stopped_at="2026-11-23T18:01:00.000+00:00")
        for job_id, job in self.sagemaker.jobs.items():
            self.sagemaker.jobs[job_id] = replace(
                job,
                status=JobStatus.FAILED,
                attempts=(ran,),
                status_reason="MaxRuntimeExceeded",
                stopped_at=ran.stopped_at,
            )

    def lose(self, run_id: str = RUN) -> None:
        """Submit the newest of all runs to AWS Batch, whose host is lost."""
        submit(new_run(run_id, created_at="2026-11-23T12:00:00.000+00:00"), ports=self.ports, now=self.clock())
        job_id = list(self.aws_batch.jobs)[-1]
        lost = JobAttempt(started_at=NOW, stopped_at=NOW, status_reason=HOST)
        job = self.aws_batch.jobs[job_id]
        self.aws_batch.jobs[job_id] = replace(
            job, status=JobStatus.FAILED, attempts=(lost,), status_reason=HOST, stopped_at=NOW
        )
        self.checkpoints.steps[run_id] = 7

    def sweep_once(self) -> Sweep:
        """Sweep as the function does, and wait for the next time."""
        began, self.clock.ends = self.clock.at, self.clock.at + timedelta(seconds=LIMIT_SECONDS)
        until = self.clock.ends - timedelta(seconds=MARGIN_SECONDS)
        done = sweep(ports=self.ports, clock=self.clock, has_time=lambda: self.clock.at < until)
        self.clock.ends = None
        self.clock.at = max(self.clock.at, began + timedelta(seconds=PERIOD_SECONDS))
        return done

    @property
    def num_moved(self) -> int:
        """How many runs on SageMaker were brought on."""
        return sum(run.submission > 1 for run in self.ledger.runs.values() if run.run_id != RUN)


@pytest.mark.parametrize("seconds", [0.1, 0.7, 1.5])
def test_where_sagemaker_is_slow_no_sweep_runs_out_of_time_and_every_run_has_its_turn(seconds: float) -> None:
    both = Both()
    both.train(200, total_cap_usd=50)
    both.lose()
    both.sagemaker.trouble.seconds = seconds

    both.sweep_once()
    assert both.ledger.runs[RUN].submission == 2
    for _ in range(12):
        both.sweep_once()
    assert both.num_moved == 200


@pytest.mark.parametrize("total_cap_usd", [None, 500])
def test_where_sagemaker_does_not_answer_runs_on_batch_have_their_turn_in_the_same_sweep(
    total_cap_usd: int | None,
) -> None:
    both = Both()
    both.train(300, total_cap_usd=total_cap_usd)
    both.lose()
    both.sagemaker.trouble.seconds = LONGEST_CALL_SECONDS
    both.sagemaker.trouble.fails = lambda _: True

    done = both.sweep_once()

    assert both.ledger.runs[RUN].submission == 2
    assert len(both.sagemaker.trouble.calls) == 2
    assert set(done.failures) < {f"train-{index:04d}{end}" for index in range(3) for end in ("", ", submission 1")}


def test_what_a_service_in_trouble_has_left_is_no_run_at_its_end_and_has_its_turn_when_it_answers() -> None:
    both = Both()
    both.train(30)
    both.sagemaker.trouble.fails = lambda _: True
    for _ in range(6):
        done = both.sweep_once()
        assert done.failures
    assert not done.is_on_time
    assert {(run.state, run.submission) for run in both.ledger.runs.values()} == {(RunState.SUBMITTED, 1)}

    both.sagemaker.trouble.fails = lambda _: False
    done = both.sweep_once()

    assert (both.num_moved, done.failures, done.is_on_time) == (30, {}, True)


def test_two_jobs_in_a_row_that_cannot_be_read_keep_no_other_run_from_its_turn() -> None:
    both = Both()
    both.train(30)
    both.sagemaker.trouble.fails = lambda what: "train-0003-1" in what or "train-0004-1" in what

    for _ in range(2):
        both.sweep_once()

    assert both.num_moved == 28


def test_one_job_that_cannot_be_read_fails_alone() -> None:
    both = Both()
    both.train(5)
    both.sagemaker.trouble.fails = lambda what: "train-0002-1" in what

    done = both.sweep_once()

    assert set(done.failures) == {"train-0002"}
    assert both.num_moved == 4


def test_a_batch_that_throttles_is_asked_twice_in_a_sweep_and_holds_up_no_run_on_sagemaker() -> None:
    both = Both()
    both.train(1)
    for index in range(300):
        both.lose(f"r-{index:04d}")
    both.aws_batch.trouble.fails = lambda _: True

    done = both.sweep_once()

    assert len(both.aws_batch.trouble.calls) == 2
    assert set(done.failures) == {"jobs of AWS Batch", "r-0000"}
    assert both.ledger.runs["train-0000"].submission == 2


def test_jobs_on_batch_are_read_one_by_one_where_they_cannot_be_read_together() -> None:
    both = Both()
    for index in range(3):
        both.lose(f"r-{index:04d}")
    both.aws_batch.trouble.fails = lambda what: what == "3 jobs"

    both.sweep_once()

    assert {run.submission for run in both.ledger.runs.values()} == {2}
