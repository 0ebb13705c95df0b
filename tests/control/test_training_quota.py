"""A quota of SageMaker has no machine of a type: it counts as a type without capacity, and ends no run."""

from collections.abc import Mapping
from typing import Any

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.ports import JobAttempt, JobStatus, QuotaReached
from spotkeeper.control.run import Lack
from spotkeeper.control.shortage import shortage
from tests.control.reconciled import RUN, World, after
from tests.control.training import ON_DEMAND, TRAINING_TERMS, TYPES, MemoryTraining, arn_of, training_run


class ShortTraining(MemoryTraining):
    """SageMaker in an account that may have no machines of some types."""

    def __init__(self, *without: str) -> None:
        super().__init__()
        self.without = set(without)
        self.asked: list[str] = []

    def submit(self, request: Mapping[str, Any]) -> str:
        # A request on on-demand names types in order of preference, and SageMaker takes the first that it can.
        type_ = request["ResourceConfig"].get("InstanceType", ON_DEMAND)
        self.asked.append(type_)
        if type_ in self.without:
            raise QuotaReached(f"ResourceLimitExceeded: '{type_} for spot training job usage' is 0 Instances")
        return super().submit(request)


def submitted(*without: str, **changes: Any) -> tuple[World, ShortTraining]:
    sagemaker = ShortTraining(*without)
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    world.submit(training_run(**changes))
    return world, sagemaker


def in_a_drought(world: World, sagemaker: ShortTraining, *, minutes: int) -> None:
    """Sweep so long, while spot has no machine: whatever job is withdrawn ends without one."""
    for minute in range(5, minutes, 5):
        num_withdrawn = len(sagemaker.withdrawn)
        if world.run.state is RunState.SUBMITTED:
            job_id = arn_of(f"dev-{RUN}-{world.run.submission}")
            if world.batch.jobs[job_id].order.created_at < after(0):
                world.created(job_id, minute=minute - 5)
            world.change(job_id, JobStatus.RUNNABLE, status_reason="Insufficient capacity error from EC2")
        world.sweep(minute)
        for job_id, reason in sagemaker.withdrawn[num_withdrawn:]:
            world.change(job_id, JobStatus.FAILED, status_reason=reason, stopped_at=after(minute))
            world.hear(job_id, minute)


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
    said = "; it was the last of the 3 spot types of profile train-cpu; the run allows no on-demand"
    assert str(world.run.reason).endswith(f"'{TYPES[-1]} for spot training job usage' is 0 Instances{said}")
    assert sagemaker.asked == list(TYPES)
    world.look(3)
    assert sagemaker.asked == list(TYPES), "it waits, rather than to ask SageMaker at every look"

    sagemaker.without.clear()
    world.look(70)
    assert sagemaker.asked == [*TYPES, TYPES[0]]
    assert world.run.state is RunState.SUBMITTED


def test_where_on_demand_may_have_no_machine_every_spot_type_is_asked_between_two_requests_for_it() -> None:
    world, sagemaker = submitted(ON_DEMAND, fallback_cap_microusd=100_000_000)

    in_a_drought(world, sagemaker, minutes=2 * 24 * 60)

    row = [*TYPES, ON_DEMAND]
    assert len(sagemaker.asked) > 4 * len(row)
    assert sagemaker.asked == (row * len(sagemaker.asked))[: len(sagemaker.asked)]

    world.sweep(2 * 24 * 60 + 70)
    last = world.run.submission
    world.change(arn_of(f"dev-{RUN}-{last}"), JobStatus.RUNNING, JobAttempt(started_at=after(2 * 24 * 60 + 75)))
    world.sweep(2 * 24 * 60 + 80)
    assert (world.run.market, world.run.submission) == ("spot", last)


def test_a_run_whose_deadline_presses_asks_the_next_spot_type_after_a_refusal_of_on_demand() -> None:
    world, sagemaker = submitted(
        ON_DEMAND,
        fallback_cap_microusd=100_000_000,
        deadline_at=after(20 * 60),
        work_seconds=19 * 3600,
        num_steps=1000,
    )

    in_a_drought(world, sagemaker, minutes=12 * 60)

    assert [type_ for type_ in sagemaker.asked if type_ != ON_DEMAND][:5] == [*TYPES, *TYPES[:2]]
    assert sagemaker.asked[:4] == [TYPES[0], ON_DEMAND, TYPES[1], ON_DEMAND]


def test_a_refusal_of_on_demand_gives_back_what_was_reserved_for_it_and_says_what_is_short() -> None:
    world, sagemaker = submitted(ON_DEMAND, fallback_cap_microusd=100_000_000)
    in_a_drought(world, sagemaker, minutes=65)

    assert (world.run.state, world.run.lacks) == (RunState.WAITING, Lack.CAPACITY)
    assert world.run.wait_until == after(65), "five minutes after the first row of types, on-demand among them"
    assert ON_DEMAND in str(world.run.reason)
    world.sweep(130)
    assert {item.spent_microusd for item in world.budgets.reservations(RUN)} == {0}


def asked_by_sweeps(*without: str, hours: int, **changes: Any) -> tuple[list[str], float | None]:
    """Return which types were asked for where these have no quota, and in which minute on-demand was."""
    world, sagemaker = submitted(*without, **changes)
    for minute in range(5, hours * 60, 5):
        world.sweep(minute)
        if ON_DEMAND in sagemaker.asked:
            return sagemaker.asked, minute
    return sagemaker.asked, None


def test_a_run_without_quota_on_spot_goes_to_on_demand_when_that_is_due_and_no_later() -> None:
    caps = {"fallback_cap_microusd": 1000_000_000}
    assert asked_by_sweeps(*TYPES, hours=2, **caps)[1] == 30
    urgent = {"mode": "deadline-first", **caps}
    assert asked_by_sweeps(*TYPES, hours=2, **urgent)[1] == 15, "after one row of types"

    deadline = {"deadline_at": after(14 * 60), "work_seconds": 36_000, "num_steps": 1000, "attempt_seconds": 86_400}
    asked, at = asked_by_sweeps(*TYPES, hours=14, **caps, **deadline)
    assert at is not None
    ports, run = World(terms=TRAINING_TERMS).ports, training_run(**caps, **deadline)
    markets = [shortage(run, ports=ports, now=after(minute)).placement.market for minute in (at - 10, at)]
    assert markets == ["spot", "on-demand"]
    assert len(asked) < at / 5, "between two rows it waits"


def test_a_run_whose_deadline_presses_leaves_a_type_without_quota_for_on_demand() -> None:
    asked, _ = asked_by_sweeps(
        TYPES[0], hours=2, fallback_cap_microusd=1000_000_000, deadline_at=after(600), work_seconds=36_000
    )
    assert asked == [TYPES[0], ON_DEMAND]


def test_a_run_that_cannot_pay_on_demand_asks_spot_less_and_less_often() -> None:
    asked, _ = asked_by_sweeps(*TYPES, hours=8, fallback_cap_microusd=1, deadline_at=after(600), work_seconds=36_000)
    assert len(asked) < 15 * len(TYPES)


def test_what_was_reserved_for_a_request_that_a_quota_refused_is_given_back() -> None:
    sagemaker = ShortTraining(TYPES[0])
    world = World(batch=sagemaker, terms=TRAINING_TERMS)
    world.submit(training_run(total_cap_microusd=50_000_000))
    world.look(1)
    world.sweep(30)

    refused = world.budgets.reserved[world.run.run_id, 1]
    assert (refused.spent_microusd, refused.settled_at is not None) == (0, True)
    assert after(1) <= str(refused.settled_at)
