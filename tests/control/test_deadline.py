"""A run with a deadline: what is left of its work and time decides when it leaves spot, and whether it returns."""

from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control import outlook
from spotkeeper.control.classify import WAITED_REASON
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.run import Run
from spotkeeper.policy.deadline_guard import may_wait
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.placement import Mode
from tests.control.fakes import ON_DEMAND_QUEUE, SPOT_QUEUE, new_run
from tests.control.reconciled import NORMAL, RUN, World, after

HOUR = 60.0


def run_of(*, hours_left: float, work_hours: float, **facts: Any) -> Run:
    terms = {"fallback_cap_microusd": 500 * MICROUSD_PER_USD, "attempt_seconds": 86400, **facts}
    return new_run(deadline_at=after(hours_left * HOUR), work_seconds=int(work_hours * 3600), **terms)


def queue_after_shortage(run: Run, *, minute: float) -> str | None:
    """Return where the run's next job waits once spot has given it no machine; None: the run waits without one."""
    world = World()
    world.submit(run)
    world.give_up("job-1", minute=minute)
    world.hear("job-1", minute=minute)
    return world.run.job_queue if world.run.state is not RunState.WAITING else None


def test_a_tight_deadline_goes_to_on_demand_at_once_and_a_loose_one_waits() -> None:
    assert queue_after_shortage(run_of(hours_left=11, work_hours=10), minute=6) == ON_DEMAND_QUEUE
    assert queue_after_shortage(run_of(hours_left=40, work_hours=10), minute=6) is None


def test_a_loose_deadline_waits_for_longer_than_the_environment_lets_other_runs() -> None:
    assert queue_after_shortage(run_of(hours_left=40, work_hours=10), minute=31) is None
    other = new_run(fallback_cap_microusd=500 * MICROUSD_PER_USD)
    assert queue_after_shortage(other, minute=31) == ON_DEMAND_QUEUE


def test_a_run_that_may_not_use_on_demand_waits_whatever_its_deadline() -> None:
    assert queue_after_shortage(run_of(hours_left=11, work_hours=10, fallback_cap_microusd=0), minute=6) is None


def test_a_job_that_gets_no_machine_is_withdrawn_when_the_deadline_needs_on_demand() -> None:
    world = World()
    world.submit(run_of(hours_left=14, work_hours=10))
    world.change("job-1", JobStatus.RUNNABLE)
    world.sweep(minute=6)
    assert world.batch.withdrawn == [], "four hours of slack are enough to wait"
    world.sweep(minute=3 * HOUR)
    assert world.batch.withdrawn == [("job-1", WAITED_REASON)]


def withdrawn_at(run: Run) -> float | None:
    """Return in which minute a run is taken out of a queue that gives others a machine all the time."""
    world = World()
    world.submit(run)
    world.change("job-1", JobStatus.RUNNABLE)
    for minute in range(5, int(14 * HOUR), 5):
        world.ledger.record_start(SPOT_QUEUE, at=after(minute - 2))
        world.sweep(minute)
        if world.batch.withdrawn:
            return minute
    return None


def test_a_deadline_does_not_wait_for_its_turn_in_a_queue_for_longer_than_its_guard_allows() -> None:
    run = run_of(hours_left=14, work_hours=10)
    at = withdrawn_at(run)
    assert at is not None

    before, then = (
        outlook.without_machine(run, waited_seconds=60 * minute, newest_step=None, now=after(minute))
        for minute in (at - 5, at)
    )
    assert before is not None
    assert then is not None
    assert (may_wait(before), may_wait(then)) == (True, False)


def test_who_has_no_deadline_or_time_left_waits_for_its_turn_in_a_queue() -> None:
    assert withdrawn_at(new_run(fallback_cap_microusd=500 * MICROUSD_PER_USD)) is None
    assert withdrawn_at(run_of(hours_left=40, work_hours=10)) is None


