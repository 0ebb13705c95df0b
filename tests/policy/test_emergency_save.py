from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spotkeeper.policy.emergency_save import EmergencySave, InFlight, choose, margin_seconds

GB = 10**9


def chosen(**changes: Any) -> EmergencySave:
    """Decide on 10 GB at 1 GB/s at a step boundary, two minutes before the deadline, unless told otherwise."""
    return choose(
        **{
            "budget_seconds": 112.0,
            "step_seconds": 0.0,
            "staging_seconds": 0.0,
            "total_bytes": 10 * GB,
            "in_flight": None,
            "bytes_per_second": 1e9,
            "commit_seconds": 0.5,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("gigabytes_per_second", "largest_gigabytes"),
    [(1.0, 106.5), (0.5, 53.25), (0.44, 46.86)],
)
def test_two_minutes_of_notice_seen_by_a_poll_of_five_seconds_save_as_much_as_the_bandwidth_lets_through(
    gigabytes_per_second: float, largest_gigabytes: float
) -> None:
    def decision(gigabytes: float) -> EmergencySave:
        budget = 115 - margin_seconds(115)
        return chosen(
            budget_seconds=budget, total_bytes=int(gigabytes * GB), bytes_per_second=gigabytes_per_second * 1e9
        )

    assert decision(largest_gigabytes - 0.01) is EmergencySave.FRESH
    assert decision(largest_gigabytes + 0.01) is EmergencySave.NOTHING


def test_sigterm_alone_leaves_22_seconds() -> None:
    budget = 30 - margin_seconds(30)

    assert budget == 22
    assert chosen(budget_seconds=budget, total_bytes=21 * GB) is EmergencySave.FRESH
    assert chosen(budget_seconds=budget, total_bytes=22 * GB) is EmergencySave.NOTHING


@pytest.mark.parametrize(("notice", "margin"), [(120, 8), (30, 8), (6, 2), (0, 0), (-60, 0)])
def test_a_short_notice_has_a_short_margin(notice: float, margin: float) -> None:
    assert margin_seconds(notice) == margin


def test_where_both_fit_the_save_in_flight_is_finished_before_a_fresh_one_begins() -> None:
    in_flight = InFlight(bytes_left=5 * GB, gain_seconds=100)

    assert chosen(in_flight=in_flight) is EmergencySave.FINISH_IN_FLIGHT
    assert chosen(in_flight=None, budget_seconds=112 - 5.5) is EmergencySave.FRESH


def test_a_step_that_outlasts_the_host_leaves_the_save_in_flight() -> None:
    in_flight = InFlight(bytes_left=5 * GB, gain_seconds=400)

    assert chosen(in_flight=in_flight, step_seconds=300) is EmergencySave.FINISH_IN_FLIGHT
    assert chosen(in_flight=None, step_seconds=300) is EmergencySave.NOTHING


@pytest.mark.parametrize(
    ("gain_seconds", "decision"),
    [(100, EmergencySave.FRESH), (5.1, EmergencySave.FRESH), (5, EmergencySave.FINISH_IN_FLIGHT)],
)
def test_where_one_fits_a_fresh_save_must_win_back_more_training_than_it_delays_the_commit(
    gain_seconds: float, decision: EmergencySave
) -> None:
    in_flight = InFlight(bytes_left=5 * GB, gain_seconds=gain_seconds)

    assert chosen(in_flight=in_flight, budget_seconds=12) is decision


def test_a_save_in_flight_that_cannot_be_finished_is_given_up() -> None:
    assert chosen(in_flight=InFlight(bytes_left=9 * GB, gain_seconds=50), budget_seconds=9) is EmergencySave.NOTHING


def test_before_the_first_upload_is_measured_a_save_is_tried() -> None:
    assert chosen(bytes_per_second=None) is EmergencySave.FRESH
    assert chosen(bytes_per_second=None, budget_seconds=2, step_seconds=3) is EmergencySave.NOTHING


def test_without_a_deadline_that_can_be_believed_a_save_is_tried() -> None:
    assert chosen(budget_seconds=None) is EmergencySave.FRESH
    assert chosen(budget_seconds=None, in_flight=InFlight(bytes_left=1, gain_seconds=0)) is (
        EmergencySave.FINISH_IN_FLIGHT
    )


def end_of_fresh(at: dict[str, Any]) -> float:
    upload_seconds: float = at["total_bytes"] / at["bytes_per_second"]
    return float(at["step_seconds"] + (at["staging_seconds"] + upload_seconds + at["commit_seconds"]))


def end_of_in_flight(at: dict[str, Any]) -> float:
    return float(at["in_flight"].bytes_left / at["bytes_per_second"] + at["commit_seconds"])


@st.composite
def situations(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a save that the budget has about enough time for."""
    at: dict[str, Any] = {
        "step_seconds": draw(st.floats(0, 100)),
        "staging_seconds": draw(st.floats(0, 10)),
        "total_bytes": draw(st.integers(1, 10**11)),
        "bytes_per_second": draw(st.floats(1e8, 1e10)),
        "commit_seconds": draw(st.floats(0, 2)),
    }
    left = st.integers(0, at["total_bytes"])
    at["in_flight"] = draw(st.none() | st.builds(InFlight, bytes_left=left, gain_seconds=st.floats(0, 300)))
    return {**at, "budget_seconds": end_of_fresh(at) * draw(st.floats(-0.1, 2.5))}


SITUATIONS = situations()


@given(SITUATIONS)
def test_nothing_is_begun_that_cannot_be_finished(at: dict[str, Any]) -> None:
    decision = choose(**at)

    if decision is EmergencySave.FRESH:
        assert end_of_fresh(at) <= at["budget_seconds"]
    if decision is EmergencySave.FINISH_IN_FLIGHT:
        assert end_of_in_flight(at) <= at["budget_seconds"]


@given(SITUATIONS)
def test_what_can_be_finished_is_not_left_undone(at: dict[str, Any]) -> None:
    assume(choose(**at) is EmergencySave.NOTHING)

    assert end_of_fresh(at) > at["budget_seconds"]
    assert at["in_flight"] is None or end_of_in_flight(at) > at["budget_seconds"]


@given(SITUATIONS, st.floats(0, 100))
def test_with_more_time_there_is_still_something_to_save(at: dict[str, Any], more_seconds: float) -> None:
    assume(choose(**at) is not EmergencySave.NOTHING)

    assert choose(**{**at, "budget_seconds": at["budget_seconds"] + more_seconds}) is not EmergencySave.NOTHING


@given(SITUATIONS)
def test_a_fresh_save_in_place_of_one_that_would_be_committed_wins_training_back(at: dict[str, Any]) -> None:
    is_fresh = choose(**at) is EmergencySave.FRESH

    if is_fresh and at["in_flight"] is not None and end_of_in_flight(at) <= at["budget_seconds"]:
        assert at["in_flight"].gain_seconds > end_of_fresh(at) - end_of_in_flight(at)
