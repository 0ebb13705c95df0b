"""The sweeper's glance hides nothing: where `reconcile` would take a step, it says that the run needs more."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.control.budget import Limits
from spotkeeper.control.classify import WAITED_REASON
from spotkeeper.control.glance import glance
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.run import Run
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.placement import Mode
from tests.control.fakes import MemoryBatch, new_run
from tests.control.reconciled import RUN, World, after
from tests.control.training import TRAINING_TERMS, MemoryTraining, training_run

USD = MICROUSD_PER_USD
HOUR = 60
WAITING = (JobStatus.SUBMITTED, JobStatus.RUNNABLE)
JOB_GOES_ON = (*WAITING, JobStatus.STARTING, JobStatus.RUNNING)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Runs on spot, of all kinds that placement tells apart."""
    facts: dict[str, Any] = {
        "mode": draw(st.sampled_from(list(Mode))).value,
        "fallback_cap_microusd": draw(st.sampled_from([500, 1, 0])) * USD,
    }
    if draw(st.booleans()):
        facts["deadline_at"] = after(draw(st.integers(1, 40)) * HOUR)
        facts["work_seconds"] = draw(st.sampled_from([None, 3600, 36_000]))
        facts["num_steps"] = 1000
    return draw(st.sampled_from([new_run, training_run]))(**facts)


def done_in(world: World) -> object:
    """Return all that a step may change."""
    batch = world.batch
    told = (batch.withdrawn, batch.terminated, batch.requests, world.ledger.attempt_items, world.budgets.reserved)
    return (world.run, *(repr(each) for each in told))


@settings(max_examples=300, deadline=None)
@given(
    run=runs(),
    status=st.just(JobStatus.RUNNABLE) | st.sampled_from(JOB_GOES_ON),
    looked_at=st.integers(0, 10),
    minutes=st.integers(0, 45) | st.integers(0, 36 * HOUR),
    step=st.sampled_from([None, 1, 900]),
    is_capped_since=st.booleans(),
)
def test_where_a_step_is_due_a_glance_says_so(
    *, run: Run, status: JobStatus, looked_at: int, minutes: int, step: int | None, is_capped_since: bool
) -> None:
    is_training = run.profile == "train-cpu"
    world = World(batch=MemoryTraining() if is_training else MemoryBatch(), terms=TRAINING_TERMS)
    world.submit(run)
    (job_id,) = world.batch.jobs
    attempts = () if status in WAITING else (JobAttempt(started_at=after(1)),)
    world.change(job_id, status, *attempts)
    if step is not None:
        world.checkpoints.steps[RUN] = step
    world.look(looked_at)
    if is_capped_since:
        capped = replace(world.ports.terms, limits=Limits(total_microusd=20 * USD))
        world.ports = replace(world.ports, terms=capped)
    now = looked_at + minutes

    seen = glance(world.run, world.batch.jobs[job_id], ports=world.ports, now=after(now))
    before = done_in(world)
    world.look(now)

    assert seen is None or done_in(world) == before


def withdrawn_at(run: Run) -> int | None:
    """Return in which minute the sweeper, which alone looks, withdraws a job that waits for a machine."""
    world = World()
    world.submit(run)
    world.change("job-1", JobStatus.RUNNABLE)
    for minute in range(60):
        world.sweep(minute)
        if world.batch.withdrawn == [("job-1", WAITED_REASON)]:
            return minute
    return None


def test_a_run_that_puts_its_deadline_first_leaves_spot_after_minutes_although_no_event_tells() -> None:
    assert withdrawn_at(new_run(fallback_cap_microusd=USD * 500, mode=Mode.DEADLINE_FIRST.value)) == 5
    assert withdrawn_at(new_run(fallback_cap_microusd=USD * 500)) == 30


def test_a_deadline_that_allows_no_wait_is_seen_at_once() -> None:
    tight = new_run(fallback_cap_microusd=USD * 500, deadline_at=after(11 * HOUR), work_seconds=36_000)
    assert withdrawn_at(tight) in range(5)
