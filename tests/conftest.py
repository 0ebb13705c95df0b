"""One synthesis for each environment and test process, of which templates, security and upgrades are tested."""

from collections.abc import Callable
from functools import cache

import pytest

# isort: split
import stacks  # noqa: F401 - first, because it chooses the Node that importing aws_cdk starts

# isort: split
from tests.stacks.synthesized import Assembly


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    # Here, because most tests need no templates, and importing app starts Node.
    import app

    @cache
    def synthesized(environment: str) -> Assembly:
        folder = tmp_path_factory.mktemp(environment)
        app.build(environment, str(folder)).synth()
        return Assembly(folder, environment)

    return synthesized


@pytest.fixture(scope="session")
def dev(synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize("dev")


@pytest.fixture(scope="session")
def prod(synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize("prod")


@pytest.fixture(scope="session", params=["dev", "staging", "prod"])
def any_environment(request: pytest.FixtureRequest, synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize(request.param)
