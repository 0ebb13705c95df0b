"""A run on SageMaker: interrupted, without a machine, stopped, failed; on which type it goes on, and what it costs."""

from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import WAITED_REASON, Cause
from spotkeeper.control.moments import seconds_between
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import JobAttempt, JobStatus
from spotkeeper.control.reconcile import reconcile
from spotkeeper.control.reserve import affords_on_demand
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy.money import MICROUSD_PER_USD, cost_microusd
from spotkeeper.policy.reservation import lease_microusd, on_demand_microusd
from tests.control.reconciled import RUN, World, after
from tests.control.training import (
    ON_DEMAND,
    SPOT,
    TRAINING_TERMS,
    TYPES,
    USD_PER_HOUR,
    MemoryTraining,
    arn_of,
    training_run,
)

USD = MICROUSD_PER_USD
CAPACITY = "Insufficient capacity error from EC2 while launching instances, retrying!"


def job(submission: int) -> str:
    return arn_of(f"dev-{RUN}-{submission}")


CHEAP = TRAINING_TERMS.profiles["train-cpu"].on_demand_instance_types[1]
PRICED_TERMS = replace(
    TRAINING_TERMS,
    profiles={
        "train-cpu": replace(
            TRAINING_TERMS.profiles["train-cpu"],
            usd_per_hour={**TRAINING_TERMS.profiles["train-cpu"].usd_per_hour, CHEAP: USD_PER_HOUR / 4},
        )
    },
)
ONE_TYPE_TERMS = replace(
    TRAINING_TERMS, profiles={"train-cpu": replace(TRAINING_TERMS.profiles["train-cpu"], spot_instance_types=TYPES[:1])}
)


def submitted(*, terms: EnvironmentTerms = TRAINING_TERMS, **changes: Any) -> World:
    world = World(batch=MemoryTraining(), terms=terms)
    world.submit(training_run(**changes))
    return world


def waits(world: World, submission: int) -> None:
    world.change(job(submission), JobStatus.RUNNABLE, status_reason=CAPACITY)


def is_stopped_for_capacity(world: World, submission: int, *, minute: float) -> Outcome:
    """The job waits, is withdrawn by whoever looks now, and is then heard of."""
    waits(world, submission)
    world.look(minute)
    assert world.batch.withdrawn[-1] == (job(submission), WAITED_REASON)
    world.change(job(submission), JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(minute))
    return world.hear(job(submission), minute + 0.5)


def types_asked(world: World) -> list[str]:
    return [request["ResourceConfig"].get("InstanceType", "on-demand") for request in world.batch.requests]


def test_the_first_job_asks_for_the_first_type_and_its_arn_is_its_id() -> None:
    world = submitted()

    assert (world.run.state, world.run.job_id) == (RunState.SUBMITTED, job(1))
    assert types_asked(world) == [TYPES[0]]


def test_a_type_without_machines_for_twenty_minutes_makes_way_for_the_next_with_or_without_money_for_on_demand() -> (
    None
):
    world = submitted()
    waits(world, 1)
    world.look(19)
    assert world.batch.withdrawn == []

    assert is_stopped_for_capacity(world, 1, minute=21) is Outcome.REQUEUED
    assert world.summary == (RunState.SUBMITTED, 2)
    assert is_stopped_for_capacity(world, 2, minute=43) is Outcome.REQUEUED
    assert types_asked(world) == list(TYPES)
    assert world.run.instance_type == TYPES[2]


def told_of_submissions(world: World) -> list[str]:
    return [event.message for event in world.ledger.history(RUN)]


def test_what_it_is_told_of_a_type_without_machines_names_it_how_long_it_was_asked_for_and_what_is_next() -> None:
    world = submitted()
    is_stopped_for_capacity(world, 1, minute=21)
    waits(world, 2)
    failed = "CapacityError: Unable to provision requested ML compute capacity."
    world.created(job(2), minute=21.5)
    world.change(job(2), JobStatus.FAILED, status_reason=failed, stopped_at=after(25))
    world.hear(job(2), minute=25)
    world.created(job(3), minute=25)
    world.change(job(3), JobStatus.FAILED, status_reason="MaxWaitTimeExceeded", stopped_at=after(25 + 49 * 60))
    world.hear(job(3), minute=26 + 49 * 60)

    gave_up = "after which SageMaker gave up (MaxWaitTimeExceeded)"
    last = "it was the last of the 3 spot types of profile train-cpu; the run allows no on-demand"
    assert told_of_submissions(world) == [
        f"submission 1: no {TYPES[0]} on spot for 21m00s; {TYPES[1]} is next",
        f"submission 2: no {TYPES[1]} on spot for 3m30s: {failed}; {TYPES[2]} is next",
        f"submission 3: no {TYPES[2]} on spot for 2d01h, {gave_up}; {last}",
    ]
    assert world.run.reason == told_of_submissions(world)[-1].removeprefix("submission 3: ")


