"""The client of a function whose SDK is older than what is asked of SageMaker."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore
import pytest
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber

from spotkeeper.control.aws.client_config import HANDLER_CONFIG
from spotkeeper.control.aws.training_client import training_client
from spotkeeper.control.training_request import training_request
from tests.control.training import ON_DEMAND, PROFILE, arn_of, training_run

MODEL = Path("sagemaker/2017-07-24")
REQUEST = training_request(replace(training_run(), market="on-demand", job_queue=ON_DEMAND), profile=PROFILE)


@pytest.fixture
def _of_last_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let botocore find a model of SageMaker before its own that does not know what is new."""
    installed = Path(botocore.__file__).parent / "data" / MODEL / "service-2.json.gz"
    model: dict[str, Any] = json.loads(gzip.decompress(installed.read_bytes()))
    shapes = model["shapes"]
    del shapes["ResourceConfig"]["members"]["InstancePreferences"], shapes["InstancePreference"]
    del shapes["InstancePreferenceList"]
    older = tmp_path / MODEL / "service-2.json"
    older.parent.mkdir(parents=True)
    older.write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.mark.usefixtures("_of_last_year")
def test_the_request_of_a_fallback_is_sent_by_an_sdk_that_does_not_know_what_it_asks_for() -> None:
    with pytest.raises(ParamValidationError, match="InstancePreferences"):
        boto3.Session().client("sagemaker").create_training_job(**REQUEST)

    client = training_client(HANDLER_CONFIG)
    with Stubber(client) as stubber:
        stubber.add_response("create_training_job", {"TrainingJobArn": arn_of("dev-digits-7fq2-1")}, REQUEST)
        client.create_training_job(**REQUEST)


def test_todays_sdk_knows_it_by_itself_and_is_told_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def members(client: Any) -> list[str]:
        return list(client.meta.service_model.shape_for("ResourceConfig").members)

    assert members(training_client(HANDLER_CONFIG)) == members(boto3.Session().client("sagemaker"))
