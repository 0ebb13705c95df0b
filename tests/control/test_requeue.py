from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.control.classify import Cause, Ending
from spotkeeper.control.requeue import BUDGETS, LONGEST_WAIT_SECONDS, MAX_STALLS, Action, History, decide
from tests.control.fakes import NOW

NEW = History(had_attempts=True, newest_step=None, committed_step=None, num_stalls=0, num_capacity_waits=0)
PROGRESSED = History(had_attempts=True, newest_step=20, committed_step=10, num_stalls=2, num_capacity_waits=0)
STALLED = History(had_attempts=True, newest_step=10, committed_step=10, num_stalls=2, num_capacity_waits=0)
DRY = History(had_attempts=False, newest_step=10, committed_step=10, num_stalls=2, num_capacity_waits=2)

GOES_ON = {"progressed": Action.REQUEUE, "stalled": Action.PARK, "new": Action.REQUEUE}
WAITS_FIRST = {"progressed": Action.WAIT, "stalled": Action.PARK, "new": Action.WAIT}
ALWAYS_WAITS = {"progressed": Action.WAIT, "stalled": Action.WAIT, "new": Action.WAIT}
FAILS = {"progressed": Action.FAIL, "stalled": Action.FAIL, "new": Action.FAIL}
AGAIN = {"progressed": Action.REQUEUE, "stalled": Action.REQUEUE, "new": Action.REQUEUE}
PARKS = {"progressed": Action.PARK, "stalled": Action.PARK, "new": Action.PARK}

TABLE = {
    Cause.INTERRUPTED: GOES_ON,
    Cause.HOST_LOST: GOES_ON,
    Cause.YIELDED: GOES_ON,
    Cause.TIMED_OUT: GOES_ON,
    Cause.PAUSED: GOES_ON,
    Cause.FENCED: GOES_ON,
    Cause.TWIN: GOES_ON,
    Cause.STANDBY: GOES_ON,
    Cause.SWITCHED_OFF: GOES_ON,
    Cause.UNKNOWN: GOES_ON,
    Cause.REPRIORITIZED: AGAIN,
    Cause.COULD_NOT_START: WAITS_FIRST,
    Cause.NO_CAPACITY: ALWAYS_WAITS,
    Cause.OVER_MONTH: ALWAYS_WAITS,
    Cause.FAILED: FAILS,
    Cause.OUT_OF_MEMORY: FAILS,
    Cause.NO_SUCH_IMAGE: FAILS,
    Cause.INCOMPLETE: FAILS,
    Cause.REFUSED: FAILS,
    Cause.COMPLETED: FAILS,
    Cause.TERMINATED: PARKS,
    Cause.OVER_BUDGET: PARKS,
    Cause.CANCELLED: PARKS,
    Cause.MISCONFIGURED: PARKS,
}


def ended(cause: Cause) -> Ending:
    return Ending(cause=cause, words=f"words of {cause}")


def seconds_to(wait_until: str | None) -> float:
    assert wait_until is not None
    return (datetime.fromisoformat(wait_until) - datetime.fromisoformat(NOW)).total_seconds()


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_row(cause: Cause) -> None:
    histories = {"progressed": PROGRESSED, "stalled": STALLED, "new": NEW}

    decisions = {name: decide(ended(cause), history, now=NOW) for name, history in histories.items()}

    assert {name: decision.action for name, decision in decisions.items()} == TABLE[cause]
    for decision in decisions.values():
        assert decision.reason.startswith(f"words of {cause}")
        assert (decision.wait_until is not None) == (decision.action is Action.WAIT)


def test_progress_forgives_earlier_stalls_and_says_how_far_it_came() -> None:
    decision = decide(ended(Cause.HOST_LOST), PROGRESSED, now=NOW)

    assert decision.num_stalls == 0
    assert decision.reason == "words of host-lost; committed up to step 20"


def test_a_stall_is_counted_and_said() -> None:
    decision = decide(ended(Cause.HOST_LOST), NEW, now=NOW)

    assert decision.num_stalls == 1
    assert decision.reason == "words of host-lost; no newer checkpoint in 1 of at most 3 submissions"


def test_a_first_checkpoint_is_progress_even_at_step_0() -> None:
    first = History(had_attempts=True, newest_step=0, committed_step=None, num_stalls=2, num_capacity_waits=0)

    assert decide(ended(Cause.YIELDED), first, now=NOW).action is Action.REQUEUE


def test_waits_for_capacity_double_up_to_an_hour_and_never_end() -> None:
    waits = []
    history = DRY
    for row in range(40):
        history = History(had_attempts=False, newest_step=10, committed_step=10, num_stalls=2, num_capacity_waits=row)
        decision = decide(ended(Cause.NO_CAPACITY), history, now=NOW)
        assert (decision.action, decision.num_stalls) == (Action.WAIT, 2), "a dry market is no stall"
        assert decision.num_capacity_waits == row, "one more counts when the run does wait"
        waits.append(seconds_to(decision.wait_until))

    assert waits[:6] == [300, 600, 1200, 2400, 3600, 3600]
    assert set(waits[4:]) == {LONGEST_WAIT_SECONDS}


def test_a_job_that_had_a_machine_before_capacity_ran_out_begins_a_new_row_of_waits() -> None:
    had_one = History(had_attempts=True, newest_step=20, committed_step=10, num_stalls=2, num_capacity_waits=9)

    decision = decide(ended(Cause.NO_CAPACITY), had_one, now=NOW)

    assert (seconds_to(decision.wait_until), decision.num_capacity_waits, decision.num_stalls) == (300, 0, 0)


@given(outcomes=st.lists(st.tuples(st.sampled_from(sorted(TABLE)), st.booleans(), st.booleans()), max_size=60))
def test_a_run_goes_on_as_long_as_it_comes_forward_and_parks_at_the_third_stall_in_a_row(
    outcomes: list[tuple[Cause, bool, bool]],
) -> None:
    stalls = waits = step = 0
    for cause, progresses, had_attempts in outcomes:
        newest = step + 1 if progresses else step
        history = History(
            had_attempts=had_attempts,
            newest_step=newest,
            committed_step=step,
            num_stalls=stalls,
            num_capacity_waits=waits,
        )
        decision = decide(ended(cause), history, now=NOW)
        if progresses and BUDGETS[cause] in ("interruptions", "starts", "capacity"):
            assert decision.action in (Action.REQUEUE, Action.WAIT)
        if decision.action in (Action.FAIL, Action.PARK):
            assert BUDGETS[cause] in ("own-failures", "person") or decision.num_stalls == MAX_STALLS
            return
        assert decision.num_stalls - (0 if progresses else stalls) in (0, 1)
        assert decision.num_stalls < MAX_STALLS
        stalls, waits, step = decision.num_stalls, decision.num_capacity_waits, newest


def test_the_table_names_every_cause() -> None:
    assert set(TABLE) == set(Cause) == set(BUDGETS)


def test_the_decision_is_made_of_its_arguments_alone() -> None:
    arguments: dict[str, Any] = {"ending": ended(Cause.NO_CAPACITY), "history": DRY, "now": NOW}

    assert decide(**arguments) == decide(**arguments)