def test_a_job_that_lost_its_machines_is_told_to_have_waited_since_then() -> None:
    world = submitted()
    lost = JobAttempt(started_at=after(1), stopped_at=after(60), status_reason="Interrupted: no reason given")
    world.change(job(1), JobStatus.FAILED, lost, status_reason=WAITED_REASON, stopped_at=after(81))
    world.hear(job(1), minute=82)

    assert told_of_submissions(world) == [f"submission 1: no {TYPES[0]} on spot for 21m00s; {TYPES[1]} is next"]


def test_on_demand_without_machines_is_told_as_such() -> None:
    world = submitted(fallback_cap_microusd=20 * USD)
    for number in (1, 2, 3):
        is_stopped_for_capacity(world, number, minute=number * 22)
    assert world.run.market == "on-demand"
    world.created(job(4), minute=67)
    world.change(job(4), JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(97))
    world.hear(job(4), minute=98)

    assert told_of_submissions(world)[-1] == "submission 4: no machine on on-demand for 30m00s; back to spot"


def test_a_job_that_sagemaker_forgot_is_told_so() -> None:
    world = submitted()
    del world.batch.jobs[job(1)]
    world.sweep(5)
    assert world.run.why == f"SageMaker does not know job {job(1)} (since {after(5)})"

    cancel(RUN, ports=world.ports, now=after(6))
    world.sweep(24 * 60 + 7)

    assert world.run.reason == f"SageMaker has not known its job {job(1)} since {after(5)}"


def test_after_the_last_type_it_falls_back_if_it_has_the_money() -> None:
    world = submitted(fallback_cap_microusd=20 * USD)
    is_stopped_for_capacity(world, 1, minute=21)
    is_stopped_for_capacity(world, 2, minute=43)

    assert is_stopped_for_capacity(world, 3, minute=65) is Outcome.FELL_BACK
    assert (world.run.market, world.run.job_queue) == ("on-demand", ON_DEMAND)
    reservation = next(one for one in world.budgets.reservations(RUN) if one.submission == 4)
    assert reservation.microusd == on_demand_microusd(USD_PER_HOUR, 3600)
    assert "EnableManagedSpotTraining" not in world.batch.requests[-1]


def test_machines_that_other_jobs_of_the_profile_get_keep_no_run_of_its_only_type_from_on_demand() -> None:
    world = submitted(terms=ONE_TYPE_TERMS, fallback_cap_microusd=20 * USD)
    waits(world, 1)
    for minute in range(0, 35, 5):
        world.ledger.record_start(SPOT, at=after(minute))
        world.sweep(minute)
        assert world.batch.withdrawn == ([(job(1), WAITED_REASON)] if minute >= 30 else [])

    world.change(job(1), JobStatus.FAILED, status_reason=WAITED_REASON, stopped_at=after(30))
    assert world.hear(job(1), minute=31) is Outcome.FELL_BACK


def test_after_the_last_type_it_waits_if_it_has_no_money_and_begins_with_the_first_again() -> None:
    world = submitted()
    is_stopped_for_capacity(world, 1, minute=21)
    is_stopped_for_capacity(world, 2, minute=43)

    assert is_stopped_for_capacity(world, 3, minute=65) is Outcome.WAITING
    world.look(minute=65 + 61)
    assert types_asked(world) == [*TYPES, TYPES[0]]
    assert world.run.instance_type is None


def test_the_first_wait_after_a_row_of_types_is_one_period_of_the_sweeper_and_each_row_makes_the_next_longer() -> None:
    world = submitted()
    waited_minutes = []
    minute = 0.0
    for row in range(3):
        for submission in range(3 * row + 1, 3 * row + 4):
            world.created(job(submission), minute=minute)
            minute += 21
            is_stopped_for_capacity(world, submission, minute=minute)
            minute += 0.5
        assert world.run.state is RunState.WAITING
        until = seconds_between(after(0), str(world.run.wait_until)) / 60
        waited_minutes.append(until - minute)
        minute = until
        world.look(minute)

    assert waited_minutes == [5, 10, 20]


