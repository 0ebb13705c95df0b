"""The user says which runs of a team go first; a job that waits is submitted again, one that has a machine goes on."""

from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.control.classify import PRIORITY_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import JobStatus, UnknownRun
from spotkeeper.control.priority import prioritize
from tests.control.fakes import MemoryBatch, new_run
from tests.control.reconciled import RUN, World, after
from tests.control.training import TRAINING_TERMS, MemoryTraining, training_run


class WithdrawingBatch(MemoryBatch):
    """As AWS Batch, whose CancelJob ends a job that waits."""

    def withdraw(self, job_id: str, reason: str) -> None:
        super().withdraw(job_id, reason)
        waiting = self.jobs[job_id]
        self.jobs[job_id] = replace(waiting, status=JobStatus.FAILED, status_reason=reason, stopped_at=after(1))


def waiting(batch: MemoryBatch | None = None, **changes: Any) -> World:
    world = World(batch=batch or WithdrawingBatch())
    world.submit(new_run(**changes))
    world.change("job-1", JobStatus.RUNNABLE)
    return world


def test_a_job_that_waits_is_withdrawn_and_goes_on_with_the_new_priority_at_nobodys_expense() -> None:
    world = waiting()

    prioritize(RUN, 7000, ports=world.ports)

    assert world.batch.withdrawn == [("job-1", PRIORITY_REASON)]
    assert world.hear("job-1") is Outcome.REQUEUED
    assert "schedulingPriorityOverride" not in world.batch.requests[0]
    assert world.batch.requests[1]["schedulingPriorityOverride"] == 7000
    assert (world.run.num_stalls, world.run.num_capacity_waits) == (0, 0)


def test_a_job_that_runs_goes_on_and_the_next_one_has_the_priority() -> None:
    world = waiting()
    world.change("job-1", JobStatus.RUNNING)

    prioritize(RUN, 7000, ports=world.ports)

    assert world.batch.withdrawn == []
    assert world.run.priority == 7000


def test_saying_it_again_withdraws_nothing_that_has_the_priority_already() -> None:
    world = waiting(priority=7000)

    prioritize(RUN, 7000, ports=world.ports)

    assert world.batch.withdrawn == []


def test_a_call_that_was_lost_is_made_again_by_the_same_command() -> None:
    class LosesOne(WithdrawingBatch):
        lost = 1

        def withdraw(self, job_id: str, reason: str) -> None:
            if self.lost:
                self.lost -= 1
                raise ConnectionError
            super().withdraw(job_id, reason)

    world = waiting(LosesOne())
    with pytest.raises(ConnectionError):
        prioritize(RUN, 7000, ports=world.ports)

    prioritize(RUN, 7000, ports=world.ports)

    assert world.batch.withdrawn == [("job-1", PRIORITY_REASON)]


@pytest.mark.parametrize("priority", [-1, 10_000])
def test_what_batch_does_not_take_is_refused_with_what_it_takes(priority: int) -> None:
    with pytest.raises(ValueError, match=rf"0 to 9999 .*, got {priority}"):
        prioritize(RUN, priority, ports=waiting().ports)


def test_a_run_on_sagemaker_which_has_no_queue_is_refused_and_its_job_goes_on() -> None:
    world = World(batch=MemoryTraining(), terms=TRAINING_TERMS)
    before = world.submit(training_run())

    with pytest.raises(ValueError, match=f"SageMaker has no queue .*: {RUN} has no priority"):
        prioritize(RUN, 200, ports=world.ports)

    assert (world.batch.withdrawn, world.run) == ([], before)


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(UnknownRun, match="nobody-1"):
        prioritize("nobody-1", 5, ports=waiting().ports)
