"""Training jobs that Spotkeeper did not create: taken for runs where their request is ours, otherwise left alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.adoption import run_of
from spotkeeper.control.aws.training_jobs import job_of
from spotkeeper.control.listing import Listed
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Job, JobAttempt, JobOrder, JobStatus, Throttled
from spotkeeper.control.run import Run
from spotkeeper.control.submit import submit
from spotkeeper.control.sweep import Sweep, sweep
from spotkeeper.control.training_request import training_request
from spotkeeper.policy.money import MICROUSD_PER_USD
from spotkeeper.policy.reservation import MachineTime, settled_microusd
from tests.control.fakes import MemoryOthers
from tests.control.reconciled import RUN, World, after
from tests.control.test_training_adapter import at, detail
from tests.control.training import PROFILE, ROLE, TRAINING, TRAINING_TERMS, TYPES, MemoryTraining, arn_of, training_run

ID = arn_of(f"dev-{RUN}-1")
TERMS = replace(TRAINING_TERMS, environment="dev", teams=("research",))


def sent(run: Run | None = None, **changes: Any) -> Job:
    """Return what SageMaker describes of a job that was sent with our request."""
    request = training_request(run or training_run(), profile=PROFILE)
    kept = ("AlgorithmSpecification", "StoppingCondition", "Environment", "ResourceConfig", "RoleArn")
    told = {**{name: request[name] for name in kept}, "EnableManagedSpotTraining": True, **changes}
    return job_of(detail("InProgress", "Starting", **told), prefix="dev-", stop_reason=None)


def with_order(**changes: Any) -> Job:
    job = sent()
    return replace(job, order=replace(job.order, **changes))


def with_variables(**changes: str) -> Job:
    return with_order(variables={**sent().order.variables, **changes})


@dataclass
class InProgress:
    """SageMaker's list of jobs in progress."""

    batch: MemoryTraining

    def in_progress(self, *, behind: Listed | None = None) -> Iterator[Listed]:
        unended = [job for job in self.batch.jobs.values() if not job.has_ended]
        entries = [Listed(created_at=job.order.created_at, run_id=job.job_id) for job in unended]
        for entry in sorted(entries, key=lambda entry: (entry.created_at, entry.run_id)):
            if behind is None or (entry.created_at, entry.run_id) > (behind.created_at, behind.run_id):
                yield entry


def world_with(job: Job, **terms: Any) -> World:
    world = World(batch=MemoryTraining(), terms=replace(TERMS, **terms))
    batch = world.batch
    assert isinstance(batch, MemoryTraining)
    batch.jobs[job.job_id] = job
    world.ports = replace(world.ports, others=MemoryOthers(), training_jobs=lambda: InProgress(batch))
    return world


def swept(world: World, minute: float) -> Sweep:
    done = sweep(ports=world.ports, clock=lambda: after(minute), has_time=lambda: True)
    assert done.failures == {}
    return done


def test_a_job_that_was_sent_with_our_request_is_the_first_submission_of_its_run() -> None:
    own = training_run(variables={"SEED": "7"}, num_nodes=2)
    world = world_with(sent(own))

    assert world.hear(ID) is Outcome.UNCHANGED

    expected = replace(own, state=RunState.SUBMITTED, job_id=ID, created_at=world.run.created_at)
    assert replace(world.run, version=1, waits_since=None, waits_why=None) == expected


def test_a_job_whose_event_was_lost_is_found_by_the_sweeper() -> None:
    world = world_with(sent())

    swept(world, 5)

    assert (world.run.state, world.run.job_id) == (RunState.SUBMITTED, ID)


def test_the_sweeper_does_not_look_again_at_jobs_of_runs_that_it_knows() -> None:
    world = world_with(sent())
    swept(world, 5)
    asked: list[str] = []

    class Watched(MemoryTraining):
        def describe(self, job_id: str) -> Job | None:
            asked.append(job_id)
            return super().describe(job_id)

    world.ports = replace(world.ports, batch=Watched(jobs=world.batch.jobs))
    swept(world, 10)
    assert asked == [ID]  # for its run