def is_given_up_by_sagemaker(world: World, submission: int, *, minute: float) -> Outcome:
    """The job has waited for the whole of its MaxWaitTimeInSeconds, and nobody looked."""
    waits(world, submission)
    world.change(job(submission), JobStatus.FAILED, status_reason="MaxWaitTimeExceeded", stopped_at=after(minute))
    return world.hear(job(submission), minute)


def given_up_without_money() -> World:
    """SageMaker has given up all types one after the other, and the cap buys no on-demand."""
    world = submitted(fallback_cap_microusd=USD // 100)
    max_wait_minutes = world.batch.requests[0]["StoppingCondition"]["MaxWaitTimeInSeconds"] / 60
    outcomes = [is_given_up_by_sagemaker(world, number, minute=number * max_wait_minutes) for number in (1, 2, 3)]
    assert outcomes == [Outcome.REQUEUED, Outcome.REQUEUED, Outcome.WAITING]
    return world


def test_where_sagemaker_gives_up_and_the_cap_is_reached_it_waits_with_the_reason_and_then_asks_spot_again() -> None:
    world = given_up_without_money()
    assert world.run.reason is not None
    assert f"the fallback cap of run/{RUN} has $0.01 left of $0.01" in world.run.reason
    assert "; it was the last of the 3 spot types of profile train-cpu; on-demand is not possible: " in world.run.reason
    assert world.budgets.reservations(RUN) == ()

    assert reconcile(RUN, ports=world.ports, now=world.run.wait_until or "").outcome is Outcome.SUBMITTED
    assert types_asked(world) == [*TYPES, TYPES[0]]


def test_where_sagemaker_gives_up_and_the_cap_is_raised_while_it_waits_it_finishes_on_on_demand() -> None:
    world = given_up_without_money()
    budget = world.budgets.budgets[run_holder(RUN)]
    world.budgets.set_limits(budget, fallback=20 * USD, total=budget.total.limit)

    assert reconcile(RUN, ports=world.ports, now=world.run.wait_until or "").outcome is Outcome.FELL_BACK
    world.complete(job(4))
    world.hear(job(4), minute=10_000)

    assert (world.run.state, world.run.market) == (RunState.SUCCEEDED, "on-demand")
    assert types_asked(world) == [*TYPES, "on-demand"]


def test_the_sweeper_withdraws_a_job_whose_type_has_no_machines() -> None:
    world = submitted()
    waits(world, 1)
    world.sweep(6)
    assert world.run.waits_why == CAPACITY

    world.sweep(21)

    assert world.batch.withdrawn == [(job(1), WAITED_REASON)]


def test_an_interruption_that_sagemaker_itself_mends_is_an_attempt_and_no_new_job() -> None:
    world = submitted()
    lost = JobAttempt(started_at=after(1), stopped_at=after(9), status_reason="Interrupted: no reason given")
    world.change(job(1), JobStatus.RUNNABLE, lost)

    world.hear(job(1))

    assert [one.cause for one in world.ledger.attempts(RUN)] == [Cause.INTERRUPTED]
    assert world.summary == (RunState.SUBMITTED, 1)


@pytest.mark.parametrize(
    ("words", "attempt", "outcome", "state"),
    [
        ("MaxWaitTimeExceeded", {}, Outcome.REQUEUED, RunState.SUBMITTED),
        ("CapacityError: Unable to provision requested ML compute capacity.", {}, Outcome.REQUEUED, RunState.SUBMITTED),
        ("MaxRuntimeExceeded", {"exit_code": None}, Outcome.REQUEUED, RunState.SUBMITTED),
        ("MaxWaitTimeExceeded", {"exit_code": None}, Outcome.REQUEUED, RunState.SUBMITTED),
        (WAITED_REASON, {"exit_code": None}, Outcome.REQUEUED, RunState.SUBMITTED),
        ("Stopped", {"exit_code": None}, Outcome.PARKED, RunState.PARKED),
        ("InternalServerError: We encountered an error.", {"exit_code": None}, Outcome.WAITING, RunState.WAITING),
        ("ClientError: Data download failed", {}, Outcome.PARKED, RunState.PARKED),
        ("AlgorithmError: , exit code: 1", {"exit_code": 1}, Outcome.CLOSED, RunState.FAILED),
        ("AlgorithmError: Traceback (most recent call last)", {"exit_code": None}, Outcome.CLOSED, RunState.FAILED),
        ("AlgorithmError: no container", {}, Outcome.CLOSED, RunState.FAILED),
        ("AlgorithmError: OutOfMemoryError, exit code: 137", {"exit_code": 137}, Outcome.CLOSED, RunState.FAILED),
    ],
)  # fmt: skip
def test_what_follows_the_end_of_a_training_job(
    words: str, attempt: dict[str, Any], outcome: Outcome, state: RunState
) -> None:
    world = submitted()
    status_reason = None if words in ("Stopped", "MaxRuntimeExceeded", WAITED_REASON) else words
    ran = (
        [JobAttempt(started_at=after(1), stopped_at=after(9), status_reason=status_reason, **attempt)]
        if attempt
        else []
    )
    world.checkpoints.steps[RUN] = 100
    world.change(job(1), JobStatus.FAILED, *ran, status_reason=words, stopped_at=after(9))

    assert world.hear(job(1)) is outcome
    assert world.run.state is state


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        ("Interrupted: no reason given", None, "SageMaker's machines were taken back; "),
        ("AlgorithmError: , exit code: 75", 75, "the attempt stopped on request; "),
        (WAITED_REASON, None, f"no {TYPES[0]} on spot; {TYPES[1]} is next"),
        ("Stopped", None, "somebody stopped the job, and SageMaker does not tell why"),
        (
            "InternalServerError: We encountered an error.",
            None,
            "the container could not start, or SageMaker itself failed: InternalServerError: We encountered an error.",
        ),
        (
            "ClientError: Data",
            None,
            "SageMaker could not prepare the job; mend what it says, then `spotkeeper resume RUN`: ClientError: Data",
        ),
    ],
)
def test_why_a_training_job_ended_is_told_without_the_queue_and_retries_that_sagemaker_has_not(
    words: str, exit_code: int | None, told: str
) -> None:
    # Of a container that was stopped nothing is told.
    status_reason = None if words in ("Stopped", WAITED_REASON) else words
    ran = JobAttempt(started_at=after(1), stopped_at=after(9), status_reason=status_reason, exit_code=exit_code)
    world = submitted()
    world.change(job(1), JobStatus.FAILED, ran, status_reason=words, stopped_at=after(9))
    world.hear(job(1))

    (message,) = told_of_submissions(world)
    assert message.startswith(f"submission 1: {told}")
    assert not any(word in message for word in ("Batch", "queue", "EC2"))


