import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.policy.preemption_rate import PreemptionRate, Spell, estimate


def spells(*hours: float, running: tuple[float, ...] = ()) -> list[Spell]:
    return [Spell(hours=one, is_ended=True) for one in hours] + [Spell(hours=one, is_ended=False) for one in running]


def test_a_machine_that_still_runs_adds_exposure_and_no_event() -> None:
    rate = estimate(spells(1, 2, 3, 4, 5, running=(33,)))

    assert (rate.num_events, rate.exposure_hours) == (5, 48)
    assert rate.per_hour == pytest.approx((1 + 5) / (2 + 48))


def test_what_is_told_always_has_the_interval_and_the_number_of_events() -> None:
    assert str(estimate(spells(2, 2, 2))).startswith("insufficient data: 0.5 an hour (90%: ")
    assert str(estimate(spells(2, 2, 2))).endswith("3 preemptions in 6 h)")
    assert str(estimate(spells(*[2.0] * 8))).startswith("0.5 an hour (90%: 0.")


def test_below_five_events_there_is_insufficient_data() -> None:
    assert not estimate(spells(1, 1, 1, 1, running=(500,))).is_sufficient
    assert estimate(spells(1, 1, 1, 1, 1)).is_sufficient


def test_nothing_watched_gives_the_prior_with_a_wide_interval() -> None:
    rate = estimate([])

    assert rate.per_hour == 0.5
    assert rate.low_per_hour < 0.05 < 2 < rate.high_per_hour


def test_uneven_lifetimes_widen_the_interval_by_their_dispersion() -> None:
    even = estimate(spells(*[4.0] * 20))
    uneven = estimate(spells(*[0.1] * 18, 40, 38.2))

    def width(rate: PreemptionRate) -> float:
        return rate.high_per_hour / rate.low_per_hour

    assert even.per_hour == pytest.approx(uneven.per_hour)
    assert even.dispersion == pytest.approx(1, abs=0.01)
    assert uneven.dispersion > 3
    assert width(uneven) > 1.5 * width(even)


def test_two_pools_differ_only_when_their_intervals_are_apart_and_both_rest_on_enough() -> None:
    bad, good = estimate(spells(*[0.2] * 30)), estimate(spells(*[20.0] * 30))

    assert bad.is_apart_from(good)
    assert good.is_apart_from(bad)
    assert not estimate(spells(*[0.2] * 4)).is_apart_from(good)
    assert not good.is_apart_from(estimate(spells(*[22.0] * 20)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30), st.floats(0.5, 0.99))
def test_the_interval_is_around_the_median_and_wider_where_more_is_promised(
    watched: list[tuple[float, bool]], level: float
) -> None:
    found = [Spell(hours=hours, is_ended=is_ended) for hours, is_ended in watched]
    narrow, wide = estimate(found, level=level / 2), estimate(found, level=level)

    assert 0 < wide.low_per_hour <= narrow.low_per_hour <= narrow.high_per_hour <= wide.high_per_hour < math.inf


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 100), st.booleans()), min_size=1, max_size=20), st.floats(0.1, 10))
def test_hours_in_another_unit_give_the_rate_in_that_unit(watched: list[tuple[float, bool]], factor: float) -> None:
    rate = estimate(Spell(hours=hours, is_ended=is_ended) for hours, is_ended in watched)
    scaled = estimate(
        (Spell(hours=factor * hours, is_ended=is_ended) for hours, is_ended in watched), prior_hours=factor * 2
    )

    assert scaled.per_hour * factor == pytest.approx(rate.per_hour)
    assert scaled.high_per_hour * factor == pytest.approx(rate.high_per_hour, rel=1e-6)


def test_with_a_constant_rate_the_interval_covers_at_least_what_it_says() -> None:
    draw = Random(7)
    covered = 0
    for _ in range(400):
        rate = estimate(spells(*[draw.expovariate(0.5) for _ in range(20)]))
        covered += rate.low_per_hour <= 0.5 <= rate.high_per_hour

    assert covered >= 0.9 * 400


@pytest.mark.parametrize("hours", [-1, math.nan, math.inf])
def test_a_length_that_is_none_is_refused(hours: float) -> None:
    with pytest.raises(ValueError, match=f"hours of a spell must be a finite number of at least 0, got {hours}"):
        Spell(hours=hours, is_ended=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior_events": 0}, "prior_events must be above 0 and finite, got 0"),
        ({"prior_hours": math.nan}, "prior_hours must be above 0 and finite, got nan"),
        ({"level": 1}, "level must be above 0 and below 1, got 1"),
    ],
)
def test_a_prior_that_is_none_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate([], **arguments)
