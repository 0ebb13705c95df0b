import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.policy.drawn_market import drawn_ticks
from spotkeeper.policy.forecast import Job, SampledMarket, Spread, Way, forecast
from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE
from spotkeeper.policy.market import Mode

JOB = Job(
    work_hours=10,
    deadline_hours=15,
    changeover_hours=0.2,
    lost_hours=0.1,
    spot_usd_per_hour=1.0,
    on_demand_usd_per_hour=3.0,
)


def markets(number: int, seed: int = 5) -> list[SampledMarket]:
    draw = Random(seed).random
    return [
        SampledMarket(
            available=drawn_ticks(
                lifetime=PRIOR_LIFETIME, outage=PRIOR_OUTAGE, num_ticks=500, gap_hours=0.1, draw=draw
            ),
            gap_seconds=360,
        )
        for _ in range(number)
    ]


def steady(is_up: int) -> list[SampledMarket]:
    return [SampledMarket(available=[is_up] * 500, gap_seconds=360)]


def test_on_a_market_that_is_never_taken_spot_and_mixed_cost_the_spot_price_and_no_more() -> None:
    found = forecast(JOB, steady(1))

    assert found[Way.SPOT].usd.mean == found[Way.MIXED].usd.mean == pytest.approx(10.2)
    assert found[Way.ON_DEMAND].usd.mean == pytest.approx(3 * 10.2)
    assert found[Way.MIXED].in_time_share == 1


def test_on_a_market_without_spot_mixed_is_on_demand_in_time_and_spot_is_never_done() -> None:
    found = forecast(JOB, steady(0))

    assert found[Way.SPOT].finished_share == 0
    assert found[Way.SPOT].usd.mean is None
    assert found[Way.MIXED].in_time_share == 1
    assert found[Way.MIXED].usd.mean == pytest.approx(found[Way.ON_DEMAND].usd.mean, rel=0.01)


def test_the_deadline_is_kept_on_every_drawn_market_and_for_less_than_on_demand() -> None:
    found = forecast(JOB, markets(40))

    assert found[Way.MIXED].in_time_share == 1
    mixed_usd, on_demand_usd = found[Way.MIXED].usd.mean, found[Way.ON_DEMAND].usd.mean
    assert mixed_usd is not None
    assert on_demand_usd is not None
    assert mixed_usd < on_demand_usd


def test_a_cap_is_never_crossed_in_budget_first() -> None:
    job = replace(JOB, mode=Mode.BUDGET_FIRST, total_cap_usd=12.0)

    assert all(usd <= 12 + 1e-9 for _, usd in forecast(job, markets(20))[Way.MIXED].samples)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.01, 100), st.integers(0, 100))
def test_another_currency_scales_every_amount_and_changes_no_hour(factor: float, seed: int) -> None:
    here = forecast(JOB, markets(3, seed))
    there = forecast(replace(JOB, spot_usd_per_hour=factor, on_demand_usd_per_hour=3 * factor), markets(3, seed))

    for way in Way:
        assert there[way].hours == here[way].hours
        assert [usd / factor for _, usd in there[way].samples] == pytest.approx([usd for _, usd in here[way].samples])


def test_a_spread_is_of_figures_in_any_order_and_says_what_it_does_not_know() -> None:
    assert Spread.of([3, 1, 2, 4, 5, 6, 7, 8, 9, 10]) == Spread(mean=5.5, p50=5, p90=9)
    assert Spread.of([1, 2, math.inf]) == Spread(mean=None, p50=2, p90=None)


def test_a_forecast_from_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one market is needed to forecast from, got none"):
        forecast(JOB, [])
