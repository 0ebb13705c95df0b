import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import decide
from spotkeeper.policy.situation import Situation, Spot

AT = Situation(
    remaining_hours=20.0,
    hours_left=30.0,
    tick_hours=0.25,
    changeover_hours=0.2,
    spot_usd_per_hour=1.0,
    on_demand_usd_per_hour=3.0,
)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw where a run may be: on spot only while spot is there."""
    spot = draw(st.sampled_from(Spot))
    markets = [None, Market.ON_DEMAND, *([Market.SPOT] if spot is Spot.UP else [])]
    changeover_hours = draw(st.floats(0, 1))
    return Situation(
        remaining_hours=draw(st.floats(0.01, 100)),
        hours_left=draw(st.floats(-5, 200)),
        tick_hours=draw(st.sampled_from([1 / 60, 1 / 12, 0.25, 1.0])),
        changeover_hours=changeover_hours,
        market=draw(st.sampled_from(markets)),
        overhead_hours=draw(st.floats(0, changeover_hours)),
        spot=spot,
        spot_hours=draw(st.floats(0, 50)),
        num_spot_losses=draw(st.integers(0, 100)),
        spot_up_hours=draw(st.floats(0, 500)),
        num_spot_returns=draw(st.integers(0, 100)),
        spot_down_hours=draw(st.floats(0, 500)),
        lost_hours=draw(st.floats(0, 1)),
        on_demand_wait_hours=draw(st.floats(0, 1)),
        spot_usd_per_hour=draw(st.floats(0.1, 4)),
        on_demand_usd_per_hour=3.0,
        on_demand_usd_left=draw(st.just(math.inf) | st.floats(0, 500)),
        usd_left=draw(st.just(math.inf) | st.floats(0, 500)),
        mode=draw(st.sampled_from(Mode)),
    )


@given(situations(), st.floats(0, 100))
def test_more_slack_never_turns_waiting_into_on_demand(at: Situation, more_hours: float) -> None:
    assume(at.hours_left is not None)
    assert at.hours_left is not None
    if decide(at).market is None:
        assert decide(replace(at, hours_left=at.hours_left + more_hours)).market is not Market.ON_DEMAND


@given(situations(), st.floats(0, 50))
def test_older_spot_never_turns_a_return_to_spot_into_on_demand(at: Situation, more_hours: float) -> None:
    if decide(at).market is Market.SPOT:
        older = replace(at, spot_hours=at.spot_hours + more_hours)
        assert decide(older).market is Market.SPOT


@given(situations())
def test_spot_that_is_not_known_to_be_there_is_never_chosen(at: Situation) -> None:
    if at.spot is not Spot.UP:
        assert decide(at).market is not Market.SPOT


@given(situations())
def test_a_tick_that_the_caps_do_not_cover_is_not_begun_in_budget_first(at: Situation) -> None:
    at = replace(at, mode=Mode.BUDGET_FIRST)
    decision = decide(at)
    if decision.market is None:
        return
    is_on_demand = decision.market is Market.ON_DEMAND
    usd = (at.on_demand_usd_per_hour if is_on_demand else at.spot_usd_per_hour) * at.tick_hours
    if is_on_demand:
        assert usd <= at.on_demand_usd_left + 1e-6
    if decision.wants_standby:
        usd += at.spot_usd_per_hour * at.tick_hours
    assert usd <= at.usd_left + 1e-6


@given(situations())
def test_every_decision_says_why(at: Situation) -> None:
    decision = decide(at)
    assert decision.reason
    assert all(math.isfinite(number) for number in decision.numbers.values())


def test_a_young_outage_is_waited_for_and_an_old_one_is_not() -> None:
    at = replace(AT, hours_left=24.0, spot=Spot.DOWN)
    young, old = decide(at), decide(replace(at, spot_hours=8.0))
    assert (young.market, old.market) == (None, Market.ON_DEMAND)
    assert old.numbers["slack_hours"] == pytest.approx(3.8)
    assert old.reason.startswith("no spot for 8.00 h; slack 3.80 h is worth waits of ")
    assert 0.125 < old.numbers["wait_hours"] < 8


def test_on_demand_is_left_for_old_spot_and_kept_beside_young() -> None:
    at = replace(AT, hours_left=22.0, market=Market.ON_DEMAND, spot=Spot.UP)
    young, old = decide(at), decide(replace(at, spot_hours=8.0))
    assert (young.market, young.wants_standby) == (Market.ON_DEMAND, True)
    assert old.market is Market.SPOT
    assert 0 < young.numbers["gate_hours"] < 8


def test_spot_that_is_lost_often_must_be_older_before_on_demand_is_left() -> None:
    at = replace(AT, hours_left=22.0, market=Market.ON_DEMAND, spot=Spot.UP)
    calm = decide(replace(at, num_spot_losses=1, spot_up_hours=20.0)).numbers["gate_hours"]
    choppy = decide(replace(at, num_spot_losses=30, spot_up_hours=20.0)).numbers["gate_hours"]
    assert choppy > calm


def test_outages_that_were_short_are_waited_for_longer() -> None:
    at = replace(AT, hours_left=34.0)
    short = decide(replace(at, num_spot_returns=20, spot_down_hours=4.0)).numbers["wait_hours"]
    long = decide(replace(at, num_spot_returns=4, spot_down_hours=40.0)).numbers["wait_hours"]
    assert short > long


def test_spot_as_dear_as_on_demand_is_not_taken() -> None:
    at = replace(AT, spot=Spot.UP, spot_usd_per_hour=3.0)
    assert decide(at).market is None


def test_on_demand_is_not_begun_for_money_that_only_pays_changeovers() -> None:
    at = replace(AT, hours_left=20.3, mode=Mode.BUDGET_FIRST, spot_hours=8.0)
    assert decide(replace(at, on_demand_usd_left=1.9)).market is None  # 0.63 h; 2 changeovers and a tick are 0.65 h
    assert decide(replace(at, on_demand_usd_left=2.0)).market is Market.ON_DEMAND


def test_money_that_spot_needs_to_finish_is_not_spent_on_on_demand() -> None:
    at = replace(AT, hours_left=20.3, mode=Mode.BUDGET_FIRST, spot_hours=8.0)
    assert decide(replace(at, usd_left=21.0)).market is None  # spot alone needs $20.20
    assert decide(replace(at, usd_left=22.0)).market is Market.ON_DEMAND


def test_without_money_for_on_demand_a_deadline_is_not_given_away_to_spot() -> None:
    at = replace(AT, market=Market.ON_DEMAND, spot=Spot.UP, changeover_hours=0.6, hours_left=21.0, usd_left=0.0)
    assert decide(at).market is None  # a tick of waiting is safe, a changeover to spot is not


def test_a_deadline_crosses_the_cap_of_its_run_and_says_so() -> None:
    at = replace(AT, hours_left=20.3, on_demand_usd_left=0.0, mode=Mode.DEADLINE_FIRST)
    decision = decide(at)
    assert decision.market is Market.ON_DEMAND
    assert decision.reason.endswith("over the run's cap")
    assert decide(replace(at, mode=Mode.BUDGET_FIRST)).market is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remaining_hours": -1.0}, "remaining_hours must be from 0 up and finite, got -1.0"),
        ({"remaining_hours": math.nan}, "remaining_hours must be from 0 up and finite, got nan"),
        ({"tick_hours": 0.0}, "tick_hours must be above 0 and finite, got 0.0"),
        ({"hours_left": math.inf}, "hours_left must be finite, or None without a deadline, got inf"),
        ({"spot_usd_per_hour": math.inf}, "spot_usd_per_hour must be from 0 up and finite, got inf"),
        ({"usd_left": math.nan}, "dollars left must be numbers, got nan"),
    ],
)
def test_a_situation_that_cannot_be_is_refused_by_name_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the message is looked at
        replace(AT, **change)
    assert message in str(refusal.value)
