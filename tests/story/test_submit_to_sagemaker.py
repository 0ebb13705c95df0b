"""Runs that are submitted `--on sagemaker`: the same ledger, recovery, fallback and money as on AWS Batch."""

import json
from typing import Any

import pytest

from emulation.alarms.metric_alarm import ALARM, OK
from emulation.alarms.metric_data import read_embedded
from emulation.cloud import Cloud
from spotkeeper.contract.budgets import run_holder
from spotkeeper.contract.checkpoint_layout import commit_prefix, mirror_prefix, parse_manifest_key
from spotkeeper.contract.events import SAGEMAKER_SOURCE
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import parse_line
from spotkeeper.contract.metrics import SPOT_DOLLARS
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import Cause
from spotkeeper.control.mirror_retention import MIRROR_CLEARED
from spotkeeper.control.run import Run
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.submission import bring
from spotkeeper.ops.training_place import SAGEMAKER
from tests.story.age import age_mirror
from tests.story.faults import lose_every_event, twice_and_out_of_order
from tests.story.programs import library_program, saves_each_step
from tests.story.user import User, eventually, later, now
from tests.story.watched import Watched


def training_job(run: Run) -> str:
    return f"dev-{run.run_id}-{run.submission}"


def told_of(cloud: Cloud) -> list[str]:
    """Return the ids of the events of training jobs, as they arrived."""
    return [each.event["id"] for each in cloud.router.delivered if each.event["source"] == SAGEMAKER_SOURCE]


def saves(cloud: Cloud, run: Run) -> list[int]:
    """Return the steps whose checkpoints the run's job has saved, as it says itself."""
    lines = map(parse_line, cloud.training.output(training_job(run)).splitlines())
    return [line["step"] for line in lines if line is not None and line["event"] == "committed"]


def price(user: User) -> float:
    """Return what an hour of one of the machines costs on on-demand."""
    training = user.connection.descriptor.training
    assert training is not None
    return float(training.profiles["sm-cpu"].usd_per_hour["ml.m5.xlarge"])


def savings_of(user: User, run: Run) -> dict[str, Any]:
    """Return the run's account as `savings --json` prints it."""
    found: dict[str, Any] = json.loads(user.types("savings", run.run_id, "--json"))["runs"][0]
    return found


def is_claimed(user: User, run: Run, epoch: int = 1) -> None:
    """Wait until an attempt holds the run; on SageMaker it does not know its instance."""
    eventually(lambda: [attempt.epoch for attempt in user.attempts(run)], lambda epochs: epoch in epochs)


def test_a_run_that_is_interrupted_goes_on_in_the_same_job_and_succeeds_by_its_record(cloud: Cloud, user: User) -> None:
    run = user.submit(saves_each_step(total=12, seconds_a_step=0.4), service=SAGEMAKER)
    assert run.job_id == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{training_job(run)}"
    is_claimed(user, run)
    eventually(lambda: user.num_commits(run), lambda number: number >= 2)

    cloud.market.reclaim(cloud.training.instances(training_job(run))[0].id, notice=False)
    ended = user.ended(run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 2)
    assert ended.completion is not None
    first, second = user.attempts(run)
    assert (first.cause, second.cause) == (Cause.INTERRUPTED, Cause.COMPLETED)
    assert {first.instance_type, second.instance_type} == {"ml.m5.xlarge"}
    assert {first.market, second.market} == {"spot"}


def goes_on_once_interrupted_and_is_counted_once(cloud: Cloud, user: User) -> None:
    """Follow a run whose machine is taken: what becomes of it must not depend on how events arrive."""
    run = user.submit(saves_each_step(total=12, seconds_a_step=0.4), service=SAGEMAKER)
    is_claimed(user, run)
    eventually(lambda: user.num_commits(run), lambda number: number >= 2)

    cloud.market.reclaim(cloud.training.instances(training_job(run))[0].id, notice=False)
    ended = user.ended(run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 2)
    attempts = user.attempts(run)
    assert [attempt.cause for attempt in attempts] == [Cause.INTERRUPTED, Cause.COMPLETED]
    assert [attempt.epoch for attempt in attempts] == [1, 2]
    hours = cloud.training.job(training_job(run))["BillableTimeInSeconds"] / 3600
    told = eventually(lambda: [value for value in dollars_told(cloud) if value], bool)
    assert told == [pytest.approx(price(user) * hours, abs=1e-9)]


def dollars_told(cloud: Cloud) -> list[float]:
    """Return what the handlers have told in metrics that runs cost on spot."""
    lines = [line for function in cloud.functions.values() for line in function.log_lines]
    return [datum.value for datum in read_embedded(lines) if datum.series.name == SPOT_DOLLARS]


