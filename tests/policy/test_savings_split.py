from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.market import Market
from spotkeeper.policy.savings import BilledTime
from spotkeeper.policy.savings_split import AttemptTime, Purpose, SavingsSplit, Waste, split

HOUR = Decimal(3600)
ON_DEMAND = Decimal("3.00")


def period(hours: str, price: str) -> BilledTime:
    return BilledTime(seconds=Decimal(hours) * HOUR, usd_per_hour=Decimal(price), on_demand_usd_per_hour=ON_DEMAND)


def on_spot(*periods: BilledTime, interrupted: bool = False, **seconds: str) -> AttemptTime:
    return AttemptTime(
        market=Market.SPOT,
        periods=periods,
        seconds={Purpose[name.upper()]: Decimal(value) for name, value in seconds.items()},
        is_interrupted_by_ec2=interrupted,
    )


def on_demand(hours: str, **seconds: str) -> AttemptTime:
    return AttemptTime(
        market=Market.ON_DEMAND,
        periods=(period(hours, "3.00"),),
        seconds={Purpose[name.upper()]: Decimal(value) for name, value in seconds.items()},
    )


def account(
    *attempts: AttemptTime, work_hours: str = "10", boot_hours: str = "0", lowest: str = "1.00"
) -> SavingsSplit:
    return split(
        attempts,
        work_seconds=Decimal(work_hours) * HOUR,
        boot_seconds=Decimal(boot_hours) * HOUR,
        on_demand_usd_per_hour=ON_DEMAND,
        lowest_spot_usd_per_hour=Decimal(lowest),
    )


def wasted(found: SavingsSplit) -> dict[Waste, float]:
    return {name: microusd / 1e6 for name, microusd in found.waste_microusd.items() if microusd}


def test_a_run_that_was_never_interrupted_saves_what_the_prices_say() -> None:
    found = account(on_spot(period("10", "1.00")))

    assert found.effective == found.theoretical == found.ceiling == pytest.approx(2 / 3)
    assert found.capture_ratio == 1
    assert wasted(found) == {}


def test_every_dollar_above_the_theoretical_cost_has_a_name() -> None:
    found = account(
        on_spot(period("6", "1.00"), changeover="720", lost="1800", stall="360"),
        on_spot(period("1", "1.00"), standby="3600"),
        on_demand("5", changeover="720"),
        boot_hours="0.2",
    )

    # 5.2 useful hours on spot, 4.8 on demand: ten hours of work.
    assert wasted(found) == {
        Waste.FALLBACK: pytest.approx(4.8 * 2),
        Waste.CHANGEOVER: pytest.approx(0.2 * 1 + 0.2 * 3 - 0.2 * 1),
        Waste.LOST: 0.5,
        Waste.STALL: 0.1,
        Waste.STANDBY: 1.0,
    }
    assert found.spent_microusd == 22_000_000
    assert found.theoretical_microusd == 10_200_000
    assert found.reference_microusd == 30_600_000
    assert found.effective == pytest.approx(1 - 22 / 30.6)


def test_a_price_that_rises_during_an_attempt_is_drift_and_a_dear_pool_stands_against_the_ceiling() -> None:
    found = account(
        on_spot(period("4", "1.00"), period("4", "2.00"), changeover="7200"),
        on_spot(period("4", "1.00")),
        lowest="0.50",
    )

    # The mean of spot is 16/12; the useful hours were 6 at 1.5 and 4 at 1.
    mean = 16 / 12
    assert wasted(found)[Waste.DRIFT] == pytest.approx(6 * (1.5 - mean) + 4 * (1 - mean), abs=1e-6)
    assert found.theoretical == pytest.approx(1 - mean / 3)
    assert found.ceiling == pytest.approx(1 - 0.5 / 3)


def test_what_ec2_takes_within_the_first_hour_is_not_billed() -> None:
    found = account(on_spot(period("0.9", "1.00"), interrupted=True, lost="3240"), on_spot(period("10", "1.00")))

    assert found.spent_microusd == 10_000_000
    assert wasted(found) == {Waste.LOST: 0.9, Waste.FREE: -0.9}


@pytest.mark.parametrize(
    ("attempt", "spent"),
    [
        (on_spot(period("1", "1.00"), interrupted=True), 1_000_000),  # A whole hour is not within it.
        (on_spot(period("0.9", "1.00"), interrupted=False), 900_000),  # We stopped it.
        (
            AttemptTime(market=Market.ON_DEMAND, periods=(period("0.9", "3.00"),), is_interrupted_by_ec2=True),
            2_700_000,
        ),
    ],
)
def test_everything_else_is_billed_by_the_second(attempt: AttemptTime, spent: int) -> None:
    assert account(attempt, work_hours="1").spent_microusd == spent


