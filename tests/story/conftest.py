import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulation.cloud import Cloud, Conditions
from emulation.events.router import deliver_once
from emulation.templates.assembly import Assembly
from tests.story.faults import Faults
from tests.story.user import User
from tests.trainer.conftest import INTERPRETER


@pytest.fixture(scope="session")
def dev(deployable: Callable[[str], Assembly]) -> Assembly:
    return deployable("dev")


POLLS_QUICKLY = f"""
import os, sys
from spotkeeper.trainer.exec import main
os.environ.setdefault("PYTHONPATH", {str(INTERPRETER)!r})
del sys.argv[1]
main(poll_seconds=0.5)
"""
"""`spotkeeper-exec`, whose attempts look at their run as often as a fast emulation's nearer deadlines need it."""


@pytest.fixture
def speed() -> float:
    return 300


@pytest.fixture
def faults() -> Faults:
    return deliver_once


@pytest.fixture
def entrypoint() -> tuple[str, ...]:
    """What stands before every job's command: it replaces `spotkeeper-exec`, the command's first word."""
    return (sys.executable, "-c", POLLS_QUICKLY)


@pytest.fixture
def cloud(dev: Assembly, tmp_path: Path, speed: float, faults: Faults, entrypoint: tuple[str, ...]) -> Iterator[Cloud]:
    conditions = Conditions(seed=1, speed=speed, faults=faults, entrypoint=entrypoint)
    with Cloud("dev", work_dir=tmp_path / "cloud", conditions=conditions, assembly=dev) as cloud:
        yield cloud
        assert cloud.failures == ()
        assert cloud.function_errors == ()


@pytest.fixture
def user(cloud: Cloud, tmp_path: Path) -> User:
    return User(cloud, tmp_path / "source")
