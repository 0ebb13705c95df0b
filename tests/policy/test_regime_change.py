import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.hazard import Lomax
from spotkeeper.policy.regime_change import Regime, Watched, compare

PAST = Lomax(shape=1.0, scale_hours=1.0)


def window(number: int, ended: int, hours: float = 1.0, age: float = 3.0) -> list[Watched]:
    return [Watched(age_hours=age, hours=hours, is_ended=index < ended) for index in range(number)]


def test_a_pool_that_takes_more_than_its_past_explains_is_volatile() -> None:
    change = compare(window(20, 15), past=PAST)

    assert change.regime is Regime.VOLATILE
    assert change.expected_events == pytest.approx(20 * math.log(5 / 4))
    assert change.ratio == pytest.approx(15 / change.expected_events)
    assert change.probability < 0.01


def test_what_the_past_explains_is_usual() -> None:
    assert compare(window(20, 5), past=PAST).regime is Regime.USUAL


def test_a_long_time_without_preemptions_is_calm() -> None:
    assert compare(window(60, 1), past=PAST).regime is Regime.CALM


def test_four_preemptions_are_never_enough_to_act_on() -> None:
    assert compare(window(4, 4, hours=0.01), past=PAST).regime is Regime.INSUFFICIENT
    assert compare([], past=PAST).ratio == 1


def test_young_machines_excuse_preemptions_that_old_ones_do_not() -> None:
    assert compare(window(12, 9, age=0), past=PAST).regime is Regime.USUAL
    assert compare(window(12, 9, age=20), past=PAST).regime is Regime.VOLATILE


@given(st.integers(0, 40), st.integers(0, 40))
def test_more_preemptions_never_look_less_volatile(few: int, many: int) -> None:
    few, many = sorted((few, many))
    calmer, worse = compare(window(40, few), past=PAST), compare(window(40, many), past=PAST)

    assert (calmer.regime is Regime.VOLATILE) <= (worse.regime is Regime.VOLATILE)