@pytest.mark.parametrize("faults", [lose_every_event])
def test_a_run_of_which_every_event_is_lost_is_brought_to_its_end_by_the_sweeper(cloud: Cloud, user: User) -> None:
    goes_on_once_interrupted_and_is_counted_once(cloud, user)

    assert not told_of(cloud)


@pytest.mark.parametrize("faults", [twice_and_out_of_order()])
def test_a_run_whose_events_come_twice_and_out_of_order_ends_by_them_as_if_they_came_once(
    cloud: Cloud, user: User
) -> None:
    cloud.router.stop()  # the sweeper would do without them

    goes_on_once_interrupted_and_is_counted_once(cloud, user)

    arrived = eventually(lambda: told_of(cloud), lambda ids: all(ids.count(event) >= 2 for event in ids))
    first, second = list(dict.fromkeys(arrived))[:2]
    assert first in arrived[arrived.index(second) :], "old news after new"


def test_without_machines_one_type_after_another_is_asked_for_and_then_on_demand_within_the_cap(
    cloud: Cloud, user: User
) -> None:
    cloud.market.dry()
    run = user.submit(
        saves_each_step(total=4, seconds_a_step=0.2), service=SAGEMAKER, spending=Spending.of(fallback_cap="20")
    )

    on_demand = user.falls_back(run)
    ended = user.ended(run)

    asked = [
        cloud.training.job(f"dev-{run.run_id}-{number}")["ResourceConfig"]
        for number in range(1, on_demand.submission + 1)
    ]
    training = user.connection.descriptor.training
    assert training is not None
    types = training.profiles["sm-cpu"].spot_instance_types
    assert [one.get("InstanceType") for one in asked[:-1]] == list(types)
    assert asked[-1]["InstancePreferences"] == [{"InstanceType": "ml.m5.xlarge", "InstanceCount": 1}]
    assert (ended.state, ended.market) == (RunState.SUCCEEDED, "on-demand")

    user.sweep(at=later(3600))
    booked = user.connection.budgets.get(run_holder(run.run_id))
    assert booked is not None
    billed = cloud.training.job(training_job(on_demand))["BillableTimeInSeconds"]
    assert booked.fallback.reserved == 0
    assert booked.fallback.spent == pytest.approx(price(user) * billed / 3600 * 1e6, abs=1)
    account = savings_of(user, run)
    assert account["fallback_microusd"] == account["spent_microusd"] == pytest.approx(booked.fallback.spent, abs=1)
    assert account["fallback_seconds"] >= billed - 1


def test_a_run_that_is_cancelled_is_stopped_and_saves(cloud: Cloud, user: User) -> None:
    run = user.submit(library_program(total=100_000), service=SAGEMAKER)
    is_claimed(user, run)
    eventually(lambda: cloud.training.output(training_job(run)), lambda text: '"progress"' in text)

    cancel(run.run_id, ports=user.connection.ports, now=now())
    ended = user.ended(run)

    assert ended.state is RunState.CANCELLED
    assert cloud.training.job(training_job(run))["TrainingJobStatus"] == "Stopped"
    assert user.num_commits(run) == 1
    assert user.attempts(run)[0].cause == Cause.CANCELLED


def test_two_nodes_train_together_and_lose_one_host(cloud: Cloud, user: User) -> None:
    run = user.submit(library_program(total=60, in_loop="run.save_now()"), service=SAGEMAKER, num_nodes=2)
    is_claimed(user, run)
    eventually(lambda: user.num_commits(run), bool)

    cloud.market.reclaim(cloud.training.instances(training_job(run))[1].id, notice=False)
    ended = user.ended(run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 2)
    account = eventually(lambda: savings_of(user, run), lambda found: found["useful_seconds"])  # its log has arrived
    job = cloud.training.job(training_job(run))
    billed_usd = 2 * price(user) * job["BillableTimeInSeconds"] / 3600
    assert account["spent_microusd"] == pytest.approx(billed_usd * 1e6, abs=1)
    assert (account["num_attempts"], account["is_upper_bound"], account["maybe_free_microusd"]) == (2, False, 0)
    # SageMaker's own figure counts what was done twice and waited for as if it had been wanted.
    assert account["split"]["effective"] < 1 - job["BillableTimeInSeconds"] / job["TrainingTimeInSeconds"]
    shown = user.types("logs", run.run_id).splitlines()
    assert {line.partition(": ")[0] for line in shown if "after the loop" in line} == {"node 1", "node 2"}


def test_a_run_without_network_is_claimed_for_and_succeeds_by_the_record_in_its_mirror(
    cloud: Cloud, user: User
) -> None:
    run = user.submit(library_program(total=60, in_loop="run.save_now()"), service=SAGEMAKER, is_isolated=True)
    is_claimed(user, run)
    mirrors = user.connection.ports.mirrors
    assert mirrors is not None
    eventually(lambda: mirrors.newest_whole(run.run_id), bool)

    cloud.market.reclaim(cloud.training.instances(training_job(run))[0].id, notice=False)
    ended = user.ended(run)

    assert cloud.training.job(training_job(run))["EnableNetworkIsolation"] is True
    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 2)
    assert ended.completion is not None
    assert ended.completion.step == 60
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.INTERRUPTED, Cause.COMPLETED]
    assert '"event":"resumed"' in cloud.training.output(training_job(run))
    assert user.num_commits(run) == 0, "all that it saved went through the mirror"
    assert "checkpoint" in user.types("status", run.run_id)


