from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from emulation.batch.batch_api import ClientException
from emulation.batch.refusals import check_resources
from tests.emulation.compute import DEFINITION, ON_DEMAND_QUEUE, SPOT_QUEUE, Compute, compute, eventually


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Compute]:
    with compute(tmp_path) as running:
        yield running


def problems(operation: str, response: dict[str, Any], *, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return what botocore's output shape finds wrong with a response, and members that it does not know."""
    shape: Any = botocore.session.get_session().get_service_model("batch").operation_model(operation).output_shape
    report = ParamValidator().validate(response, shape).generate_report()
    found = [line for line in report.splitlines() if line and not any(text in line for text in allowed)]
    return found + unknown_members(shape, response, operation)


def unknown_members(shape: Any, value: Any, where: str) -> list[str]:
    if shape.type_name == "structure":
        unknown = [f"{where}.{name}" for name in value if name not in shape.members]
        known = [name for name in value if name in shape.members]
        return unknown + [
            text for name in known for text in unknown_members(shape.members[name], value[name], f"{where}.{name}")
        ]
    if shape.type_name == "list":
        return [text for item in value for text in unknown_members(shape.member, item, f"{where}[]")]
    return []


def submit(cloud: Compute, **changes: Any) -> dict[str, Any]:
    request = {"jobName": "job", "jobQueue": SPOT_QUEUE, "jobDefinition": DEFINITION, **changes}
    return cloud.batch.handle("SubmitJob", {name: value for name, value in request.items() if value is not None})


def test_every_response_has_the_shape_that_botocore_expects(cloud: Compute) -> None:
    answer = submit(cloud, containerOverrides={"command": ["sh", "-c", "exit 75"]}, retryStrategy={"attempts": 2})
    assert problems("SubmitJob", answer) == []
    cloud.wait(answer["jobId"])
    described = cloud.batch.handle("DescribeJobs", {"jobs": [answer["jobId"], answer["jobArn"], "unknown"]})
    assert len(described["jobs"]) == 1
    assert problems("DescribeJobs", described) == []
    listed = cloud.batch.handle("ListJobs", {"jobQueue": SPOT_QUEUE, "jobStatus": "FAILED"})
    assert [job["jobId"] for job in listed["jobSummaryList"]] == [answer["jobId"]]
    assert problems("ListJobs", listed) == []
    snapshot = cloud.batch.handle("GetJobQueueSnapshot", {"jobQueue": SPOT_QUEUE})
    assert problems("GetJobQueueSnapshot", snapshot) == []


def test_a_job_that_never_started_lacks_only_started_at_as_in_aws(cloud: Compute) -> None:
    cloud.market.dry()
    job_id = submit(cloud)["jobId"]
    cloud.wait(job_id, "RUNNABLE")
    described = cloud.batch.handle("DescribeJobs", {"jobs": [job_id]})
    assert "startedAt" not in described["jobs"][0]
    assert problems("DescribeJobs", described, allowed=('Missing required parameter in jobs[0]: "startedAt"',)) == []


def test_describe_shows_what_was_submitted(cloud: Compute) -> None:
    cloud.market.dry()
    job_id = submit(
        cloud,
        jobQueue="spot",
        jobDefinition="trainer:3",
        containerOverrides={
            "command": ["python", "-m", "train"],
            "environment": [{"name": "BOTH", "value": "job"}],
            "resourceRequirements": [{"type": "VCPU", "value": "2"}],
        },
        retryStrategy={"attempts": 3, "evaluateOnExit": [{"onExitCode": "1*", "action": "EXIT"}]},
        timeout={"attemptDurationSeconds": 61},
        tags={"spotkeeper:run": "r-1"},
        propagateTags=True,
    )["jobId"]
    job = cloud.describe(job_id)
    assert (job["jobQueue"], job["jobDefinition"]) == (SPOT_QUEUE, DEFINITION)
    assert job["container"]["command"] == ["python", "-m", "train"]
    assert {"name": "BOTH", "value": "job"} in job["container"]["environment"]
    assert {"name": "FROM_DEFINITION", "value": "1"} in job["container"]["environment"]
    assert job["container"]["resourceRequirements"] == [
        {"type": "VCPU", "value": "2"},
        {"type": "MEMORY", "value": "14336"},
    ]
    assert job["retryStrategy"] == {"attempts": 3, "evaluateOnExit": [{"onExitCode": "1*", "action": "EXIT"}]}
    assert job["timeout"] == {"attemptDurationSeconds": 61}
    assert (job["tags"], job["propagateTags"]) == ({"spotkeeper:run": "r-1"}, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobName": None}, "Missing required parameter"),
        ({"jobName": "-x"}, "Job name should match valid pattern"),
        ({"jobName": "x" * 129}, "Job name should match valid pattern"),
        ({"jobQueue": "none"}, "Job Queue none does not exist"),
        ({"jobDefinition": "trainer:4"}, "JobDefinition trainer:4 does not exist"),
        ({"shareIdentifier": "team"}, "has no scheduling policy"),
        ({"dependsOn": [{"jobId": "x"}]}, "does not do dependencies yet"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10; got 11"),
        ({"retryStrategy": {"evaluateOnExit": [{"onReason": "*", "action": "EXIT"}]}}, "between 1 and 10; got None"),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onReason": "*", "action": "EXIT"}] * 6}},
            "up to 5 evaluateOnExit entries; got 6",
        ),
        (
            {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onStatusReason": "*EC2", "action": "RETRY"}]}},
            "may contain a * at its end only",
        ),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60 seconds; got 59"),
        (
            {"containerOverrides": {"environment": [{"name": "AWS_BATCH_JOB_ATTEMPT", "value": "7"}]}},
            "must not start with AWS_BATCH",
        ),
        ({"containerOverrides": {"command": "true"}}, "Invalid type for parameter containerOverrides.command"),
        ({"containerOverrides": {"command": ["x" * 30 * 1024]}}, "requests of up to 30720 bytes; got 30"),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": "0.5"}]}},
            "at least 1 vCPUs in resourceRequirements; got 0.5",
        ),
        (
            {"containerOverrides": {"resourceRequirements": [{"type": "MEMORY", "value": "3"}]}},
            "at least 4 MiB of memory in resourceRequirements; got 3",
        ),
        ({"tags": {f"tag-{number}": "" for number in range(51)}}, "up to 50 tags; got 51"),
        ({"schedulingPriorityOverride": 10_000}, "between 0 and 9999; got 10000"),
    ],
)
def test_submit_refuses_what_aws_would_refuse_or_what_is_not_emulated(
    cloud: Compute, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientException) as refusal:
        submit(cloud, **changes)
    assert message in str(refusal.value)


