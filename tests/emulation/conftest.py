"""Fixtures of the AWS side: an endpoint, and the sample deployed into it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulation.aws import Aws, connect
from emulation.server import Server
from emulation.templates.assembly import Assembly
from tests.emulation import sample_stack


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def aws(server: Server) -> Aws:
    return connect(server.endpoint_url, "us-east-1")


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., Assembly]:
    """Make the sample's cloud assembly, perhaps changed."""
    return lambda change=None: sample_stack.assembly(tmp_path / "sample", change=change)
