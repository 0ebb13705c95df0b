"""The zip file that all Lambda functions share."""

from pathlib import Path

from aws_cdk import IgnoreMode
from aws_cdk import aws_lambda as lambda_

REPOSITORY_ROOT = Path(__file__).parents[2]


def handler_code() -> lambda_.Code:
    """Return the handlers and what they import, as they stand in the repository: no build, no dependencies.

    An allow-list: another file of the repository changes no function. A test asserts the exact contents.
    """
    return lambda_.Code.from_asset(
        str(REPOSITORY_ROOT),
        ignore_mode=IgnoreMode.GIT,
        exclude=[
            "/*",
            "!/lambdas",
            "!/spotkeeper",
            "/spotkeeper/*",
            "!/spotkeeper/__init__.py",
            "!/spotkeeper/contract",
            "!/spotkeeper/policy",
            "!/spotkeeper/control",
            "__pycache__",
        ],
    )