def test_a_run_on_demand_alone_is_compared_with_the_cheapest_pool() -> None:
    found = account(on_demand("10"))

    assert found.effective == 0
    assert found.theoretical == found.ceiling == pytest.approx(2 / 3)
    assert wasted(found) == {Waste.FALLBACK: 20.0}


def test_a_slower_machine_costs_hours_of_its_own_name() -> None:
    assert wasted(account(on_spot(period("12", "1.00")))) == {Waste.SPEED: 2.0}


def test_nothing_done_and_nothing_to_do_has_no_shares() -> None:
    found = account(work_hours="0")

    assert found.effective is None
    assert found.capture_ratio is None


def test_spot_that_is_dearer_than_on_demand_is_a_loss_with_nothing_to_capture() -> None:
    found = account(on_spot(period("10", "4.00")))

    assert found.effective == pytest.approx(-1 / 3)
    assert found.capture_ratio is None


PERIODS = st.lists(
    st.builds(
        BilledTime,
        seconds=st.decimals(0, 100_000, places=3),
        usd_per_hour=st.decimals(0, 100, places=6),
        on_demand_usd_per_hour=st.just(ON_DEMAND),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def attempts(draw: st.DrawFn) -> AttemptTime:
    periods = tuple(draw(PERIODS))
    total = sum((one.seconds for one in periods), start=Decimal(0))
    shares = draw(st.lists(st.integers(0, 200), min_size=len(Purpose), max_size=len(Purpose)))
    return AttemptTime(
        market=draw(st.sampled_from(Market)),
        periods=periods,
        seconds={purpose: total * share / 1024 for purpose, share in zip(Purpose, shares, strict=True)},
        is_interrupted_by_ec2=draw(st.booleans()),
    )


@given(st.lists(attempts(), max_size=6), st.decimals(0, 10**6, places=2), st.integers(0, 10**9))
def test_the_parts_add_up_to_the_micro_dollar(made: list[AttemptTime], work: Decimal, storage: int) -> None:
    found = split(
        made,
        work_seconds=work,
        boot_seconds=Decimal(300),
        on_demand_usd_per_hour=ON_DEMAND,
        lowest_spot_usd_per_hour=Decimal("0.7"),
        storage_microusd=storage,
    )

    assert sum(found.waste_microusd.values()) == found.spent_microusd - found.theoretical_microusd
    assert all(type(microusd) is int for microusd in found.waste_microusd.values())
    assert found.waste_microusd[Waste.STORAGE] - storage in (-1, 0, 1)
    assert found.waste_microusd[Waste.FREE] <= 1


@given(st.lists(attempts(), max_size=4))
def test_prices_in_another_currency_change_no_share(made: list[AttemptTime]) -> None:
    def in_other(one: AttemptTime) -> AttemptTime:
        return AttemptTime(
            market=one.market,
            periods=tuple(
                BilledTime(seconds=p.seconds, usd_per_hour=7 * p.usd_per_hour, on_demand_usd_per_hour=ON_DEMAND)
                for p in one.periods
            ),
            seconds=one.seconds,
            is_interrupted_by_ec2=one.is_interrupted_by_ec2,
        )

    here = account(*made)
    there = split(
        [in_other(one) for one in made],
        work_seconds=10 * HOUR,
        boot_seconds=Decimal(0),
        on_demand_usd_per_hour=7 * ON_DEMAND,
        lowest_spot_usd_per_hour=Decimal(7),
    )

    assert there.effective == pytest.approx(here.effective, abs=1e-6)
    assert there.theoretical == pytest.approx(here.theoretical, abs=1e-6)


def test_what_is_no_time_and_no_money_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="purposes take 7200 s of an attempt that had 3600 s"):
        on_spot(period("1", "1.00"), lost="7200")
    with pytest.raises(ValueError, match="seconds of work done again must be a finite number of at least 0, got -1"):
        on_spot(period("1", "1.00"), lost="-1")
    with pytest.raises(TypeError, match="seconds of standby must be a Decimal, got float"):
        AttemptTime(market=Market.SPOT, periods=(), seconds={Purpose.STANDBY: 1.0})  # type: ignore[dict-item]  # the claim
    with pytest.raises(ValueError, match="work_seconds and boot_seconds must be at least 0, got -3600 and 7200"):
        account(work_hours="-1", boot_hours="2")
    with pytest.raises(ValueError, match="usd_per_hour must be a finite number of at least 0, got NaN"):
        account(lowest="NaN")
    with pytest.raises(ValueError, match="storage_microusd must be a whole number of at least 0, got -1"):
        split(
            [],
            work_seconds=HOUR,
            boot_seconds=HOUR,
            on_demand_usd_per_hour=ON_DEMAND,
            lowest_spot_usd_per_hour=ON_DEMAND,
            storage_microusd=-1,
        )
