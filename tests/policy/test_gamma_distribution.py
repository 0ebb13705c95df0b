import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.gamma_distribution import cumulative, poisson_tail, quantile


@given(st.floats(0, 50))
def test_shape_one_is_the_exponential(x: float) -> None:
    assert cumulative(x, shape=1) == pytest.approx(-math.expm1(-x), abs=1e-12)


@pytest.mark.parametrize(("shape", "x"), [(0.5, 1.0), (2.5, 3.0), (7.3, 4.0), (40.0, 60.0)])
def test_it_follows_the_recurrence_from_shape_to_shape(shape: float, x: float) -> None:
    step = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1))

    assert cumulative(x, shape=shape + 1) == pytest.approx(cumulative(x, shape=shape) - step, abs=1e-12)


@given(st.integers(1, 60), st.floats(0, 80))
def test_a_poisson_tail_is_the_sum_of_its_terms(num_events: int, expected: float) -> None:
    below = sum(
        math.exp(-expected + (count * math.log(expected) if count else 0) - math.lgamma(count + 1))
        if expected
        else float(count == 0)
        for count in range(num_events)
    )

    assert poisson_tail(num_events, expected=expected) == pytest.approx(1 - below, abs=1e-9)


@pytest.mark.parametrize(
    # Chi-squared tables: with 2 x shape degrees of freedom, halved.
    ("shape", "at_5_percent", "at_95_percent"),
    [
        (0.5, 0.00393 / 2, 3.841 / 2),
        (1, 0.1026 / 2, 5.991 / 2),
        (5, 3.940 / 2, 18.307 / 2),
        (50, 77.929 / 2, 124.342 / 2),
    ],
)
def test_quantiles_are_those_of_chi_squared_tables(shape: float, at_5_percent: float, at_95_percent: float) -> None:
    assert quantile(0.05, shape=shape) == pytest.approx(at_5_percent, rel=2e-3)
    assert quantile(0.95, shape=shape) == pytest.approx(at_95_percent, rel=2e-3)


@given(st.floats(0.01, 0.99), st.floats(0.2, 1e4))
def test_a_quantile_inverts_the_distribution(probability: float, shape: float) -> None:
    assert cumulative(quantile(probability, shape=shape), shape=shape) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("probability", [0, 1, -0.1, math.nan])
def test_a_probability_that_has_no_quantile_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=f"probability must be above 0 and below 1, got {probability}"):
        quantile(probability, shape=1)


@pytest.mark.parametrize(("x", "shape"), [(-1, 1), (1, 0), (math.nan, 1), (1, math.inf)])
def test_what_no_gamma_variable_is_is_refused(x: float, shape: float) -> None:
    with pytest.raises(ValueError, match="shape must be above 0 and finite, and x at least 0"):
        cumulative(x, shape=shape)
