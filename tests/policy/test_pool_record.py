from typing import Any

import pytest

from spotkeeper.policy.pool_breaker import BreakerState
from spotkeeper.policy.pool_record import WINDOW_HOURS, SeenMachine, SeenPool, records
from spotkeeper.policy.regime_change import Regime

POOL = SeenPool("g5.xlarge", "us-east-1a")
OTHER = SeenPool("g6.xlarge", "us-east-1b")
NOW = 5000.0


def machine(began_at: float, hours: float, *, was_taken: bool = True, **changes: Any) -> SeenMachine:
    fields: dict[str, Any] = {"pool": POOL, "spent_usd": None, "useful_hours": None, **changes}
    return SeenMachine(began_at=began_at, ended_at=began_at + hours, was_taken=was_taken, **fields)


def test_four_preemptions_are_insufficient_data_and_five_are_not() -> None:
    taken = [machine(10.0 * number, 8) for number in range(5)]

    (four,) = records(taken[:4], now=NOW)
    (five,) = records(taken, now=NOW)

    assert (four.rate.num_events, four.rate.exposure_hours, four.rate.is_sufficient) == (4, 32, False)
    assert five.rate.is_sufficient
    assert five.rate.low_per_hour < 5 / 40 < five.rate.high_per_hour


def test_a_pool_is_ranked_by_what_a_useful_hour_cost_and_unknown_ones_come_last() -> None:
    dear = machine(0, 10, spent_usd=3.0, useful_hours=5.0)
    cheap = machine(0, 10, spent_usd=4.0, useful_hours=9.0, pool=OTHER)
    unknown = machine(0, 10, pool=SeenPool("a1", "us-east-1a"))

    found = records([dear, unknown, cheap], now=NOW)

    assert [one.usd_per_useful_hour for one in found] == [pytest.approx(4 / 9), pytest.approx(0.6), None]
    assert [one.usd_per_hour for one in found] == [pytest.approx(0.4), pytest.approx(0.3), None]


def test_a_pool_that_took_three_young_machines_just_now_has_an_open_breaker() -> None:
    (record,) = records([machine(NOW - 0.6 + 0.2 * number, 0.1) for number in range(3)], now=NOW)

    assert record.breaker is BreakerState.OPEN
    assert "3 machines in a row were taken young" in record.breaker_reason


def test_a_pool_that_became_worse_than_its_past_is_volatile() -> None:
    calm = [machine(100.0 * number, 50) for number in range(20)]
    lately = [machine(NOW - WINDOW_HOURS + 1 + number, 0.3) for number in range(60)]

    (record,) = records([*calm, *lately], now=NOW)
    (before,) = records(calm, now=NOW)
    (new,) = records(lately, now=NOW)

    assert record.regime is not None
    assert record.regime.regime is Regime.VOLATILE
    assert before.regime_words == Regime.INSUFFICIENT.value
    assert new.regime is None
