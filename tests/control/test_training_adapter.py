"""Requests and replies of SageMaker, held against botocore's model of them; moto completes every job at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from spotkeeper.control.aws.training_jobs import SageMakerTraining
from spotkeeper.control.classify import WAITED_REASON
from spotkeeper.control.listing import Listed
from spotkeeper.control.ports import (
    Job,
    JobAttempt,
    JobStatus,
    NameTaken,
    NotAllowed,
    QuotaReached,
    Refused,
    ReplyLost,
    Throttled,
)
from spotkeeper.control.training_request import training_request
from tests.control.training import PROFILE, SPOT, arn_of, training_run

NAME = "dev-digits-7fq2-1"
ARN = arn_of(NAME)


def at(minute: int) -> datetime:
    return datetime(2026, 11, 23, 18, minute, tzinfo=UTC)


def text(minute: int) -> str:
    return f"2026-11-23T18:{minute:02}:00.000+00:00"


def moved(status: str, minute: int, message: str = "", until: int | None = None) -> dict[str, Any]:
    end = {"EndTime": at(until)} if until is not None else {}
    return {"Status": status, "StartTime": at(minute), "StatusMessage": message, **end}


def detail(status: str = "InProgress", secondary: str = "Training", **changes: Any) -> dict[str, Any]:
    request = training_request(training_run(), profile=PROFILE)
    kept = ("TrainingJobName", "AlgorithmSpecification", "StoppingCondition", "Environment", "ResourceConfig")
    return {
        **{name: request[name] for name in kept},
        "TrainingJobArn": ARN,
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model"},
        "TrainingJobStatus": status,
        "SecondaryStatus": secondary,
        "CreationTime": at(0),
        # AWS's clock, which is not that of whoever asks.
        "ResponseMetadata": {"HTTPHeaders": {"date": "Mon, 23 Nov 2026 18:07:00 GMT"}},
        **changes,
    }


@contextmanager
def stubbed() -> Iterator[tuple[SageMakerTraining, Stubber]]:
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    with Stubber(client) as stubber:
        yield (
            SageMakerTraining(
                client,
                "dev",
            ),
            stubber,
        )
        stubber.assert_no_pending_responses()


def described(detail: dict[str, Any], *, stop_reason: str | None = None) -> Job:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail, {"TrainingJobName": NAME})
        if detail["TrainingJobStatus"] == "Stopped":
            tags = [{"Key": "spotkeeper:stop-reason", "Value": stop_reason}] if stop_reason else []
            stubber.add_response("list_tags", {"Tags": tags}, {"ResourceArn": ARN})
        job = training.describe(ARN)
    assert job is not None
    return job


def test_the_request_of_a_run_is_sent_as_it_is() -> None:
    request = training_request(training_run(), profile=PROFILE)
    with stubbed() as (training, stubber):
        stubber.add_response("create_training_job", {"TrainingJobArn": ARN}, request)

        assert training.submit(request) == ARN


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("ResourceInUse", 400, NameTaken),
        ("ThrottlingException", 400, Throttled),
        ("AccessDeniedException", 400, NotAllowed),
        ("ResourceLimitExceeded", 400, QuotaReached),
        ("ValidationException", 400, Refused),
        ("InternalFailure", 500, ReplyLost),
    ],
)
def test_a_refusal_to_create_is_typed_by_what_it_means_for_the_job(
    code: str, status: int, expected: type[Exception]
) -> None:
    with stubbed() as (training, stubber):
        stubber.add_client_error("create_training_job", code, "no", http_status_code=status)

        with pytest.raises(expected) as refusal:
            training.submit(training_request(training_run(), profile=PROFILE))
    assert refusal.type is expected


def test_a_job_is_found_by_its_name_in_its_own_queue_alone() -> None:
    with stubbed() as (training, stubber):
        for _ in range(2):
            stubber.add_response("describe_training_job", detail(), {"TrainingJobName": NAME})
        stubber.add_client_error("describe_training_job", "ValidationException", "Requested resource not found.")

        assert [job.job_id for job in training.find("digits-7fq2-1", queue=SPOT)] == [ARN]
        assert training.find("digits-7fq2-1", queue="sagemaker/other/spot") == ()
        assert training.find("digits-7fq2-2", queue=SPOT) == ()


@pytest.mark.parametrize("name", ["prod-digits-7fq2-1", "somebody-elses", "devil-1"])
def test_a_job_of_others_is_neither_described_nor_stopped(name: str) -> None:
    """The account's events tell of them, and the roles of the control plane may not read them."""
    with stubbed() as (training, _):
        assert training.describe(arn_of(name)) is None
        training.terminate(arn_of(name), "because")


