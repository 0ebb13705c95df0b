import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spotkeeper.policy.hazard import Lomax
from spotkeeper.policy.market import Market, Mode
from spotkeeper.policy.placement import FITTED, Tuning, decide
from spotkeeper.policy.replay import Replay, replay
from spotkeeper.policy.situation import Decision, Situation, Spot
from tests.policy.markets import ON_DEMAND_USD, SPOT_USD, jobs

JOB: dict[str, Any] = {
    "available": [1] * 8,
    "spot_usd_per_hour": 1.0,
    "on_demand_usd_per_hour": 3.0,
    "gap_seconds": 3600.0,
    "work_hours": 3.0,
    "deadline_hours": 8.0,
    "changeover_hours": 0.5,
}


def places(told: Replay) -> list[tuple[str, int]]:
    return [(segment.place, segment.ticks) for segment in told.segments]


def test_a_job_on_spot_pays_whole_ticks_and_its_changeover() -> None:
    told = replay(**JOB)
    assert places(told) == [("spot", 4)]
    assert (told.usd, told.finish_hours, told.changeover_hours) == (4.0, 4.0, 0.5)
    assert told.segments[0].work_hours == 3.0
    assert told.segments[0].ended == "finished"


def test_a_preempted_machine_pays_a_changeover_again_and_loses_what_was_not_saved() -> None:
    told = replay(**{**JOB, "available": [1, 1, 0, 1, 1, 1, 1, 1], "deadline_hours": None}, lost_hours=0.5)
    assert places(told) == [("spot", 2), ("wait", 1), ("spot", 3)]
    assert (told.num_preemptions, told.lost_work_hours, told.changeover_hours) == (1, 0.5, 1.0)
    assert told.segments[0].ended == "preempted"
    assert told.finish_hours == 6.0


def test_an_hour_of_spot_that_is_taken_is_free_where_that_is_asked_for() -> None:
    job = {**JOB, "available": [1, 0, 1, 1, 0, 1, 1, 1], "deadline_hours": None}
    told, paid = replay(**job, is_first_hour_free=True), replay(**job)
    assert told.free_usd == 1.0  # the second machine had two hours
    assert told.usd == paid.usd - 1.0
    assert told.segments[0].usd == 0.0


def test_a_standby_is_paid_and_is_the_only_sight_of_spot() -> None:
    seen = []

    def stay(at: Situation) -> Decision:
        seen.append((at.spot, at.has_standby))
        return Decision(market=Market.ON_DEMAND, reason="stay", wants_standby=len(seen) == 2)

    told = replay(**{**JOB, "changeover_hours": 0.0}, sees_spot=False, choose=stay)
    assert seen == [(Spot.UP, False), (Spot.UNKNOWN, False), (Spot.UP, True)]
    assert (told.on_demand_usd, told.standby_usd) == (9.0, 1.0)


def test_without_a_deadline_a_run_waits_for_its_patience_and_returns_when_spot_does() -> None:
    job = {**JOB, "available": [0, 0, 0, 1, 1, 1, 1, 1], "deadline_hours": None}
    assert places(replay(**job)) == [("wait", 3), ("spot", 4)]
    assert places(replay(**job, patience_hours=2.0)) == [("wait", 2), ("on-demand", 1), ("spot", 3)]


@settings(deadline=None)
@given(jobs(), st.booleans(), st.booleans(), st.floats(0, 2))
def test_money_and_time_are_conserved(job: dict[str, Any], sees: bool, is_free: bool, lost_ticks: float) -> None:
    gap_hours = job["gap_seconds"] / 3600
    told = replay(**job, sees_spot=sees, is_first_hour_free=is_free, lost_hours=lost_ticks * gap_hours)
    segments = told.segments
    assert math.isclose(sum(one.usd for one in segments), told.spot_usd + told.on_demand_usd, abs_tol=1e-9)
    by_place = {
        place: sum(one.ticks for one in segments if one.place == place) * gap_hours for place in ("spot", "on-demand")
    }
    assert math.isclose(by_place["spot"] * SPOT_USD, told.spot_usd + told.free_usd, abs_tol=1e-9)
    assert math.isclose(by_place["on-demand"] * ON_DEMAND_USD, told.on_demand_usd, abs_tol=1e-9)
    for one, after in pairwise(segments):
        assert one.first_tick + one.ticks == after.first_tick
    done_hours = sum(one.work_hours for one in segments)
    assert math.isclose(done_hours - told.lost_work_hours, job["work_hours"], abs_tol=1e-6)
    for one in segments:
        if one.place != "wait" and one.ended != "finished":
            assert math.isclose(one.work_hours + one.changeover_hours, one.ticks * gap_hours, abs_tol=1e-9)


