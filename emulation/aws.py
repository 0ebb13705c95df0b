"""boto3 clients for the emulation's own endpoint."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
import botocore.session
from botocore.config import Config
from botocore.model import ServiceModel

if TYPE_CHECKING:
    from mypy_boto3_batch import BatchClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

ACCESS_KEY: Final = "emulation"
SECRET_KEY: Final = "emulation"  # noqa: S105  # moto accepts anything; nothing real is behind it

# A 500 here is a gap of the emulation: retrying hides it and, after a create, turns it into "already exists".
_CONFIG: Final = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    max_pool_connections=20,
    proxies={},  # loopback, whatever HTTP_PROXY says
)


@functools.cache  # reading the services' models takes most of the time that making clients takes
def session(region: str) -> boto3.Session:
    """Return the session of a region, with credentials that mean nothing outside the emulation."""
    return boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=region)


@functools.cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service: its operations, and the shapes of what they take and return."""
    model: ServiceModel = botocore.session.get_session().get_service_model(service)
    return model


@dataclass(frozen=True, kw_only=True, slots=True)
class Aws:
    """One client a service. Clients may be shared by threads; making them may not, so all are made at once."""

    batch: "BatchClient"
    cloudformation: "CloudFormationClient"
    dynamodb: "DynamoDBClient"
    ec2: "EC2Client"
    events: "EventBridgeClient"
    functions: "LambdaClient"
    s3: "S3Client"
    sqs: "SQSClient"
    ssm: "SSMClient"


def connect(endpoint_url: str, region: str) -> Aws:
    """Make a client for each service that the emulation calls."""
    aws = session(region)
    return Aws(
        batch=aws.client("batch", endpoint_url=endpoint_url, config=_CONFIG),
        cloudformation=aws.client("cloudformation", endpoint_url=endpoint_url, config=_CONFIG),
        dynamodb=aws.client("dynamodb", endpoint_url=endpoint_url, config=_CONFIG),
        ec2=aws.client("ec2", endpoint_url=endpoint_url, config=_CONFIG),
        events=aws.client("events", endpoint_url=endpoint_url, config=_CONFIG),
        functions=aws.client("lambda", endpoint_url=endpoint_url, config=_CONFIG),
        s3=aws.client("s3", endpoint_url=endpoint_url, config=_CONFIG),
        sqs=aws.client("sqs", endpoint_url=endpoint_url, config=_CONFIG),
        ssm=aws.client("ssm", endpoint_url=endpoint_url, config=_CONFIG),
    )