def test_an_arn_of_another_account_with_a_name_of_ours_is_no_job_of_ours() -> None:
    with stubbed() as (training, stubber):
        for _ in range(2):
            stubber.add_response("describe_training_job", detail(), {"TrainingJobName": NAME})
        foreign = ARN.replace("123456789012", "999999999999")

        assert training.describe(foreign) is None
        training.terminate(foreign, "because")


def test_a_job_of_another_environment_with_a_longer_name_is_not_ours() -> None:
    foreign = detail(Environment={"SPOTKEEPER_ENV": "dev-digits"})
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", foreign, {"TrainingJobName": NAME})

        assert training.describe(ARN) is None


@pytest.mark.parametrize(
    ("secondary", "expected"),
    [
        ("Pending", JobStatus.RUNNABLE),
        ("Starting", JobStatus.RUNNABLE),
        ("LaunchingMLInstances", JobStatus.RUNNABLE),
        ("Interrupted", JobStatus.RUNNABLE),
        ("PreparingTrainingStack", JobStatus.STARTING),
        ("Downloading", JobStatus.STARTING),
        ("DownloadingTrainingImage", JobStatus.STARTING),
        ("Training", JobStatus.RUNNING),
        ("Uploading", JobStatus.RUNNING),
        ("Stopping", JobStatus.RUNNING),
    ],
)
def test_a_job_in_progress_waits_starts_or_runs(secondary: str, expected: JobStatus) -> None:
    message = "Insufficient capacity error from EC2 while launching instances, retrying!"
    job = described(detail(secondary=secondary, SecondaryStatusTransitions=[moved("Starting", 1, message)]))

    assert (job.status, job.status_reason, job.name) == (expected, message, "digits-7fq2-1")
    assert (job.order.queue, job.billed_seconds) == (SPOT, None)


def test_each_time_that_its_containers_ran_is_an_attempt_and_an_interruption_ends_one() -> None:
    transitions = [
        moved("Starting", 1, until=3),
        moved("Downloading", 3, until=4),
        moved("Training", 4, until=20),
        moved("Interrupted", 20, "Training job interrupted", until=21),
        moved("Starting", 21, until=25),
        moved("Interrupted", 25, "before it trained", until=26),
        moved("Starting", 26, until=30),
        moved("Training", 30),
    ]
    job = described(detail(SecondaryStatusTransitions=transitions))

    assert job.attempts == (
        JobAttempt(started_at=text(4), stopped_at=text(20), status_reason="Interrupted: Training job interrupted"),
        JobAttempt(started_at=text(30)),
    )


