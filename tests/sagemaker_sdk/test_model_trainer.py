"""The SDK's ModelTrainer sends what boto3 sends; what is compared is what reached the network."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spotkeeper.control.training_request import training_request
from tests.control.training import ON_DEMAND as ON_DEMAND_QUEUE
from tests.control.training import PROFILE, TRAINING, training_run

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sagemaker" / "bin" / "python"

KEY = "arn:aws:kms:us-east-1:123456789012:key/k"
SPOT: dict[str, Any] = training_request(training_run(num_nodes=2), profile=PROFILE)
CLOSED = training_request(
    training_run(is_isolated=True),
    profile=replace(
        PROFILE,
        training=replace(
            TRAINING,
            subnet_ids=("subnet-1", "subnet-2"),
            security_group_ids=("sg-1",),
            kms_key_arn=KEY,
            is_isolated=True,
            encrypts_between_nodes=True,
        ),
    ),
)
CHANNEL = {
    "ChannelName": "SOURCE",
    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://spotkeeper-dev-checkpoints/source/"}},
}
ON_DEMAND = training_request(training_run(market="on-demand", job_queue=ON_DEMAND_QUEUE), profile=PROFILE)
"""What the control plane itself asks for."""


def run(request: Any, home: Path) -> subprocess.CompletedProcess[str]:
    # Without the SDK's configuration files of whoever runs the tests, and without their credentials.
    environment = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [PYTHON, "-m", "tests.sagemaker_sdk.record"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=environment,
    )


@pytest.mark.parametrize("request_", [SPOT, CLOSED, ON_DEMAND], ids=["spot", "closed", "on-demand"])
def test_the_model_trainer_sends_what_boto3_sends_and_the_queue_is_given_the_same(
    request_: dict[str, Any], tmp_path: Path
) -> None:
    done = run(request_, tmp_path)

    assert done.returncode == 0, done.stderr
    recorded = json.loads(done.stdout)
    assert recorded["boto3"] == request_
    assert recorded["sdk"] == recorded["boto3"]
    assert recorded["queue"] == recorded["boto3"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"RetryStrategy": {"MaximumRetryAttempts": 3}}, "the request has RetryStrategy, which would be lost"),
        (
            {"InputDataConfig": [CHANNEL]},
            "leave them out, or `spotkeeper submit`: a job with channels becomes no run, however it is sent by hand",
        ),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}},
            "needs MaxWaitTimeInSeconds above MaxRuntimeInSeconds, got 3600 and 3600",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 3600}}, "got None and 3600"),
    ],
)
def test_what_the_sdk_would_lose_or_send_in_vain_is_refused(
    change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    done = run({**SPOT, **change}, tmp_path)

    assert done.returncode != 0
    assert expected in done.stderr


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {},
            "the request has no TrainingJobName, RoleArn, AlgorithmSpecification, ResourceConfig, StoppingCondition, ",
        ),
        (json.dumps(SPOT), "must be the parameters of CreateTrainingJob as a dictionary, got str: give what "),
        (
            {**SPOT, "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"}},
            "the request has no AlgorithmSpecification.ContainerEntrypoint, AlgorithmSpecification.ContainerArguments,",
        ),
        (
            {**SPOT, "ResourceConfig": {"VolumeSizeInGB": 50}},
            "the request has no ResourceConfig.InstanceType, ResourceConfig.InstanceCount, which a job of ours needs",
        ),
        ({**SPOT, "StoppingCondition": 3600}, "StoppingCondition of the request must be a dictionary, got 3600"),
    ],
    ids=["nothing", "text", "no process", "no machines", "no dictionary"],
)
def test_what_is_no_whole_request_is_refused_by_what_it_lacks(request_: Any, expected: str, tmp_path: Path) -> None:
    done = run(request_, tmp_path)

    assert done.returncode != 0
    assert expected in done.stderr
