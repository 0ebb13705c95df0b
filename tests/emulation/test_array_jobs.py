from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from emulation.batch.array_jobs import CHILD_FAILED
from emulation.batch.executor import Delays
from tests.emulation.compute import SPOT_QUEUE, Compute, compute, eventually

NO_DELAYS = Delays(boot_seconds=0, pull_seconds=0)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Compute]:
    with compute(tmp_path, delays=NO_DELAYS) as running:
        yield running


def array(cloud: Compute, script: str, size: int = 3, **request: Any) -> str:
    return cloud.submit(["sh", "-c", script], arrayProperties={"size": size}, **request)


def output(cloud: Compute, array_id: str, index: int, attempt: int = 1) -> str:
    return (cloud.work_dir / array_id / str(index) / str(attempt) / "output.log").read_text()


def listed(cloud: Compute, **request: Any) -> list[str]:
    return [job["jobId"] for job in cloud.batch.handle("ListJobs", request)["jobSummaryList"]]


def test_each_child_runs_once_and_knows_its_index_and_its_id(cloud: Compute) -> None:
    array_id = array(cloud, 'echo "$AWS_BATCH_JOB_ARRAY_INDEX $AWS_BATCH_JOB_ID"')

    done = cloud.wait(array_id)

    assert (done["status"], done["arrayProperties"]["size"]) == ("SUCCEEDED", 3)
    assert done["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 3
    assert [output(cloud, array_id, index) for index in range(3)] == [f"{i} {array_id}:{i}\n" for i in range(3)]
    child = cloud.describe(f"{array_id}:2")
    assert (child["jobName"], child["arrayProperties"]) == (done["jobName"], {"index": 2})
    assert child["jobArn"] == f"{done['jobArn']}:2"


def test_the_parent_is_pending_until_the_last_child_has_ended_and_fails_with_any_of_them(cloud: Compute) -> None:
    array_id = array(
        cloud,
        'until test -e ../../../go; do sleep 0.02; done; test "$AWS_BATCH_JOB_ARRAY_INDEX" != 1',
        retryStrategy={"attempts": 1},
    )
    eventually(lambda: all(cloud.describe(f"{array_id}:{index}")["status"] == "RUNNING" for index in range(3)))
    assert cloud.describe(array_id)["status"] == "PENDING"
    assert cloud.describe(array_id)["arrayProperties"]["statusSummary"]["RUNNING"] == 3

    (cloud.work_dir / array_id / "go").touch()
    done = cloud.wait(array_id)

    assert (done["status"], done["statusReason"]) == ("FAILED", CHILD_FAILED)
    assert [cloud.describe(f"{array_id}:{index}")["status"] for index in range(3)] == [
        "SUCCEEDED",
        "FAILED",
        "SUCCEEDED",
    ]


def test_a_child_that_loses_its_host_is_retried_alone(cloud: Compute) -> None:
    array_id = array(cloud, 'test "$AWS_BATCH_JOB_ARRAY_INDEX$AWS_BATCH_JOB_ATTEMPT" != 11 || sleep 60')
    lost = f"{array_id}:1"
    cloud.wait(lost, "RUNNING")

    cloud.market.reclaim(cloud.batch.attempts(lost)[0].instance.id, notice=False)

    assert cloud.wait(array_id)["status"] == "SUCCEEDED"
    assert [len(cloud.batch.attempts(f"{array_id}:{index}")) for index in range(3)] == [1, 2, 1]


def test_terminating_a_child_leaves_the_others_and_terminating_the_array_ends_all(cloud: Compute) -> None:
    array_id = array(cloud, "exec sleep 60", retryStrategy={"attempts": 1})
    children = [f"{array_id}:{index}" for index in range(3)]
    for child in children:
        cloud.wait(child, "RUNNING")

    cloud.batch.handle("TerminateJob", {"jobId": children[0], "reason": "one"})
    assert cloud.wait(children[0])["statusReason"] == "one"
    assert [cloud.describe(child)["status"] for child in children[1:]] == ["RUNNING", "RUNNING"]
    cloud.batch.handle("TerminateJob", {"jobId": array_id, "reason": "all"})
    assert cloud.wait(array_id)["status"] == "FAILED"

    assert [cloud.describe(child)["statusReason"] for child in children] == ["one", "all", "all"]


def test_cancelling_an_array_cancels_the_children_that_wait(cloud: Compute) -> None:
    cloud.market.dry()
    array_id = array(cloud, "true")
    eventually(lambda: cloud.describe(f"{array_id}:2")["status"] == "RUNNABLE")

    cloud.batch.handle("CancelJob", {"jobId": array_id, "reason": "not today"})

    assert cloud.wait(array_id)["arrayProperties"]["statusSummary"]["FAILED"] == 3
    assert cloud.describe(f"{array_id}:2")["statusReason"] == "not today"


def test_a_queue_lists_the_array_and_the_array_lists_its_children(cloud: Compute) -> None:
    array_id = array(cloud, "true")
    cloud.wait(array_id)

    named = {"filters": [{"name": "JOB_NAME", "values": ["job"]}]}
    assert listed(cloud, jobQueue=SPOT_QUEUE, **named) == [array_id]
    assert listed(cloud, arrayJobId=array_id, jobStatus="SUCCEEDED") == [f"{array_id}:{i}" for i in (2, 1, 0)]
    assert listed(cloud, arrayJobId=array_id) == []


def test_responses_about_arrays_have_the_shapes_that_botocore_expects(cloud: Compute) -> None:
    array_id = array(cloud, "true")
    cloud.wait(array_id)
    model = botocore.session.get_session().get_service_model("batch")

    for operation, request in (
        ("DescribeJobs", {"jobs": [array_id, f"{array_id}:1"]}),
        ("ListJobs", {"arrayJobId": array_id, "jobStatus": "SUCCEEDED"}),
        ("ListJobs", {"jobQueue": SPOT_QUEUE, "jobStatus": "SUCCEEDED"}),
    ):
        response = cloud.batch.handle(operation, request)
        shape: Any = model.operation_model(operation).output_shape
        report = ParamValidator().validate(response, shape).generate_report()
        # The array itself never starts.
        assert report.replace('Missing required parameter in jobs[0]: "startedAt"', "") == ""
        (found,) = [member for member in response.values() if isinstance(member, list)]
        assert all(job["arrayProperties"].keys() <= {"size", "index", "statusSummary"} for job in found)


def test_each_child_sends_events_of_its_own_with_its_index(cloud: Compute) -> None:
    array_id = array(cloud, "true")
    cloud.wait(array_id)

    eventually(lambda: cloud.of_type("Batch Job State Change", jobId=array_id, status="SUCCEEDED"))
    (event,) = cloud.of_type("Batch Job State Change", jobId=f"{array_id}:1", status="SUCCEEDED")
    assert event["detail"]["arrayProperties"] == {"index": 1}
    assert event["resources"] == [event["detail"]["jobArn"]]


@pytest.mark.parametrize("size", [1, 10_001])
def test_an_array_has_two_to_ten_thousand_children(cloud: Compute, size: int) -> None:
    with pytest.raises(Exception, match=f"between 2 and 10000; got {size}"):
        array(cloud, "true", size=size)