@pytest.mark.parametrize("mode", list(Mode))
def test_a_job_on_on_demand_has_its_time_to_get_a_machine_whatever_the_deadline(mode: Mode) -> None:
    """The deadline would else take it away at once, and ask for it again, with another reservation each time."""
    world = World()
    world.submit(run_of(hours_left=11, work_hours=10, mode=mode.value))
    world.give_up("job-1", minute=6)
    world.hear("job-1", minute=6)
    assert world.run.job_queue == ON_DEMAND_QUEUE
    world.created("job-2", minute=6)
    world.change("job-2", JobStatus.RUNNABLE)

    for minute in (6.1, 8, 10.9):
        world.hear("job-2", minute=minute)
        world.sweep(minute)
    assert (world.run.submission, world.batch.withdrawn) == (2, [])

    world.sweep(minute=37)
    assert world.batch.withdrawn == [("job-2", WAITED_REASON)]


def test_committed_steps_count_as_work_that_is_done() -> None:
    run = run_of(hours_left=11, work_hours=10, num_steps=1000)
    half = outlook.without_machine(run, waited_seconds=0, newest_step=500, now=after(0))
    none = outlook.without_machine(run, waited_seconds=0, newest_step=None, now=after(0))
    assert half is not None
    assert none is not None
    assert (half.remaining_hours, none.remaining_hours) == (5.0, 10.0)


def on_demand(run: Run) -> World:
    """Return a world whose run trains on on-demand since minute 40, in job-2."""
    world = World()
    world.submit(run)
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    assert world.run.job_queue == ON_DEMAND_QUEUE
    world.ledger.claim(RUN, "job-2", 1)
    world.ledger.runs[RUN] = world.run.advanced(claimed_at=after(40))
    world.change("job-2", JobStatus.RUNNING, JobAttempt(started_at=after(40)))
    world.checkpoints.steps[RUN] = 1
    return world


def test_a_standby_is_placed_only_if_a_return_leaves_the_deadline_time() -> None:
    loose = on_demand(new_run(fallback_cap_microusd=500 * MICROUSD_PER_USD))
    loose.look(minute=60)
    assert loose.run.standby_submission is not None
    tight = on_demand(run_of(hours_left=11.5, work_hours=10))
    tight.look(minute=60)
    assert tight.run.standby_submission is None


def test_a_segment_that_ends_is_followed_by_another_where_the_deadline_does_not_let_the_run_wait() -> None:
    for run, queue in (
        (run_of(hours_left=11.5, work_hours=10), ON_DEMAND_QUEUE),
        (new_run(fallback_cap_microusd=500 * MICROUSD_PER_USD), SPOT_QUEUE),
    ):
        world = on_demand(run)
        world.checkpoints.steps[RUN] = 100
        ran = JobAttempt(started_at=after(40), stopped_at=after(50), exit_code=75, status_reason=NORMAL)
        world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(50))
        world.hear("job-2", minute=51)
        assert world.run.job_queue == queue


def queue_after_loss(run: Run, *, minute: float, step: int) -> str:
    world = World()
    world.submit(run)
    world.ledger.claim(RUN, "job-1", 1)
    world.lose_host("job-1", minute=minute, step=step)
    world.hear("job-1", minute=minute)
    return world.run.job_queue


@pytest.mark.parametrize(("step", "queue"), [(900, SPOT_QUEUE), (560, ON_DEMAND_QUEUE), (100, ON_DEMAND_QUEUE)])
def test_after_a_lost_machine_spot_is_asked_only_if_the_deadline_bears_the_loss_of_another(
    step: int, queue: str
) -> None:
    """Of ten hours of work in 1,000 steps, and with five hours left."""
    run = run_of(hours_left=14, work_hours=10, num_steps=1000)

    assert queue_after_loss(run, minute=9 * HOUR, step=step) == queue


def test_a_run_that_may_not_use_on_demand_asks_spot_again_whatever_its_deadline() -> None:
    run = run_of(hours_left=14, work_hours=10, num_steps=1000, fallback_cap_microusd=0)

    assert queue_after_loss(run, minute=9 * HOUR, step=100) == SPOT_QUEUE
