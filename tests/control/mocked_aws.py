"""AWS in this process, by moto."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import boto3
from moto import mock_aws

REGION = "us-east-1"


def mocked_aws() -> AbstractContextManager[Any]:
    """Return moto, empty. boto3's session stays from test to test, and with it what it has read of the services."""
    return mock_aws(
        config={"batch": {"use_docker": False}, "core": {"mock_credentials": True, "reset_boto3_session": False}}
    )


@cache
def client(service: str) -> Any:
    """Return a client for what is there before a test begins; it outlives the test, so nothing may be hung on it."""
    untyped: Any = boto3
    return untyped.client(service, region_name=REGION)