def test_a_job_tells_from_when_to_when_its_machines_were_prepared() -> None:
    transitions = [
        moved("Starting", 1, until=3),
        moved("Downloading", 3, until=8),
        moved("DownloadingTrainingImage", 8, until=10),
        moved("Training", 10, until=20),
        moved("Interrupted", 20, until=21),
        moved("Downloading", 25),
    ]
    going, ended = detail(SecondaryStatusTransitions=transitions), {"TrainingEndTime": at(40)}

    assert described(going).preparations == ((text(3), text(10)), (text(25), None))
    assert described(going | ended | {"TrainingJobStatus": "Failed"}).preparations[1] == (text(25), text(40))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, False),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket/mirror/r-1"}}, True),
        ({"InputDataConfig": [{"ChannelName": "train", "DataSource": {}}]}, True),
        ({"HyperParameters": {"lr": "0.1"}}, False),
    ],
)
def test_a_job_tells_whether_data_or_checkpoints_are_copied_before_its_containers_start(
    asked: dict[str, Any], expected: bool
) -> None:
    job = described(detail(secondary="Downloading", **asked))
    assert (job.status, job.order.copies_first) == (JobStatus.STARTING, expected)


def test_a_completed_job_has_exited_0_and_tells_what_is_billed() -> None:
    transitions = [moved("Training", 4, until=20), moved("Uploading", 20, until=21), moved("Completed", 21)]
    job = described(
        detail(
            "Completed",
            "Completed",
            SecondaryStatusTransitions=transitions,
            BillableTimeInSeconds=420,
            TrainingEndTime=at(21),
        )
    )

    assert (job.status, job.billed_seconds, job.stopped_at) == (JobStatus.SUCCEEDED, 420, text(21))
    assert [(one.exit_code, one.stopped_at) for one in job.attempts] == [(0, text(20))]


PREFERRED = [{"InstanceType": name, "InstanceCount": 2} for name in ("ml.m5.xlarge", "ml.c5.2xlarge")]


