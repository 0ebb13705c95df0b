"""What tests share: one synthesis of each environment, one order, and no search of what stays for garbage."""

import fcntl
import gc
import os
from collections.abc import Callable, Generator
from functools import cache

import pytest

# isort: split
import stacks  # noqa: F401 - first, because it chooses the Node that importing aws_cdk starts

# isort: split
from emulation.templates import assembly as emulated
from tests.stacks.synthesized import Assembly

WAITING = ("tests/story/test_demo.py", "tests/story/", "tests/runbooks/")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep what was imported out of the search for garbage, which took 28 of 65 s in 191 tests of commands.

    aws_cdk, botocore, moto and torch are 750,000 objects that stay to the end. Rarer searches are for what tests load
    themselves: a service's model of botocore is tens of thousands of objects.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what waits more than it works, the longest first: no worker shall be left alone with it at the end."""
    items.sort(
        key=lambda item: next((n for n, part in enumerate(WAITING) if item.nodeid.startswith(part)), len(WAITING))
    )


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Assembly]:
    """Return what synthesizes an environment for all test processes; read what it returns, and write elsewhere."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    @cache
    def synthesized(environment: str) -> Assembly:
        folder = shared / environment
        with (shared / f"{environment}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Written last: what a failed synthesis left is no environment.
            if not (folder / "manifest.json").exists():
                # Here, because most tests need no templates, and importing app starts Node.
                import app

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
