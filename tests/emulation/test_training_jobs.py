"""SageMaker training jobs, through boto3, as tiny real programs."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emulation.ec2.market import Pool
from tests.emulation.compute import eventually
from tests.emulation.training import TYPE, ZONE, Training, training

WAITS = "import time; print('here', flush=True); time.sleep(60)"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Training]:
    with training(tmp_path / "jobs") as cloud:
        yield cloud


def secondary(description: Any) -> list[str]:
    return [each["Status"] for each in description["SecondaryStatusTransitions"]]


def test_a_job_goes_through_every_status_and_tells_its_times_when_it_has_ended(cloud: Training, tmp_path: Path) -> None:
    may_end = tmp_path / "may-end"
    arn = cloud.create(
        "import os, pathlib; (pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']) / 'model/weights').write_text('w');"
        "print(os.environ['TRAINING_JOB_ARN'], os.environ['TRAINING_JOB_NAME'], os.environ['OWN'])\n"
        f"while not os.path.exists({str(may_end)!r}): pass",
        Environment={"OWN": "1"},
    )
    cloud.service.wait("job", "Training")
    assert "BillableTimeInSeconds" not in cloud.describe()
    may_end.touch()
    done = cloud.ended()

    assert cloud.service.output("job") == f"{arn} job 1\n"
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Completed", "Completed")
    assert secondary(done) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert 0 < done["BillableTimeInSeconds"] <= done["TrainingTimeInSeconds"]
    assert done["TrainingStartTime"] < done["TrainingEndTime"]
    assert cloud.keys("output/") == ["output/job/output/model.tar.gz"]
    assert done["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bucket/output/job/output/model.tar.gz"
    assert cloud.market.instances[0].ended_at is not None


def test_each_change_is_an_event_in_the_shape_of_aws_with_times_in_milliseconds(cloud: Training) -> None:
    arn = cloud.create("pass", Tags=[{"Key": "team", "Value": "a"}])
    cloud.ended()
    eventually(lambda: len(cloud.events) == 5)

    first, last = cloud.events[0], cloud.events[-1]
    assert [event["detail"]["SecondaryStatus"] for event in cloud.events] == [
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert (last["source"], last["detail-type"]) == ("aws.sagemaker", "SageMaker Training Job State Change")
    assert last["resources"] == [arn]
    assert last["detail"]["Tags"] == {"team": "a"}
    assert isinstance(last["detail"]["TrainingEndTime"], int)
    assert last["detail"]["CreationTime"] == first["detail"]["CreationTime"] > 1_700_000_000_000


def test_a_failure_tells_what_the_program_wrote_about_it(cloud: Training) -> None:
    cloud.create(
        "import os, pathlib, sys; (pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']) / 'output/failure').write_text('no');"
        "sys.exit(3)"
    )
    done = cloud.ended()

    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Failed", "Failed")
    assert done["FailureReason"] == "AlgorithmError: no, exit code: 3"


def test_a_program_that_wrote_much_about_its_failure_leaves_no_room_for_its_exit_code(cloud: Training) -> None:
    cloud.create(
        "import os, pathlib, sys;"
        "(pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']) / 'output/failure').write_text('no' * 1000); sys.exit(3)"
    )
    reason = cloud.ended()["FailureReason"]

    assert (len(reason), reason[-4:]) == (1024, "nono")


@pytest.mark.parametrize("notice", [True, False])
def test_an_interruption_restarts_the_same_job_on_new_capacity(cloud: Training, notice: bool) -> None:
    cloud.create(
        "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'told\\n'));"
        "print('here', flush=True); time.sleep(60); time.sleep(60)"
    )
    cloud.writes()
    (first,) = cloud.service.instances("job")
    cloud.market.reclaim(first.id, notice=notice)
    eventually(lambda: len(cloud.service.periods("job")) == 2)
    cloud.service.wait("job", "Training")

    assert secondary(cloud.describe()) == [
        "Starting", "Downloading", "Training", "Interrupted", "Starting", "Downloading", "Training",
    ]  # fmt: skip
    assert ("told" in cloud.service.output("job")) is notice
    assert cloud.service.instances("job")[0].id != first.id


def test_without_capacity_a_spot_job_waits_until_its_wait_is_over(cloud: Training) -> None:
    cloud.market.dry()
    cloud.create("pass", StoppingCondition={"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 500})
    waiting = eventually(lambda: _message(cloud.describe()))
    done = cloud.ended()

    assert waiting == "Insufficient capacity error from EC2 while launching instances, retrying!"
    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert secondary(done) == ["Starting", "MaxWaitTimeExceeded"]
    assert cloud.market.instances == ()
    assert "BillableTimeInSeconds" not in done


def test_a_wait_of_days_can_be_ended_at_once_for_a_job_without_machines_and_for_one_that_trains(
    cloud: Training,
) -> None:
    cloud.create(WAITS, "trains")
    cloud.writes("trains")
    cloud.market.dry()
    cloud.create("pass", "waits")
    eventually(lambda: _message(cloud.describe("waits")))

    for name in ("waits", "trains"):
        cloud.service.end_wait(name)

    told = {name: cloud.ended(name) for name in ("waits", "trains")}
    assert {(one["TrainingJobStatus"], one["SecondaryStatus"]) for one in told.values()} == {
        ("Stopped", "MaxWaitTimeExceeded")
    }
    assert secondary(told["waits"]) == ["Starting", "MaxWaitTimeExceeded"]
    assert secondary(told["trains"])[-4:] == ["Training", "Stopping", "Uploading", "MaxWaitTimeExceeded"]


def test_a_job_on_on_demand_has_no_wait_that_could_be_ended(cloud: Training) -> None:
    cloud.create(WAITS, EnableManagedSpotTraining=False, StoppingCondition={"MaxRuntimeInSeconds": 36_000})

    with pytest.raises(ValueError, match="job is not on spot"):
        cloud.service.end_wait("job")


def _message(description: Any) -> str:
    message = str(description["SecondaryStatusTransitions"][-1]["StatusMessage"])
    return message if message.startswith("Insufficient") else ""


def test_capacity_that_comes_back_starts_the_job(cloud: Training) -> None:
    cloud.market.set_capacity(Pool(TYPE, ZONE), 1)
    two = {"InstanceType": TYPE, "InstanceCount": 2, "VolumeSizeInGB": 30}
    cloud.create("pass", ResourceConfig=two)
    eventually(lambda: _message(cloud.describe()))
    assert cloud.market.instances == ()  # one of two is none

    cloud.market.set_capacity(Pool(TYPE, ZONE), 2)

    assert cloud.ended()["TrainingJobStatus"] == "Completed"
    assert len(cloud.market.instances) == 2


def test_the_time_limit_sends_sigterm_and_leaves_time_to_save(cloud: Training) -> None:
    cloud.create(
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(0)));"
        "print('here', flush=True); time.sleep(60)",
        StoppingCondition={"MaxRuntimeInSeconds": 1000, "MaxWaitTimeInSeconds": 72_000},
    )
    done = cloud.ended()

    assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert secondary(done)[-3:] == ["Stopping", "Uploading", "MaxRuntimeExceeded"]
    assert cloud.service.output("job") == "here\nsaved\n"


def test_a_stop_kills_what_does_not_hear_it(tmp_path: Path) -> None:
    with training(tmp_path / "jobs", grace_seconds=0.2) as cloud:
        cloud.create(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}")
        cloud.writes()
        cloud.sagemaker.stop_training_job(TrainingJobName="job")
        done = cloud.ended()

        assert (done["TrainingJobStatus"], done["SecondaryStatus"]) == ("Stopped", "Stopped")
        with pytest.raises(ClientError, match="in status Stopped"):
            cloud.sagemaker.stop_training_job(TrainingJobName="job")


def test_a_job_that_waits_for_capacity_is_stopped_at_once(cloud: Training) -> None:
    cloud.market.dry()
    cloud.create("pass")
    cloud.sagemaker.stop_training_job(TrainingJobName="job")

    assert cloud.ended()["SecondaryStatus"] == "Stopped"


def test_on_demand_takes_the_first_preference_that_has_capacity_and_fails_without_any(tmp_path: Path) -> None:
    preferences = [{"InstanceType": name, "InstanceCount": 1} for name in ("ml.m6i.xlarge", "ml.m7i.xlarge")]
    on_demand: dict[str, Any] = {
        "EnableManagedSpotTraining": False,
        "StoppingCondition": {"MaxRuntimeInSeconds": 36_000},
        "ResourceConfig": {"InstancePreferences": preferences, "VolumeSizeInGB": 30},
    }
    with training(tmp_path / "jobs", speed=5000) as cloud:
        cloud.market.dry(Pool("ml.m6i.xlarge", ZONE), market="on-demand")
        cloud.create("pass", "first", **on_demand)
        done = cloud.ended("first")
        assert done["ResourceConfig"]["SelectedInstanceType"] == "ml.m7i.xlarge"
        assert done["BillableTimeInSeconds"] == done["TrainingTimeInSeconds"]

        cloud.market.dry(market="on-demand")
        cloud.create("pass", "second", **on_demand)
        assert cloud.ended("second")["FailureReason"].startswith("CapacityError: Unable to provision")


def test_both_nodes_know_each_other_and_the_loss_of_one_restarts_both(cloud: Training) -> None:
    two = {"InstanceType": TYPE, "InstanceCount": 2, "VolumeSizeInGB": 30}
    cloud.create(
        "import json, os, time; print(json.load(open(os.environ['SAGEMAKER_BASE_DIR']"
        " + '/input/config/resourceconfig.json'))['current_host'], flush=True); time.sleep(60)",
        ResourceConfig=two,
    )
    assert [cloud.writes(node=1), cloud.writes(node=2)] == ["127.0.0.1\n", "127.0.0.2\n"]
    cloud.market.reclaim(cloud.service.instances("job")[1].id, notice=False)
    assert cloud.writes(node=1, times=2) == "127.0.0.1\n" * 2

    first, second = cloud.service.periods("job")
    assert all(instance.ended_at is not None for instance in first.instances)
    assert all(instance.ended_at is None for instance in second.instances)


def test_one_node_that_fails_ends_the_job(cloud: Training) -> None:
    two = {"InstanceType": TYPE, "InstanceCount": 2, "VolumeSizeInGB": 30}
    cloud.create(
        "import os, sys, time;"
        "sys.exit(7) if os.environ['SAGEMAKER_BASE_DIR'].split('/')[-2] == '2' else time.sleep(60)",
        ResourceConfig=two,
    )
    assert cloud.ended()["FailureReason"] == "AlgorithmError: exit code: 7"


def test_hyperparameters_and_channels_are_where_the_container_contract_has_them(cloud: Training) -> None:
    cloud.s3.put_object(Bucket="bucket", Key="data/digits/train.csv", Body=b"1,2")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/digits/"}}
    cloud.create(
        "import os; base = os.environ['SAGEMAKER_BASE_DIR'] + '/input/';"
        "print(open(base + 'data/train/train.csv').read(), open(base + 'config/hyperparameters.json').read(),"
        " open(base + 'config/inputdataconfig.json').read())",
        InputDataConfig=[{"ChannelName": "train", "DataSource": source}],
        HyperParameters={"lr": "0.1"},
    )
    cloud.ended()
    data, hyperparameters, channels = cloud.service.output("job").split(" ", 1)[0], *json_objects(cloud)

    assert data == "1,2"
    assert hyperparameters == {"lr": "0.1"}
    assert channels["train"]["TrainingInputMode"] == "File"


def test_a_channel_without_objects_fails_the_job_before_its_container(cloud: Training) -> None:
    cloud.s3.put_object(Bucket="bucket", Key="data/one.txt", Body=b"1")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/one.txt/"}}
    cloud.create("print('started')", InputDataConfig=[{"ChannelName": "train", "DataSource": source}])

    assert cloud.ended()["FailureReason"].startswith(
        'ClientError: Data download failed: No S3 objects found under S3 URL "s3://bucket/data/one.txt/"'
    )
    assert cloud.service.output("job") == ""


def json_objects(cloud: Training) -> list[Any]:
    text, found = cloud.service.output("job").split(" ", 1)[1], []
    while text.strip():
        value, end = json.JSONDecoder().raw_decode(text.strip())
        found.append(value)
        text = text.strip()[end:]
    return found


CHECKPOINTS = {"S3Uri": "s3://bucket/mirror/run", "LocalPath": "/opt/ml/checkpoints"}
SAVES = (
    "import os, pathlib, time; folder = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR']) / 'checkpoints';"
    "print(sorted(path.name for path in folder.iterdir()), flush=True);"
)


def test_what_was_mirrored_is_there_again_after_an_interruption_and_the_rest_is_lost(cloud: Training) -> None:
    cloud.create(SAVES + "(folder / 'a').write_text('a'); time.sleep(60)", CheckpointConfig=CHECKPOINTS)
    cloud.writes()
    eventually(lambda: cloud.keys("mirror/run/") == ["mirror/run/a"])
    cloud.market.reclaim(cloud.service.instances("job")[0].id, notice=False)

    assert cloud.writes(times=2).splitlines() == ["[]", "['a']"]


def test_an_upload_that_the_loss_of_the_host_cut_short_is_left_over(tmp_path: Path) -> None:
    with training(tmp_path / "jobs", mirror_seconds=1e9) as cloud:
        cloud.create(SAVES + "(folder / 'b').write_text('b' * 100); print('saved', flush=True); time.sleep(60)",
                     CheckpointConfig=CHECKPOINTS)  # fmt: skip
        cloud.service.wait("job", "Training")
        eventually(lambda: "saved" in cloud.service.output("job"))
        cloud.market.reclaim(cloud.service.instances("job")[0].id, notice=False)
        eventually(lambda: len(cloud.service.periods("job")) == 2)

        assert cloud.keys("mirror/run/") == ["mirror/run/b.sagemaker-uploading"]


def test_a_mirror_that_has_stopped_tells_nobody(cloud: Training) -> None:
    cloud.service.stop_mirrors()
    cloud.create(SAVES + "(folder / 'a').write_text('a')", CheckpointConfig=CHECKPOINTS)

    assert cloud.ended()["TrainingJobStatus"] == "Completed"
    assert cloud.keys("mirror/run/") == []


def test_an_isolated_container_reaches_no_aws(cloud: Training) -> None:
    cloud.create(
        "import os; print(os.environ['AWS_ENDPOINT_URL'], 'AWS_ACCESS_KEY_ID' in os.environ)",
        EnableNetworkIsolation=True,
    )
    cloud.ended()

    assert cloud.service.output("job") == "http://127.0.0.1:1 False\n"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"RoleArn": "arn:aws:iam::123456789012:role/nobody"}, "ValidationException", "Could not assume role"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "ValidationException", "MaxWaitTimeInSeconds"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60}},
            "ValidationException",
            "MaxWaitTimeInSeconds",
        ),
        ({"EnableManagedSpotTraining": False}, "ValidationException", "managed spot training only"),
        ({"TrainingJobName": "a" * 64}, "ValidationException", "regular expression pattern"),
        (
            {"ResourceConfig": {"InstanceType": TYPE, "InstancePreferences": [{"InstanceType": TYPE}]}},
            "ValidationException",
            "mutually exclusive",
        ),
        (
            {"ResourceConfig": {"InstancePreferences": [{"InstanceType": TYPE}]}},
            "ValidationException",
            "mutually exclusive",
        ),
        (
            {"AlgorithmSpecification": {"TrainingImage": "trainer:1", "TrainingInputMode": "File"}},
            "ValidationException",
            "Invalid TrainingImage",
        ),
        ({"RetryStrategy": {"MaximumRetryAttempts": 2}}, "ValidationException", "does not do"),
        (
            {"ResourceConfig": {"InstanceType": "ml.huge.xlarge", "InstanceCount": 1}},
            "ValidationException",
            "ml.huge",
        ),
    ],
)
def test_what_sagemaker_refuses_is_refused(cloud: Training, change: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(ClientError, match=says) as refusal:
        cloud.create("pass", **change)

    assert refusal.value.response["Error"]["Code"] == code
    assert cloud.sagemaker.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_name_is_never_used_twice(cloud: Training) -> None:
    cloud.create("pass")
    cloud.ended()
    with pytest.raises(ClientError, match="names must be unique") as refusal:
        cloud.create("pass")

    assert refusal.value.response["Error"]["Code"] == "ResourceInUse"


def test_a_job_that_nobody_created_is_not_found(cloud: Training) -> None:
    for call in (cloud.sagemaker.describe_training_job, cloud.sagemaker.stop_training_job):
        with pytest.raises(ClientError, match=r"Requested resource not found\."):
            call(TrainingJobName="none")


def test_jobs_are_listed_by_name_and_status_in_pages(cloud: Training) -> None:
    cloud.market.dry(Pool("ml.m7i.xlarge", ZONE))
    for number in range(3):
        cloud.create("pass", f"dev-a-{number}")
    cloud.create("pass", "dev-b", ResourceConfig={"InstanceType": "ml.m7i.xlarge", "InstanceCount": 1})
    for number in range(3):
        cloud.ended(f"dev-a-{number}")

    def names(**asked: Any) -> list[str]:
        pages = cloud.sagemaker.get_paginator("list_training_jobs").paginate(
            PaginationConfig={"PageSize": 2}, SortBy="Name", SortOrder="Ascending", **asked
        )
        return [each["TrainingJobName"] for page in pages for each in page["TrainingJobSummaries"]]

    assert names(NameContains="a-") == ["dev-a-0", "dev-a-1", "dev-a-2"]
    assert names(StatusEquals="InProgress") == ["dev-b"]
    assert names() == ["dev-a-0", "dev-a-1", "dev-a-2", "dev-b"]


def test_tags_can_be_added_and_read(cloud: Training) -> None:
    arn = cloud.create("pass", Tags=[{"Key": "team", "Value": "a"}])
    cloud.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "run", "Value": "x"}])

    assert cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "team", "Value": "a"},
        {"Key": "run", "Value": "x"},
    ]


def test_stopping_the_emulation_ends_every_program(tmp_path: Path) -> None:
    with training(tmp_path / "jobs") as cloud:
        cloud.create(WAITS)
        cloud.writes()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("training-")]
