"""Runs that go on where Batch gives up, and a control plane that hears no event at all."""

import operator
from functools import partial
from pathlib import Path

import pytest

from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.pause import pause, resume
from spotkeeper.control.run import Run
from tests.story.faults import lose_every_event
from tests.story.programs import saves_each_step
from tests.story.user import User, eventually, now


def wait_for(user: User, run: Run, state: RunState, seconds: float = 150) -> Run:
    return eventually(lambda: user.run(run), lambda found: found.state is state, seconds)


def test_twelve_lost_hosts_in_a_row_are_two_more_than_batch_forgives_and_the_run_succeeds(
    cloud: Cloud, user: User
) -> None:
    run = user.submit(saves_each_step(total=13, seconds_a_step=600))  # so that each host brings one step

    for losses in range(12):
        instance_id = user.claimed(run, epoch=losses + 1)
        eventually(lambda: user.num_commits(run), partial(operator.lt, losses))
        cloud.market.reclaim(instance_id, notice=False)
    ended = user.ended(run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 2, 13)
    attempts = user.attempts(run)
    assert [(attempt.submission, attempt.attempt) for attempt in attempts] == [
        *((1, number) for number in range(1, 11)),
        *((2, number) for number in range(1, 4)),
    ]
    assert [attempt.cause for attempt in attempts] == [*[Cause.HOST_LOST] * 12, Cause.COMPLETED]
    (event,) = user.connection.ledger.history(run.run_id)
    assert event.kind == "requeued"
    assert event.message.endswith("committed up to step 10")


@pytest.mark.parametrize("faults", [lose_every_event])
def test_with_every_event_lost_the_sweeper_alone_brings_runs_to_their_ends(cloud: Cloud, user: User) -> None:
    good = user.submit(saves_each_step(total=5, seconds_a_step=0.3))
    bad = user.submit("import sys; sys.exit(3)")

    cloud.market.reclaim(user.claimed(good), notice=False)

    assert user.ended(good).state is RunState.SUCCEEDED
    assert (user.ended(bad).state, user.run(bad).reason) == (
        RunState.FAILED,
        "the program failed with exit code 3",
    )
    assert [attempt.cause for attempt in user.attempts(good)] == [Cause.HOST_LOST, Cause.COMPLETED]


def test_a_run_that_never_progresses_is_parked_and_resume_makes_it_finish(user: User, tmp_path: Path) -> None:
    """The program hands over at once, as the library does on a notice, until something outside it is mended."""
    mended = tmp_path / "mended"
    run = user.submit(
        f"""
        import os, pathlib
        if not os.path.exists({str(mended)!r}):
            pathlib.Path(os.environ["SPOTKEEPER_OUTCOME_FILE"]).write_text('{{"outcome": "yielded", "step": 0}}')
        """
    )

    parked = wait_for(user, run, RunState.PARKED, 200)

    assert parked.submission == 3
    assert len(user.attempts(run)) == 30
    assert parked.reason is not None
    assert parked.reason.endswith("no newer checkpoint in 3 of at most 3 submissions")
    mended.touch()
    resume(run.run_id, ports=user.connection.ports, now=now())
    ended = user.ended(run)
    assert (ended.state, ended.submission) == (RunState.SUCCEEDED, 4)


def test_a_run_that_batch_gives_up_on_for_lack_of_capacity_waits_and_goes_on(cloud: Cloud, user: User) -> None:
    cloud.market.dry()
    run = user.submit("print('at last')")

    waiting = wait_for(user, run, RunState.WAITING)
    cloud.market.restore()
    user.waits_no_longer(run)
    ended = user.ended(run)

    assert waiting.reason is not None
    assert waiting.reason.startswith("no capacity within the queue's time limit")
    assert (ended.state, ended.submission) == (RunState.SUCCEEDED, 2)
    history = user.connection.ledger.history(run.run_id)
    assert any("INSUFFICIENT_INSTANCE_CAPACITY" in event.message for event in history)


def test_a_paused_run_saves_stops_and_goes_on_when_it_is_resumed(user: User) -> None:
    run = user.submit(saves_each_step(total=20, seconds_a_step=0.2))
    user.claimed(run)
    eventually(lambda: user.num_commits(run), lambda steps: steps > 1)

    pause(run.run_id, ports=user.connection.ports, now=now())
    paused = wait_for(user, run, RunState.PAUSED)
    steps = user.num_commits(run)
    resume(run.run_id, ports=user.connection.ports, now=now())
    ended = user.ended(run)

    assert (paused.submission, ended.state, ended.submission, ended.epoch) == (1, RunState.SUCCEEDED, 2, 2)
    assert 1 < steps < 20
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.PAUSED, Cause.COMPLETED]
