from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.reservation import (
    FENCED_SECONDS,
    STOP_SECONDS,
    MachineTime,
    affordable_seconds,
    on_demand_microusd,
    settled_microusd,
)

PRICES = st.decimals("0.01", "500", places=4)
LIMITS = st.integers(60, 10**6)


@given(PRICES, LIMITS, st.floats(0, 1), st.floats(0, 1), st.floats(0, FENCED_SECONDS))
def test_what_is_settled_is_never_more_than_what_was_reserved(
    dearest: Decimal, limit: int, share: float, cheaper: float, twin: float
) -> None:
    price = (dearest * Decimal(cheaper)).quantize(Decimal("0.0001"))
    times = [
        MachineTime(seconds=share * (limit + STOP_SECONDS), usd_per_hour=price),
        MachineTime(seconds=twin, usd_per_hour=dearest),
    ]
    # Two containers are rounded up apart, one reservation together.
    assert settled_microusd(times) <= on_demand_microusd(dearest, limit) + 1


@given(PRICES, st.integers(0, 10**12))
def test_the_longest_affordable_attempt_can_be_reserved_for_and_a_longer_one_cannot(price: Decimal, left: int) -> None:
    seconds = affordable_seconds(price, left)
    if seconds >= 0:
        assert on_demand_microusd(price, seconds) <= left
    assert on_demand_microusd(price, max(seconds, 0) + 1) > left


def test_nothing_ran_and_nothing_is_settled() -> None:
    assert settled_microusd([]) == 0
