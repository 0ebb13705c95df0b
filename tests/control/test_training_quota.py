"""A quota of SageMaker has no machine of a type: it counts as a type without capacity, and ends no run."""

from collections.abc import Mapping
from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import QuotaReached
from spotkeeper.control.run import Lack
from tests.control.reconciled import World, after
from tests.control.training import TRAINING_TERMS, TYPES, MemoryTraining, training_run


class ShortTraining(MemoryTraining):
    """SageMaker in an account that may have no machines of some types."""

    def __init__(self, *without: str) -> None:
        super().__init__()
        self.without = set(without)
        self.asked: list[str] = []

    def submit(self, request: Mapping[str, Any]) -> str:
        type_ = request["ResourceConfig"]["InstanceType"]
        self.asked.append(type_)
        if type_ in self.without:
            raise QuotaReached(f"ResourceLimitExceeded: '{type_} for spot training job usage' is 0 Instances")
        return super().submit(request)


def submitted(*without: str) -> tuple[World, ShortTraining]:
    sagemaker = ShortTraining(*without)
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    world.submit(training_run())
    return world, sagemaker


def test_the_next_type_is_asked_for_and_the_run_says_what_is_short() -> None:
    world, sagemaker = submitted(TYPES[0])

    assert world.run.state is RunState.WAITING
    assert str(world.run.reason).endswith(f"usage' is 0 Instances; {TYPES[1]} is next")
    world.look(1)
    assert world.summary == (RunState.SUBMITTED, 2)
    assert sagemaker.asked == [TYPES[0], TYPES[1]]


def test_after_the_last_type_the_run_waits_for_capacity_and_begins_with_the_first_again() -> None:
    world, sagemaker = submitted(*TYPES)
    world.look(1)
    world.look(2)

    assert (world.run.state, world.run.lacks) == (RunState.WAITING, Lack.CAPACITY)
    assert sagemaker.asked == list(TYPES)
    world.look(3)
    assert sagemaker.asked == list(TYPES), "it waits, rather than to ask SageMaker at every look"

    sagemaker.without.clear()
    world.look(70)
    assert sagemaker.asked == [*TYPES, TYPES[0]]
    assert world.run.state is RunState.SUBMITTED


def test_what_was_reserved_for_a_request_that_a_quota_refused_is_given_back() -> None:
    sagemaker = ShortTraining(TYPES[0])
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    world.submit(training_run(total_cap_microusd=50_000_000))
    world.look(1)
    world.sweep(30)

    refused = world.budgets.reserved[world.run.run_id, 1]
    assert (refused.spent_microusd, refused.settled_at is not None) == (0, True)
    assert after(1) <= str(refused.settled_at)
