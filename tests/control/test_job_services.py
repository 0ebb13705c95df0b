from dataclasses import replace

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.job_services import JobServices
from spotkeeper.control.classify import OVER_BUDGET_REASON
from spotkeeper.control.observe import Outcome
from spotkeeper.control.ports import Job, JobAttempt, JobStatus, Throttled
from spotkeeper.control.submit import job_request, submit
from spotkeeper.control.sweep import sweep
from spotkeeper.control.training_request import training_request
from spotkeeper.policy.money import MICROUSD_PER_USD
from tests.control.fakes import NOW, SPOT_QUEUE, MemoryBatch, new_run
from tests.control.reconciled import RUN, World, after
from tests.control.training import PROFILE, SPOT, TRAINING_TERMS, MemoryTraining, arn_of, training_run

TRAINING_JOB = arn_of("dev-digits-7fq2-1")


def both() -> tuple[JobServices, MemoryBatch, MemoryTraining]:
    batch, sagemaker = MemoryBatch(), MemoryTraining()
    services = JobServices(batch=batch, sagemaker=lambda: sagemaker)
    assert services.submit(job_request(new_run())) == "job-1"
    assert services.submit(training_request(training_run(), profile=PROFILE)) == TRAINING_JOB
    return services, batch, sagemaker


def test_requests_queues_and_job_ids_tell_which_service_is_asked() -> None:
    services, batch, sagemaker = both()

    assert (list(batch.jobs), list(sagemaker.jobs)) == (["job-1"], [TRAINING_JOB])
    assert [job.job_id for job in services.find("digits-7fq2-1", queue=SPOT_QUEUE)] == ["job-1"]
    assert [job.job_id for job in services.find("digits-7fq2-1", queue=SPOT)] == [TRAINING_JOB]
    assert services.describe("job-1") == batch.jobs["job-1"]
    assert services.describe(TRAINING_JOB) == sagemaker.jobs[TRAINING_JOB]
    assert [job.job_id for job in services.describe_many(["job-1", "gone"])] == ["job-1"]


def test_a_job_is_stopped_and_withdrawn_where_it_is() -> None:
    services, batch, sagemaker = both()
    services.terminate("job-1", "over")
    services.terminate(TRAINING_JOB, "over")
    services.withdraw("job-1", "waited")
    services.withdraw(TRAINING_JOB, "waited")

    assert (batch.terminated, batch.withdrawn) == ([("job-1", "over")], [("job-1", "waited")])
    assert (sagemaker.terminated, sagemaker.withdrawn) == ([(TRAINING_JOB, "over")], [(TRAINING_JOB, "waited")])


class ThrottlingTraining(MemoryTraining):
    """SageMaker, of which no question about its jobs is answered."""

    def describe(self, job_id: str) -> Job | None:
        raise Throttled(f"Rate exceeded: {job_id}")


def beside_sagemaker_that_throttles() -> tuple[World, MemoryBatch]:
    """A run on AWS Batch whose total is capped, and one on SageMaker, of which nothing can be read."""
    batch, sagemaker = MemoryBatch(), ThrottlingTraining()
    # The world reaches into the jobs of its only service; here that is AWS Batch.
    world = World(batch=batch, terms=TRAINING_TERMS)
    world.submit(new_run(total_cap_microusd=6 * MICROUSD_PER_USD))
    services = JobServices(batch=batch, sagemaker=lambda: sagemaker)
    world.ports = replace(world.ports, batch=services)
    submit(training_run(run_id="tuned-1", total_cap_microusd=50 * MICROUSD_PER_USD), ports=world.ports, now=NOW)
    world.ledger.claim(RUN, "job-1", 1)
    world.change("job-1", JobStatus.RUNNING, JobAttempt(started_at=after(5)))
    return world, batch


def test_a_job_on_batch_over_its_cap_is_stopped_while_sagemaker_throttles() -> None:
    world, batch = beside_sagemaker_that_throttles()

    done = sweep(ports=world.ports, clock=lambda: after(200), has_time=lambda: True)

    assert batch.terminated == [("job-1", OVER_BUDGET_REASON)]
    assert set(done.failures) == {"tuned-1", "tuned-1, submission 1"}
    assert world.ledger.runs["tuned-1"].state is RunState.SUBMITTED


def test_a_run_that_waits_is_submitted_when_it_is_due_although_no_job_of_another_can_be_read() -> None:
    world, _ = beside_sagemaker_that_throttles()
    world.give_up("job-1")
    world.hear("job-1")
    assert world.run.state is RunState.WAITING

    sweep(ports=world.ports, clock=lambda: after(60), has_time=lambda: True)

    assert world.summary == (RunState.SUBMITTED, 2)


def test_a_failed_job_on_batch_is_submitted_again_while_sagemaker_throttles() -> None:
    world, _ = beside_sagemaker_that_throttles()
    world.lose_host("job-1", step=3)

    done = sweep(ports=world.ports, clock=lambda: after(15), has_time=lambda: True)

    assert done.outcomes[Outcome.REQUEUED] == 1
    assert world.summary == (RunState.SUBMITTED, 2)
    assert done.failures["tuned-1"].startswith("Throttled: Rate exceeded")
    assert world.ledger.runs["tuned-1"].job_unknown_since is None