@settings(deadline=None)
@given(jobs(), st.floats(0.01, 100))
def test_other_money_changes_no_decision(job: dict[str, Any], rate: float) -> None:
    told = replay(**job, cap_usd=20.0, mode=Mode.BUDGET_FIRST)
    prices = {"spot_usd_per_hour": SPOT_USD * rate, "on_demand_usd_per_hour": ON_DEMAND_USD * rate}
    other = replay(**{**job, **prices}, cap_usd=20.0 * rate, mode=Mode.BUDGET_FIRST)
    assert places(other) == places(told)
    assert math.isclose(other.usd, told.usd * rate, rel_tol=1e-9, abs_tol=1e-9)


@settings(deadline=None)
@given(jobs(), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
@example(
    # Work that is over a tick by a millisecond, which was taken for none in short ticks alone.
    job={
        "available": [0] * 8,
        "spot_usd_per_hour": 1.0,
        "on_demand_usd_per_hour": 3.0,
        "gap_seconds": 60.0,
        "work_hours": 0.016666833333333336,
        "deadline_hours": 0.05,
        "changeover_hours": 0.016666833333333336,
    },
    factor=0.25,
)
def test_other_time_changes_no_decision_if_the_market_s_own_times_change_with_it(
    job: dict[str, Any], factor: float
) -> None:
    def longer(tuning: Tuning) -> Tuning:
        beliefs: dict[str, Any] = {
            name: Lomax(shape=belief.shape, scale_hours=belief.scale_hours * factor)
            for name, belief in (("lifetime", tuning.lifetime), ("outage", tuning.outage))
        }
        times = {name: getattr(tuning, name) * factor for name in ("horizon_hours", "most_standby_hours")}
        return replace(tuning, **beliefs, **times)

    names = ("gap_seconds", "work_hours", "deadline_hours", "changeover_hours")
    slower = {**job, **{name: job[name] * factor for name in names}}
    told = replay(**slower, choose=lambda at: decide(at, longer(FITTED)))
    assert places(told) == places(replay(**job))


@settings(deadline=None)
@given(jobs(), st.floats(0, 80), st.booleans(), st.booleans(), st.floats(0, 2))
def test_in_budget_first_no_cap_is_crossed_by_a_cent(
    job: dict[str, Any], cap_usd: float, sees: bool, is_fallback: bool, lost_ticks: float
) -> None:
    cap: dict[str, Any] = {"fallback_cap_usd" if is_fallback else "cap_usd": cap_usd}
    lost_hours = lost_ticks * job["gap_seconds"] / 3600
    told = replay(**job, **cap, mode=Mode.BUDGET_FIRST, sees_spot=sees, lost_hours=lost_hours)
    spent = told.on_demand_usd if is_fallback else told.usd
    assert spent <= cap_usd + 1e-9
    assert told.over_cap_usd == 0


@settings(deadline=None)
@given(jobs(), st.floats(0, 80))
def test_in_deadline_first_a_cap_costs_no_deadline_and_what_is_over_it_is_told(
    job: dict[str, Any], cap_usd: float
) -> None:
    told = replay(**job, cap_usd=cap_usd, mode=Mode.DEADLINE_FIRST)
    assert not told.misses_deadline
    assert math.isclose(told.over_cap_usd, max(told.usd - cap_usd, 0.0), abs_tol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"work_hours": 0.0}, "work_hours must be above 0 and finite, got 0.0"),
        ({"work_hours": math.nan}, "work_hours must be above 0 and finite, got nan"),
        ({"gap_seconds": math.inf}, "gap_seconds must be above 0 and finite, got inf"),
        ({"changeover_hours": -1.0}, "changeover_hours must be from 0 up and finite, got -1.0"),
        ({"deadline_hours": -2.0}, "deadline_hours must be above 0 and within the trace, which has 8 ticks"),
        ({"deadline_hours": 9.0}, "start earlier, or give a longer trace"),
        ({"start_tick": 8}, "start_tick must be from 0 to 7, the trace's last, got 8"),
        ({"available": [1, 1, 0.5, 1, 1, 1, 1, 1]}, "available must hold 0 and 1, got 0.5 at tick 2"),
        ({"available": []}, "available must hold at least one tick"),
        ({"spot_usd_per_hour": [1.0] * 7}, "must be one price, or 8, one a tick; got 7"),
        ({"spot_usd_per_hour": [1.0] * 7 + [math.nan]}, "above 0 and finite, got nan at tick 7"),
        ({"actual_changeover_hours": [0.6]}, "an actual changeover must be from 0 to changeover_hours 0.5, got 0.6"),
        ({"on_demand_available": [1]}, "on_demand_available must have 8 ticks, as available has; got 1"),
    ],
)
def test_what_cannot_be_replayed_is_refused_by_name_and_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the message is looked at
        replay(**{**JOB, **change})
    assert message in str(refusal.value)
