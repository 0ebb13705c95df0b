import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.spot_overhead import (
    best_interval_hours,
    break_even_preemptions_per_hour,
    clock_hours_per_work_hour,
    paid_hours_per_work_hour,
)

MINUTE = 1 / 60
RATE = st.floats(0, 10)


@pytest.mark.parametrize(
    ("per_hour", "paid"), [(0.05, 1.05), (0.1, 1.08), (0.2, 1.13), (0.5, 1.26), (1, 1.47), (2, 1.95)]
)
def test_what_is_paid_for_an_hour_of_work_at_the_best_interval(per_hour: float, paid: float) -> None:
    interval = best_interval_hours(preemptions_per_hour=per_hour, save_hours=MINUTE)

    assert paid_hours_per_work_hour(
        preemptions_per_hour=per_hour, interval_hours=interval, save_hours=MINUTE, restore_hours=0.2
    ) == pytest.approx(paid, abs=0.008)


def test_a_simulation_pays_and_waits_what_the_formula_says() -> None:
    rate, interval, save, restore, wait = 0.5, 0.25, MINUTE, 0.2, 0.5
    draw = Random(11)
    paid = waited = 0.0
    num_segments = 40_000
    for _ in range(num_segments):
        needed = interval + save
        while True:
            life = draw.expovariate(rate)
            if life >= needed:
                paid += needed
                break
            paid += life
            waited += wait
            needed = interval + save + restore  # The work since the last save is done again, after a restore.
    model = {"preemptions_per_hour": rate, "interval_hours": interval, "save_hours": save, "restore_hours": restore}
    work = num_segments * interval

    # The model restores before every try, the simulation only after a preemption: at this rate that is 1 % of it.
    assert paid / work == pytest.approx(paid_hours_per_work_hour(**model), rel=0.02)
    assert (paid + waited) / work == pytest.approx(clock_hours_per_work_hour(**model, wait_hours=wait), rel=0.02)


@pytest.mark.parametrize(
    ("price_ratio", "restore_hours", "per_hour"),
    [(1.5, 0.1, 1.6), (2, 0.2, 2.03), (3.14, 0.1, 5.3), (3.14, 0.2, 3.5), (3.14, 0.4, 2.1), (5.6, 0.4, 3.3)],
)
def test_spot_stops_paying_at_the_break_even_rate(price_ratio: float, restore_hours: float, per_hour: float) -> None:
    found = break_even_preemptions_per_hour(
        price_ratio=price_ratio, save_hours=MINUTE, restore_hours=restore_hours, shortest_hours=10 * MINUTE
    )

    assert found == pytest.approx(per_hour, rel=0.02)


@pytest.mark.parametrize("price_ratio", [0.5, 1])
def test_spot_that_is_not_cheaper_never_pays(price_ratio: float) -> None:
    assert break_even_preemptions_per_hour(price_ratio=price_ratio, save_hours=MINUTE, restore_hours=0.1) == 0


@given(RATE, RATE, st.floats(0.02, 2), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 5))
def test_more_preemptions_never_cost_less_and_no_hour_is_free(
    one: float, other: float, interval: float, save: float, restore: float, wait: float
) -> None:
    few, many = sorted((one, other))

    def paid(rate: float) -> float:
        return paid_hours_per_work_hour(
            preemptions_per_hour=rate, interval_hours=interval, save_hours=save, restore_hours=restore
        )

    assert 1 <= paid(few) <= paid(many) * (1 + 1e-9)
    assert paid(many) <= clock_hours_per_work_hour(
        preemptions_per_hour=many, interval_hours=interval, save_hours=save, restore_hours=restore, wait_hours=wait
    )


@given(st.floats(1.01, 20), st.floats(1.01, 20), st.floats(0.001, 0.2), st.floats(0, 1))
def test_the_cheaper_spot_is_the_more_preemptions_it_is_worth(
    one: float, other: float, save: float, restore: float
) -> None:
    dear, cheap = sorted((one, other))

    assert break_even_preemptions_per_hour(
        price_ratio=dear, save_hours=save, restore_hours=restore
    ) <= break_even_preemptions_per_hour(price_ratio=cheap, save_hours=save, restore_hours=restore)


def test_without_preemptions_only_saves_are_paid_and_none_is_needed() -> None:
    assert best_interval_hours(preemptions_per_hour=0, save_hours=MINUTE) == math.inf
    assert paid_hours_per_work_hour(
        preemptions_per_hour=0, interval_hours=1, save_hours=0.1, restore_hours=3
    ) == pytest.approx(1.1)


def test_a_rate_at_which_nothing_gets_done_costs_infinitely_much() -> None:
    assert (
        paid_hours_per_work_hour(preemptions_per_hour=1000, interval_hours=1, save_hours=0, restore_hours=0) == math.inf
    )


def test_what_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="preemptions_per_hour must be a finite number of at least 0, got nan"):
        best_interval_hours(preemptions_per_hour=math.nan, save_hours=1)
    with pytest.raises(ValueError, match="interval_hours must be above 0 and finite, got 0"):
        paid_hours_per_work_hour(preemptions_per_hour=1, interval_hours=0, save_hours=0, restore_hours=0)
    with pytest.raises(ValueError, match="price_ratio must be above 0 and finite, got 0"):
        break_even_preemptions_per_hour(price_ratio=0, save_hours=0, restore_hours=0)
