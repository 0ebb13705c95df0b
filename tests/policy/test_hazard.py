import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE, FittedHazard, Lomax, fit, spells_of
from spotkeeper.policy.preemption_rate import Spell

LOMAX = st.builds(Lomax, shape=st.floats(0.3, 5), scale_hours=st.floats(0.05, 20))
HOURS = st.floats(0, 200)


def drawn(lomax: Lomax, number: int, *, seen_hours: float = math.inf, seed: int = 3) -> list[Spell]:
    draw = Random(seed)
    lengths = [lomax.quantile_hours(draw.random()) for _ in range(number)]
    return [Spell(hours=min(hours, seen_hours), is_ended=hours <= seen_hours) for hours in lengths]


def test_the_hazard_of_the_prior_falls_like_one_over_age_and_half_an_hour() -> None:
    assert PRIOR_LIFETIME.per_hour(0) == 2
    assert PRIOR_LIFETIME.per_hour(12) == pytest.approx(0.08)


@given(LOMAX, HOURS, HOURS, HOURS)
def test_to_last_two_times_is_to_last_the_one_and_then_the_other(
    lomax: Lomax, age: float, first: float, second: float
) -> None:
    both = lomax.survival(first + second, age_hours=age)

    assert both == pytest.approx(
        lomax.survival(first, age_hours=age) * lomax.survival(second, age_hours=age + first), abs=1e-12
    )


@given(LOMAX, HOURS, HOURS, st.floats(0.01, 100))
def test_what_is_older_lasts_longer(lomax: Lomax, age: float, other: float, within: float) -> None:
    young, old = sorted((age, other))

    assert lomax.mean_hours(within_hours=within, age_hours=young) <= within
    assert lomax.mean_hours(within_hours=within, age_hours=young) <= 1e-9 + (
        lomax.mean_hours(within_hours=within, age_hours=old)
    )


@pytest.mark.parametrize("shape", [0.5, 1 - 1e-13, 1, 1 + 1e-9, 2.5])
def test_the_mean_up_to_a_horizon_is_the_area_under_the_survival(shape: float) -> None:
    lomax = Lomax(shape=shape, scale_hours=0.7)
    steps = 20_000
    area = sum(lomax.survival((index + 0.5) * 10 / steps, age_hours=2) for index in range(steps)) * 10 / steps

    assert lomax.mean_hours(within_hours=10, age_hours=2) == pytest.approx(area, rel=1e-6)


@given(LOMAX, st.floats(0, 0.999), HOURS)
def test_a_quantile_inverts_the_survival(lomax: Lomax, probability: float, age: float) -> None:
    hours = lomax.quantile_hours(probability, age_hours=age)

    assert lomax.survival(hours, age_hours=age) == pytest.approx(1 - probability, rel=1e-6)


@pytest.mark.parametrize("truth", [Lomax(shape=1.3, scale_hours=0.8), Lomax(shape=3, scale_hours=5)])
def test_a_fit_finds_the_hazard_that_spells_were_drawn_from(truth: Lomax) -> None:
    found = fit(drawn(truth, 2000)).lomax

    for age in (0, 1, 4):
        assert found.per_hour(age) == pytest.approx(truth.per_hour(age), rel=0.15)


def test_spells_that_were_cut_off_bias_nothing() -> None:
    truth = Lomax(shape=1.3, scale_hours=0.8)
    cut = drawn(truth, 3000, seen_hours=2)
    found = fit(cut)

    assert found.num_events < found.num_spells
    assert found.lomax.per_hour(1) == pytest.approx(truth.per_hour(1), rel=0.1)
    # Counting them as preemptions would.
    assert fit(Spell(hours=spell.hours, is_ended=True) for spell in cut).lomax.per_hour(1) > 1.3 * truth.per_hour(1)


@pytest.mark.parametrize("prior", [PRIOR_LIFETIME, PRIOR_OUTAGE])
def test_without_data_a_fit_is_about_the_prior(prior: Lomax) -> None:
    found = fit([], prior=prior)

    assert not found.is_sufficient
    assert found.lomax.per_hour(1) == pytest.approx(prior.per_hour(1), rel=0.25)
    assert str(found).startswith("insufficient data: ")
    assert str(found).endswith("(0 ends in 0 h)")


def test_a_few_spells_move_the_prior_and_many_overrule_it() -> None:
    calm = [Spell(hours=40.0, is_ended=True)] * 3
    few, many = fit(calm), fit(calm * 100)

    assert many.lomax.per_hour(10) < few.lomax.per_hour(10) < PRIOR_LIFETIME.per_hour(10)


@settings(deadline=None)
@given(st.lists(st.builds(Spell, hours=st.floats(0, 1e4), is_ended=st.booleans()), max_size=20))
def test_any_spells_have_a_fit(watched: list[Spell]) -> None:
    found = fit(watched)

    assert isinstance(found, FittedHazard)
    assert 0 < found.lomax.per_hour(0) < math.inf


def test_a_series_gives_stretches_whose_beginning_was_seen_and_whose_last_goes_on() -> None:
    up, down = spells_of([1, 1, 0, 1, 1, 1, 0, 0, 1], gap_hours=0.5)

    assert up == (Spell(hours=1.5, is_ended=True), Spell(hours=0.5, is_ended=False))
    assert down == (Spell(hours=0.5, is_ended=True), Spell(hours=1, is_ended=True))
    assert spells_of([1, 1, 1], gap_hours=2) == ((Spell(hours=6, is_ended=False),), ())
    assert spells_of([], gap_hours=1) == ((), ())


@pytest.mark.parametrize("hours", [-1, math.nan, math.inf])
def test_an_age_that_is_none_is_refused(hours: float) -> None:
    with pytest.raises(ValueError, match=f"age_hours must be a finite number of at least 0, got {hours}"):
        PRIOR_LIFETIME.per_hour(hours)


@pytest.mark.parametrize(("shape", "scale"), [(0, 1), (1, -1), (math.nan, 1)])
def test_a_distribution_that_is_none_is_refused(shape: float, scale: float) -> None:
    with pytest.raises(ValueError, match="must be above 0 and finite"):
        Lomax(shape=shape, scale_hours=scale)