@pytest.mark.parametrize(
    ("words", "exit_code", "expected"),
    [
        ("Interrupted: no reason given", None, Cause.INTERRUPTED),
        ("MaxRuntimeExceeded", None, Cause.TIMED_OUT),
        ("MaxWaitTimeExceeded", None, Cause.TIMED_OUT),
        (WAITED_REASON, None, Cause.YIELDED),
        ("AlgorithmError: , exit code: 137 OutOfMemory", 137, Cause.OUT_OF_MEMORY),
        ("InternalServerError: We encountered an internal error.", None, Cause.COULD_NOT_START),
        ("ClientError: Data download failed", None, Cause.MISCONFIGURED),
        ("AlgorithmError: , exit code: 3", 3, Cause.FAILED),
    ],
)
def test_an_attempt_that_had_its_machines_ended_for_what_sagemaker_says(
    words: str, exit_code: int | None, expected: Cause
) -> None:
    world = submitted()
    ran = JobAttempt(started_at=after(1), stopped_at=after(9), status_reason=words, exit_code=exit_code)
    world.change(job(1), JobStatus.FAILED, ran, status_reason=words, stopped_at=after(9))
    world.hear(job(1))

    assert [one.cause for one in world.ledger.attempts(RUN)] == [expected]


def test_a_job_that_failed_before_its_container_ran_tells_what_sagemaker_says_and_goes_on() -> None:
    words = "ServerError: something that SageMaker says since last week"
    world = submitted()
    world.change(job(1), JobStatus.FAILED, status_reason=words, stopped_at=after(9))

    assert world.hear(job(1)) is Outcome.REQUEUED

    (message,) = told_of_submissions(world)
    assert message.startswith(f"submission 1: the job ended, and SageMaker says: {words}; no newer checkpoint in 1 of")


