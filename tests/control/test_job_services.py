from spotkeeper.control.aws.job_services import JobServices
from spotkeeper.control.submit import job_request
from spotkeeper.control.training_request import training_request
from tests.control.fakes import SPOT_QUEUE, MemoryBatch, new_run
from tests.control.training import PROFILE, SPOT, MemoryTraining, arn_of, training_run

TRAINING_JOB = arn_of("dev-digits-7fq2-1")


def both() -> tuple[JobServices, MemoryBatch, MemoryTraining]:
    batch, sagemaker = MemoryBatch(), MemoryTraining()
    services = JobServices(batch=batch, sagemaker=sagemaker)
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
    assert {job.job_id for job in services.describe_many([TRAINING_JOB, "job-1", "gone"])} == {TRAINING_JOB, "job-1"}


def test_a_job_is_stopped_and_withdrawn_where_it_is() -> None:
    services, batch, sagemaker = both()
    services.terminate("job-1", "over")
    services.terminate(TRAINING_JOB, "over")
    services.withdraw("job-1", "waited")
    services.withdraw(TRAINING_JOB, "waited")

    assert (batch.terminated, batch.withdrawn) == ([("job-1", "over")], [("job-1", "waited")])
    assert (sagemaker.terminated, sagemaker.withdrawn) == ([(TRAINING_JOB, "over")], [(TRAINING_JOB, "waited")])
