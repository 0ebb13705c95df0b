"""Spot goes and comes back: a run falls back to on-demand, and a standby takes it back to spot."""

import pytest

from emulation.cloud import Cloud
from emulation.events.router import deliver_once
from spotkeeper.contract.budgets import environment_holder, month_of, run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from spotkeeper.ops.spending import Spending
from spotkeeper.policy.money import parse_usd
from tests.story.faults import lose_every_event
from tests.story.programs import Trained, overlaps, trains_until
from tests.story.user import User, eventually, later

pytestmark = pytest.mark.timeout(180)

TOTAL_CAP = "9"


@pytest.fixture
def speed() -> float:
    """At this, an attempt on on-demand is told of its time limit after 42 s, long after a standby has asked."""
    return 100


@pytest.mark.parametrize("faults", [deliver_once, lose_every_event])
def test_a_run_without_spot_pays_for_on_demand_until_a_standby_asks_for_it_and_loses_no_step(
    cloud: Cloud, user: User
) -> None:
    cloud.market.dry()
    run = user.submit(trains_until(last_epoch=2), spending=Spending.of(fallback_cap="5", total_cap=TOTAL_CAP))
    on_demand = user.falls_back(run)
    assert on_demand.job_id is not None
    reserved = {one.submission: one.microusd for one in user.connection.budgets.reservations(run.run_id)}
    assert reserved[2] == on_demand.reserved_microusd
    cloud.market.restore()
    asked = eventually(lambda: user.run(run), lambda found: found.handover_asked_at or found.submission == 3)
    ended = user.ended(run)

    assert (asked.submission, asked.standby_submission, asked.epoch) == (2, 3, 1)
    assert (ended.state, ended.market, ended.submission, ended.epoch) == (RunState.SUCCEEDED, "spot", 3, 2)
    before, after = user.output_of(on_demand.job_id), user.output(ended)
    assert "a standby on spot has asked for this run" in before
    assert '"cause":"signal"' in before
    assert events(after)[:4] == [LogEvent.STANDBY, LogEvent.HANDOVER_ASKED, LogEvent.CLAIMED, LogEvent.RESUMED]
    steps = Trained.all_in(before + after)
    assert overlaps(steps) == []
    assert [step.step for step in steps] == list(range(len(steps)))
    assert {step.epoch for step in steps} == {1, 2}
    assert ended.completion is not None
    assert ended.completion.step == len(steps)
    told = [(one.submission, one.market, one.epoch, one.cause) for one in user.attempts(run)]
    assert told == [(2, "on-demand", 1, Cause.YIELDED), (3, "spot", 2, Cause.COMPLETED)]
    assert_money_is_settled(user, run)


def events(output: str) -> list[str]:
    return [event["event"] for event in map(parse_line, output.splitlines()) if event is not None]


def assert_money_is_settled(user: User, run: Run) -> None:
    """Each submission cost at most what had been reserved for it, and all that was within the caps."""
    paid = {attempt.submission for attempt in user.attempts(run)}
    user.sweep(at=later(3600))  # what may still show up in a look-up is waited for in real time

    reservations = user.connection.budgets.reservations(run.run_id)
    assert [(one.submission, one.market) for one in reservations] == [(1, "spot"), (2, "on-demand"), (3, "spot")]
    assert sum(one.microusd for one in reservations) <= parse_usd(TOTAL_CAP, what="--total-cap")
    for one in reservations:
        assert one.spent_microusd is not None
        assert one.spent_microusd <= one.microusd
        assert (one.spent_microusd > 0) == (one.submission in paid)
    spent = {one.submission: one.spent_microusd or 0 for one in reservations}
    for holder in (run_holder(run.run_id), environment_holder(month_of(run.created_at))):
        budget = user.connection.budgets.get(holder)
        assert budget is not None
        assert (budget.total.reserved, budget.total.spent) == (0, sum(spent.values()))
        assert (budget.fallback.reserved, budget.fallback.spent) == (0, spent[2])
