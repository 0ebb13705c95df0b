from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.differential.emulator import Emulator, running_emulator


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(Path(tmp_path_factory.mktemp("ministack"))) as running:
        yield running
