"""Jobs of others on our queues: recorded and priced, never touched, and taken for runs only where they ask for it."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.adoption import run_of
from spotkeeper.control.budget import Limits
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import OVER_MONTH_REASON, TWIN_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.others import OthersJob, unended
from spotkeeper.control.ports import Job, JobAttempt, JobOrder, JobStatus, Throttled
from spotkeeper.control.reconcile import observe_job, reconcile
from spotkeeper.control.run import Run
from spotkeeper.control.submit import job_request
from spotkeeper.control.sweep import sweep
from spotkeeper.policy.money import cost_microusd
from spotkeeper.policy.reservation import (
    AROUND_SECONDS,
    LEASE_SECONDS,
    MachineTime,
    lease_microusd,
    settled_microusd,
)
from tests.control.fakes import (
    NOW,
    ON_DEMAND_QUEUE,
    SPOT_QUEUE,
    TERMS,
    MemoryBatch,
    MemoryLedger,
    MemoryOthers,
    memory_ports,
    new_run,
)
from tests.control.reconciled import HOST, after
from tests.control.training import PROFILE, SPOT

NAMED_TERMS = replace(TERMS, environment="dev")
ASKS = JobOrder(
    queue=SPOT_QUEUE,
    definition="arn:aws:batch:us-east-1:123456789012:job-definition/theirs:7",
    created_at=NOW,
    team="research",
    command=("spotkeeper-exec", "--", "python", "etl.py"),
    variables={
        "SPOTKEEPER_RUN_ID": "etl-monday",
        "SPOTKEEPER_SUBMISSION": "1",
        "SPOTKEEPER_ATTEMPT_SECONDS": "60",
        "AWS_BATCH_JQ_NAME": "spot",
        "MANAGED_BY_AWS": "STARTED_BY_BATCH",
        "DAY": "monday",
    },
    tags={"spotkeeper:requeue": "true"},
    attempt_seconds=7200,
)


def theirs(order: JobOrder = ASKS, **changes: Any) -> Job:
    told = Job(job_id="theirs-1", name="etl-monday-1", status=JobStatus.RUNNABLE, order=order)
    return replace(told, **changes)


class World:
    def __init__(self, job: Job, *, total_microusd: int | None = None) -> None:
        self.ledger, self.batch, self.others = MemoryLedger(), MemoryBatch(), MemoryOthers()
        terms = replace(NAMED_TERMS, limits=Limits(total_microusd=total_microusd))
        self.ports = memory_ports(self.ledger, self.batch, others=self.others, terms=terms)
        self.batch.jobs[job.job_id] = job

    def hear(self, minute: float = 0) -> Outcome:
        return observe_job("theirs-1", ports=self.ports, now=after(minute)).outcome


PLAIN = replace(ASKS, tags={}, command=("python", "etl.py"))
LOST = JobAttempt(started_at=after(0), stopped_at=after(30), status_reason=HOST)
RUNNING = JobAttempt(started_at=after(40))


def test_a_job_of_others_is_recorded_with_the_most_that_it_can_have_cost_and_never_touched() -> None:
    world = World(theirs(PLAIN, status=JobStatus.RUNNING, attempts=(LOST, RUNNING)))

    assert world.hear(50) is Outcome.NOTED

    (noted,) = world.others.list_jobs(10)
    assert (noted.name, noted.status, noted.team, noted.num_attempts) == ("etl-monday-1", "RUNNING", "research", 2)
    assert noted.ran_seconds == 40 * 60
    dearest = Decimal("2.0")
    times = [MachineTime(seconds=seconds, usd_per_hour=dearest) for seconds in (1800, 600)]
    assert noted.most_microusd == settled_microusd(times)
    assert noted.pricing == "at most $2.0/h: the dearest type of profile cpu, on demand"
    assert world.ledger.runs == {}
    assert (world.batch.requests, world.batch.terminated, world.batch.withdrawn) == ([], [], [])


def test_of_a_job_of_others_with_several_machines_each_is_priced() -> None:
    world = World(theirs(replace(PLAIN, num_nodes=4), status=JobStatus.RUNNING, attempts=(LOST,)))

    world.hear(50)

    noted = world.others.jobs["theirs-1"]
    assert noted.most_microusd == settled_microusd([MachineTime(seconds=1800, usd_per_hour=Decimal(8))])
    assert noted.pricing == "at most $8.0/h: 4 machines of the dearest type of profile cpu, on demand"


SENT_BY_SDK = replace(PLAIN, queue=SPOT, variables={}, num_nodes=2)
TRAINED = JobAttempt(started_at=after(0), stopped_at=after(30))


def noted_of_training(**changes: Any) -> OthersJob:
    """What is recorded of a training job; a second profile has the dearer ml.p4d.24xlarge."""
    world = World(theirs(SENT_BY_SDK, attempts=(TRAINED,), **changes))
    cheap = replace(PROFILE, usd_per_hour={"ml.m5.xlarge": Decimal("0.25")})
    large = replace(PROFILE, spot_queue="sagemaker/large/spot", usd_per_hour={"ml.p4d.24xlarge": Decimal(37)})
    profiles = {**TERMS.profiles, "train-cpu": cheap, "large": large}
    world.ports = replace(world.ports, terms=replace(NAMED_TERMS, profiles=profiles))
    world.hear(50)
    return world.others.jobs["theirs-1"]


def test_a_training_job_of_others_is_priced_by_the_type_that_it_has_and_not_by_the_profile_that_it_names() -> None:
    for type_, price in (("ml.m5.xlarge", "0.50"), ("ml.p4d.24xlarge", "74")):
        noted = noted_of_training(instance_type=type_)

        times = [MachineTime(seconds=1800, usd_per_hour=Decimal(price))]
        assert noted.most_microusd == settled_microusd(times)
        assert noted.pricing == f"at most ${price}/h: 2 machines of {type_}, on demand"


def test_a_training_job_of_others_that_has_ended_cost_what_sagemaker_bills() -> None:
    noted = noted_of_training(instance_type="ml.m5.xlarge", status=JobStatus.SUCCEEDED, billed_seconds=600)

    assert noted.most_microusd == cost_microusd(Decimal("0.5"), 600)
    assert noted.pricing == "$0.50/h: what SageMaker bills of 2 machines of ml.m5.xlarge"


@pytest.mark.parametrize(
    ("type_", "why"),
    [
        ("ml.g5.xlarge", "unpriced: the price of ml.g5.xlarge is not known"),
        (None, "unpriced: SageMaker has not told the type of its machines"),
    ],
)
def test_a_training_job_of_others_whose_type_has_no_price_is_unpriced(type_: str | None, why: str) -> None:
    noted = noted_of_training(instance_type=type_)

    assert (noted.most_microusd, noted.pricing) == (None, why)


def test_a_record_is_kept_for_ninety_days() -> None:
    world = World(theirs(PLAIN))
    world.hear()

    assert world.others.expires_at["theirs-1"] == datetime.fromisoformat(NOW).timestamp() + 90 * 24 * 3600


def test_the_sweeper_looks_again_at_a_job_whose_last_event_was_lost() -> None:
    world = World(theirs(PLAIN, status=JobStatus.RUNNING, attempts=(RUNNING,)))
    world.hear(41)
    ended = replace(RUNNING, stopped_at=after(50), exit_code=0)
    world.batch.jobs["theirs-1"] = theirs(PLAIN, status=JobStatus.SUCCEEDED, attempts=(ended,), stopped_at=after(50))

    looks = [sweep(ports=world.ports, clock=lambda: after(55), has_time=lambda: True) for _ in range(2)]

    assert world.others.jobs["theirs-1"].status == "SUCCEEDED"
    assert [(dict(look.outcomes), look.failures, look.is_on_time) for look in looks] == [
        ({Outcome.NOTED: 1}, {}, True),
        ({}, {}, True),
    ]


class Unlistable(MemoryOthers):
    def list_jobs(self, limit: int) -> tuple[OthersJob, ...]:
        raise Throttled(f"{limit} at once")


def test_a_list_of_others_that_cannot_be_read_does_not_silence_the_sweeper() -> None:
    ports = memory_ports(others=Unlistable(), terms=NAMED_TERMS)

    done = sweep(ports=ports, clock=lambda: NOW, has_time=lambda: True)

    assert done.is_on_time
    assert done.failures == {"the list of others' jobs": "Throttled: 200 at once"}


def test_a_late_look_never_replaces_a_later_one() -> None:
    world = World(theirs(PLAIN, status=JobStatus.FAILED, attempts=(LOST,), stopped_at=after(30)))
    world.hear(31)
    world.batch.jobs["theirs-1"] = theirs(PLAIN, status=JobStatus.RUNNING, attempts=(replace(LOST, stopped_at=None),))

    assert world.hear(32) is Outcome.UNCHANGED

    assert world.others.jobs["theirs-1"].status == "FAILED"


def test_a_job_on_machines_whose_price_is_not_known_is_unpriced_and_says_why() -> None:
    profile = replace(TERMS.profiles["cpu"], usd_per_hour={})
    world = World(theirs(PLAIN, attempts=(LOST,)))
    world.ports = replace(world.ports, terms=replace(NAMED_TERMS, profiles={"cpu": profile}))

    world.hear()

    noted = world.others.jobs["theirs-1"]
    assert noted.most_microusd is None
    assert noted.pricing == "unpriced: the price of a type of profile cpu is not known"


def test_a_job_in_a_queue_of_somebody_else_is_nobodys_concern_whatever_an_event_says() -> None:
    elsewhere = World(theirs(replace(ASKS, queue="arn:aws:batch:us-east-1:123456789012:job-queue/theirs")))

    assert elsewhere.hear() is Outcome.IGNORED

    assert (elsewhere.others.jobs, elsewhere.ledger.runs) == ({}, {})


@pytest.mark.parametrize("command", [ASKS.command, ("spotkeeper-exec", "python", "etl.py")])
def test_a_job_that_asks_is_taken_for_a_run_at_its_first_observation(command: tuple[str, ...]) -> None:
    world = World(theirs(replace(ASKS, command=command)))

    assert world.hear() is not Outcome.IGNORED

    run = world.ledger.runs["etl-monday"]
    assert (run.state, run.submission, run.job_id) == (RunState.SUBMITTED, 1, "theirs-1")
    assert (run.command, run.variables) == (("python", "etl.py"), {"DAY": "monday"})
    assert (run.environment, run.team, run.profile, run.market) == ("dev", "research", "cpu", "spot")
    assert (run.job_definition, run.job_queue, run.attempt_seconds) == (ASKS.definition, SPOT_QUEUE, 7200)
    assert world.others.jobs == {}
    assert world.hear(1) is Outcome.UNCHANGED


def test_an_adopted_run_that_loses_its_host_for_good_is_submitted_again_as_it_was_asked_for() -> None:
    world = World(theirs())
    world.hear()
    world.batch.jobs["theirs-1"] = theirs(
        status=JobStatus.FAILED, attempts=(LOST,), status_reason=HOST, stopped_at=after(30)
    )

    assert world.hear(31) is Outcome.REQUEUED

    (request,) = world.batch.requests
    assert request == job_request(world.ledger.runs["etl-monday"])
    assert (request["jobName"], request["jobDefinition"]) == ("etl-monday-2", ASKS.definition)
    assert request["containerOverrides"]["command"] == list(ASKS.command)


def test_an_adopted_job_is_paid_from_a_lease_of_the_caps_that_are_there() -> None:
    world = World(theirs(), total_microusd=10_000_000)

    world.hear()
    world.hear(1)

    (lease,) = world.ports.budgets.reservations("etl-monday")
    assert lease.submission == 1
    assert lease.microusd == lease_microusd(Decimal("2.0"), LEASE_SECONDS + AROUND_SECONDS)
    assert world.batch.terminated == []


def test_a_lease_that_a_crash_kept_from_an_adopted_job_is_set_aside_at_the_next_look() -> None:
    world = World(theirs(), total_microusd=10_000_000)
    adopted = run_of(theirs(), terms=NAMED_TERMS)
    assert isinstance(adopted, Run)
    world.ledger.create(adopted)

    reconcile("etl-monday", ports=world.ports, now=after(5))

    assert len(world.ports.budgets.reservations("etl-monday")) == 1


def test_a_lease_that_a_crash_kept_from_an_adopted_job_is_set_aside_when_a_person_cancels_it() -> None:
    stopped = replace(RUNNING, stopped_at=after(4), exit_code=143)
    world = World(theirs(status=JobStatus.FAILED, attempts=(stopped,), stopped_at=after(4)), total_microusd=10_000_000)
    adopted = run_of(theirs(), terms=NAMED_TERMS)
    assert isinstance(adopted, Run)
    world.ledger.create(adopted)

    assert cancel("etl-monday", ports=world.ports, now=after(5)).state is RunState.CANCELLED

    assert len(world.ports.budgets.reservations("etl-monday")) == 1, "what it used is in the total cap"


def test_an_adopted_job_that_the_month_cannot_pay_is_stopped_and_its_run_waits_for_the_next() -> None:
    world = World(theirs(status=JobStatus.RUNNING, attempts=(RUNNING,)), total_microusd=1)

    world.hear(50)

    assert world.batch.terminated == [("theirs-1", OVER_MONTH_REASON)]
    world.batch.jobs["theirs-1"] = theirs(
        status=JobStatus.FAILED,
        attempts=(replace(RUNNING, stopped_at=after(51), exit_code=75),),
        status_reason=OVER_MONTH_REASON,
        stopped_at=after(51),
    )
    assert world.hear(52) is Outcome.WAITING


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (theirs(replace(ASKS, tags={})), "no tag spotkeeper:requeue=true"),
        (theirs(replace(ASKS, tags={"spotkeeper:requeue": "yes"})), "no tag spotkeeper:requeue=true"),
        (theirs(replace(ASKS, queue=ON_DEMAND_QUEUE)), "no spot queue"),
        (theirs(replace(ASKS, command=("python", "etl.py"))), "does not begin with spotkeeper-exec"),
        (theirs(replace(ASKS, command=("spotkeeper-exec", "--"))), "does not begin with spotkeeper-exec"),
        (theirs(replace(ASKS, variables={"SPOTKEEPER_SUBMISSION": "1"})), "is no run id"),
        (
            theirs(replace(ASKS, variables={**ASKS.variables, "SPOTKEEPER_RUN_ID": "../etl"}), name="../etl-1"),
            "is no run id",
        ),
        (theirs(replace(ASKS, variables={**ASKS.variables, "SPOTKEEPER_SUBMISSION": "2"})), "is not 1"),
        (theirs(name="nightly"), "named 'nightly', not 'etl-monday-1'"),
        (theirs(replace(ASKS, command=(*ASKS.command, "Ref::day"))), "has parameters"),
        (theirs(replace(ASKS, parameters={"day": "monday"})), "has parameters"),
        (theirs(replace(ASKS, team=None)), "no share identifier"),
        (theirs(replace(ASKS, attempt_seconds=None)), "no time limit"),
        (theirs(array_index=3), "array job"),
        (theirs(status=JobStatus.SUCCEEDED), "it has succeeded"),
    ],
)
def test_without_all_of_what_is_needed_a_job_is_never_taken_for_a_run(job: Job, why: str) -> None:
    world = World(job)

    assert world.hear() is Outcome.NOTED

    assert why in world.others.jobs["theirs-1"].why_no_run
    assert world.ledger.runs == {}


def test_a_job_that_asks_to_be_a_run_that_exists_is_not_taken_for_it() -> None:
    world = World(theirs())
    ours = run_of(theirs(job_id="ours-1"), terms=NAMED_TERMS)
    assert isinstance(ours, Run)
    world.ledger.create(ours)

    assert world.hear() is Outcome.UNCHANGED

    assert world.ledger.runs["etl-monday"].job_id == "ours-1"
    assert world.batch.terminated == [("theirs-1", TWIN_REASON)]


def test_a_job_that_asks_for_a_run_id_that_is_taken_is_recorded_as_somebody_elses() -> None:
    world = World(theirs())
    taken = world.ledger.create(new_run("etl-monday", job_queue=ON_DEMAND_QUEUE))

    assert world.hear() is Outcome.NOTED

    assert world.ledger.runs["etl-monday"] == taken
    assert world.others.jobs["theirs-1"].why_no_run == "there is a run etl-monday already"
    assert world.batch.terminated == []


def test_what_a_running_job_of_others_costs_grows_and_one_that_batch_forgets_is_told_as_unknown() -> None:
    world = World(theirs(PLAIN, status=JobStatus.RUNNING, attempts=(RUNNING,)))
    world.hear(50)
    at_first = world.others.jobs["theirs-1"].ran_seconds

    assert world.hear(100) is Outcome.UNCHANGED
    assert world.others.jobs["theirs-1"].ran_seconds == at_first + 50 * 60

    world.batch.jobs.clear()
    for minute, status in ((200, "RUNNING"), (100 + 24 * 60 + 1, "UNKNOWN")):
        sweep(ports=world.ports, clock=partial(after, minute), has_time=lambda: True)
        assert world.others.jobs["theirs-1"].status == status
    assert world.others.jobs["theirs-1"].reason == "AWS Batch does not know it any more"
    assert unended(world.ports) == ()
