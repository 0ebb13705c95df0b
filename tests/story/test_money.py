"""Spot is dry: a run pays for on-demand within its caps, or waits, and the books close."""

from emulation.cloud import Cloud
from spotkeeper.contract.budgets import environment_holder, month_of, run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.budget import Budget
from spotkeeper.ops.spending import Spending
from spotkeeper.policy.placement import Market
from tests.story.user import User, eventually, later


def budget(user: User, holder: str) -> Budget:
    found = user.connection.budgets.get(holder)
    assert found is not None
    return found


def test_a_run_that_spot_gives_nothing_falls_back_within_its_cap_and_its_bill_is_settled(
    cloud: Cloud, user: User
) -> None:
    cloud.market.dry()

    run = user.submit("print('at a price')", spending=Spending.of(fallback_cap="20"))
    ended = user.ended(run)

    assert (ended.state, ended.market, ended.submission) == (RunState.SUCCEEDED, "on-demand", 2)
    (attempt,) = [attempt for attempt in user.attempts(run) if attempt.submission == 2]
    assert attempt.market == "on-demand"
    (reservation,) = user.connection.budgets.reservations(run.run_id)
    assert reservation.market is Market.ON_DEMAND
    month = month_of(reservation.created_at)
    assert budget(user, environment_holder(month)).fallback.reserved == reservation.microusd

    user.sweep(at=later(3600))  # what may still show up in a look-up is waited for in real time

    (settled,) = user.connection.budgets.reservations(run.run_id)
    assert settled.settled_at is not None
    assert settled.spent_microusd is not None
    assert 0 < settled.spent_microusd <= settled.microusd
    for holder in (run_holder(run.run_id), environment_holder(month)):
        booked = budget(user, holder).fallback
        assert (booked.reserved, booked.spent) == (0, settled.spent_microusd)
        assert booked.available == booked.limit - booked.spent


def test_without_a_cap_a_run_waits_for_spot_whatever_it_takes(cloud: Cloud, user: User) -> None:
    cloud.market.dry()
    run = user.submit("print('for free')")

    waiting = eventually(lambda: user.run(run), lambda found: found.state is RunState.WAITING)
    user.sweep(at=later(3600))

    assert waiting.market == "spot"
    assert user.run(run).market == "spot"
    assert user.connection.budgets.reservations(run.run_id) == ()
