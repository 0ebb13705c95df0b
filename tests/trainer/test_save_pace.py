import pytest

from spotkeeper.policy.emergency_save import EmergencySave, InFlight
from spotkeeper.policy.measured_saves import MeasuredSave
from spotkeeper.trainer.save_pace import LEAST_SECONDS, LOOK_SECONDS, SavePace

GIGABYTE = 10**9


def pace(*saves: MeasuredSave, max_lost_seconds: float = 900, num_interruptions: int = 0) -> SavePace:
    made = SavePace(max_lost_seconds=max_lost_seconds, num_interruptions=num_interruptions, run_seconds=3600)
    for save in saves:
        made.add(save)
    return made


def saved(lost_seconds: float, upload_seconds: float = 10) -> MeasuredSave:
    return MeasuredSave(lost_seconds=lost_seconds, upload_seconds=upload_seconds, bytes=GIGABYTE)


def due(made: SavePace, since_save_seconds: float, *, rebalance_recommended: bool = False) -> bool:
    return made.is_due(
        since_save_seconds=since_save_seconds, attempt_seconds=600, rebalance_recommended=rebalance_recommended
    )


def test_the_first_save_comes_early_and_later_ones_as_what_was_measured_says() -> None:
    assert due(pace(), 61)
    assert not due(pace(saved(lost_seconds=1.3)), 61)
    assert due(pace(saved(lost_seconds=1.3)), 200)


def test_what_a_save_has_cost_counts_for_the_next_at_once() -> None:
    made = pace()
    assert due(made, 61)

    made.add(saved(lost_seconds=1.3))

    assert not due(made, 61)


def test_an_older_machine_is_saved_less_often_in_the_same_attempt() -> None:
    made = pace(saved(5), num_interruptions=12, max_lost_seconds=3600)
    between_seconds = (made.interval(60).seconds + made.interval(36_000).seconds) / 2

    dues = [
        made.is_due(since_save_seconds=between_seconds, attempt_seconds=age, rebalance_recommended=False)
        for age in (60, 60 + LOOK_SECONDS / 2, 36_000)
    ]

    assert dues == [True, True, False]


def test_a_run_that_was_interrupted_often_saves_more_often() -> None:
    calm = pace(saved(5)).interval(600).seconds
    stormy = pace(saved(5), num_interruptions=12).interval(600).seconds

    assert stormy < calm / 2


def test_saves_that_cost_nothing_are_not_made_more_often_than_once_a_minute() -> None:
    assert pace(saved(1e-4, upload_seconds=0.1)).interval(600).seconds == LEAST_SECONDS
    assert pace(saved(1e-4, upload_seconds=0.1), max_lost_seconds=5).interval(600).seconds == 5


def test_a_recommendation_to_rebalance_brings_a_save_forward() -> None:
    made = pace(saved(5, upload_seconds=1))

    assert not due(made, 90)
    assert due(made, 90, rebalance_recommended=True)


@pytest.mark.parametrize(
    ("budget_seconds", "in_flight", "expected"),
    [
        (60, None, EmergencySave.FRESH),
        (5, None, EmergencySave.NOTHING),
        (60, InFlight(bytes_left=GIGABYTE, gain_seconds=30), EmergencySave.FINISH_IN_FLIGHT),
        (12, InFlight(bytes_left=GIGABYTE, gain_seconds=0.2), EmergencySave.FINISH_IN_FLIGHT),
        (None, None, EmergencySave.FRESH),
    ],
)
def test_what_is_saved_last_fits_the_bandwidth_that_was_measured(
    budget_seconds: float | None, in_flight: InFlight | None, expected: EmergencySave
) -> None:
    made = pace(*[saved(0.5)] * 3)

    assert made.choose_last(budget_seconds=budget_seconds, total_bytes=GIGABYTE, in_flight=in_flight) is expected


@pytest.mark.parametrize("num_saves", [0, 1, 2])
def test_one_or_two_slow_saves_are_no_reason_to_give_the_last_one_up(num_saves: int) -> None:
    made = pace(*[saved(0.5)] * num_saves)

    assert made.choose_last(budget_seconds=5, total_bytes=GIGABYTE, in_flight=None) is EmergencySave.FRESH
