"""The gamma distribution and the Poisson tail, which is the same function. Standard library only.

Regularized incomplete gamma function by its series and its continued fraction: Press et al., "Numerical Recipes",
3rd edition, section 6.2. Good to about 1e-12 for shapes up to 10^6.
"""

import math
from typing import Final

_PRECISION: Final = 1e-15
_TINY: Final = 1e-300
_MOST_TERMS: Final = 100_000


def cumulative(x: float, *, shape: float) -> float:
    """Return the probability that a gamma variable of this shape and of scale 1 is at most `x`.

    Raises:
        ValueError: if `shape` is not above 0, or `x` is below it; naming both.
    """
    if not (0 < shape < math.inf and x >= 0):
        raise ValueError(f"shape must be above 0 and finite, and x at least 0; got shape {shape} and x {x}")
    if x == 0:
        return 0.0
    if math.isinf(x):
        return 1.0
    log_factor = shape * math.log(x) - x - math.lgamma(shape)
    if x < shape + 1:
        return math.exp(log_factor) * _series(x, shape)
    return 1.0 - math.exp(log_factor) * _fraction(x, shape)


def quantile(probability: float, *, shape: float) -> float:
    """Return the `x` below which a gamma variable of this shape and of scale 1 is with this probability.

    Raises:
        ValueError: if the probability is not above 0 and below 1, or the shape not above 0.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must be above 0 and below 1, got {probability}")
    low, high = 0.0, max(1.0, shape)
    while cumulative(high, shape=shape) < probability:
        low, high = high, 2 * high
    # Bisection: a quantile is asked for by people and reports, not by loops, and nothing can go wrong with it.
    while high - low > 1e-12 * high and high > _TINY:
        middle = (low + high) / 2
        if cumulative(middle, shape=shape) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def poisson_tail(num_events: int, *, expected: float) -> float:
    """Return the probability of so many events or more, where `expected` are expected.

    Raises:
        ValueError: if either is negative, or no number.
    """
    if num_events < 0 or not expected >= 0:
        raise ValueError(f"num_events and expected must be at least 0, got {num_events} and {expected}")
    return 1.0 if num_events == 0 else cumulative(expected, shape=float(num_events))


def _series(x: float, shape: float) -> float:
    term = total = 1.0 / shape
    for index in range(1, _MOST_TERMS):
        term *= x / (shape + index)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _fraction(x: float, shape: float) -> float:
    """Lentz's method, as modified by Thompson and Barnett."""
    b = x + 1.0 - shape
    c = 1.0 / _TINY
    d = result = 1.0 / b
    for index in range(1, _MOST_TERMS):
        a = -index * (index - shape)
        b += 2.0
        d = 1.0 / _or_tiny(a * d + b)
        c = _or_tiny(b + a / c)
        result *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return result


def _or_tiny(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
