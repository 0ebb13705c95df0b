from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from spotkeeper.contract import environment_variables as variables
from spotkeeper.contract.names import descriptor_parameter
from spotkeeper.control.aws import binding
from tests.control.ledger_table import TABLE
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import BUCKET, deployed

if TYPE_CHECKING:
    from spotkeeper.ops.connection import Connection


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator["Connection"]:
    """A deployed environment, and a fresh process of a handler in it."""
    monkeypatch.setenv(variables.LEDGER_TABLE, TABLE)
    monkeypatch.setenv(variables.CHECKPOINT_URI, f"s3://{BUCKET}")
    monkeypatch.setenv(variables.DESCRIPTOR_PARAMETER, descriptor_parameter("dev"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with deployed() as connection:
        forget_clients()
        yield connection
    forget_clients()


def forget_clients() -> None:
    for bound in vars(binding).values():
        if hasattr(bound, "cache_clear"):
            bound.cache_clear()
