"""What preemptions add to the work itself, in paid hours and in hours of the clock; and when spot stops paying. Pure.

Daly's complete model ("A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22(3), 2006,
equation 20): preemptions at a constant rate, a restore that is paid for and may itself be interrupted, and a wait for a
new machine, which costs time and no money.
"""

import math
from typing import Final

from spotkeeper.policy.optimal_interval import exact_seconds

SHORTEST_INTERVAL_HOURS: Final = 1 / 60
_MOST_EXPONENT: Final = 600.0
_SMALLEST_RATE_PER_HOUR: Final = 1e-9
_LARGEST_RATE_PER_HOUR: Final = 1e4


def paid_hours_per_work_hour(
    *, preemptions_per_hour: float, interval_hours: float, save_hours: float, restore_hours: float
) -> float:
    """Return the machine hours that are paid for each hour of work: 1 is no waste.

    Args:
        preemptions_per_hour: From 0 up.
        interval_hours: Work between two saves, above 0.
        save_hours: Training time that one save costs.
        restore_hours: From a machine's start to its first new step.

    Raises:
        ValueError: naming what is out of its range.
    """
    _check(preemptions_per_hour=preemptions_per_hour, save_hours=save_hours, restore_hours=restore_hours)
    if not 0 < interval_hours < math.inf:
        raise ValueError(f"interval_hours must be above 0 and finite, got {interval_hours}")
    if preemptions_per_hour * (interval_hours + save_hours) < 1e-9:
        return (interval_hours + save_hours) / interval_hours
    exponent = preemptions_per_hour * (interval_hours + save_hours)
    if exponent + preemptions_per_hour * restore_hours > _MOST_EXPONENT:
        return math.inf
    grown = math.exp(preemptions_per_hour * restore_hours) * math.expm1(exponent)
    return grown / (preemptions_per_hour * interval_hours)


def clock_hours_per_work_hour(
    *, preemptions_per_hour: float, interval_hours: float, save_hours: float, restore_hours: float, wait_hours: float
) -> float:
    """Return the hours that pass for each hour of work, with a wait of `wait_hours` for each new machine."""
    _check(wait_hours=wait_hours)
    paid = paid_hours_per_work_hour(
        preemptions_per_hour=preemptions_per_hour,
        interval_hours=interval_hours,
        save_hours=save_hours,
        restore_hours=restore_hours,
    )
    return paid * (1 + preemptions_per_hour * wait_hours)


def best_interval_hours(
    *, preemptions_per_hour: float, save_hours: float, shortest_hours: float = SHORTEST_INTERVAL_HOURS
) -> float:
    """Return the interval that wastes least, and not less than the shortest that is worth its requests.

    Infinite where nothing is preempted within a hundred thousand years.
    """
    _check(preemptions_per_hour=preemptions_per_hour, save_hours=save_hours)
    if preemptions_per_hour < _SMALLEST_RATE_PER_HOUR:
        return math.inf
    best = exact_seconds(lost_seconds=save_hours * 3600, between_losses_seconds=3600 / preemptions_per_hour)
    return max(shortest_hours, best / 3600)


def break_even_preemptions_per_hour(
    *, price_ratio: float, save_hours: float, restore_hours: float, shortest_hours: float = SHORTEST_INTERVAL_HOURS
) -> float:
    """Return the rate of preemptions from which on spot costs more than on-demand, at the best interval for each rate.

    Args:
        price_ratio: On-demand price over spot price, above 0. At 1 and below spot never pays: 0 is returned.
        save_hours: Training time that one save costs.
        restore_hours: From a machine's start to its first new step.
        shortest_hours: Of the interval.

    Raises:
        ValueError: naming what is out of its range.
    """
    if not 0 < price_ratio < math.inf:
        raise ValueError(f"price_ratio must be above 0 and finite, got {price_ratio}")
    _check(save_hours=save_hours, restore_hours=restore_hours)

    def is_worth(rate: float) -> bool:
        interval = best_interval_hours(preemptions_per_hour=rate, save_hours=save_hours, shortest_hours=shortest_hours)
        paid = paid_hours_per_work_hour(
            preemptions_per_hour=rate, interval_hours=interval, save_hours=save_hours, restore_hours=restore_hours
        )
        return paid < price_ratio

    low, high = _SMALLEST_RATE_PER_HOUR, _LARGEST_RATE_PER_HOUR
    if not is_worth(low):
        return 0.0
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if is_worth(middle) else (low, middle)
    return (low + high) / 2


def _check(**amounts: float) -> None:
    for name, value in amounts.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
