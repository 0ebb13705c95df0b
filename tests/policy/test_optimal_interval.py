import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.optimal_interval import daly_seconds, exact_seconds, most_lost_seconds, young_seconds

HOUR = 3600.0


@pytest.mark.parametrize(
    # A save of one minute; by hand from the closed form.
    ("per_hour", "minutes"),
    [(0.05, 48), (0.1, 34), (0.2, 24), (0.5, 15), (1, 10), (2, 7)],
)
def test_the_exact_interval_of_a_save_that_takes_a_minute(per_hour: float, minutes: float) -> None:
    found = exact_seconds(lost_seconds=60, between_losses_seconds=HOUR / per_hour)

    assert found / 60 == pytest.approx(minutes, abs=0.8)


@given(st.floats(1e-9, 25))
def test_it_solves_lamberts_equation(cost: float) -> None:
    w = exact_seconds(lost_seconds=cost, between_losses_seconds=1) - 1

    assert w * math.exp(w) == pytest.approx(-math.exp(-1 - cost), rel=1e-12)


@given(st.floats(1e-6, 1e4), st.floats(1, 1e7), st.floats(0.2, 5))
def test_no_other_interval_takes_less_time(lost: float, between: float, factor: float) -> None:
    def log_time_per_step(interval: float) -> float:
        # The logarithm of e^x - 1 over the interval, which does not overflow.
        exponent = (interval + lost) / between
        return exponent + math.log(-math.expm1(-exponent)) - math.log(interval)

    best = exact_seconds(lost_seconds=lost, between_losses_seconds=between)

    assert log_time_per_step(best) <= log_time_per_step(factor * best) + 1e-9


@given(st.floats(1e-9, 1e6), st.floats(1e-3, 1e6))
def test_it_is_at_most_youngs_and_at_most_the_time_between_losses(lost: float, between: float) -> None:
    exact = exact_seconds(lost_seconds=lost, between_losses_seconds=between)

    assert 0 < exact <= between
    assert exact <= young_seconds(lost_seconds=lost, between_losses_seconds=between) * (1 + 1e-12)


@given(st.floats(1e-3, 10), st.floats(1e3, 1e6))
def test_young_and_daly_are_close_where_a_save_is_cheap(lost: float, between: float) -> None:
    exact = exact_seconds(lost_seconds=lost, between_losses_seconds=between)

    assert daly_seconds(lost_seconds=lost, between_losses_seconds=between) == pytest.approx(exact, rel=1e-4)
    assert young_seconds(lost_seconds=lost, between_losses_seconds=between) == pytest.approx(exact, rel=0.1)


@given(st.floats(0, 1e4), st.floats(1, 1e6), st.floats(1e-3, 1e3))
def test_another_unit_of_time_changes_nothing(lost: float, between: float, factor: float) -> None:
    scaled = exact_seconds(lost_seconds=factor * lost, between_losses_seconds=factor * between)

    assert scaled == pytest.approx(factor * exact_seconds(lost_seconds=lost, between_losses_seconds=between), rel=1e-6)


def test_saves_that_cost_nothing_may_be_made_all_the_time() -> None:
    assert exact_seconds(lost_seconds=0, between_losses_seconds=HOUR) == 0


def test_the_most_that_preemptions_take_back_is_an_interval_and_a_commit_each() -> None:
    assert most_lost_seconds(num_preemptions=3, interval_seconds=600, commit_seconds=20) == 1860


@pytest.mark.parametrize("estimate", [young_seconds, daly_seconds, exact_seconds])
def test_what_is_no_time_is_refused_by_name(estimate: type[float]) -> None:
    with pytest.raises(ValueError, match="lost_seconds must be a finite number of at least 0, got -1"):
        estimate(lost_seconds=-1, between_losses_seconds=1)  # type: ignore[call-arg]  # a function, as all three are
    with pytest.raises(ValueError, match="between_losses_seconds must be above 0 and finite, got nan"):
        estimate(lost_seconds=1, between_losses_seconds=math.nan)  # type: ignore[call-arg]  # the same
