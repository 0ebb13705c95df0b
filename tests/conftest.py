"""One synthesis for each environment and test process, of which templates, security and upgrades are tested."""

from collections.abc import Callable
from functools import cache

import pytest

# isort: split
import stacks  # noqa: F401 - first, because it chooses the Node that importing aws_cdk starts

# isort: split
from emulation.templates import assembly as emulated
from tests.stacks.synthesized import Assembly

WAITING = ("tests/story/test_demo.py", "tests/story/", "tests/runbooks/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits more than it works, the longest first: no worker shall be left alone with it at the end."""
    items.sort(
        key=lambda item: next((n for n, part in enumerate(WAITING) if item.nodeid.startswith(part)), len(WAITING))
    )


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
def deployable(synthesize: Callable[[str], Assembly]) -> Callable[[str], emulated.Assembly]:
    """The same, for the emulation to deploy."""
    return lambda environment: emulated.read(synthesize(environment).folder)


@pytest.fixture(scope="session")
def dev(synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize("dev")


@pytest.fixture(scope="session")
def prod(synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize("prod")


@pytest.fixture(scope="session", params=["dev", "staging", "prod"])
def any_environment(request: pytest.FixtureRequest, synthesize: Callable[[str], Assembly]) -> Assembly:
    return synthesize(request.param)
