"""SageMaker gives a name once: one that somebody else's job has is no run's, and ends the run that was to have it."""

from collections.abc import Mapping
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import NameTaken
from tests.control.reconciled import World
from tests.control.training import TRAINING_TERMS, MemoryTraining, arn_of, training_run


class NamesTraining(MemoryTraining):
    """SageMaker, in whose account there are jobs of others."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = set(names)

    def submit(self, request: Mapping[str, Any]) -> str:
        name = request["TrainingJobName"]
        if name in self.names or arn_of(name) in self.jobs:
            raise NameTaken(f"a training job {name} is there already")
        return super().submit(request)


def test_a_run_whose_name_somebody_elses_job_has_ends_once_no_job_of_its_own_can_show_any_more() -> None:
    world = World(batch=NamesTraining("dev-digits-7fq2-1"), terms=TRAINING_TERMS)
    with pytest.raises(NameTaken):
        world.submit(training_run())

    world.look(10)
    assert world.summary == (RunState.SUBMITTING, 1), "an earlier call may have made it, and SageMaker not show it yet"
    world.look(20)
    assert world.summary == (RunState.FAILED, 1)
    assert world.run.reason == (
        "a training job dev-digits-7fq2-1 is there already, which is not this run's: submit it again under another "
        "run id"
    )


def test_a_name_that_an_earlier_call_of_its_own_took_is_the_runs() -> None:
    class Slow(NamesTraining):
        """Shows a job a while after it has been created, and loses the first reply."""

        is_seen = False

        def submit(self, request: Mapping[str, Any]) -> str:
            super().submit(request)
            return super().submit(request)

        def find(self, name: str, *, queue: str) -> Any:
            return super().find(name, queue=queue) if self.is_seen else ()

    sagemaker = Slow()
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    with pytest.raises(NameTaken):
        world.submit(training_run())
    sagemaker.is_seen = True
    world.look(1)

    assert (world.run.state, world.run.job_id) == (RunState.SUBMITTED, arn_of("dev-digits-7fq2-1"))
    assert world.run.reason is None
