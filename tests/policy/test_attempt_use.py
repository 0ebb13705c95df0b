from decimal import Decimal
from typing import Any

from spotkeeper.policy.attempt_use import AttemptUse, of_attempts
from spotkeeper.policy.savings_split import Purpose


def line(event: str, at: float, /, step: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"event": event, "at": at, **({} if step is None else {"step": step}), **fields}


def progress(at: float, step: int, num_steps: int, /, **seconds: float) -> dict[str, Any]:
    return line("progress", at, step, num_steps=num_steps, seconds=seconds)


def test_steps_that_a_later_attempt_did_again_were_lost() -> None:
    uses = of_attempts(
        [
            [line("started", 10, 0), progress(110, 50, 50, step=90.0, data=10.0, stall=4.0)],
            [line("resumed", 210, 40), progress(300, 60, 20, step=42.0, slowdown=2.0)],
        ]
    )

    assert uses is not None
    first, second = uses
    assert (first.lost_steps, first.lost_seconds, first.useful_seconds, first.stall_seconds) == (10, 20, 80, 4)
    assert (second.lost_steps, second.useful_seconds, second.stall_seconds) == (0, 40, 2)


def test_a_roll_back_makes_work_of_earlier_attempts_lost_too() -> None:
    uses = of_attempts(
        [
            [line("started", 0, 0), progress(100, 100, 100, step=100.0)],
            [line("resumed", 100, 90), progress(200, 190, 100, step=100.0)],
            [line("resumed", 300, 50), progress(400, 150, 100, step=100.0)],
        ]
    )

    assert uses is not None
    assert [use.lost_steps for use in uses] == [50, 100, 0]


def test_where_no_attempt_told_counters_nothing_is_measured() -> None:
    assert of_attempts([[], [line("claimed", 3)]]) is None
    assert of_attempts([]) is None
    # A program with a checkpoint folder starts at no step that anybody knows.
    assert of_attempts([[line("started", 3)], [line("resumed", 9, 2)]]) is None


def test_the_time_of_an_attempt_is_split_without_a_rest() -> None:
    use = AttemptUse(trains_from=130, useful_seconds=600, lost_seconds=60, stall_seconds=10)

    parts = use.purposes(started_at=100, claimed_at=101, stopped_at=900)

    assert parts == {Purpose.LOST: 60, Purpose.STALL: 10, Purpose.CHANGEOVER: 30, Purpose.OTHER: 100}


def test_an_attempt_that_never_trained_was_a_start_for_nothing() -> None:
    assert AttemptUse(trains_from=None).purposes(started_at=0, claimed_at=5, stopped_at=50) == {Purpose.CHANGEOVER: 50}


def test_a_standby_waits_until_it_claims_the_run_or_in_vain() -> None:
    uses = of_attempts(
        [
            [line("standby", 1), line("resumed", 320, 5), progress(400, 10, 5, step=80.0)],
            [line("standby", 1), line("left", 90)],
        ]
    )

    assert uses is not None
    claimed, left = uses
    parts = claimed.purposes(started_at=0, claimed_at=300, stopped_at=400)
    assert parts == {Purpose.STANDBY: 300, Purpose.CHANGEOVER: 20}
    assert left.purposes(started_at=0, claimed_at=None, stopped_at=100) == {Purpose.STANDBY: 100}


def test_clocks_that_disagree_never_make_more_time_than_there_was() -> None:
    use = AttemptUse(trains_from=500, useful_seconds=60, lost_seconds=60, stall_seconds=10)

    parts = use.purposes(started_at=0, claimed_at=1, stopped_at=100)

    assert parts == {Purpose.LOST: Decimal(40)}
