from typing import Any

import pytest

from spotkeeper.control.outlook import CHANGEOVER_SECONDS, ON_DEMAND_WAIT_SECONDS
from spotkeeper.ops import deadline
from spotkeeper.ops.deadline import Deadline
from tests.control.fakes import new_run


def test_a_deadline_counts_from_the_submission() -> None:
    asked = Deadline.of(deadline="40h", work="30h", steps=90000)
    assert asked == Deadline(within_seconds=144000, work_seconds=108000, num_steps=90000)
    assert asked.at("2026-11-26T12:00:00.000+00:00") == "2026-11-28T04:00:00.000+00:00"


def test_without_any_of_its_options_there_is_no_deadline() -> None:
    assert Deadline.of(deadline=None, work=None, steps=None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"deadline": "40h", "work": None, "steps": None}, "--deadline needs --work"),
        ({"deadline": None, "work": "3h", "steps": None}, "--work and --steps need --deadline"),
        ({"deadline": None, "work": None, "steps": 5}, "--work and --steps need --deadline"),
        ({"deadline": "soon", "work": "3h", "steps": None}, "--deadline must be a number with a unit"),
        ({"deadline": "0h", "work": "3h", "steps": None}, "--deadline must be 1m to 90d, got '0h'"),
        ({"deadline": "9h", "work": "0h", "steps": None}, "--work must be 1m to 90d, got '0h'"),
        ({"deadline": "9h", "work": "3h", "steps": 0}, "--steps must be 1 or more, got 0"),
        ({"deadline": "3h", "work": "3h", "steps": None}, "--deadline 3h cannot be kept for --work 3h, not even on"),
    ],
)
def test_a_deadline_that_cannot_be_kept_or_read_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the message is looked at
        Deadline.of(**given)
    assert message in str(refusal.value)


def test_the_shortest_deadline_leaves_on_demand_time_to_start() -> None:
    least = 3 * 3600 + CHANGEOVER_SECONDS + ON_DEMAND_WAIT_SECONDS
    assert Deadline.of(deadline=f"{least}s", work="3h", steps=None) is not None
    with pytest.raises(ValueError, match="it must be 213m or more"):
        Deadline.of(deadline=f"{least - 1}s", work="3h", steps=None)


def test_a_deadline_needs_money_for_on_demand() -> None:
    run = new_run(deadline_at="2026-11-28T04:00:00.000+00:00", work_seconds=3600)
    with pytest.raises(ValueError, match="needs a --fallback-cap above"):
        deadline.check(run)


def test_without_steps_it_is_told_that_no_work_counts_before_all_is_done() -> None:
    told: dict[str, Any] = {"deadline_at": "2026-11-28T04:00:00.000+00:00", "work_seconds": 3600}
    assert "give the number of steps" in deadline.warnings(new_run(**told))[0]
    assert deadline.warnings(new_run(**told, num_steps=10)) == ()
