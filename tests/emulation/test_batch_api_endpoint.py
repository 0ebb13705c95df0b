"""The executor behind the real endpoint: boto3 as its client, moto for logs, secrets and later job definitions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emulation.server import Server
from tests.emulation.compute import FINISHED, SPOT_QUEUE, Compute, compute, eventually


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def cloud(server: Server, tmp_path: Path) -> Iterator[Compute]:
    with compute(tmp_path, endpoint_url=server.endpoint_url) as running:
        server.job_operations = running.batch
        yield running


def client(server: Server, service: Any) -> Any:
    session = boto3.Session("emulation", "emulation", region_name="us-east-1")
    return session.client(service, endpoint_url=server.endpoint_url, config=Config(proxies={}))


def test_a_client_submits_describes_and_finds_the_output_in_cloudwatch_logs(server: Server, cloud: Compute) -> None:
    batch = client(server, "batch")
    job_id = batch.submit_job(
        jobName="hello",
        jobQueue="spot",
        jobDefinition="trainer",
        containerOverrides={"command": ["sh", "-c", "for i in 1 2 3; do echo line $i; done; echo; echo end >&2"]},
    )["jobId"]
    cloud.wait(job_id)
    (job,) = batch.describe_jobs(jobs=[job_id])["jobs"]
    assert (job["status"], job["container"]["exitCode"]) == ("SUCCEEDED", 0)
    stream = job["attempts"][0]["container"]["logStreamName"]
    assert stream.startswith("run/default/")
    logs = client(server, "logs")

    def messages() -> list[str]:
        try:
            events = logs.get_log_events(logGroupName="/spotkeeper/jobs", logStreamName=stream)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []  # not sent yet
        return [event["message"] for event in events]

    eventually(lambda: "end" in messages())
    assert messages() == ["line 1", "line 2", "line 3", " ", "end"]


def test_a_refusal_reaches_the_client_as_awss_client_exception(server: Server, cloud: Compute) -> None:
    with pytest.raises(ClientError, match="Job Queue none does not exist") as refusal:
        client(server, "batch").submit_job(jobName="x", jobQueue="none", jobDefinition="trainer")
    assert refusal.value.response["Error"]["Code"] == "ClientException"
    assert cloud.events == []


def test_a_definition_registered_later_runs_with_its_secrets_and_sees_the_endpoint(
    server: Server, cloud: Compute
) -> None:
    secret = client(server, "secretsmanager").create_secret(Name="token", SecretString='{"key": "s3cr3t"}')["ARN"]
    client(server, "ssm").put_parameter(Name="/plain", Value="parameter", Type="String")
    batch = client(server, "batch")
    registered = batch.register_job_definition(
        jobDefinitionName="later",
        type="container",
        containerProperties={
            "image": "x",
            "command": ["sh", "-c", "echo $TOKEN $PLAIN $AWS_ENDPOINT_URL"],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
            "secrets": [{"name": "TOKEN", "valueFrom": f"{secret}:key::"}, {"name": "PLAIN", "valueFrom": "/plain"}],
        },
    )
    submitted = batch.submit_job(
        jobName="x", jobQueue=SPOT_QUEUE, jobDefinition=registered["jobDefinitionArn"]
    )["jobId"]  # fmt: skip
    by_name = batch.submit_job(jobName="x", jobQueue=SPOT_QUEUE, jobDefinition="later")["jobId"]
    for job_id in (submitted, by_name):
        job = cloud.batch.wait(job_id, FINISHED, 60)
        assert (job["status"], job["jobDefinition"]) == ("SUCCEEDED", registered["jobDefinitionArn"])
        assert cloud.output(job_id) == f"s3cr3t parameter {server.endpoint_url}\n"
        assert "s3cr3t" not in str(job)
    batch.deregister_job_definition(jobDefinition=registered["jobDefinitionArn"])
    with pytest.raises(ClientError, match="does not exist or is not ACTIVE"):
        batch.submit_job(jobName="x", jobQueue=SPOT_QUEUE, jobDefinition="later")


def test_a_secret_that_cannot_be_read_fails_the_attempt_with_the_reason(server: Server, cloud: Compute) -> None:
    client(server, "batch").register_job_definition(
        jobDefinitionName="later",
        type="container",
        containerProperties={
            "image": "x",
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
            "secrets": [{"name": "TOKEN", "valueFrom": "arn:aws:secretsmanager:us-east-1:123456789012:secret:none"}],
        },
    )
    job = cloud.wait(cloud.submit(["true"], jobDefinition="later"))
    assert (job["status"], job["statusReason"]) == ("FAILED", "Task failed to start")
    assert job["container"]["reason"].startswith("ResourceInitializationError: unable to pull secrets")
