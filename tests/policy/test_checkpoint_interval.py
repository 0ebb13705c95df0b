import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.policy.checkpoint_interval import (
    Interval,
    check_max_lost,
    choose,
    is_due,
    seconds_between_interruptions,
)
from spotkeeper.policy.measured_saves import MeasuredSave
from spotkeeper.policy.optimal_interval import exact_seconds

TWO_HOURS = 7200.0


def saved(lost: float, upload: float) -> MeasuredSave:
    return MeasuredSave(lost_seconds=lost, upload_seconds=upload, bytes=10**9)


def chosen(
    lost: float, upload: float, max_lost: float = 900, rescued: float = 0, between_seconds: float = TWO_HOURS
) -> Interval:
    return choose(
        [saved(lost, upload)],
        between_interruptions_seconds=between_seconds,
        rescued_share=rescued,
        max_lost_seconds=max_lost,
    )


SECONDS = st.floats(1e-4, 1e4)
BETWEEN = st.floats(60, 1e6)
SHARE = st.floats(0, 1)
MAX_LOST = st.floats(60, 3600)


def test_a_blocking_save_of_one_gigabyte_is_worth_making_every_two_minutes() -> None:
    assert exact_seconds(lost_seconds=1.3, between_losses_seconds=TWO_HOURS) == pytest.approx(136, abs=0.5)


def test_a_save_that_hardly_costs_anything_is_made_as_often_as_its_upload_allows() -> None:
    assert exact_seconds(lost_seconds=0.028, between_losses_seconds=TWO_HOURS) == pytest.approx(20.06, abs=0.05)
    assert chosen(0.028, upload=30).seconds == 36
    assert chosen(0.028, upload=30).reason == "an upload takes 30 s"


def test_what_emergency_saves_rescue_makes_checkpoints_rarer() -> None:
    # With three of four interruptions rescued, work is lost every eight hours instead of every two.
    assert chosen(0.5, 1).seconds == pytest.approx(85, abs=1)
    assert chosen(0.5, 1, rescued=0.75).seconds == pytest.approx(170, abs=1)


def test_the_reason_names_the_figures() -> None:
    assert chosen(0.5, 1).reason == "a checkpoint costs 0.5 s of training, and work is lost every 7200 s"
    assert chosen(60, 1, max_lost=300).reason == "max_lost is 300 s"


@given(SECONDS, SECONDS, BETWEEN, SHARE, MAX_LOST)
def test_no_more_than_one_save_is_in_flight_and_no_more_at_stake_than_allowed(
    lost: float, upload: float, between: float, rescued: float, max_lost: float
) -> None:
    interval = chosen(lost, upload, max_lost, rescued, between)

    assert interval.seconds >= 1.2 * upload
    assert interval.seconds <= max(max_lost, 1.2 * upload)


@given(st.floats(1e-3, 60), st.floats(600, 1e6), st.sampled_from([0.25, 0.5, 0.8, 1.25, 2, 4]))
def test_no_other_interval_takes_noticeably_less_time(lost: float, between: float, factor: float) -> None:
    def time_per_step(interval: float) -> float:
        # Daly's complete model (his equation 20), without the time to restart, which no interval changes.
        return between * math.expm1((interval + lost) / between) / interval

    best = exact_seconds(lost_seconds=lost, between_losses_seconds=between)

    assert time_per_step(best) <= 1.001 * time_per_step(factor * best)


@given(SECONDS, SECONDS, BETWEEN, SHARE, SHARE)
def test_the_dearer_a_checkpoint_and_the_more_is_rescued_the_longer_the_interval(
    lost: float, other: float, between: float, rescued: float, other_share: float
) -> None:
    cheap, dear = sorted((lost, other))
    few, many = sorted((rescued, other_share))

    assert chosen(cheap, 0, 3600, few, between).seconds <= 1.000001 * chosen(dear, 0, 3600, few, between).seconds
    assert chosen(cheap, 0, 3600, few, between).seconds <= 1.000001 * chosen(cheap, 0, 3600, many, between).seconds


def test_if_every_interruption_is_rescued_the_bound_alone_counts() -> None:
    assert chosen(0.01, 1, rescued=1) == Interval(seconds=900, reason="max_lost is 900 s")


@pytest.mark.parametrize(("max_lost", "seconds"), [(900, 60), (3600, 60), (60, 60), (5, 5), (1e-6, 1e-6)])
def test_the_first_save_comes_early_because_it_measures(max_lost: float, seconds: float) -> None:
    first = choose([], between_interruptions_seconds=TWO_HOURS, rescued_share=0, max_lost_seconds=max_lost)

    assert first.seconds == seconds


def test_a_bound_shorter_than_an_upload_is_kept_as_well_as_can_be_and_said() -> None:
    interval = chosen(0.1, upload=100, max_lost=60)

    assert interval.seconds == 120
    assert interval.reason == "an upload takes 100 s, and max_lost of 60 s has no room for it"


@pytest.mark.parametrize("seconds", [0, -1, 3600.1, math.inf, math.nan])
def test_a_bound_of_nothing_or_of_more_than_an_hour_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"max_lost must be more than 0 and at most 3600 s \(1h\); got"):
        check_max_lost(seconds)


def test_what_is_no_share_or_no_time_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"rescued_share must be from 0 to 1, got 1\.5"):
        chosen(1, 1, rescued=1.5)
    with pytest.raises(ValueError, match="between_interruptions_seconds must be above 0, got 0"):
        chosen(1, 1, between_seconds=0)


def between(*, age: float = 0, machine: float = 0, interruptions: int = 0) -> float:
    return seconds_between_interruptions(age_seconds=age, machine_seconds=machine, num_interruptions=interruptions)


def test_before_anything_is_known_the_hazard_is_that_of_recorded_pools() -> None:
    assert between() == 1800
    assert between(age=12 * 3600) == 12.5 * 3600


def test_machines_that_last_teach_that_machines_last_and_those_that_are_taken_the_contrary() -> None:
    assert between(machine=20 * 3600) > 2 * between()
    assert between(machine=3600, interruptions=8) < between() / 3


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 100))
def test_a_young_machine_is_never_trusted_more_than_an_old_one(age: float, machine: float, interruptions: int) -> None:
    young = between(age=age / 2, machine=machine, interruptions=interruptions)

    assert 0 < young <= between(age=age, machine=machine, interruptions=interruptions) < math.inf


INTERVAL = Interval(seconds=200, reason="")


@pytest.mark.parametrize(
    ("since", "upload", "rebalance", "is_due_now"),
    [
        (199, 10, False, False),
        (200, 10, False, True),
        (49, 10, True, False),
        (50, 10, True, True),
        (79, 40, True, False),
        (80, 40, True, True),
        (200, 150, True, True),
        (0, None, True, True),
        (199, None, False, False),
    ],
)
def test_a_rebalance_recommendation_brings_a_save_forward_but_not_into_the_upload_of_the_last(
    since: float, upload: float | None, rebalance: bool, is_due_now: bool
) -> None:
    assert (
        is_due(INTERVAL, since_save_seconds=since, upload_seconds=upload, rebalance_recommended=rebalance) is is_due_now
    )
