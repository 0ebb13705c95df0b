"""A job whose container does not start is paid for, and AWS Batch ends it never: the sweeper does."""

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import STUCK_REASON, TWIN_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.submit import job_request
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.reservation import STARTING_SECONDS, TEARDOWN_SECONDS
from tests.control.fakes import TERMS, new_run
from tests.control.reconciled import HOST, NORMAL, RUN, World, after

PRICES = TERMS.profiles["cpu"]
DEAREST = max(PRICES.usd_per_hour[name] for name in PRICES.on_demand_instance_types)
LIMIT = STARTING_SECONDS / 60
LOST = JobAttempt(started_at=after(20), stopped_at=after(30), status_reason=HOST)


def starting() -> World:
    world = World()
    world.submit()
    world.change("job-1", JobStatus.STARTING)
    world.sweep(5)
    assert world.run.starting_since == after(5)
    return world


def on_demand() -> World:
    """Return a world whose run has fallen back to on-demand at minute 32, in job-2."""
    world = World()
    world.submit(new_run(fallback_cap_microusd=20 * MICROUSD_PER_USD))
    world.give_up("job-1", minute=31)
    world.hear("job-1", minute=32)
    assert world.run.market == "on-demand"
    return world


def test_a_job_that_hangs_in_starting_is_stopped_by_the_sweeper_and_its_run_goes_on() -> None:
    world = starting()

    world.sweep(5 + LIMIT)
    assert world.batch.terminated == []
    world.sweep(5 + LIMIT + 5)
    assert world.batch.terminated == [("job-1", STUCK_REASON)]

    world.change("job-1", JobStatus.FAILED, status_reason=STUCK_REASON, stopped_at=after(31))
    assert world.hear("job-1", minute=32) is Outcome.WAITING
    assert "the container could not start" in (world.run.why or "")
    world.sweep(60)
    assert world.summary == (RunState.SUBMITTED, 2)


def test_a_start_that_takes_its_time_and_succeeds_is_left_alone() -> None:
    world = starting()

    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(24)))
    world.sweep(25)
    world.sweep(60)

    assert (world.run.starting_since, world.batch.terminated) == (None, [])


def test_the_start_of_a_retry_is_a_start_of_its_own_though_nobody_saw_the_attempt_before_it() -> None:
    world = starting()
    world.change("job-1", JobStatus.STARTING, LOST)

    world.sweep(31)

    assert (world.run.starting_since, world.batch.terminated) == (after(31), [])


def test_an_attempt_that_has_claimed_since_its_job_was_read_is_not_stopped() -> None:
    world = starting()
    world.ledger.claim(RUN, "job-1", 1)

    world.sweep(60)

    assert world.batch.terminated == []


def test_a_hanging_start_on_on_demand_is_booked_for_whole_and_was_reserved_for() -> None:
    world = on_demand()
    reserved = world.budgets.reserved[RUN, 2].microusd
    world.created("job-2", minute=32)
    world.change("job-2", JobStatus.STARTING)
    world.sweep(35)
    world.sweep(60)
    assert ("job-2", STUCK_REASON) in world.batch.terminated

    world.change("job-2", JobStatus.FAILED, status_reason=STUCK_REASON, stopped_at=after(61))
    world.hear("job-2", minute=62)
    world.sweep(90)

    spent = world.budgets.reserved[RUN, 2].spent_microusd
    assert spent == cost_microusd(DEAREST, (61 - 32) * 60 + TEARDOWN_SECONDS)
    assert spent <= reserved


def test_what_a_start_is_booked_is_never_more_than_what_was_reserved_for_it() -> None:
    world = on_demand()
    reserved = world.budgets.reserved[RUN, 2].microusd
    ran = JobAttempt(started_at=after(500), stopped_at=after(900), exit_code=75, status_reason=NORMAL)
    world.change("job-2", JobStatus.FAILED, ran, status_reason=NORMAL, stopped_at=after(900))
    world.hear("job-2", minute=901)
    world.sweep(930)

    assert world.budgets.reserved[RUN, 2].spent_microusd == reserved


@pytest.mark.parametrize("status", [JobStatus.RUNNABLE, JobStatus.STARTING])
def test_a_twin_on_on_demand_is_stopped_by_the_sweep_that_sees_it(status: JobStatus) -> None:
    world = on_demand()
    twin = world.batch.submit(job_request(world.run))
    world.change(twin, status)

    world.sweep(40)

    assert world.batch.terminated[-1] == (twin, TWIN_REASON)
    assert not [reason for job_id, reason in world.batch.terminated if job_id == "job-2"]
