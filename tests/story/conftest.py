from collections.abc import Iterator
from pathlib import Path

import pytest

from emulation.cloud import Cloud, Conditions
from emulation.templates.assembly import Assembly, synthesize
from tests.story.user import User


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    return synthesize("dev", tmp_path_factory.mktemp("assembly"))


@pytest.fixture
def cloud(dev: Assembly, tmp_path: Path) -> Iterator[Cloud]:
    with Cloud("dev", work_dir=tmp_path / "cloud", conditions=Conditions(seed=1, speed=300), assembly=dev) as cloud:
        yield cloud
        assert cloud.failures == ()
        assert cloud.function_errors == ()


@pytest.fixture
def user(cloud: Cloud, tmp_path: Path) -> User:
    return User(cloud, tmp_path / "source")