@pytest.mark.parametrize(
    ("machines", "instance_type", "num_nodes"),
    [
        ({"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}, "ml.m5.xlarge", 2),
        ({"InstancePreferences": PREFERRED}, None, 2),
        (
            {
                "InstancePreferences": PREFERRED,
                "SelectedInstanceType": "ml.c5.2xlarge",
                "SelectedInstanceCount": 2,
            },
            "ml.c5.2xlarge",
            2,
        ),
        ({"InstanceGroups": [{**each, "InstanceGroupName": "a"} for each in PREFERRED]}, None, 4),
    ],
    ids=["the one asked for", "none selected yet", "the one selected", "somebody else's groups"],
)
def test_a_job_tells_what_machines_it_has_and_how_many(
    machines: dict[str, Any], instance_type: str | None, num_nodes: int
) -> None:
    job = described(detail(ResourceConfig={"VolumeSizeInGB": 50, **machines}))

    assert (job.instance_type, job.order.num_nodes) == (instance_type, num_nodes)


def test_a_job_that_waited_again_after_its_training_ended_when_it_was_stopped() -> None:
    waited = [moved("Training", 4, until=20), moved("Interrupted", 20), moved("Starting", 21), moved("Stopped", 40)]

    job = described(detail("Stopped", "Stopped", SecondaryStatusTransitions=waited, TrainingEndTime=at(20)))

    assert job.stopped_at == text(40)
    assert [one.stopped_at for one in job.attempts] == [text(20)]


@pytest.mark.parametrize(
    ("reason", "exit_code"),
    [
        ("AlgorithmError: , exit code: 1", 1),
        ('AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "worker 3: exit code 75", exit code: 2', 2),
        ("AlgorithmError: Traceback (most recent call last): …", None),
        ("AlgorithmError: ExecuteUserScriptError: ExitCode 84", 84),
        ("InternalServerError: We encountered an internal error.", None),
    ],
)
def test_a_failure_tells_the_exit_code_in_words(reason: str, exit_code: int | None) -> None:
    job = described(
        detail("Failed", "Failed", FailureReason=reason, SecondaryStatusTransitions=[moved("Training", 4, until=20)])
    )

    (attempt,) = job.attempts
    assert (job.status, job.status_reason) == (JobStatus.FAILED, reason)
    assert (attempt.exit_code, attempt.status_reason) == (exit_code, reason)


@pytest.mark.parametrize(
    ("secondary", "stop_reason", "expected"),
    [
        ("Stopped", WAITED_REASON, WAITED_REASON),
        ("Stopped", None, "Stopped"),
        ("MaxRuntimeExceeded", None, "MaxRuntimeExceeded"),
        ("MaxWaitTimeExceeded", WAITED_REASON, "MaxWaitTimeExceeded"),
    ],
)
def test_a_stopped_job_tells_why_by_its_status_or_by_the_tag_that_was_set_before(
    secondary: str, stop_reason: str | None, expected: str
) -> None:
    job = described(detail("Stopped", secondary), stop_reason=stop_reason)

    assert (job.status, job.status_reason) == (JobStatus.FAILED, expected)


@pytest.mark.parametrize(
    ("tag", "stopping", "expected"),
    [
        (f"{WAITED_REASON} @ 2026-11-23T18:07:00+00:00", 8, WAITED_REASON),
        (f"{WAITED_REASON} @ 2026-11-23T18:07:00+00:00", 6, WAITED_REASON),
        (f"{WAITED_REASON} @ 2026-11-23T18:07:00+00:00", None, WAITED_REASON),
        (f"{WAITED_REASON} @ 2026-11-23T18:07:00+00:00", 10, "Stopped"),
        (WAITED_REASON, 10, WAITED_REASON),
    ],
    ids=[
        "soon after",
        "just before",
        "no time is told",
        "of a stop before, which failed",
        "of a time that was not told",
    ],
)
def test_a_reason_that_was_written_at_another_time_explains_no_stop(
    tag: str, stopping: int | None, expected: str
) -> None:
    transitions = [moved("Training", 4)] + ([moved("Stopping", stopping)] if stopping is not None else [])

    job = described(detail("Stopped", "Stopped", SecondaryStatusTransitions=transitions), stop_reason=tag)

    assert job.status_reason == expected


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("it is over", "it is over @ 2026-11-23T18:07:00+00:00"),
        ("no; (never)", "no   never  @ 2026-11-23T18:07:00+00:00"),
        ("x" * 300, "x" * 228 + " @ 2026-11-23T18:07:00+00:00"),
    ],
)
def test_a_job_is_stopped_after_the_reason_and_its_time_are_written_to_it(reason: str, value: str) -> None:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail(), {"TrainingJobName": NAME})
        tag = {"Key": "spotkeeper:stop-reason", "Value": value}
        stubber.add_response("add_tags", {"Tags": []}, {"ResourceArn": ARN, "Tags": [tag]})
        stubber.add_response("stop_training_job", {}, {"TrainingJobName": NAME})

        training.terminate(ARN, reason)
    assert len(value) <= 256


@pytest.mark.parametrize(
    ("headers", "time"),
    [
        ({"date": "Mon, 23 Nov 2026 18:07:00 GMT"}, " @ 2026-11-23T18:07:00+00:00"),
        ({"date": "at seven"}, ""),
        ({}, ""),
    ],
)
def test_the_reason_of_a_stop_is_believed_however_wrong_the_clock_of_whoever_stopped_the_job_is(
    headers: dict[str, str], time: str
) -> None:
    # This machine's clock is not near any time of this job.
    before = detail(ResponseMetadata={"HTTPHeaders": headers})
    tag = {"Key": "spotkeeper:stop-reason", "Value": f"{WAITED_REASON}{time}"}
    after = detail("Stopped", "Stopped", SecondaryStatusTransitions=[moved("Training", 4), moved("Stopping", 7)])
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", before, {"TrainingJobName": NAME})
        stubber.add_response("add_tags", {"Tags": []}, {"ResourceArn": ARN, "Tags": [tag]})
        stubber.add_response("stop_training_job", {}, {"TrainingJobName": NAME})
        training.terminate(ARN, WAITED_REASON)
        stubber.add_response("describe_training_job", after, {"TrainingJobName": NAME})
        stubber.add_response("list_tags", {"Tags": [tag]}, {"ResourceArn": ARN})

        job = training.describe(ARN)
    assert job is not None
    assert job.status_reason == WAITED_REASON


