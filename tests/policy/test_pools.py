import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.policy.pools import Offer, Pool, PoolChoice, choose, rank, union_availability


def offer(
    zone: str = "use1-az1",
    *,
    kind: str = "g5.xlarge",
    spot: float = 0.4,
    on_demand: float = 1.0,
    rate: float = 0.3,
    availability: float | None = 0.8,
    speed: float = 1.0,
    is_broken: bool = False,
) -> Offer:
    return Offer(
        pool=Pool(kind, zone.split("-")[0], zone),
        spot_usd_per_hour=spot,
        on_demand_usd_per_hour=on_demand,
        preemptions_per_hour=rate,
        availability=availability,
        speed=speed,
        is_broken=is_broken,
    )


def chosen(*offers: Offer, fewest: int = 6) -> PoolChoice:
    return choose(rank(offers, save_hours=1 / 60, restore_hours=0.2), fewest=fewest)


def zones(choice: PoolChoice) -> list[str]:
    return [one.offer.pool.zone_id for one in choice.pools]


def test_a_dearer_pool_that_is_seldom_taken_is_ranked_before_a_cheap_one_that_is_taken_all_the_time() -> None:
    ranked = rank([offer("use1-az1", spot=0.35, rate=3), offer("use1-az2", spot=0.45, rate=0.1)], save_hours=1 / 60,
                  restore_hours=0.2)  # fmt: skip

    assert [one.offer.pool.zone_id for one in ranked] == ["use1-az2", "use1-az1"]


def test_twice_the_speed_is_worth_twice_the_price() -> None:
    slow, fast = rank(
        [offer(kind="g5.xlarge"), offer(kind="p4d.24xlarge", spot=0.8, on_demand=2.0, speed=2)],
        save_hours=1 / 60,
        restore_hours=0.2,
    )

    assert slow.usd_per_work_hour == pytest.approx(fast.usd_per_work_hour)


def test_what_a_pool_does_not_have_is_bought_on_demand() -> None:
    (one,) = rank([offer(availability=0.25, rate=0)], save_hours=0, restore_hours=0)

    assert one.usd_per_work_hour == pytest.approx(0.25 * 0.4 + 0.75 * 1.0)


def test_zones_of_a_region_help_less_than_another_region_does() -> None:
    here = rank([offer("use1-az1"), offer("use1-az2")], save_hours=0, restore_hours=0)
    apart = rank([offer("use1-az1"), offer("usw2-az1")], save_hours=0, restore_hours=0)

    assert 0.8 < union_availability(here) < union_availability(apart) < 1 - 0.2**2


def test_the_union_of_recorded_zones_is_about_what_was_recorded() -> None:
    # Three zones of us-west-2 in 2023, .883, .905 and .891, had capacity in .961 of the time together.
    recorded = [offer(f"usw2-az{index}", availability=share) for index, share in enumerate((0.883, 0.905, 0.891))]

    assert union_availability(rank(recorded, save_hours=0, restore_hours=0)) == pytest.approx(0.961, abs=0.01)


def test_never_fewer_than_the_floor_even_where_one_pool_is_cheapest() -> None:
    cheap = [offer("use1-az1", spot=0.1, availability=1.0)]
    dear = [offer(f"use1-az{index}", spot=0.6) for index in range(2, 9)]

    assert len(chosen(*cheap, *dear).pools) == 6
    assert len(chosen(*cheap, *dear, fewest=1).pools) == 1


def test_a_floor_that_cannot_be_met_is_said() -> None:
    choice = chosen(offer("use1-az1"), offer("use1-az2"))

    assert choice.is_below_floor
    assert "2 of 2 pools; fewer than the 6 that make a run independent of one" in choice.reason


def test_a_pool_where_spot_does_not_pay_is_not_offered_even_for_the_floor() -> None:
    choice = chosen(offer("use1-az1"), offer("use1-az2", spot=0.99), offer("use1-az3", rate=20))

    assert zones(choice) == ["use1-az1"]
    assert "spot does not pay in 2" in choice.reason


def test_a_broken_pool_is_offered_only_where_the_floor_needs_it() -> None:
    broken = offer("use1-az9", spot=0.1, is_broken=True)
    whole = [offer(f"use1-az{index}") for index in range(6)]

    assert "use1-az9" not in zones(chosen(broken, *whole))
    assert "use1-az9" in zones(chosen(broken, *whole[:5]))


OFFERS = st.lists(
    st.builds(
        offer,
        zone=st.builds("{}-az{}".format, st.sampled_from(["use1", "use2", "usw2"]), st.integers(1, 6)),
        spot=st.floats(0.01, 2),
        rate=st.floats(0, 5),
        availability=st.one_of(st.none(), st.floats(0, 1)),
        is_broken=st.booleans(),
    ),
    max_size=9,
    unique_by=lambda one: one.pool,
)


@settings(deadline=None)
@given(OFFERS, st.integers(1, 6))
def test_the_floor_is_kept_as_long_as_enough_pools_pay(offers: list[Offer], fewest: int) -> None:
    ranked = rank(offers, save_hours=1 / 60, restore_hours=0.2)
    choice = choose(ranked, fewest=fewest)
    num_paying = sum(one.pays for one in ranked)

    assert len(choice.pools) >= min(fewest, num_paying)
    assert all(one.pays for one in choice.pools)
    assert choice.is_below_floor is (num_paying < fewest)
    assert len({one.offer.pool for one in choice.pools}) == len(choice.pools)


@settings(deadline=None)
@given(OFFERS)
def test_more_pools_never_make_capacity_rarer(offers: list[Offer]) -> None:
    ranked = rank(offers, save_hours=0, restore_hours=0)
    shares = [union_availability(ranked[:number]) for number in range(len(ranked) + 1)]

    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


@settings(deadline=None)
@given(OFFERS, st.floats(0.1, 10))
def test_another_currency_changes_no_order(offers: list[Offer], factor: float) -> None:
    scaled = [
        offer(
            one.pool.zone_id,
            spot=factor * one.spot_usd_per_hour,
            on_demand=factor * one.on_demand_usd_per_hour,
            rate=one.preemptions_per_hour,
            availability=one.availability,
        )
        for one in offers
    ]

    here = [one.usd_per_work_hour for one in rank(offers, save_hours=0.01, restore_hours=0.2)]
    there = [one.usd_per_work_hour / factor for one in rank(scaled, save_hours=0.01, restore_hours=0.2)]

    assert there == pytest.approx(here)


def test_what_is_no_offer_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"spot_usd_per_hour of g5\.xlarge in use1-az1 must be above 0 and finite, got nan"
    ):
        offer(spot=math.nan)
    with pytest.raises(ValueError, match=r"availability of g5\.xlarge in use1-az1 must be from 0 to 1, got 1\.1"):
        offer(availability=1.1)
    with pytest.raises(ValueError, match=r"preemptions_per_hour of g5\.xlarge in use1-az1 must be a finite number"):
        offer(rate=-1)
    with pytest.raises(ValueError, match=r"g5\.xlarge in use1-az1 is offered twice"):
        rank([offer(), offer()], save_hours=0, restore_hours=0)
    with pytest.raises(ValueError, match="fewest must be at least 1, got 0"):
        chosen(offer(), fewest=0)
