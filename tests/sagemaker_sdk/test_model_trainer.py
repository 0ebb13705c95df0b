"""The SDK's ModelTrainer sends what boto3 sends; what is compared is what reached the network."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sagemaker" / "bin" / "python"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/trainer@sha256:" + "a" * 64

SPOT: dict[str, Any] = {
    "TrainingJobName": "dev-mine-1",
    "AlgorithmSpecification": {
        "TrainingImage": IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["spotkeeper-exec", "--"],
        "ContainerArguments": ["python", "train.py", "--epochs", "3"],
    },
    "RoleArn": "arn:aws:iam::123456789012:role/training",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/mirror/mine.output/"},
    "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 176400},
    "EnableManagedSpotTraining": True,
    "Environment": {"SPOTKEEPER_RUN_ID": "mine", "SPOTKEEPER_URI": "s3://bucket"},
    "Tags": [{"Key": "spotkeeper:run", "Value": "mine"}, {"Key": "spotkeeper:market", "Value": "spot"}],
}

CLOSED = {
    **SPOT,
    "VpcConfig": {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]},
    "EnableNetworkIsolation": True,
    "EnableInterContainerTrafficEncryption": True,
    "CheckpointConfig": {"S3Uri": "s3://bucket/mirror/mine/", "LocalPath": "/opt/ml/checkpoints"},
    "OutputDataConfig": {**SPOT["OutputDataConfig"], "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"},
    "ResourceConfig": {**SPOT["ResourceConfig"], "VolumeKmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/k"},
}

ON_DEMAND = {
    **SPOT,
    "EnableManagedSpotTraining": False,
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "ResourceConfig": {
        "InstancePreferences": [
            {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
            {"InstanceType": "ml.g6.2xlarge", "InstanceCount": 1},
        ],
        "VolumeSizeInGB": 150,
    },
}


def run(request: dict[str, Any], home: Path) -> subprocess.CompletedProcess[str]:
    # Without the SDK's configuration files of whoever runs the tests, and without their credentials.
    environment = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
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
