from collections.abc import Iterator
from pathlib import Path

import pytest

from spotkeeper.ops.connection import Connection
from tests.control.ledger_table import REGION
from tests.ops.deployed_environment import deployed


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