def test_a_queue_with_a_scheduling_policy_needs_a_share_identifier(tmp_path: Path) -> None:
    with compute(tmp_path, settings={"fair_share": True}) as cloud:
        with pytest.raises(ClientException, match="shareIdentifier must be specified"):
            submit(cloud)
        job_id = submit(cloud, shareIdentifier="team")["jobId"]
        assert cloud.wait(job_id)["shareIdentifier"] == "team"


@pytest.mark.parametrize("share", ["team-a", "team_a", "team**", "*", "a*b", "é", "x" * 256])
def test_a_share_identifier_is_alphanumeric_with_an_asterisk_at_its_end_at_most(tmp_path: Path, share: str) -> None:
    with compute(tmp_path, settings={"fair_share": True}) as cloud:
        with pytest.raises(ClientException, match="up to 255 alphanumeric characters"):
            submit(cloud, shareIdentifier=share)
        assert submit(cloud, shareIdentifier="x" * 255 + "*")["jobId"]


def test_a_fair_share_job_needs_a_priority_from_its_definition_or_its_request(tmp_path: Path) -> None:
    with compute(tmp_path / "none", settings={"fair_share": True, "scheduling_priority": None}) as cloud:
        with pytest.raises(
            ClientException,
            match="Either schedulingPriority in job definition or schedulingPriorityOverride should be specified",
        ):
            submit(cloud, shareIdentifier="team")
        job_id = submit(cloud, shareIdentifier="team", schedulingPriorityOverride=0)["jobId"]
        assert cloud.describe(job_id)["schedulingPriority"] == 0
    with compute(tmp_path / "zero", settings={"fair_share": True, "scheduling_priority": 0}) as cloud:
        job_id = submit(cloud, shareIdentifier="team")["jobId"]
        assert cloud.describe(job_id)["schedulingPriority"] == 0
    with compute(tmp_path / "fifo", settings={"scheduling_priority": None}) as cloud:
        assert submit(cloud)["jobId"], "a queue without a policy needs none"


def test_a_definition_without_memory_is_refused() -> None:
    with pytest.raises(ClientException, match="at least 4 MiB of memory"):
        check_resources({"resourceRequirements": [{"type": "VCPU", "value": "1"}]})
    check_resources({"vcpus": 1, "memory": 4})  # the older form of both


