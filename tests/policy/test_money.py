from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.money import MAX_USD, check_microusd, cost_microusd, format_usd, parse_usd


@pytest.mark.parametrize(
    ("text", "microusd"),
    [("0", 0), ("20", 20_000_000), ("$20", 20_000_000), ("12.50", 12_500_000), (" 0.000001 ", 1), ("10000000", 10**13)],
)
def test_plain_dollars_are_read_exactly(text: str, microusd: int) -> None:
    assert parse_usd(text) == microusd


@pytest.mark.parametrize(
    "text",
    ["", "10,00", "1,000", "-1", "+1", "1e308", "1e3", "nan", "inf", "Infinity", "0x10", "1.0000001", "10000000.01",
     "99999999", "20 USD", "€20", "٣", "1_000", "."],
)  # fmt: skip
def test_everything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="--fallback-cap must be"):
        parse_usd(text, what="--fallback-cap")


@pytest.mark.parametrize("amount", [-1, MAX_USD * 1_000_000 + 1, True, 1.5, float("nan")])
def test_an_amount_is_a_whole_number_of_microdollars_in_range(amount: int) -> None:
    with pytest.raises(ValueError, match="micro-dollars"):
        check_microusd(amount)


@given(st.integers(0, MAX_USD * 1_000_000))
def test_what_is_shown_is_what_is_read(microusd: int) -> None:
    assert parse_usd(format_usd(microusd).replace(",", "")) == microusd


def test_an_amount_below_zero_is_shown_with_its_sign() -> None:
    assert format_usd(-3_250_000) == "-$3.25"


def test_what_a_float_is_off_by_costs_nothing() -> None:
    seconds = 1806.4 - 1391.05
    assert seconds > 415.35
    assert cost_microusd(Decimal(1), seconds) == cost_microusd(Decimal(1), 415.35) == 115375


@given(st.decimals("0.0001", "1000", places=4), st.integers(0, 10**7))
def test_a_cost_is_rounded_up_by_less_than_a_microdollar(price: Decimal, seconds: int) -> None:
    exact = price * seconds * 1_000_000 / 3600
    assert 0 <= cost_microusd(price, seconds) - exact < 1
