"""The model of SageMaker training is what it stands for: names, restarts, limits and bills as the service has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from spotkeeper.control.aws.training_jobs import job_of
from spotkeeper.control.ports import Job, JobStatus, NameTaken, QuotaReached, Throttled
from spotkeeper.control.training_request import training_request
from spotkeeper.policy.placement import Market
from tests.control.fakes import new_run
from tests.simulation import training
from tests.simulation.batch import BatchJob, Hooks
from tests.simulation.choices import Choices
from tests.simulation.environment import terms_with
from tests.simulation.faults import Swarm
from tests.simulation.sched import Scheduler

JOB = f"{training.ARN}dev-r1-1"


@dataclass
class Containers:
    """Train for ever, and note what they are told."""

    told: list[str] = field(default_factory=list)

    def request_stop(self) -> None:
        self.told.append("SIGTERM")

    def kill(self) -> None:
        self.told.append("SIGKILL")


@dataclass
class Service:
    scheduler: Scheduler
    jobs: training.Training
    containers: Containers
    started: list[int]

    def after(self, seconds: float) -> Job:
        self.scheduler.run(until_seconds=seconds)
        found = self.jobs.describe(JOB)
        assert found is not None
        return found


def service(recorded: Mapping[str, Any]) -> Service:
    """Return the service, in which what is recorded happens and nothing else out of the ordinary."""
    scheduler, containers, started = Scheduler(lambda: False), Containers(), list[int]()

    def start(_: Any, __: BatchJob, number: int) -> Containers:
        started.append(number)
        return containers

    hooks = Hooks(
        start_container=start,
        job_created=lambda _: None,
        job_changed=lambda _: None,
        host_noticed=lambda *_: None,
        job_withdrawn=lambda _: None,
    )
    jobs = training.Training(
        {},
        set(),
        scheduler=scheduler,
        choices=Choices(recorded=recorded),
        swarm=Swarm(),
        trace=lambda *_: None,
        hooks=hooks,
        job_of=job_of,
    )
    return Service(scheduler, jobs, containers, started)


def request(*, market: str = "spot", attempt_seconds: int = 3600) -> dict[str, Any]:
    queue = training.SPOT_QUEUE if market == "spot" else training.ON_DEMAND_QUEUE
    run = new_run(
        "r1", profile=training.PROFILE, market=market, job_queue=queue, attempt_seconds=attempt_seconds, num_nodes=2
    )
    return training_request(run, profile=terms_with(0, None).profiles[training.PROFILE])


def training_types(market: Market) -> tuple[str, ...]:
    profile = terms_with(0, None).profiles[training.PROFILE]
    return profile.spot_instance_types if market is Market.SPOT else profile.on_demand_instance_types


def test_which_machines_a_job_has_is_told_on_spot_at_once_and_on_on_demand_when_it_has_them() -> None:
    for market in Market:
        sagemaker = service({})
        sagemaker.jobs.submit(request(market=market))
        waiting, running = sagemaker.after(10.0), sagemaker.after(200.0)

        assert (waiting.instance_type is None) == (market is Market.ON_DEMAND)
        assert running.instance_type in training_types(market)


def test_an_interrupted_job_starts_again_as_the_same_job() -> None:
    sagemaker = service({"sagemaker: job r1-1, host 1": "notice", "sagemaker: job r1-1, host 1 after": 700.0})
    sagemaker.jobs.submit(request())

    job = sagemaker.after(1500.0)

    assert sagemaker.containers.told == ["SIGTERM", "SIGKILL"]
    assert sagemaker.started == [1, 2]
    assert job.status is JobStatus.RUNNING
    assert [attempt.stopped_at is None for attempt in job.attempts] == [False, True]
    assert (job.attempts[0].status_reason or "").startswith("Interrupted")


def test_its_run_time_is_limited_over_all_attempts() -> None:
    sagemaker = service({"sagemaker: job r1-1, host 1": "lost", "sagemaker: job r1-1, host 1 after": 1210.0})
    sagemaker.jobs.submit(request(attempt_seconds=2000))

    running, ended = sagemaker.after(2000.0), sagemaker.after(2600.0)

    assert (running.status, ended.status) == (JobStatus.RUNNING, JobStatus.FAILED)
    assert ended.status_reason == training.MAX_RUNTIME
    assert sagemaker.containers.told == ["SIGKILL", "SIGTERM", "SIGKILL"]


def test_a_name_is_given_once() -> None:
    sagemaker = service({})
    sagemaker.jobs.submit(request())
    sagemaker.jobs.terminate(JOB, "as wished")
    assert sagemaker.after(60.0).status is JobStatus.FAILED

    with pytest.raises(NameTaken, match="dev-r1-1 is there already"):
        sagemaker.jobs.submit(request())
    assert [job.job_id for job in sagemaker.jobs.named("r1-1", training.SPOT_QUEUE, settled=False)] == [JOB]


def test_a_name_of_somebody_elses_job_is_taken_and_no_job_is_to_be_seen() -> None:
    sagemaker = service({})
    sagemaker.jobs.give_away("r1-1")

    with pytest.raises(NameTaken, match="dev-r1-1 is there already"):
        sagemaker.jobs.submit(request())
    assert sagemaker.jobs.named("r1-1", training.SPOT_QUEUE, settled=False) == ()


def test_a_type_without_quota_is_refused_and_nothing_is_there() -> None:
    sagemaker = service({"sagemaker: r1, quota of ml.m5a.xlarge": "reached"})
    for _ in range(2):
        with pytest.raises(QuotaReached, match=r"ml\.m5a\.xlarge"):
            sagemaker.jobs.submit(request())
    assert sagemaker.jobs.describe(JOB) is None

    sagemaker.jobs.raise_quotas()
    assert sagemaker.jobs.submit(request()) == JOB


@pytest.mark.parametrize(
    ("words", "told"),
    [(training.FAILURES[0], 3), (training.FAILURES[1], None), (training.FAILURES[2], 3)],
)
def test_a_program_that_fails_ends_its_job_and_its_exit_code_is_told_or_not(words: str, told: int | None) -> None:
    sagemaker = service({"sagemaker: job r1-1, words 1": words})
    sagemaker.jobs.submit(request())
    assert sagemaker.after(200.0).status is JobStatus.RUNNING

    job = sagemaker.jobs.jobs[JOB]
    sagemaker.jobs.exited(job, 1, 3)

    seen = sagemaker.after(201.0)
    assert (seen.status, [one.exit_code for one in seen.attempts]) == (JobStatus.FAILED, [told])
    assert isinstance(job, training.TrainingJob)
    assert job.has_failed_by_itself


def test_a_quota_of_on_demand_is_one_of_its_own() -> None:
    sagemaker = service({"sagemaker: r1, quota of on-demand": "reached"})
    with pytest.raises(QuotaReached, match="no on-demand"):
        sagemaker.jobs.submit(request(market="on-demand"))
    assert sagemaker.jobs.submit(request()) == JOB


def test_nobody_may_read_jobs_while_they_are_unread_and_they_go_on() -> None:
    sagemaker = service({})
    sagemaker.jobs.submit(request())
    sagemaker.jobs.is_unread = True
    sagemaker.scheduler.run(until_seconds=200.0)
    with pytest.raises(Throttled):
        sagemaker.jobs.describe(JOB)
    with pytest.raises(Throttled):
        sagemaker.jobs.named("r1-1", training.SPOT_QUEUE, settled=False)

    sagemaker.jobs.is_unread = False
    assert sagemaker.after(201.0).status is JobStatus.RUNNING


def test_who_is_stopped_has_two_minutes_and_on_demand_is_billed_by_the_second() -> None:
    sagemaker = service({})
    sagemaker.jobs.submit(request(market="on-demand"))
    sagemaker.scheduler.after(400.0, lambda: sagemaker.jobs.terminate(JOB, "as wished"))

    stopping, ended = sagemaker.after(515.0), sagemaker.after(525.0)

    assert (stopping.status, stopping.billed_seconds) == (JobStatus.RUNNING, None)
    assert (ended.status, ended.status_reason) == (JobStatus.FAILED, "as wished")
    # From 62 s, when it had machines, until the two minutes were over.
    assert ended.billed_seconds == 520 - 62


def test_on_demand_that_is_lost_is_the_end_of_the_job() -> None:
    sagemaker = service({"sagemaker: job r1-1, host 1": "lost", "sagemaker: job r1-1, host 1 after": 45.0})
    sagemaker.jobs.submit(request(market="on-demand"))

    ended = sagemaker.after(300.0)

    assert (ended.status, ended.status_reason) == (JobStatus.FAILED, training.SERVICE_ERROR)


def test_without_capacity_a_job_fails_with_the_words_of_sagemaker() -> None:
    sagemaker = service({"sagemaker: job r1-1, capacity 1": "none"})
    sagemaker.jobs.submit(request())

    waiting, ended = sagemaker.after(800.0), sagemaker.after(1000.0)

    assert waiting.status is JobStatus.RUNNABLE
    assert (ended.status, ended.status_reason, ended.attempts) == (JobStatus.FAILED, training.CAPACITY_ERROR, ())
