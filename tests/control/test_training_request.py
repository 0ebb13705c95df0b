"""What is asked of SageMaker, held against botocore's own model of it."""

from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from spotkeeper.control.ports import Refused
from spotkeeper.control.submit import job_request, request_of
from spotkeeper.control.terms import ProfileTerms
from spotkeeper.control.training_request import training_request
from tests.control.fakes import TERMS, new_run
from tests.control.training import IMAGE, ON_DEMAND, PROFILE, ROLE, SPOT, TRAINING, TRAINING_TERMS, training_run


def is_valid(request: dict[str, Any]) -> bool:
    client = boto3.client("sagemaker", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    shape = client.meta.service_model.operation_model("CreateTrainingJob").input_shape
    report = ParamValidator().validate(request, shape)
    return not report.has_errors()


def with_training(**changes: Any) -> ProfileTerms:
    return replace(PROFILE, training=replace(TRAINING, **changes))


def test_a_spot_submission_asks_for_one_type_our_process_1_and_a_wait_above_its_run_time() -> None:
    request = training_request(training_run(submission=2), profile=PROFILE)

    assert is_valid(request)
    assert request == {
        "TrainingJobName": "dev-digits-7fq2-2",
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["spotkeeper-exec", "--"],
            "ContainerArguments": ["python", "train.py"],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://spotkeeper-dev-checkpoints/mirror/digits-7fq2.output/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600 + 2 * 86400},
        "EnableManagedSpotTraining": True,
        "Environment": {
            "SPOTKEEPER_MAX_LOST_SECONDS": "900",
            "SPOTKEEPER_ENV": "dev",
            "SPOTKEEPER_RUN_ID": "digits-7fq2",
            "SPOTKEEPER_SUBMISSION": "2",
            "SPOTKEEPER_ATTEMPT_SECONDS": "3600",
            "SPOTKEEPER_QUEUE": SPOT,
            "SPOTKEEPER_TEAM": "research",
            "SPOTKEEPER_URI": "s3://spotkeeper-dev-checkpoints",
            "SPOTKEEPER_LEDGER_TABLE": "spotkeeper-dev-ledger",
        },
        "Tags": [
            {"Key": "spotkeeper:project", "Value": "spotkeeper"},
            {"Key": "spotkeeper:environment", "Value": "dev"},
            {"Key": "spotkeeper:team", "Value": "research"},
            {"Key": "spotkeeper:profile", "Value": "train-cpu"},
            {"Key": "spotkeeper:market", "Value": "spot"},
            {"Key": "spotkeeper:run", "Value": "digits-7fq2"},
        ],
    }


def test_an_on_demand_submission_leaves_the_choice_among_types_to_sagemaker_which_excludes_spot() -> None:
    run = training_run(market="on-demand", job_queue=ON_DEMAND, segment_seconds=1800, num_nodes=2)
    request = training_request(run, profile=PROFILE)

    assert is_valid(request)
    assert "EnableManagedSpotTraining" not in request, "excluded by InstancePreferences"
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}
    assert request["ResourceConfig"] == {
        "InstancePreferences": [
            {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2},
            {"InstanceType": "ml.c5.2xlarge", "InstanceCount": 2},
        ],
        "VolumeSizeInGB": 50,
    }


def test_the_type_that_is_tried_and_the_image_that_the_user_chose_are_asked_for() -> None:
    request = training_request(training_run(instance_type="ml.c5.2xlarge", image="own@sha256:1"), profile=PROFILE)

    assert request["ResourceConfig"]["InstanceType"] == "ml.c5.2xlarge"
    assert request["AlgorithmSpecification"]["TrainingImage"] == "own@sha256:1"


def test_network_key_and_encryption_between_nodes_are_as_the_environment_settled() -> None:
    profile = with_training(
        subnet_ids=("subnet-1",), security_group_ids=("sg-1",), kms_key_arn="arn:key", encrypts_between_nodes=True
    )
    request = training_request(training_run(), profile=profile)

    assert is_valid(request)
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["EnableInterContainerTrafficEncryption"] is True
    assert request["OutputDataConfig"]["KmsKeyId"] == request["ResourceConfig"]["VolumeKmsKeyId"] == "arn:key"


