from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spotkeeper.contract.training import LOG_GROUP
from spotkeeper.ops.connection import Connection, connect
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import TRAINING, deployed, put


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Connection]:
    """A deployed environment, a shell that is set up for it, and a folder with a program."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for name in ("SPOTKEEPER_ENV", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    program = tmp_path / "program"
    program.mkdir()
    (program / "train.py").write_text("print('hello')")
    monkeypatch.chdir(program)
    with deployed() as connection:
        yield connection


@pytest.fixture
def with_training(environment: Connection) -> Connection:
    """The same with a profile of SageMaker, whose jobs have written logs before."""
    put(replace(environment.descriptor, training=TRAINING))
    connection = connect("dev", region=REGION)
    connection.logs.create_log_group(logGroupName=LOG_GROUP)
    return connection
