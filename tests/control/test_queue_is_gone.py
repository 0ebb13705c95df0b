"""A profile is taken out of the settings, and AWS Batch has its queues no more."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.observe import Outcome
from spotkeeper.control.pause import pause
from spotkeeper.control.ports import Job, JobAttempt, JobStatus, NoSuchQueue, Refused
from spotkeeper.control.run import Run
from spotkeeper.policy.money import MICROUSD_PER_USD as USD
from tests.control.fakes import MemoryBatch, new_run
from tests.control.reconciled import NORMAL, RUN, World, after


class WithoutQueues(MemoryBatch):
    is_gone = False

    def find(self, name: str, *, queue: str) -> tuple[Job, ...]:
        if self.is_gone:
            raise NoSuchQueue(f"{queue} does not exist")
        return super().find(name, queue=queue)

    def submit(self, request: Mapping[str, Any]) -> str:
        if self.is_gone:
            raise Refused(f"{request['jobQueue']} does not exist")
        return super().submit(request)


def world_of(run: Run) -> World:
    world = World(batch=WithoutQueues())
    world.submit(run)
    return world


def remove_queues(world: World) -> None:
    assert isinstance(world.batch, WithoutQueues)
    world.batch.is_gone = True
    world.ports = replace(world.ports, terms=replace(world.ports.terms, profiles={}))


def lost_without_queue(**changes: Any) -> World:
    world = world_of(new_run(**changes))
    world.lose_host("job-1", minute=9, step=4)
    remove_queues(world)
    world.hear("job-1")
    assert world.summary == (RunState.SUBMITTING, 2)
    return world


def test_a_run_whose_queue_is_gone_says_so_and_is_parked() -> None:
    world = lost_without_queue()

    assert (
        world.run.why == "AWS Batch refused the job: arn:aws:batch:us-east-1:123456789012:job-queue/spot does not exist"
    )
    world.sweep(40)

    assert world.run.state is RunState.PARKED
    assert "does not exist" in (world.run.why or "")


def test_a_run_whose_queue_is_gone_is_cancelled_or_paused() -> None:
    world = lost_without_queue()
    assert pause(RUN, ports=world.ports, now=after(11)).state is RunState.PAUSED
    assert cancel(RUN, ports=world.ports, now=after(12)).state is RunState.CANCELLED


def test_runs_whose_queues_are_gone_keep_no_other_from_its_turn() -> None:
    world = lost_without_queue()
    for number in range(3):
        run = new_run(f"r-{number}", created_at="2026-11-23T10:00:00.000+00:00", intent_at=after(10))
        world.ledger.create(run)

    world.sweep(40)

    assert {run.why for run in world.ledger.runs.values()} == {world.run.why}


def test_what_a_known_job_on_spot_cost_is_booked_and_the_rest_given_back() -> None:
    world = world_of(new_run(total_cap_microusd=50 * USD))
    world.complete("job-1")
    world.hear("job-1", minute=21)
    reserved = world.budgets.budgets[run_holder(RUN)].total.reserved
    remove_queues(world)

    world.sweep(40)

    total = world.budgets.budgets[run_holder(RUN)].total
    assert total.reserved == 0
    assert 0 < total.spent < reserved


def fallen_back() -> tuple[World, int]:
    """A run whose only job on on-demand has succeeded, and what was reserved for that."""
    world = world_of(new_run(fallback_cap_microusd=20 * USD))
    world.give_up("job-1", minute=31)
    assert world.hear("job-1", minute=32) is Outcome.FELL_BACK
    world.ledger.claim(RUN, "job-2", 1)
    world.ledger.complete(RUN, 1)
    done = JobAttempt(started_at=after(33), stopped_at=after(40), exit_code=0, status_reason=NORMAL)
    world.change("job-2", JobStatus.SUCCEEDED, done, status_reason=NORMAL, stopped_at=after(40))
    assert world.hear("job-2", minute=41) is Outcome.CLOSED
    return world, world.budgets.budgets[run_holder(RUN)].fallback.reserved


def test_what_was_reserved_for_on_demand_is_booked_in_full_since_nobody_can_tell_of_a_twin_any_more() -> None:
    world, reserved = fallen_back()
    remove_queues(world)

    world.sweep(50)
    assert world.budgets.budgets[run_holder(RUN)].fallback.reserved == reserved
    world.sweep(60)

    fallback = world.budgets.budgets[run_holder(RUN)].fallback
    assert (fallback.reserved, fallback.spent) == (0, reserved)


def test_nothing_is_settled_while_a_known_job_of_a_queue_that_is_gone_goes_on() -> None:
    world, reserved = fallen_back()
    world.change("job-2", JobStatus.RUNNING, JobAttempt(started_at=after(33)))
    remove_queues(world)

    world.sweep(60)

    assert world.budgets.budgets[run_holder(RUN)].fallback.reserved == reserved
