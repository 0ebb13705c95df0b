from random import Random

import pytest

from spotkeeper.policy.drawn_market import drawn_ticks, resampled_hazards
from spotkeeper.policy.hazard import PRIOR_LIFETIME, PRIOR_OUTAGE, Lomax, fit, spells_of

LIFETIME, OUTAGE = Lomax(shape=3.0, scale_hours=8.0), Lomax(shape=3.0, scale_hours=2.0)


def drawn(num_ticks: int, seed: int = 1) -> list[int]:
    return drawn_ticks(lifetime=LIFETIME, outage=OUTAGE, num_ticks=num_ticks, gap_hours=0.1, draw=Random(seed).random)


def test_a_drawn_market_has_the_hazards_that_it_was_drawn_from() -> None:
    up, down = spells_of(drawn(200_000), gap_hours=0.1)

    # Means are scale / (shape - 1): four hours with spot, and one without.
    assert sum(spell.hours for spell in up) / len(up) == pytest.approx(4, rel=0.1)
    assert sum(spell.hours for spell in down) / len(down) == pytest.approx(1, rel=0.1)
    assert fit(up).lomax.per_hour(2) == pytest.approx(LIFETIME.per_hour(2), rel=0.15)


def test_a_job_may_begin_at_any_moment_of_it() -> None:
    begins_up = [drawn(1, seed)[0] for seed in range(400)]

    assert sum(begins_up) / 400 == pytest.approx(0.8, abs=0.06)


def test_the_same_draws_give_the_same_market() -> None:
    assert drawn(500, 1) == drawn(500, 1) != drawn(500, 2)
    assert len(drawn(37)) == 37


@pytest.mark.parametrize(("num_ticks", "gap_hours"), [(0, 0.1), (10, 0.0), (10, float("nan"))])
def test_a_market_of_no_length_is_refused(num_ticks: int, gap_hours: float) -> None:
    with pytest.raises(ValueError, match=f"num_ticks and gap_hours must be above 0, got {num_ticks} and {gap_hours}"):
        drawn_ticks(lifetime=LIFETIME, outage=OUTAGE, num_ticks=num_ticks, gap_hours=gap_hours, draw=Random(1).random)


def test_hazards_of_resamples_differ_by_less_the_more_was_recorded() -> None:
    def spread(num_ticks: int) -> float:
        up, down = spells_of(drawn(num_ticks), gap_hours=0.1)
        draw = Random(3).random
        hazards = [resampled_hazards(up, down, draw=draw)[0].per_hour(2) for _ in range(60)]
        return max(hazards) / min(hazards)

    assert spread(20_000) < spread(1000)


def test_without_a_spell_the_hazards_are_those_of_recorded_pools() -> None:
    lifetime, outage = resampled_hazards((), (), draw=Random(1).random)

    assert (lifetime, outage) == (fit([], prior=PRIOR_LIFETIME).lomax, fit([], prior=PRIOR_OUTAGE).lomax)