def test_a_job_whose_event_was_lost_is_found_beside_hundreds_of_newer_ones() -> None:
    world = world_with(sent())
    for number in range(250):
        submit(training_run(run_id=f"train-{number:04d}"), ports=world.ports, now=after(1))

    swept(world, 5)

    assert RUN in world.ledger.runs


def test_jobs_that_are_no_runs_keep_no_other_from_its_turn_where_there_is_time_for_few() -> None:
    newest = replace(sent().order, created_at=after(4))
    world = world_with(replace(sent(), order=newest))
    for number in range(30):
        # Their names are ours, and their requests are not.
        name = f"others-{number:04d}-1"
        job = replace(sent(), job_id=arn_of(f"dev-{name}"), name=name)
        world.batch.jobs[job.job_id] = replace(job, order=replace(job.order, variables={}))

    known = []
    for _ in range(4):
        left = iter([True] * 10)
        sweep(ports=world.ports, clock=lambda: after(5), has_time=partial(next, left, False))
        known.append(RUN in world.ledger.runs)
    assert known == [False, False, False, True]


def test_a_list_of_training_jobs_that_cannot_be_read_does_not_silence_the_sweeper() -> None:
    class Unlisted:
        def in_progress(self, *, behind: Listed | None = None) -> Iterator[Listed]:
            raise Throttled(f"too many, behind {behind}")

    world = world_with(sent())
    world.ports = replace(world.ports, training_jobs=Unlisted)

    done = sweep(ports=world.ports, clock=lambda: after(5), has_time=lambda: True)

    assert done.failures == {"the list of training jobs": "Throttled: too many, behind None"}


def test_an_adopted_run_that_reaches_its_time_limit_is_submitted_again_as_it_was_sent() -> None:
    own = training_run(variables={"SEED": "7"}, num_nodes=2)
    world = world_with(sent(own))
    world.hear(ID)
    world.ledger.claim(RUN, ID, 1)
    ran = JobAttempt(started_at=after(1), stopped_at=after(61))
    world.change(ID, JobStatus.FAILED, ran, status_reason="MaxRuntimeExceeded", stopped_at=after(61))

    assert world.hear(ID, minute=62) is Outcome.REQUEUED

    (request,) = world.batch.requests
    assert request == training_request(replace(own, submission=2), profile=PROFILE)


def test_a_type_that_is_not_the_first_of_its_profile_is_followed_by_those_behind_it() -> None:
    run = run_of(sent(training_run(instance_type=TYPES[1])), terms=TERMS)

    assert isinstance(run, Run)
    assert run.instance_type == TYPES[1]


def test_an_adopted_job_is_paid_from_a_lease_of_the_caps_that_are_there() -> None:
    limits = replace(TERMS.limits, total_microusd=50 * MICROUSD_PER_USD)
    world = world_with(sent(), limits=limits)

    world.hear(ID)

    (lease,) = world.budgets.reservations(RUN)
    assert (lease.submission, lease.microusd > 0) == (1, True)


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (with_order(role=ROLE.replace("training", "other")), "its role is not that of the environment's"),
        (with_order(is_isolated=True), "jobs without network become runs by `spotkeeper submit` alone"),
        (with_order(instance_type="ml.p5.48xlarge"), "it asks for no spot type of its profile: ml.p5.48xlarge"),
        (sent(EnableManagedSpotTraining=False), "it is no managed spot job of one instance type"),
        (with_order(command=("python", "train.py")), "does not start spotkeeper-exec -- and a program"),
        (with_order(command=("spotkeeper-exec", "--")), "does not start spotkeeper-exec -- and a program"),
        (sent(InputDataConfig=[{"ChannelName": "train"}]), "its InputDataConfig holds channels"),
        (sent(HyperParameters={"lr": "0.1"}), "it has HyperParameters, which the run's next job would lack"),
        (sent(CheckpointConfig={"S3Uri": "s3://theirs"}), "its CheckpointConfig holds a folder"),
        (with_order(attempt_seconds=None), "it has no time limit"),
        (with_order(queue="sagemaker/train-cpu/on-demand"), "it names no spot profile"),
        (with_order(queue="sagemaker/huge/spot"), "it names no spot profile"),
        (with_variables(SPOTKEEPER_RUN_ID="Digits"), "is no run id: 'Digits'"),
        (
            with_variables(SPOTKEEPER_RUN_ID=55 * "x"),
            "has 55 characters, and the names of later jobs leave room for 54",
        ),
        (with_variables(SPOTKEEPER_SUBMISSION="2"), "its SPOTKEEPER_SUBMISSION is not 1"),
        (with_variables(SPOTKEEPER_TEAM="theirs"), "is none of the environment's teams: 'theirs'"),
        (with_variables(SPOTKEEPER_LEDGER_TABLE="theirs"), "so it cannot claim the run"),
        (with_variables(SPOTKEEPER_URI="s3://theirs"), "no other job would find its checkpoints"),
        (replace(sent(), name="digits-1"), "it is named 'digits-1' behind the environment"),
        (replace(sent(), status=JobStatus.SUCCEEDED), "it has succeeded"),
    ],
)
def test_without_all_of_what_a_next_job_would_need_a_training_job_is_no_run(job: Job, why: str) -> None:
    refusal = run_of(job, terms=TERMS)

    assert isinstance(refusal, str)
    assert why in refusal