def test_a_finished_run_succeeds_by_its_record_and_is_settled_by_what_sagemaker_bills() -> None:
    world = submitted(total_cap_microusd=50 * USD, num_nodes=2)
    (leased,) = world.budgets.reservations(RUN)
    assert leased.microusd == lease_microusd(USD_PER_HOUR * 2, 3600 + 1500)
    world.complete(job(1))
    world.batch.jobs[job(1)] = replace(world.batch.jobs[job(1)], billed_seconds=360)

    world.hear(job(1), minute=21)
    world.sweep(60)

    assert world.run.state is RunState.SUCCEEDED
    (settled,) = world.budgets.reservations(RUN)
    assert settled.spent_microusd == cost_microusd(USD_PER_HOUR * 2, 360)


@pytest.mark.parametrize("has_trained", [True, False])
def test_what_sagemaker_bills_is_booked_at_the_price_of_the_machines_that_it_tells(has_trained: bool) -> None:
    """An attempt without network writes no type, nor does a job that ends before its container claims."""
    world = submitted(terms=PRICED_TERMS, total_cap_microusd=50 * USD, num_nodes=2)
    ran = [JobAttempt(started_at=after(1), stopped_at=after(9))] if has_trained else []
    words = "ClientError: Data download failed"
    told = {"instance_type": CHEAP, "billed_seconds": 360}
    world.change(job(1), JobStatus.FAILED, *ran, status_reason=words, stopped_at=after(9), **told)

    world.hear(job(1))
    world.sweep(60)

    assert [one.instance_type for one in world.ledger.attempts(RUN)] == [CHEAP] * len(ran)
    assert [one.job_billed_seconds for one in world.ledger.attempts(RUN)] == [360] * len(ran)
    (settled,) = world.budgets.reservations(RUN)
    assert settled.spent_microusd == cost_microusd(USD_PER_HOUR / 4 * 2, 360)


def test_what_sagemaker_bills_beyond_the_reservation_is_booked_too_and_leaves_no_money_for_the_next() -> None:
    world = submitted(fallback_cap_microusd=5 * USD)
    for submission in (1, 2, 3):
        is_stopped_for_capacity(world, submission, minute=22 * submission)
    (reserved,) = world.budgets.reservations(RUN)
    billed_seconds = 9 * 3600
    assert reserved.microusd < cost_microusd(USD_PER_HOUR, billed_seconds)

    ran = JobAttempt(started_at=after(70), stopped_at=after(610))
    told = {"stopped_at": after(610), "billed_seconds": billed_seconds, "status_reason": "MaxRuntimeExceeded"}
    world.change(job(4), JobStatus.FAILED, ran, **told)
    world.hear(job(4), minute=611)
    world.sweep(650)

    (settled,) = [one for one in world.budgets.reservations(RUN) if one.submission == 4]
    assert settled.spent_microusd == cost_microusd(USD_PER_HOUR, billed_seconds)
    assert world.budgets.budgets[run_holder(RUN)].fallback.available == USD // 2
    assert not affords_on_demand(world.run, ports=world.ports, now=after(650))


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        # The environment's segment is two hours.
        (4, "its segment on on-demand is over, as planned; its market is chosen anew; committed up to step 9"),
        (1, "the attempt reached its time limit: if it had saved too little to go on from, submit again with a longer"),
    ],
)
def test_the_end_of_a_segment_on_on_demand_is_not_told_as_a_time_limit_that_the_user_set(hours: int, said: str) -> None:
    world = submitted(fallback_cap_microusd=20 * USD, attempt_seconds=hours * 3600)
    for submission in (1, 2, 3):
        is_stopped_for_capacity(world, submission, minute=22 * submission)
    assert world.run.market == "on-demand"
    world.checkpoints.steps[RUN] = 9
    ran = JobAttempt(started_at=after(70), stopped_at=after(190), status_reason="MaxRuntimeExceeded")
    world.change(job(4), JobStatus.FAILED, ran, status_reason="MaxRuntimeExceeded", stopped_at=after(190))

    world.hear(job(4), minute=191)

    assert told_of_submissions(world)[-1].startswith(f"submission 4: {said}")
    assert world.run.market == "spot"


def test_a_job_whose_billed_time_is_not_told_is_settled_by_a_bound_from_above() -> None:
    world = submitted(total_cap_microusd=50 * USD)
    world.complete(job(1))

    world.hear(job(1), minute=21)
    world.sweep(60)

    (settled,) = world.budgets.reservations(RUN)
    assert settled.spent_microusd is not None
    assert settled.spent_microusd > cost_microusd(USD_PER_HOUR, 19 * 60)


def test_the_queue_of_the_run_is_that_of_its_profile() -> None:
    assert submitted().run.job_queue == SPOT
