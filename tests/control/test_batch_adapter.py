"""Requests and replies of Batch, held against botocore's model of them; moto would ignore half of a request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import Stubber

from spotkeeper.control.aws.batch import SUBMIT_CONFIG, AWSBatch, job_of
from spotkeeper.control.ports import (
    JobAttempt,
    JobOrder,
    JobStatus,
    NoSuchQueue,
    NotAllowed,
    Refused,
    ReplyLost,
    Throttled,
)
from spotkeeper.control.submit import job_request
from tests.control.fakes import new_run


@contextmanager
def stubbed() -> Iterator[tuple[AWSBatch, Stubber]]:
    client = boto3.client(
        "batch",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=SUBMIT_CONFIG,
    )
    with Stubber(client) as stubber:
        yield AWSBatch(client, client), stubber
        stubber.assert_no_pending_responses()


def detail(**changes: Any) -> dict[str, Any]:
    return {
        "jobId": "4c7599ae",
        "jobName": "digits-7fq2-1",
        "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/spot",
        "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        "status": "RUNNABLE",
        "startedAt": 0,
        **changes,
    }


def test_the_request_of_a_run_is_sent_as_it_is() -> None:
    request = job_request(new_run())
    with stubbed() as (batch, stubber):
        stubber.add_response("submit_job", {"jobName": "digits-7fq2-1", "jobId": "4c7599ae"}, request)

        assert batch.submit(request) == "4c7599ae"


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ClientException", 400, Refused),
        ("TooManyRequestsException", 429, Throttled),
        ("ClientException", 429, Throttled),
        ("ThrottlingException", 400, Throttled),
        ("AccessDeniedException", 403, NotAllowed),
        ("UnrecognizedClientException", 400, Refused),
        ("ServerException", 500, ReplyLost),
    ],
)
def test_a_refusal_to_submit_is_typed_by_what_it_means_for_the_job(
    code: str, status: int, expected: type[Exception]
) -> None:
    request = job_request(new_run())
    with stubbed() as (batch, stubber):
        stubber.add_client_error("submit_job", code, "words of AWS", http_status_code=status, expected_params=request)

        with pytest.raises(expected, match="words of AWS"):
            batch.submit(request)


def test_a_submission_without_an_answer_is_sent_once_and_reported_as_lost() -> None:
    """botocore itself would send it up to five times, each time perhaps starting a job."""
    client = boto3.client(
        "batch", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test", config=SUBMIT_CONFIG
    )
    sent = []

    def time_out(**_: Any) -> None:
        sent.append(1)
        raise ReadTimeoutError(endpoint_url="https://batch")

    client.meta.events.register("before-send.batch.SubmitJob", time_out)

    with pytest.raises(ReplyLost):
        AWSBatch(client, client).submit(job_request(new_run()))
    assert len(sent) == 1


def test_a_name_is_looked_up_in_its_queue_exactly_with_all_states_and_oldest_first() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_response(
            "list_jobs",
            {
                "jobSummaryList": [
                    {"jobId": "new", "jobName": "digits-7fq2-1"},
                    {"jobId": "case", "jobName": "Digits-7fq2-1"},
                    {"jobId": "old", "jobName": "digits-7fq2-1"},
                ]
            },
            {"jobQueue": "spot", "filters": [{"name": "JOB_NAME", "values": ["digits-7fq2-1"]}]},
        )
        stubber.add_response(
            "describe_jobs", {"jobs": [detail(jobId="new"), detail(jobId="old")]}, {"jobs": ["old", "new"]}
        )

        assert [job.job_id for job in batch.find("digits-7fq2-1", queue="spot")] == ["old", "new"]


def test_a_name_that_nobody_has_is_not_described() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_response("list_jobs", {"jobSummaryList": []})

        assert batch.find("digits-7fq2-1", queue="spot") == ()


@pytest.mark.parametrize("words", ["Job queue spot does not exist.", "JobQueue spot not found."])
def test_a_queue_that_is_gone_is_no_failure_of_aws_batch(words: str) -> None:
    with stubbed() as (batch, stubber):
        stubber.add_client_error("list_jobs", "ClientException", words)

        with pytest.raises(NoSuchQueue, match=words):
            batch.find("digits-7fq2-1", queue="spot")


def test_another_refusal_to_list_jobs_says_nothing_about_the_queue() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_client_error("list_jobs", "AccessDeniedException", "the queue is not found among yours")

        with pytest.raises(ClientError):
            batch.find("digits-7fq2-1", queue="spot")


def test_an_unknown_job_is_none() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_response("describe_jobs", {"jobs": []}, {"jobs": ["gone"]})

        assert batch.describe("gone") is None


def test_many_jobs_are_described_in_one_call_without_those_that_are_unknown() -> None:
    with stubbed() as (batch, stubber):
        asked = {"jobs": ["gone", "first", "second"]}
        stubber.add_response("describe_jobs", {"jobs": [detail(jobId="second"), detail(jobId="first")]}, asked)

        assert [job.job_id for job in batch.describe_many(asked["jobs"])] == ["first", "second"]


def test_terminate_sends_the_reason() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_response("terminate_job", {}, {"jobId": "4c7599ae", "reason": "because"})

        batch.terminate("4c7599ae", "because")


def test_reading_too_often_is_typed() -> None:
    with stubbed() as (batch, stubber):
        stubber.add_client_error("describe_jobs", "TooManyRequestsException", http_status_code=429)

        with pytest.raises(Throttled):
            batch.describe("4c7599ae")


ENDED = {
    "container": {"logStreamName": "cpu/default/1", "taskArn": "arn:…"},
    "startedAt": 1_700_000_000_000,
    "stoppedAt": 1_700_000_060_250,
    "statusReason": "Host EC2 (instance i-0abc) terminated.",
}


def test_an_ended_attempt_is_read_with_an_absent_exit_code() -> None:
    job = job_of(detail(attempts=[ENDED], startedAt=1_700_000_000_000))

    assert job.attempts == (
        JobAttempt(
            started_at="2023-11-14T22:13:20.000+00:00",
            stopped_at="2023-11-14T22:14:20.250+00:00",
            status_reason="Host EC2 (instance i-0abc) terminated.",
            log_stream="cpu/default/1",
        ),
    )
    assert not job.has_ended


def test_the_running_attempt_is_read_from_the_jobs_own_fields() -> None:
    running = detail(
        status="RUNNING",
        attempts=[ENDED],
        startedAt=1_700_000_100_000,
        container={"logStreamName": "cpu/default/2"},
    )

    attempts = job_of(running).attempts

    assert attempts[1:] == (JobAttempt(started_at="2023-11-14T22:15:00.000+00:00", log_stream="cpu/default/2"),)


def test_the_first_running_attempt_is_read_while_none_has_ended() -> None:
    running = detail(status="RUNNING", attempts=[], startedAt=1_700_000_100_000)

    assert job_of(running).attempts == (JobAttempt(started_at="2023-11-14T22:15:00.000+00:00"),)


def test_a_running_attempt_that_batch_lists_is_not_counted_twice() -> None:
    listed = {"container": {"logStreamName": "cpu/default/1"}, "startedAt": 1_700_000_000_000}

    assert len(job_of(detail(status="RUNNING", attempts=[listed])).attempts) == 1


def test_a_starting_attempt_is_not_there_yet() -> None:
    assert len(job_of(detail(status="STARTING", attempts=[ENDED], startedAt=1_700_000_000_000)).attempts) == 1


def test_exit_code_0_and_the_runtimes_reason_are_read() -> None:
    done = {**ENDED, "container": {"exitCode": 0, "reason": "OutOfMemoryError: no"}}

    job = job_of(detail(status="SUCCEEDED", attempts=[done], stoppedAt=1_700_000_060_250, statusReason="Essential"))

    assert (job.attempts[0].exit_code, job.attempts[0].reason) == (0, "OutOfMemoryError: no")
    assert (job.status, job.has_ended, job.status_reason) == (JobStatus.SUCCEEDED, True, "Essential")
    assert job.stopped_at == "2023-11-14T22:14:20.250+00:00"


def test_an_array_and_its_child_are_told_by_their_properties() -> None:
    parent = job_of(detail(jobName="lr-array", status="PENDING", arrayProperties={"size": 50, "statusSummary": {}}))
    child = job_of(detail(jobId="4c7599ae:7", jobName="lr-array", arrayProperties={"index": 7, "size": 50}))
    alone = job_of(detail(arrayProperties={}))

    assert (parent.array_size, parent.array_index) == (50, None)
    assert (child.array_size, child.array_index) == (None, 7)
    assert (alone.array_size, alone.array_index) == (None, None)


def test_what_the_submitter_asked_for_is_read_with_the_job() -> None:
    told = detail(
        createdAt=1_700_000_000_000,
        shareIdentifier="research",
        parameters={"day": "monday"},
        tags={"spotkeeper:requeue": "true"},
        timeout={"attemptDurationSeconds": 7200},
        container={"command": ["etl", "Ref::day"], "environment": [{"name": "A", "value": "1"}, {"name": "B"}]},
    )

    assert job_of(told).order == JobOrder(
        queue="arn:aws:batch:us-east-1:123456789012:job-queue/spot",
        definition="arn:aws:batch:us-east-1:123456789012:job-definition/cpu:3",
        created_at="2023-11-14T22:13:20.000+00:00",
        team="research",
        command=("etl", "Ref::day"),
        parameters={"day": "monday"},
        variables={"A": "1", "B": ""},
        tags={"spotkeeper:requeue": "true"},
        attempt_seconds=7200,
    )
