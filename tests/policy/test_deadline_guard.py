import math
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spotkeeper.policy.market import Market
from spotkeeper.policy.placement import FITTED, decide
from spotkeeper.policy.replay import replay
from spotkeeper.policy.situation import Decision, Situation
from tests.policy.markets import jobs

UNTIL_THE_GUARD = replace(FITTED, slack_spending=1e9)
"""Waits for as long as the guard lets it, so that the guard alone keeps the deadline."""


@settings(deadline=None)
@given(jobs())
def test_no_feasible_deadline_is_missed(job: dict[str, Any]) -> None:
    assert not replay(**job).misses_deadline


@settings(deadline=None)
@given(jobs())
def test_no_feasible_deadline_is_missed_without_sight_of_spot(job: dict[str, Any]) -> None:
    assert not replay(**job, sees_spot=False).misses_deadline


@settings(max_examples=40, deadline=None)
@given(jobs())
def test_spot_that_goes_for_good_at_any_tick_does_not_cost_the_deadline(job: dict[str, Any]) -> None:
    num_ticks = len(job["available"])
    for gone in range(num_ticks):
        available = [int(tick < gone) for tick in range(num_ticks)]
        told = replay(**{**job, "available": available}, choose=partial(decide, tuning=UNTIL_THE_GUARD))
        assert not told.misses_deadline, f"spot goes at tick {gone}"


@settings(max_examples=40, deadline=None)
@given(jobs())
def test_a_machine_that_is_taken_the_tick_after_every_start_does_not_cost_the_deadline(job: dict[str, Any]) -> None:
    for is_even in (0, 1):
        flicker = [int(tick % 2 == is_even) for tick in range(len(job["available"]))]
        assert not replay(**{**job, "available": flicker}).misses_deadline


@settings(deadline=None)
@given(jobs(), st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_changeovers_of_any_length_up_to_the_stated_one_do_not_cost_the_deadline(
    job: dict[str, Any], shares: list[float]
) -> None:
    actual = [share * job["changeover_hours"] for share in shares]
    assert not replay(**job, actual_changeover_hours=actual).misses_deadline


@settings(deadline=None)
@given(jobs(), st.floats(0, 5))
def test_work_that_preemptions_take_back_does_not_cost_the_deadline(job: dict[str, Any], lost_ticks: float) -> None:
    lost_hours = lost_ticks * job["gap_seconds"] / 3600
    assert not replay(**job, lost_hours=lost_hours).misses_deadline


@settings(deadline=None)
@given(jobs(), st.integers(1, 4), st.data())
def test_on_demand_that_is_missing_for_the_stated_time_does_not_cost_the_deadline(
    job: dict[str, Any], wait_ticks: int, data: st.DataObject
) -> None:
    gap_hours = job["gap_seconds"] / 3600
    job = {**job, "deadline_hours": job["deadline_hours"] + wait_ticks * gap_hours}
    job["available"] = [*job["available"], *[0] * wait_ticks]
    first = data.draw(st.integers(0, len(job["available"]) - 1))
    there = [int(not first <= tick < first + wait_ticks) for tick in range(len(job["available"]))]
    told = replay(**job, on_demand_available=there, on_demand_wait_hours=wait_ticks * gap_hours)
    assert not told.misses_deadline


def test_the_guard_is_exact_a_tick_less_of_slack_and_on_demand_must_start_now() -> None:
    at = Situation(
        remaining_hours=1.0, hours_left=1.5, tick_hours=0.25, changeover_hours=0.25, on_demand_usd_per_hour=3.0
    )
    assert decide(at, UNTIL_THE_GUARD).market is None
    assert decide(replace(at, hours_left=1.25), UNTIL_THE_GUARD).market is Market.ON_DEMAND


@settings(deadline=None)
@given(jobs())
def test_a_run_that_cannot_be_in_time_is_as_little_late_as_on_demand_makes_it(job: dict[str, Any]) -> None:
    gap_hours = job["gap_seconds"] / 3600
    needed_ticks = math.ceil((job["work_hours"] + job["changeover_hours"]) / gap_hours - 1e-6)
    if needed_ticks < 2 or 0 < (job["work_hours"] * 3600) % job["gap_seconds"] < 1e-2:
        return  # the second: so little work beyond whole ticks counts as done
    ticks = [0] * (needed_ticks + 3)
    told = replay(**{**job, "available": ticks, "deadline_hours": (needed_ticks - 1) * gap_hours})
    assert told.misses_deadline
    assert told.finish_hours is not None
    assert math.isclose(told.finish_hours, needed_ticks * gap_hours)


def test_a_policy_without_a_guard_misses_deadlines_on_the_same_markets() -> None:
    def careless(at: Situation) -> Decision:
        return Decision(market=Market.SPOT if at.is_spot_worth else None, reason="careless")

    job: dict[str, Any] = {
        "available": [1, 1, 0, 0, 0, 0, 0, 0],
        "spot_usd_per_hour": 1.0,
        "on_demand_usd_per_hour": 3.0,
        "gap_seconds": 3600.0,
        "work_hours": 4.0,
        "deadline_hours": 6.0,
        "changeover_hours": 1.0,
    }
    assert replay(**job, choose=careless).misses_deadline
    assert not replay(**job).misses_deadline
