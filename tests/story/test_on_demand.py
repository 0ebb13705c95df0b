"""What happens to a run while it is on on-demand, and spot gives nothing."""

import pytest

from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from spotkeeper.ops import fallback
from spotkeeper.ops.spending import Spending
from tests.story.programs import Trained, trains_until
from tests.story.user import User, eventually, later


@pytest.fixture
def speed() -> float:
    """At this, an attempt on on-demand is not told of its time limit before 42 s."""
    return 100


@pytest.fixture
def on_demand(cloud: Cloud, user: User) -> Run:
    """A run that trains on on-demand, and has saved something."""
    cloud.market.dry()
    run = user.submit(trains_until(last_epoch=2), spending=Spending.of(fallback_cap="20"))
    fallen_back = user.falls_back(run)
    eventually(lambda: user.num_commits(run), bool)
    return fallen_back


def test_switching_on_demand_off_lets_its_run_save_and_go_on_on_spot_and_nothing_further_is_reserved(
    cloud: Cloud, user: User, on_demand: Run
) -> None:
    turned = fallback.off("a test", user.connection)
    eventually(lambda: user.run(on_demand), lambda found: found.state is RunState.WAITING)
    user.sweep(at=later(3600))  # when it would long have fallen back
    again = user.run(on_demand)
    cloud.market.restore()
    ended = user.ended(on_demand)

    assert turned.stopped == (on_demand.run_id,)
    assert again.market == "spot"
    assert again.submission > 3
    assert (ended.state, ended.epoch) == (RunState.SUCCEEDED, 2)
    (reservation,) = user.connection.budgets.reservations(on_demand.run_id)
    assert reservation.submission == 2
    assert [attempt.cause for attempt in user.attempts(on_demand)] == [Cause.SWITCHED_OFF, Cause.COMPLETED]
    steps = [step.step for run in (on_demand, ended) for step in Trained.all_in(user.output(run))]
    assert steps == list(range(len(steps)))


def test_a_lost_host_on_on_demand_costs_no_more_than_what_was_not_saved(
    cloud: Cloud, user: User, on_demand: Run
) -> None:
    cloud.market.restore()
    cloud.market.reclaim(user.claimed(on_demand), notice=False)
    ended = user.ended(on_demand)

    # Where it goes on depends on whether a sweep has asked for its standby by then.
    assert ended.state is RunState.SUCCEEDED
    lost, completed = (attempt for attempt in user.attempts(on_demand) if attempt.claimed_at is not None)
    assert (lost.market, lost.cause, completed.cause) == ("on-demand", Cause.HOST_LOST, Cause.COMPLETED)
    before, after = (Trained.all_in(user.output(run)) for run in (on_demand, ended))
    assert 0 < after[0].step <= before[-1].step + 1
    assert ended.completion is not None
    assert ended.completion.step == after[-1].step + 1