def test_a_job_whose_propagated_tags_are_too_many_is_taken_and_failed_as_in_aws(tmp_path: Path) -> None:
    of_definition = {f"definition-{number}": "" for number in range(30)} | {"both": ""}
    of_job = {f"job-{number}": "" for number in range(20)} | {"both": ""}
    with compute(tmp_path, settings={"definition_tags": of_definition}) as cloud:
        failed = cloud.wait(submit(cloud, tags=of_job, propagateTags=True)["jobId"])
        assert failed["status"] == "FAILED"
        assert "have 51 tags together" in failed["statusReason"]
        assert failed["attempts"] == []
        assert not cloud.market.instances
        del of_job["job-0"]
        assert cloud.wait(submit(cloud, tags=of_job, propagateTags=True)["jobId"])["status"] == "SUCCEEDED"
        of_job |= {"job-0": "", "job-20": ""}
        assert cloud.wait(submit(cloud, tags=of_job, propagateTags=False)["jobId"])["status"] == "SUCCEEDED"


def test_list_jobs_filters_and_pages(cloud: Compute) -> None:
    cloud.market.dry()
    ids = {name: submit(cloud, jobName=name)["jobId"] for name in ("run-a-1", "run-a-2", "other")}
    cloud.wait(submit(cloud, jobName="run-a-3", jobQueue=ON_DEMAND_QUEUE)["jobId"])

    def names(**request: Any) -> list[str]:
        summaries = cloud.batch.handle("ListJobs", {"jobQueue": SPOT_QUEUE, **request})["jobSummaryList"]
        return [summary["jobName"] for summary in summaries]

    for job_id in ids.values():
        cloud.wait(job_id, "RUNNABLE")
    assert names() == []  # only RUNNING ones without a status
    assert names(jobStatus="RUNNABLE") == ["other", "run-a-2", "run-a-1"]
    assert names(filters=[{"name": "JOB_NAME", "values": ["RUN-A-*"]}]) == ["run-a-2", "run-a-1"]
    assert names(filters=[{"name": "JOB_NAME", "values": ["run-a"]}]) == []
    assert names(filters=[{"name": "JOB_DEFINITION", "values": ["trainer"]}], maxResults=1) == ["other"]
    assert names(filters=[{"name": "AFTER_CREATED_AT", "values": ["1"]}], maxResults=1, nextToken="1") == ["run-a-2"]
    assert names(filters=[{"name": "BEFORE_CREATED_AT", "values": ["1"]}]) == []
    with pytest.raises(ClientException, match="ListJobs filters by"):
        names(filters=[{"name": "COLOUR", "values": ["red"]}])


def test_a_snapshot_shows_the_front_of_the_queue_in_its_order(cloud: Compute) -> None:
    cloud.market.dry()
    arns = [submit(cloud)["jobArn"] for _ in range(3)]
    for arn in arns:
        cloud.wait(arn.rpartition("/")[2], "RUNNABLE")
    front = cloud.batch.handle("GetJobQueueSnapshot", {"jobQueue": "spot"})["frontOfQueue"]
    assert [job["jobArn"] for job in front["jobs"]] == arns


def test_stopping_or_cancelling_an_unknown_job_succeeds_as_in_aws(cloud: Compute) -> None:
    for operation in ("CancelJob", "TerminateJob"):
        assert cloud.batch.handle(operation, {"jobId": "unknown", "reason": "x"}) == {}
        with pytest.raises(ClientException, match="Missing required parameter"):
            cloud.batch.handle(operation, {"jobId": "unknown"})


def test_events_carry_the_job_as_describe_jobs_shows_it(cloud: Compute) -> None:
    changes: list[dict[str, Any]] = []
    cloud.batch.on_change(changes.append)
    job_id = submit(cloud)["jobId"]
    final = cloud.wait(job_id)
    eventually(lambda: final in changes)
    assert [change["status"] for change in changes] == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]
    event = cloud.of_type("Batch Job State Change", jobId=job_id, status="SUCCEEDED")[0]
    assert event["detail"] == final
    assert set(event) == {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
    assert (event["source"], event["version"], event["region"]) == ("aws.batch", "0", "us-east-1")
    assert event["resources"] == [final["jobArn"]]
    of_aws_sample = (
        "jobArn jobName jobId jobQueue status attempts createdAt retryStrategy dependsOn jobDefinition parameters "
        "container tags propagateTags platformCapabilities"
    )
    assert set(of_aws_sample.split()) <= set(final)


def test_waiting_in_vain_says_where_the_job_is(cloud: Compute) -> None:
    cloud.market.dry()
    job_id = submit(cloud)["jobId"]
    cloud.wait(job_id, "RUNNABLE")
    with pytest.raises(TimeoutError, match="is RUNNABLE"):
        cloud.batch.wait(job_id, {"RUNNING"}, 0.05)
