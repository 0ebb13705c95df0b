"""The demo must not be able to pass by itself: each promise is broken once on purpose."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from emulation.demo.final_state import FinalState
from emulation.demo.interruptions import STEPS_FOR_ONE, draw
from emulation.demo.promises import Evidence, check
from emulation.demo.timeline import Row
from emulation.ec2.market import Instance
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Attempt, Completion, Run

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, cause: Cause, *, steps: tuple[int, int, int], seconds: tuple[float, float]) -> Row:
    return Row(
        attempt=Attempt(run_id="digits", submission=1, attempt=number, epoch=number, cause=cause),
        instance=Instance(
            id=f"i-{number}", type="m6i.xlarge", zone="us-east-1a", market="spot", usd_per_hour=0.06, launched_at=START
        ),
        start_seconds=seconds[0],
        claim_seconds=seconds[0],
        end_seconds=seconds[1],
        first_step=steps[0],
        last_step=steps[1],
        committed_step=steps[2],
    )


RUN = Run(
    run_id="digits",
    created_at="2026-01-01T00:00:00+00:00",
    environment="dev",
    team="research",
    profile="cpu",
    market="spot",
    job_queue="queue",
    job_definition="definition:1",
    command=("python", "train.py"),
    variables={},
    attempt_seconds=3600,
    state=RunState.SUCCEEDED,
    epoch=3,
    completion=Completion(epoch=3, completed_at="2026-01-01T00:01:00+00:00", step=500),
)
STATE = FinalState(step=500, num_bytes=10, sha256="ab" * 32, plain_state={"loop": 1})
SEEN = Evidence(
    run=RUN,
    rows=(
        row(1, Cause.INTERRUPTED, steps=(0, 100, 100), seconds=(0, 10)),
        row(2, Cause.HOST_LOST, steps=(100, 240, 200), seconds=(12, 20)),
        row(3, Cause.COMPLETED, steps=(200, 500, 500), seconds=(22, 40)),
    ),
    num_attempts=3,
    planned=(1, 1),
    output=("test accuracy 99.7% on 360 images",),
    final=STATE,
    uninterrupted=STATE,
    faults=(),
)


def broken(seen: Evidence) -> list[str]:
    return [promise.text for promise in check(seen) if not promise.is_kept]


def test_all_promises_are_kept_by_a_good_run() -> None:
    assert broken(SEEN) == []
    assert len(check(SEEN)) == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"run": replace(RUN, state=RunState.FAILED)}, "the run succeeded"),
        ({"run": replace(RUN, epoch=4)}, "the run succeeded"),
        ({"run": replace(RUN, completion=None)}, "the run succeeded"),
        ({"planned": (2, 1)}, "its capacity was taken away 2 times"),
        ({"num_attempts": 4}, "the ledger knows every attempt"),
        ({"final": replace(STATE, sha256="cd" * 32)}, "bit-identical"),
        ({"final": replace(STATE, plain_state={"loop": 2})}, "bit-identical"),
        ({"final": replace(STATE, step=499)}, "bit-identical"),
        ({"output": ("test accuracy 96.9% on 360 images",)}, "reads at least 97 %"),
        ({"output": ("no result",)}, "reads at least 97 %"),
        ({"faults": ("a handler failed",)}, "every event was handled"),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, object], text: str) -> None:
    (told,) = broken(replace(SEEN, **change))  # type: ignore[arg-type]  # each change is of its field's type

    assert text in told


NEVER_TWO = "never two attempts hold the run at once, and each has a higher fencing epoch"


def test_two_attempts_at_once_break_a_promise() -> None:
    rows = (SEEN.rows[0], replace(SEEN.rows[1], claim_seconds=9.0), SEEN.rows[2])

    assert broken(replace(SEEN, rows=rows)) == [
        "never two attempts hold the run at once, and each has a higher fencing epoch"
    ]


def test_a_standby_that_only_waits_beside_the_run_breaks_none() -> None:
    rows = (SEEN.rows[0], replace(SEEN.rows[1], start_seconds=2.0), SEEN.rows[2])

    assert broken(replace(SEEN, rows=rows)) == []


def test_an_epoch_that_does_not_rise_breaks_a_promise() -> None:
    rows = (SEEN.rows[0], replace(SEEN.rows[1], attempt=replace(SEEN.rows[1].attempt, epoch=1)), SEEN.rows[2])

    assert broken(replace(SEEN, rows=rows)) == [
        "never two attempts hold the run at once, and each has a higher fencing epoch"
    ]


def test_work_lost_after_a_notice_breaks_a_promise() -> None:
    rows = (replace(SEEN.rows[0], committed_step=99), *SEEN.rows[1:])

    assert broken(replace(SEEN, rows=rows)) == ["a notice loses no work"]


def test_interruptions_are_drawn_well_apart_in_the_numbers_asked_for_and_equal_for_equal_seeds() -> None:
    drawn = {seed: draw(seed, with_notice=2, without_notice=1) for seed in range(50)}

    assert drawn[7] == draw(7, with_notice=2, without_notice=1)
    assert len(set(drawn.values())) == 50
    for interruptions in drawn.values():
        assert sorted(each.notice for each in interruptions) == [False, True, True]
        steps = [each.step for each in interruptions]
        assert all(later - earlier > STEPS_FOR_ONE / 2 for earlier, later in itertools.pairwise(steps))
        assert 0 < steps[0] < steps[-1] < 3 * STEPS_FOR_ONE


def test_the_machine_time_of_an_instance_ends_with_it() -> None:
    instance = replace(SEEN.rows[0].instance, ended_at=START + timedelta(seconds=30))

    assert instance.seconds(START + timedelta(hours=1)) == 30
