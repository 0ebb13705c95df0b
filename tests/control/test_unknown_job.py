"""A job that AWS Batch does not know is no reason to act, and no reason to keep the user waiting for ever."""

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause
from spotkeeper.control.ports import Job, JobStatus
from spotkeeper.control.submit import job_request
from tests.control.fakes import new_run, order_of
from tests.control.reconciled import RUN, World, after

DAY = 24 * 60


def forgotten() -> World:
    """Return a world with a run whose job Batch does not know."""
    world = World()
    world.submit(new_run())
    world.ledger.claim(RUN, "job-1", 1)
    del world.batch.jobs["job-1"]
    return world


def test_a_cancelled_run_is_closed_when_its_job_was_unknown_for_a_day_and_not_before() -> None:
    world = forgotten()
    world.sweep(5)
    cancel(RUN, ports=world.ports, now=after(10))

    states = []
    for minute in (DAY + 9, DAY + 10):
        world.sweep(minute)
        states.append(world.run.state)

    assert states == [RunState.RUNNING, RunState.CANCELLED]
    assert world.run.reason == f"AWS Batch has not known its job job-1 since {after(5)}"


def test_a_paused_run_rests_when_its_job_was_unknown_for_a_day() -> None:
    world = forgotten()
    pause(RUN, ports=world.ports, now=after(10))
    world.sweep(15)

    world.sweep(DAY + 14)
    assert world.run.state is RunState.RUNNING
    assert world.look(minute=DAY + 15) is Outcome.PAUSED

    assert (world.run.state, world.run.why) == (RunState.PAUSED, "`spotkeeper resume RUN` lets it go on")


def test_a_complete_run_has_succeeded_when_its_job_was_unknown_for_a_day() -> None:
    world = forgotten()
    world.ledger.complete(RUN, 1)
    world.sweep(5)

    world.sweep(DAY + 5)

    assert world.run.state is RunState.SUCCEEDED


def test_without_a_wish_nothing_happens_but_the_run_says_so() -> None:
    world = forgotten()

    for minute in range(5, 30 * DAY, DAY):
        world.sweep(minute)

    assert world.run.state is RunState.RUNNING
    assert world.run.why == f"AWS Batch does not know job job-1 (since {after(5)})"
    assert world.batch.terminated == []


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.RUNNABLE])
def test_a_job_that_was_unknown_for_a_moment_begins_its_day_anew(status: JobStatus) -> None:
    world = forgotten()
    cancel(RUN, ports=world.ports, now=after(1))
    world.sweep(5)
    world.batch.jobs["job-1"] = Job(
        job_id="job-1", name=f"{RUN}-1", status=status, order=order_of(job_request(new_run()))
    )
    world.sweep(10)
    assert world.run.job_unknown_since is None
    del world.batch.jobs["job-1"]
    world.sweep(15)

    world.sweep(DAY + 10)
    assert world.run.state is RunState.RUNNING