def test_machines_with_a_disk_of_their_own_take_no_key_for_a_volume() -> None:
    profile = with_training(kms_key_arn="arn:key")
    spot = training_request(training_run(instance_type="ml.g5.xlarge"), profile=profile)
    mixed = replace(profile, on_demand_instance_types=("ml.m5.xlarge", "ml.g6.xlarge"))
    on_demand = training_request(training_run(market="on-demand", job_queue=ON_DEMAND), profile=mixed)

    assert "VolumeKmsKeyId" not in spot["ResourceConfig"]
    assert "VolumeKmsKeyId" not in on_demand["ResourceConfig"]
    assert spot["OutputDataConfig"]["KmsKeyId"] == "arn:key"


def test_an_isolated_container_is_given_the_mirror_and_no_ledger() -> None:
    request = training_request(training_run(is_isolated=True), profile=with_training(is_isolated=True))

    assert is_valid(request)
    assert request["EnableNetworkIsolation"] is True
    assert request["CheckpointConfig"] == {
        "S3Uri": "s3://spotkeeper-dev-checkpoints/mirror/digits-7fq2/",
        "LocalPath": "/opt/ml/checkpoints",
    }
    assert request["Environment"]["SPOTKEEPER_URI"] == "/opt/ml/checkpoints"
    assert "SPOTKEEPER_LEDGER_TABLE" not in request["Environment"]
    assert "InputDataConfig" not in request


def test_an_isolated_container_is_brought_its_source_and_its_data_as_channels() -> None:
    given = {
        "SPOTKEEPER_SOURCE_URI": "s3://spotkeeper-dev-checkpoints/source/abc.tar.gz",
        "SPOTKEEPER_SOURCE_SHA256": "abc",
        "SPOTKEEPER_DATA_MNIST": "s3://data/mnist/",
        "SEED": "7",
    }
    request = training_request(training_run(is_isolated=True, variables=given), profile=PROFILE)

    assert is_valid(request)
    assert {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] for channel in request["InputDataConfig"]
    } == {"mnist": "s3://data/mnist/", "spotkeeper-source": "s3://spotkeeper-dev-checkpoints/source/abc.tar.gz"}
    told = request["Environment"]
    assert told["SPOTKEEPER_SOURCE_URI"] == "/opt/ml/input/data/spotkeeper-source/abc.tar.gz"
    assert (told["SPOTKEEPER_SOURCE_SHA256"], told["SEED"]) == ("abc", "7")
    assert "SPOTKEEPER_DATA_MNIST" not in told, "the trainer sets it to the channel's folder"


@pytest.mark.parametrize("given", ["s3://data/digits", "s3://data/digits/"])
def test_a_data_set_is_brought_as_the_folder_that_the_role_may_list_and_not_what_only_begins_like_it(
    given: str,
) -> None:
    run = training_run(is_isolated=True, variables={"SPOTKEEPER_DATA_DIGITS": given})
    (channel,) = training_request(run, profile=PROFILE)["InputDataConfig"]

    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://data/digits/"


def test_a_run_that_began_isolated_stays_so_and_one_that_did_not_is_not_isolated_later() -> None:
    isolating = replace(TRAINING_TERMS, profiles={"train-cpu": with_training(is_isolated=True)})

    assert request_of(training_run(is_isolated=True), TRAINING_TERMS)["EnableNetworkIsolation"] is True
    with pytest.raises(Refused, match="isolates training jobs from the network now"):
        request_of(training_run(), isolating)


def test_a_name_that_sagemaker_would_refuse_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"has a|would have a name of 6[4-9] characters.*shorter --name"):
        training_request(training_run(run_id="a" * 60), profile=PROFILE)


def test_the_queue_of_a_run_tells_which_service_is_asked() -> None:
    run = training_run()

    assert request_of(run, TRAINING_TERMS) == training_request(run, profile=PROFILE)
    assert request_of(new_run(), TRAINING_TERMS) == job_request(new_run())
    with pytest.raises(Refused, match="no profile 'train-cpu' on SageMaker any more"):
        request_of(run, TERMS)
