"""The interval between checkpoints that wastes least, where work is lost at a constant rate. Pure.

Young, "A first order approximation to the optimum checkpoint interval" (CACM 17(9), 1974); Daly, "A higher order
estimate of the optimum checkpoint interval for restart dumps" (FGCS 22(3), 2006, equation 37); and the exact minimum of
Daly's complete model (his equation 20), which Lambert's function gives in closed form.
"""

import math
from typing import Final

_STEPS: Final = 50


def young_seconds(*, lost_seconds: float, between_losses_seconds: float) -> float:
    """Return Young's interval, right where a checkpoint costs little beside the time between losses.

    Args:
        lost_seconds: Training time that one checkpoint costs.
        between_losses_seconds: Mean time between two losses of work, above 0.
    """
    _check(lost_seconds, between_losses_seconds)
    return math.sqrt(2 * lost_seconds * between_losses_seconds)


def daly_seconds(*, lost_seconds: float, between_losses_seconds: float) -> float:
    """Return Daly's interval, of the arguments of `young_seconds`: the mean time itself where saving is that dear."""
    _check(lost_seconds, between_losses_seconds)
    if lost_seconds >= 2 * between_losses_seconds:
        return between_losses_seconds
    ratio = lost_seconds / (2 * between_losses_seconds)
    young = young_seconds(lost_seconds=lost_seconds, between_losses_seconds=between_losses_seconds)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - lost_seconds


def exact_seconds(*, lost_seconds: float, between_losses_seconds: float) -> float:
    """Return the interval with the least expected time, of the arguments of `young_seconds`.

    With m between losses and c lost by a checkpoint, (1 + W0(-exp(-1 - c/m))) m: at most Young's, and at most m.
    """
    _check(lost_seconds, between_losses_seconds)
    return between_losses_seconds * _one_plus_w0(lost_seconds / between_losses_seconds)


def most_lost_seconds(*, num_preemptions: int, interval_seconds: float, commit_seconds: float) -> float:
    """Return the most work that preemptions can take back, as long as every save succeeds.

    Args:
        num_preemptions: How many.
        interval_seconds: Between the beginnings of two saves.
        commit_seconds: From a save's beginning to its commit.
    """
    return num_preemptions * (interval_seconds + commit_seconds)


def _one_plus_w0(cost: float) -> float:
    """Return 1 + W0(-exp(-1 - cost)), from 0 to 1.

    Solved for itself: near its branch point W0 is -1, and adding 1 afterwards would lose all digits. With x = 1 + W0
    the equation w e^w = -e^(-1 - cost) is log(1 - x) + x + cost = 0.
    """
    if cost == 0:
        return 0.0
    if cost > 30:
        return 1.0 - math.exp(-1 - cost)
    branch = math.sqrt(-2 * math.expm1(-cost))
    x = branch - branch**2 / 3 + 11 * branch**3 / 72
    if x < 1e-4:  # The series has more digits than the equation, whose terms cancel.
        return x
    x = min(x, 1 - math.exp(-1 - cost) / 2)
    for _ in range(_STEPS):
        # Newton on a concave function: from any x below 1, it stays below.
        step = (math.log1p(-x) + x + cost) * (1 - x) / x
        following = min(x + step, (1 + x) / 2)
        if abs(following - x) <= 1e-15 * x:
            break
        x = following
    return x


def _check(lost_seconds: float, between_losses_seconds: float) -> None:
    if not 0 <= lost_seconds < math.inf:
        raise ValueError(f"lost_seconds must be a finite number of at least 0, got {lost_seconds}")
    if not 0 < between_losses_seconds < math.inf:
        raise ValueError(f"between_losses_seconds must be above 0 and finite, got {between_losses_seconds}")
