from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.savings import BilledTime, savings


def billed(seconds: str, paid: str, on_demand: str = "1.006") -> BilledTime:
    return BilledTime(seconds=Decimal(seconds), usd_per_hour=Decimal(paid), on_demand_usd_per_hour=Decimal(on_demand))


def test_savings_are_exact_to_the_last_digit() -> None:
    total = savings([billed("1800", "0.3018"), billed("5400", "0.4")])

    assert total.spent_usd == Decimal("0.7509")
    assert total.on_demand_usd == Decimal("2.012")
    assert total.saved_usd == Decimal("1.2611")
    assert total.saved_percent is not None
    assert round(total.saved_percent, 2) == Decimal("62.68")


def test_time_at_the_on_demand_price_saves_nothing() -> None:
    assert savings([billed("3600", "1.006")]).saved_percent == 0


def test_a_spot_price_above_the_reference_is_a_loss_not_hidden() -> None:
    assert savings([billed("3600", "2.012")]).saved_percent == -100


def test_nothing_billed_has_no_percentage() -> None:
    assert savings([]).saved_percent is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "-0.0001"])
@pytest.mark.parametrize("name", ["seconds", "usd_per_hour", "on_demand_usd_per_hour"])
def test_a_number_that_is_no_quantity_is_refused_by_name(name: str, value: str) -> None:
    fields = {"seconds": Decimal(1), "usd_per_hour": Decimal(1), "on_demand_usd_per_hour": Decimal(1)}
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number of at least 0, got {value}"):
        BilledTime(**{**fields, name: Decimal(value)})


def test_a_price_in_the_wrong_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1000 USD an hour, got 1E"):
        billed("1", "1E308")


def test_binary_floating_point_is_refused() -> None:
    with pytest.raises(TypeError, match="Decimal"):
        BilledTime(seconds=0.1, usd_per_hour=Decimal(1), on_demand_usd_per_hour=Decimal(1))  # type: ignore[arg-type]  # the claim


amounts = st.decimals(min_value=0, max_value=1000, places=4)


@given(st.lists(st.builds(BilledTime, seconds=amounts, usd_per_hour=amounts, on_demand_usd_per_hour=amounts)))
def test_spent_and_saved_add_up_to_the_reference(times: list[BilledTime]) -> None:
    total = savings(times)
    assert total.spent_usd + total.saved_usd == pytest.approx(total.on_demand_usd, abs=Decimal("1e-20"))
