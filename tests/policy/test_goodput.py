from typing import Any

from spotkeeper.policy.goodput import of_lines


def seconds(*, step: float, **others: float) -> dict[str, float]:
    activities = dict.fromkeys(("step", "data", "stall", "restore", "linger", "other", "save", "slowdown"), 0.0)
    return {**activities, "step": step, **others}


def progress(step: int, num_steps: int, /, **spent: float) -> dict[str, Any]:
    return {"event": "progress", "step": step, "num_steps": num_steps, "seconds": seconds(**spent)}


def test_a_run_that_nobody_disturbed_loses_nothing() -> None:
    run = of_lines(
        [
            {"event": "started", "step": 0},
            progress(1, 1, step=2),
            {"event": "committed", "step": 50},
            progress(100, 100, step=200, data=20, stall=5, other=25, save=40),
        ]
    )

    assert (run.useful_seconds, run.lost_steps, run.lost_seconds) == (200, 0, 0)
    assert run.share == 0.8
    assert run.save_seconds == 40


def test_steps_that_are_done_again_were_lost() -> None:
    run = of_lines(
        [
            {"event": "started", "step": 0},
            progress(100, 100, step=200),
            {"event": "resumed", "step": 70},
            progress(90, 20, step=60, restore=5),
            {"event": "resumed", "step": 70},
            progress(100, 30, step=60, restore=5),
        ]
    )

    # 30 of the first attempt's, at 2 s, and all 20 of the second's, at 3 s.
    assert (run.lost_steps, run.lost_seconds) == (50, 120)
    assert run.useful_seconds == 200
    assert run.restore_seconds == 10
    assert run.share == 200 / 330


def test_an_attempt_that_yielded_lost_what_it_could_not_save() -> None:
    yielded = {**progress(12, 12, step=24, linger=6), "event": "yielded", "committed_step": 10}

    run = of_lines([{"event": "started", "step": 0}, progress(1, 1, step=2), yielded, {"event": "resumed", "step": 10}])

    assert (run.lost_steps, run.lost_seconds, run.useful_seconds, run.linger_seconds) == (2, 4, 20, 6)


def test_a_checkpoint_of_more_steps_than_were_told_is_no_loss() -> None:
    run = of_lines(
        [
            {"event": "started", "step": 0},
            progress(10, 10, step=10),
            {"event": "resumed", "step": 15},
            progress(16, 1, step=1),
        ]
    )

    assert (run.lost_steps, run.lost_seconds) == (0, 0)


def test_an_attempt_that_told_nothing_counts_for_nothing() -> None:
    run = of_lines([{"event": "claimed"}, {"event": "started", "step": 0}, {"event": "resumed", "step": 0}])

    assert run.share is None
    assert run.useful_seconds == 0