def test_a_job_to_which_no_reason_can_be_written_is_stopped_all_the_same_and_the_refusal_is_told() -> None:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail(), {"TrainingJobName": NAME})
        stubber.add_client_error("add_tags", "AccessDeniedException", "an SCP", http_status_code=400)
        stubber.add_response("stop_training_job", {}, {"TrainingJobName": NAME})

        with pytest.raises(ClientError, match="AddTags operation: an SCP"):
            training.terminate(ARN, "it is over")


def test_a_job_that_waits_and_to_which_no_reason_can_be_written_waits_on() -> None:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail(secondary="Starting"), {"TrainingJobName": NAME})
        stubber.add_client_error("add_tags", "AccessDeniedException", "an SCP", http_status_code=400)

        with pytest.raises(ClientError, match="AddTags operation: an SCP"):
            training.withdraw(ARN, WAITED_REASON)


def test_a_job_whose_reason_is_refused_for_its_rate_is_stopped_the_next_time() -> None:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail(), {"TrainingJobName": NAME})
        stubber.add_client_error("add_tags", "ThrottlingException", "Rate exceeded", http_status_code=400)

        with pytest.raises(Throttled):
            training.terminate(ARN, "it is over")


@pytest.mark.parametrize(("status", "secondary"), [("Completed", "Completed"), ("InProgress", "Training")])
def test_what_has_ended_is_not_stopped_and_what_has_its_machines_is_not_withdrawn(status: str, secondary: str) -> None:
    with stubbed() as (training, stubber):
        stubber.add_response("describe_training_job", detail(status, secondary), {"TrainingJobName": NAME})

        training.withdraw(ARN, WAITED_REASON)


def summary(name: str, minute: int) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "TrainingJobArn": arn_of(name),
        "CreationTime": at(minute),
        "TrainingJobStatus": "InProgress",
    }


LISTING = {
    "NameContains": "dev-",
    "StatusEquals": "InProgress",
    "SortBy": "CreationTime",
    "SortOrder": "Ascending",
    "MaxResults": 100,
}


def test_the_jobs_in_progress_are_those_whose_names_begin_with_the_environment_on_all_pages() -> None:
    first = {"TrainingJobSummaries": [summary(NAME, 1), summary("other-dev-digits-1", 2)], "NextToken": "more"}
    with stubbed() as (training, stubber):
        stubber.add_response("list_training_jobs", first, LISTING)
        second = {"TrainingJobSummaries": [summary(f"{NAME}2", 3)]}
        stubber.add_response("list_training_jobs", second, {**LISTING, "NextToken": "more"})

        assert list(training.in_progress()) == [
            Listed(created_at=text(1), run_id=ARN),
            Listed(created_at=text(3), run_id=f"{ARN}2"),
        ]


def test_the_jobs_behind_one_are_those_of_its_moment_and_later_without_itself() -> None:
    jobs = [summary(f"{NAME}{end}", minute) for end, minute in (("1", 1), ("2", 2), ("3", 2), ("4", 3))]
    asked = {**LISTING, "CreationTimeAfter": at(2) - timedelta(seconds=1)}
    with stubbed() as (training, stubber):
        stubber.add_response("list_training_jobs", {"TrainingJobSummaries": jobs}, asked)

        behind = training.in_progress(behind=Listed(created_at=text(2), run_id=f"{ARN}2"))
        assert [entry.run_id for entry in behind] == [f"{ARN}3", f"{ARN}4"]


def test_a_list_that_is_refused_for_its_rate_is_throttled() -> None:
    with stubbed() as (training, stubber):
        stubber.add_client_error("list_training_jobs", "ThrottlingException", "Rate exceeded")
        with pytest.raises(Throttled):
            list(training.in_progress())