def test_a_run_without_network_that_goes_on_in_another_job_finds_the_newest_checkpoints_alone(
    cloud: Cloud, user: User
) -> None:
    run = user.submit(library_program(total=60, in_loop="run.save_now()"), service=SAGEMAKER, is_isolated=True)
    is_claimed(user, run)
    prefix = mirror_prefix(run.run_id) + commit_prefix(run.run_id)

    def mirrored() -> list[str]:
        s3, bucket = user.connection.s3, user.connection.descriptor.checkpoint_bucket
        return [stored["Key"] for stored in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]

    eventually(mirrored, lambda found: len(found) >= 6)
    user.types("pause", run.run_id)
    eventually(lambda: user.run(run).state, lambda state: state is RunState.PAUSED)
    before = mirrored()
    user.types("resume", run.run_id)
    ended = user.ended(run)

    assert (ended.state, ended.submission) == (RunState.SUCCEEDED, 2)
    lines = map(parse_line, cloud.training.output(training_job(ended)).splitlines())
    (resumed,) = [line for line in lines if line is not None and line["event"] == "resumed"]
    went = [key for key in before if key not in mirrored()]
    assert len(went) >= len(before) - 3, "two that are whole stay, and one that may not be"
    assert went == before[: len(went)]
    newest = parse_manifest_key(before[-1].removeprefix(mirror_prefix(run.run_id)))
    assert newest is not None
    assert resumed["step"] >= newest[1] - 1
    assert MIRROR_CLEARED in user.types("status", run.run_id)


def test_a_run_without_network_whose_mirror_stops_is_told_of_by_its_alarm_and_goes_on_from_what_had_arrived(
    cloud: Cloud, user: User
) -> None:
    watched = Watched(cloud, begin=cloud.clock.now().timestamp())
    program = library_program(total=100, in_loop="step % 10 == 1 and run.save_now()")
    run = user.submit(program, service=SAGEMAKER, is_isolated=True)
    mirrors = user.connection.ports.mirrors
    assert mirrors is not None
    eventually(lambda: mirrors.newest_whole(run.run_id), bool)
    assert not watched.fired()

    cloud.training.stop_mirrors()
    arrived = mirrors.newest_whole(run.run_id)
    assert arrived is not None
    eventually(lambda: saves(cloud, run), lambda steps: max(steps, default=0) > arrived.step)
    age_mirror(user, run, seconds=3700)
    watched.until(lambda: watched.states()[-1]["MirrorStopped"], lambda state: state == ALARM)
    assert cloud.training.job(training_job(run))["TrainingJobStatus"] == "InProgress", "told while it trains"

    ended_job = cloud.training.wait(training_job(run), timeout_seconds=150)
    assert ended_job["TrainingJobStatus"] == "Completed"
    cloud.training.resume_mirrors()
    assert user.run(run).state is RunState.RUNNING, "exit 0 alone is no success"
    user.sweep(at=later(1200))
    ended = user.ended(run)

    assert (ended.state, ended.submission) == (RunState.SUCCEEDED, 2)
    assert '"event":"resumed"' in cloud.training.output(training_job(ended))
    eventually(lambda: watched.states()[-1]["MirrorStopped"], lambda state: state == OK)


def test_a_job_that_the_user_sends_by_hand_becomes_a_run_and_succeeds(cloud: Cloud, user: User) -> None:
    plan = user.plans(saves_each_step(total=3, seconds_a_step=0.2), service=SAGEMAKER)
    bring(plan, user.connection)
    client: Any = cloud.session.client("sagemaker", endpoint_url=cloud.endpoint_url)
    client.create_training_job(**plan.request())

    eventually(lambda: user.connection.ledger.get(plan.run.run_id), lambda found: found is not None)
    ended = user.ended(plan.run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 1)
    assert (ended.profile, ended.team) == (plan.run.profile, plan.run.team)
    assert ended.source_sha256 == plan.run.source_sha256


def test_the_commands_of_people_show_it(user: User) -> None:
    run = user.submit("print('hello')", service=SAGEMAKER)
    user.ended(run)

    assert "succeeded" in user.types("status", run.run_id)
    assert eventually(lambda: user.types("logs", run.run_id), lambda text: "hello" in text)
    assert "sm-cpu" in user.types("submit", "--on", "sagemaker", "--dry-run", "--no-source", "--", "python", "-c", "1")
