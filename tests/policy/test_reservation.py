from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.reservation import (
    FENCED_SECONDS,
    STOP_SECONDS,
    MachineTime,
    affordable_seconds,
    before_seconds,
    longest_start_seconds,
    on_demand_microusd,
    settled_microusd,
)

PRICES = st.decimals("0.01", "500", places=4)
LIMITS = st.integers(60, 10**6)
STARTS = st.booleans().map(lambda copies_first: longest_start_seconds(copies_first=copies_first))


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


@given(PRICES, LIMITS, STARTS, st.floats(0, 10**6))
def test_a_start_that_takes_as_long_as_it_may_was_reserved_for(
    price: Decimal, limit: int, start: int, waited: float
) -> None:
    before = before_seconds(waited_seconds=waited, start_seconds=start)
    whole = MachineTime(seconds=limit + STOP_SECONDS, usd_per_hour=price, before_seconds=before)
    assert settled_microusd([whole]) <= on_demand_microusd(price, limit, start)
    assert before >= min(waited, start)


@given(PRICES, st.integers(0, 10**12), STARTS)
def test_the_longest_affordable_attempt_can_be_reserved_for_and_a_longer_one_cannot(
    price: Decimal, left: int, start: int
) -> None:
    seconds = affordable_seconds(price, left, start)
    if seconds >= 0:
        assert on_demand_microusd(price, seconds, start) <= left
    assert on_demand_microusd(price, max(seconds, 0) + 1, start) > left


def test_nothing_ran_and_nothing_is_settled() -> None:
    assert settled_microusd([]) == 0
