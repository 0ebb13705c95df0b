import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime

import pytest

from emulation.cloud import Cloud, Conditions
from emulation.events.router import Event
from emulation.templates.assembly import Assembly
from spotkeeper.control.cancel import cancel
from spotkeeper.ops import fallback
from tests.runbooks.exercise import Exercise
from tests.runbooks.runbook import exercised, runbook
from tests.story.conftest import POLLS_QUICKLY
from tests.story.user import User, eventually, now

WRITE_DATES = "SPOTKEEPER_RUNBOOK_DATES"
"""Set (by `make exercise-runbooks`), and pages that were followed to their end are given today's date."""
HAS_PASSED = pytest.StashKey[bool]()
SPEED = 300
"""A sweep each second."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001  pytest passes it
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[HAS_PASSED] = report.passed
    return report


class Delivery:
    """How events travel, until somebody changes it."""

    def __init__(self) -> None:
        self.is_broken = False

    def __call__(self, event: Event) -> Sequence[Event]:
        return () if self.is_broken else (event,)


@pytest.fixture(scope="module")
def delivery() -> Delivery:
    return Delivery()


@pytest.fixture(scope="module")
def emulated(
    deployable: Callable[[str], Assembly], tmp_path_factory: pytest.TempPathFactory, delivery: Delivery
) -> Iterator[Cloud]:
    """One environment for all pages: what one leaves open is cancelled before the next."""
    entrypoint = (sys.executable, "-c", POLLS_QUICKLY)
    conditions = Conditions(seed=1, speed=SPEED, faults=delivery, entrypoint=entrypoint)
    work_dir = tmp_path_factory.mktemp("emulation") / "cloud"
    with Cloud("dev", work_dir=work_dir, conditions=conditions, assembly=deployable("dev")) as cloud:
        yield cloud
        assert cloud.failures == ()


@pytest.fixture(scope="module")
def user(emulated: Cloud, tmp_path_factory: pytest.TempPathFactory) -> User:
    return User(emulated, tmp_path_factory.mktemp("user") / "source")


@pytest.fixture
def exercise(
    emulated: Cloud, user: User, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Exercise]]:
    """Open a page. In the end every line of it that needs no account must have been typed."""
    opened: list[Exercise] = []

    def begin(name: str) -> Exercise:
        state_folder = str(tmp_path_factory.mktemp("state"))
        opened.append(Exercise(page=runbook(name), cloud=emulated, user=user, state_folder=state_folder))
        return opened[-1]

    yield begin
    connection = user.connection
    emulated.market.restore()
    fallback.on(connection)
    for run in connection.ledger.list_runs("open", 100):
        cancel(run.run_id, ports=connection.ports, now=now())
    # What they had reserved comes back when they have ended; the next page shall not see it come.
    eventually(lambda: tuple(connection.ledger.list_runs("open", 1)), lambda still_open: not still_open)
    for one in opened:
        assert one.untyped == [], one.page.name
        if request.node.stash.get(HAS_PASSED, False) and os.environ.get(WRITE_DATES):
            one.page.path.write_text(exercised(one.page.text, on=datetime.now(UTC).date()))