def test_in_an_environment_that_isolates_nothing_is_taken_that_has_a_network() -> None:
    isolating = replace(PROFILE, training=replace(TRAINING, is_isolated=True))

    assert run_of(sent(), terms=replace(TERMS, profiles={"train-cpu": isolating})) == (
        "jobs without network become runs by `spotkeeper submit` alone"
    )


def test_a_job_that_is_no_run_is_recorded_with_what_it_costs_and_left_alone() -> None:
    world = world_with(with_variables(SPOTKEEPER_TEAM="theirs"))

    assert world.hear(ID) is Outcome.NOTED

    assert world.ledger.runs == {}
    assert isinstance(world.ports.others, MemoryOthers)
    assert "none of the environment's teams" in world.ports.others.jobs[ID].why_no_run
    assert world.batch.terminated == []


DEARER = "ml.p4d.24xlarge"
CHEAP_AND_DEAR = {TYPES[0]: Decimal("0.25"), TYPES[1]: Decimal("0.75")}
RAN = JobAttempt(started_at=after(0), stopped_at=after(5))


@pytest.mark.parametrize(
    ("changes", "microusd", "pricing"),
    [
        (
            {"instance_type": TYPES[0], "billed_seconds": 720},
            50_000,
            f"$0.25/h: what SageMaker bills of {TYPES[0]}",
        ),
        (
            {"instance_type": TYPES[0], "attempts": (RAN,)},
            settled_microusd([MachineTime(seconds=300, usd_per_hour=Decimal("0.25"))]),
            f"at most $0.25/h: {TYPES[0]}, on demand",
        ),
        ({"instance_type": DEARER, "billed_seconds": 720}, None, f"unpriced: the price of {DEARER} is not known"),
        ({"instance_type": None}, None, "unpriced: SageMaker has not told the type of its machines"),
    ],
)
def test_a_training_job_of_others_is_priced_by_its_own_type_and_what_is_billed_of_it(
    changes: dict[str, Any], microusd: int | None, pricing: str
) -> None:
    job = replace(with_variables(SPOTKEEPER_TEAM="theirs"), status=JobStatus.SUCCEEDED, **changes)
    world = world_with(job, profiles={"train-cpu": replace(PROFILE, usd_per_hour=CHEAP_AND_DEAR)})

    world.hear(ID)

    assert isinstance(world.ports.others, MemoryOthers)
    noted = world.ports.others.jobs[ID]
    assert noted.most_microusd == microusd
    assert noted.pricing.startswith(pricing)


def test_what_sagemaker_describes_of_a_job_holds_all_that_was_asked_for() -> None:
    order = sent(training_run(num_nodes=2)).order

    assert order == JobOrder(
        queue="sagemaker/train-cpu/spot",
        definition=training_run().job_definition,
        created_at=at(0).isoformat(timespec="milliseconds"),
        command=("spotkeeper-exec", "--", "python", "train.py"),
        variables=order.variables,
        attempt_seconds=3600,
        role=ROLE,
        instance_type=TYPES[0],
        num_nodes=2,
    )
