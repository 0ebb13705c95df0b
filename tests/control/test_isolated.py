"""A run without network: claimed for its attempts, complete by the record in its mirror, in one job at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from spotkeeper.contract.checkpoint_layout import CompletionRecord
from spotkeeper.contract.ledger import RunState
from spotkeeper.control import isolated
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import CANCEL_REASON, OVER_BUDGET_REASON, PAUSE_REASON, STUCK_REASON, WAITED_REASON
from spotkeeper.control.condition import Commit
from spotkeeper.control.glance import RESTING_HOURS
from spotkeeper.control.isolated import RECORD_SECONDS
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.ports import JobAttempt, JobStatus, ReplyLost
from spotkeeper.control.survey import Survey, survey
from spotkeeper.control.training_request import training_request
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.reservation import DOWNLOADING_SECONDS, TEARDOWN_SECONDS, lease_microusd, on_demand_microusd
from tests.control.fakes import NOW
from tests.control.reconciled import RUN, World, after
from tests.control.training import PROFILE, TRAINING_TERMS, USD_PER_HOUR, MemoryTraining, arn_of, training_run

BEGUN = JobAttempt(started_at=after(1))
INTERRUPTED = JobAttempt(started_at=after(1), stopped_at=after(4), status_reason="Interrupted: no reason given")
DONE = JobAttempt(started_at=after(1), stopped_at=after(20), exit_code=0)


@dataclass
class MemoryMirrors:
    whole: dict[str, Commit] = field(default_factory=dict)
    completions: dict[str, CompletionRecord] = field(default_factory=dict)

    def newest_whole(self, run_id: str) -> Commit | None:
        return self.whole.get(run_id)

    def completion(self, run_id: str) -> CompletionRecord | None:
        return self.completions.get(run_id)

    def outlived(self, run_id: str, *, keep: int) -> Iterator[Sequence[str]]:
        raise AssertionError(f"nothing of {run_id} may go, {keep} or not")

    def delete(self, run_id: str, keys: Sequence[str]) -> Mapping[str, str]:
        raise AssertionError(f"nothing of {run_id} may go: {keys}")


class NoCommits:
    def commits(self, run_id: str) -> tuple[Commit, ...]:
        raise AssertionError(f"nothing of {run_id} is outside of its mirror")


class Isolated(World):
    def __init__(self, **changes: Any) -> None:
        super().__init__(batch=MemoryTraining(), terms=TRAINING_TERMS)
        self.mirrors = MemoryMirrors()
        self.ports = replace(self.ports, mirrors=self.mirrors)
        self.submit(training_run(is_isolated=True, **changes))

    def arrives(self, step: int, *, minute: float) -> None:
        self.mirrors.whole[RUN] = Commit(epoch=1, step=step, at=after(minute))

    def arrives_complete(self) -> None:
        self.mirrors.completions[RUN] = CompletionRecord(run_id=RUN, step=16, completed_at=after(19))

    def exits_0(self, submission: int = 1, *, minute: float = 20) -> None:
        done = replace(DONE, stopped_at=after(minute))
        self.change(job(submission), JobStatus.SUCCEEDED, done, stopped_at=after(minute))

    def measured(self, minute: float) -> Survey:
        seen = survey(ports=self.ports, commits=NoCommits(), now=after(minute), has_time=lambda: True)
        assert seen.failures == {}
        return seen


def job(submission: int = 1) -> str:
    return arn_of(f"dev-{RUN}-{submission}")


@pytest.fixture
def world() -> Isolated:
    return Isolated()


def test_a_job_that_copies_its_channels_for_long_is_left_alone_and_stopped_after_two_hours(world: Isolated) -> None:
    world.change(job(), JobStatus.STARTING)
    for minute in range(5, 125, 5):
        world.sweep(minute)
    assert (world.run.starting_since, world.batch.terminated) == (after(5), [])

    world.sweep(130)

    assert world.batch.terminated == [(job(), STUCK_REASON)]


@pytest.mark.parametrize("trains", [False, True])
def test_copying_on_spot_counts_when_the_lease_is_renewed_before_training_and_during_it(trains: bool) -> None:
    world = Isolated(total_cap_microusd=50 * MICROUSD_PER_USD)
    leased = world.budgets.reserved[RUN, 1].microusd
    copying = (after(2), after(92) if trains else None)
    begun = [JobAttempt(started_at=after(92))] if trains else []
    world.change(job(), JobStatus.RUNNING if trains else JobStatus.STARTING, *begun, preparations=(copying,))

    world.sweep(30)
    assert world.budgets.reserved[RUN, 1].microusd == leased
    world.sweep(92)

    assert world.budgets.reserved[RUN, 1].microusd == leased + lease_microusd(USD_PER_HOUR)


def test_a_job_that_copies_on_spot_is_stopped_when_its_total_cap_is_used_up() -> None:
    world = Isolated(total_cap_microusd=750_000)
    world.change(job(), JobStatus.STARTING, preparations=((after(2), None),))
    world.sweep(30)
    assert world.batch.terminated == []

    world.sweep(92)

    assert world.batch.terminated == [(job(), OVER_BUDGET_REASON)]


def test_what_copying_takes_on_on_demand_was_reserved_for_and_is_booked() -> None:
    world = Isolated(fallback_cap_microusd=20 * MICROUSD_PER_USD)
    for submission, minute in ((1, 21), (2, 43), (3, 65)):
        world.change(job(submission), JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(minute))
        world.hear(job(submission), minute)
    assert world.run.market == "on-demand"
    reserved = world.budgets.reserved[RUN, 4].microusd
    assert reserved == on_demand_microusd(USD_PER_HOUR, 3600, DOWNLOADING_SECONDS)

    world.created(job(4), minute=66)
    world.change(job(4), JobStatus.STARTING)
    for minute in range(70, 200, 5):
        world.sweep(minute)
    assert world.batch.terminated == [(job(4), STUCK_REASON)]
    world.change(job(4), JobStatus.FAILED, status_reason=STUCK_REASON, stopped_at=after(200))
    world.hear(job(4), 201)
    world.sweep(240)

    spent = world.budgets.reserved[RUN, 4].spent_microusd
    assert spent == cost_microusd(USD_PER_HOUR, (200 - 66) * 60 + TEARDOWN_SECONDS)
    assert spent <= reserved


def test_it_is_claimed_when_its_job_is_seen_to_train(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNABLE)
    world.hear(job())
    assert (world.run.state, world.run.epoch) == (RunState.SUBMITTED, 0)

    world.change(job(), JobStatus.RUNNING, BEGUN)
    world.hear(job())
    world.hear(job())

    assert (world.run.state, world.run.epoch, world.run.claimed_at) == (RunState.RUNNING, 1, after(1))
    (attempt,) = world.ledger.attempts(RUN)
    assert (attempt.epoch, attempt.claimed_at, attempt.market) == (1, after(1), "spot")


def test_the_sweeper_claims_what_no_event_told_of(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)

    world.sweep(6)

    assert (world.run.state, world.run.epoch) == (RunState.RUNNING, 1)


def test_each_attempt_that_sagemaker_starts_in_the_same_job_has_an_epoch_of_its_own(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    world.hear(job())
    world.change(job(), JobStatus.RUNNING, INTERRUPTED, JobAttempt(started_at=after(6)))
    world.hear(job())

    assert (world.run.epoch, world.run.claimed_attempt, world.run.claimed_at) == (2, 2, after(6))
    assert [attempt.epoch for attempt in world.ledger.attempts(RUN)] == [1, 2]
    assert len(world.batch.requests) == 1


def test_who_read_a_job_before_it_was_interrupted_claims_nothing_back_for_the_attempt_that_is_over(
    world: Isolated,
) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    before = world.batch.jobs[job()]
    world.change(job(), JobStatus.RUNNING, INTERRUPTED, JobAttempt(started_at=after(6)))
    world.hear(job())

    late = isolated.claim(world.run, before, ledger=world.ledger)

    assert (late.claimed_attempt, late.epoch) == (2, 1)
    assert world.run == late


def test_nothing_is_claimed_against_the_users_word(world: Isolated) -> None:
    pause(RUN, ports=world.ports, now=NOW)
    world.change(job(), JobStatus.RUNNING, BEGUN)

    world.hear(job())

    assert (world.run.epoch, world.run.claimed_at) == (0, None)


def test_it_succeeds_by_the_record_that_its_mirror_brought(world: Isolated) -> None:
    world.exits_0()
    world.arrives_complete()

    assert world.hear(job(), minute=21) is Outcome.CLOSED

    assert world.run.state is RunState.SUCCEEDED
    assert world.run.completion is not None
    assert (world.run.completion.step, world.run.completion.completed_at) == (16, after(19))


def test_a_record_counts_above_what_people_say(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    cancel(RUN, ports=world.ports, now=after(10))
    world.exits_0()
    world.arrives_complete()

    world.hear(job(), minute=21)

    assert world.run.state is RunState.SUCCEEDED


def test_a_cancelled_run_whose_record_is_there_has_succeeded_though_nobody_has_seen_its_end(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    world.hear(job())
    world.exits_0()
    world.arrives_complete()

    assert cancel(RUN, ports=world.ports, now=after(21)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_record_that_comes_after_a_pause_ends_the_run_in_its_own_time(world: Isolated, is_cancelled: bool) -> None:
    world.exits_0()
    pause(RUN, ports=world.ports, now=after(20))
    world.sweep(21)
    assert world.summary == (RunState.PAUSED, 1)

    world.arrives_complete()
    if is_cancelled:
        cancel(RUN, ports=world.ports, now=after(22))
    for minute in range(25, 25 + RESTING_HOURS * 60, 30):
        world.sweep(minute)

    assert world.run.state is RunState.SUCCEEDED


def test_exit_0_without_a_record_is_waited_on_while_the_record_may_be_on_its_way(world: Isolated) -> None:
    world.exits_0()
    assert world.hear(job(), minute=21) is Outcome.UNCHANGED
    assert world.hear(job(), minute=20 + RECORD_SECONDS / 60 - 1) is Outcome.UNCHANGED
    assert world.summary == (RunState.RUNNING, 1)

    world.arrives_complete()
    world.sweep(34)

    assert world.run.state is RunState.SUCCEEDED


def test_exit_0_whose_record_never_came_is_no_success_and_goes_on_from_what_arrived(world: Isolated) -> None:
    world.arrives(step=12, minute=15)
    world.exits_0()

    world.sweep(36)

    assert world.summary == (RunState.SUBMITTED, 2)
    assert world.run.committed_step == 12
    first, second = (request["CheckpointConfig"] for request in world.batch.requests)
    assert first == second


def test_a_mirror_that_brings_nothing_is_paid_for_three_times_at_most(world: Isolated) -> None:
    for number in (1, 2, 3):
        world.exits_0(number, minute=100 * number)
        world.hear(job(number), minute=100 * number + 20)

    assert world.run.state is RunState.PARKED
    assert "its mirror never brought both its completion record and its last checkpoint" in (world.run.reason or "")
    assert len(world.batch.requests) == 3


def test_no_job_is_created_before_the_one_before_is_described_as_ended(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    for minute in range(6, 60, 5):
        world.sweep(minute)
        world.hear(job(), minute)
    known = world.batch.jobs.pop(job())
    world.sweep(65)
    assert len(world.batch.requests) == 1

    world.batch.jobs[job()] = known
    world.change(job(), JobStatus.FAILED, DONE, status_reason="MaxRuntimeExceeded", stopped_at=after(66))
    world.sweep(70)

    assert len(world.batch.requests) == 2


def test_a_pause_waits_for_a_job_of_which_its_submitter_could_not_tell() -> None:
    sagemaker = MemoryTraining()
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    run = world.ledger.create(training_run(is_isolated=True))
    sagemaker.submit(training_request(run, profile=PROFILE))  # and then the submitter died

    pause(RUN, ports=world.ports, now=NOW)
    resume(RUN, ports=world.ports, now=NOW)
    assert [request["TrainingJobName"] for request in sagemaker.requests] == [f"dev-{RUN}-1"]
    assert (world.run.job_id, sagemaker.terminated) == (job(), [(job(), PAUSE_REASON)])

    world.change(job(), JobStatus.FAILED, status_reason=PAUSE_REASON, stopped_at=after(3))
    world.look(4)
    assert world.summary == (RunState.SUBMITTED, 2)


class SlowTraining(MemoryTraining):
    """The first request arrives later than anybody waits for its reply."""

    def __init__(self) -> None:
        super().__init__()
        self.underway: list[Any] = []

    def submit(self, request: Any) -> str:
        if not self.requests and not self.underway:
            self.underway.append(request)
            raise ReplyLost("CreateTrainingJob did not answer")
        return super().submit(request)

    def arrive(self) -> None:
        super().submit(self.underway.pop())


@pytest.fixture
def slow() -> World:
    """A world whose run has a job on its way of which nobody knows."""
    world = World(batch=SlowTraining(), terms=TRAINING_TERMS)
    world.ports = replace(world.ports, mirrors=MemoryMirrors())
    with pytest.raises(ReplyLost):
        world.submit(training_run(is_isolated=True))
    return world


def test_a_job_that_appears_after_its_run_was_cancelled_is_stopped(slow: World) -> None:
    assert isinstance(slow.batch, SlowTraining)
    assert cancel(RUN, ports=slow.ports, now=after(1)).state is RunState.SUBMITTING

    slow.batch.arrive()
    slow.sweep(5)

    assert slow.batch.terminated == [(job(), CANCEL_REASON)]
    assert slow.run.state is RunState.CANCELLED


def test_a_job_that_appears_after_its_run_was_paused_is_stopped_and_waited_for(slow: World) -> None:
    assert isinstance(slow.batch, SlowTraining)
    assert pause(RUN, ports=slow.ports, now=after(1)).state is RunState.SUBMITTING

    slow.batch.arrive()
    slow.sweep(5)
    assert (slow.run.job_id, slow.batch.terminated) == (job(), [(job(), PAUSE_REASON)])

    slow.change(job(), JobStatus.FAILED, status_reason=PAUSE_REASON, stopped_at=after(7))
    slow.sweep(10)
    assert slow.summary == (RunState.PAUSED, 1)


def test_who_resumes_before_it_has_appeared_gets_that_job_and_no_other(slow: World) -> None:
    assert isinstance(slow.batch, SlowTraining)
    pause(RUN, ports=slow.ports, now=after(1))
    slow.sweep(2)
    assert slow.batch.requests == [], "a wish stands against the request"

    resume(RUN, ports=slow.ports, now=after(3))
    slow.batch.arrive()
    slow.sweep(5)

    assert (slow.summary, slow.run.job_id) == ((RunState.SUBMITTED, 1), job())
    assert len(slow.batch.requests) == 1


@pytest.mark.parametrize(
    ("wish", "state"), [(cancel, RunState.CANCELLED), (pause, RunState.PAUSED)], ids=["cancelled", "paused"]
)
def test_a_job_that_never_appears_is_waited_for_until_no_look_up_can_show_it(
    slow: World, wish: Any, state: RunState
) -> None:
    wish(RUN, ports=slow.ports, now=after(1))
    for minute in (5, 10, 14):
        slow.sweep(minute)
        assert slow.run.state is RunState.SUBMITTING

    slow.sweep(15)

    assert slow.run.state is state


def test_a_mirror_is_late_by_what_exceeds_the_runs_own_bound(world: Isolated) -> None:
    world.change(job(), JobStatus.RUNNING, BEGUN)
    world.hear(job())
    world.arrives(step=3, minute=10)

    assert world.measured(20).worst.mirror_delay_seconds == 0
    seen = world.measured(60)

    assert seen.worst.mirror_delay_seconds == 50 * 60 - 900
    assert seen.worst.checkpoint_age_seconds == 50 * 60
    assert seen.with_late_mirror == [RUN]


def test_what_an_earlier_attempt_brought_is_no_sign_that_the_mirror_works_now(world: Isolated) -> None:
    world.arrives(step=3, minute=3)
    world.change(job(), JobStatus.RUNNING, INTERRUPTED, JobAttempt(started_at=after(6)))
    world.hear(job())

    assert world.measured(6 + 45).worst.mirror_delay_seconds == 0, "half an hour to start, and the bound"
    assert world.measured(6 + 46).worst.mirror_delay_seconds == 60


def test_a_mirror_is_not_late_while_no_attempt_is_at_work(world: Isolated) -> None:
    assert world.measured(300).worst.mirror_delay_seconds == 0
    world.change(job(), JobStatus.RUNNABLE, INTERRUPTED)
    world.hear(job())

    assert world.measured(300).worst.mirror_delay_seconds == 0
