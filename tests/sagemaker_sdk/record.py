"""What reaches the network: run in `.venv-sagemaker`, with a request for CreateTrainingJob as JSON on standard input.

Prints the bodies that boto3 and the SDK's ModelTrainer send for it, and the payload of the SDK's TrainingQueue.
"""

import json
import os
import sys
from typing import Any

os.environ["AWS_DEFAULT_REGION"] = "us-east-1"

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from sagemaker.core.helper.session_helper import Session

from spotkeeper.ops.sagemaker_sdk import model_trainer

ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/recorded"


class _Body:
    """What botocore reads a response from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Any:
        yield self._content


def _refuse(request: Any, **_: Any) -> Any:
    raise AssertionError(f"IAM is asked: {request.body!r}")


def main() -> None:
    """Send the request both ways, to nobody."""
    request = json.load(sys.stdin)
    sent: list[tuple[str, dict[str, Any]]] = []

    def record(request: Any, **_: Any) -> Any:
        operation = request.headers["X-Amz-Target"]
        target = (operation if isinstance(operation, str) else operation.decode()).rpartition(".")[2]
        body = request.body if isinstance(request.body, str) else request.body.decode()
        sent.append((target, json.loads(body)))
        answer = {"TrainingJobArn": ARN, "TrainingJobName": "recorded"}
        return AWSResponse(request.url, 200, HTTPHeaders(), _Body(json.dumps(answer).encode()))

    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
    session.events.register("before-send.sagemaker", record)
    session.events.register("before-send.iam", _refuse)
    trainer = model_trainer(request, sagemaker_session=Session(boto_session=session))
    session.client("sagemaker").create_training_job(**request)
    trainer.train(wait=False, logs=False)
    plain, sdk = (body for target, body in sent if target == "CreateTrainingJob")
    json.dump({"boto3": plain, "sdk": sdk, "queue": trainer._create_training_job_args(boto3=True)}, sys.stdout)


if __name__ == "__main__":
    main()
