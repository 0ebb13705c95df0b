"""A host is cut off: Batch gives its attempt up and starts another, while the first trains on, past its time."""

from pathlib import Path

from emulation.cloud import Cloud
from spotkeeper.contract.exit_codes import EXIT_FENCED
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from tests.story.programs import trains_until
from tests.story.user import User, eventually


def fenced_log(cloud: Cloud, run: Run) -> str:
    """Wait until the first attempt has exited as fenced; return what it wrote."""
    assert run.job_id is not None
    zombie = cloud.batch.attempts(run.job_id)[0]
    assert eventually(lambda: zombie.unreported_exit_code, lambda code: code is not None) == EXIT_FENCED
    return zombie.log_path.read_text()


def test_an_attempt_that_was_given_up_commits_nothing_more_and_the_next_one_finishes(cloud: Cloud, user: User) -> None:
    run = user.submit(trains_until(last_epoch=2))
    instance_id = user.claimed(run)
    eventually(lambda: user.num_commits(run), bool)

    cloud.batch.cut_off(instance_id)
    ended = user.ended(run)

    log = fenced_log(cloud, run)
    assert "committed" not in log.partition('"event":"fenced"')[2]
    assert "completed" not in log
    assert (ended.state, ended.epoch) == (RunState.SUCCEEDED, 2)
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.HOST_LOST, Cause.COMPLETED]


def test_an_attempt_that_was_given_up_cannot_complete_the_run_of_the_next_one(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    run = user.submit(
        f"""
        import os, pathlib, time
        while not (pathlib.Path({str(tmp_path)!r}) / ("end-" + os.environ["SPOTKEEPER_EPOCH"])).exists():
            time.sleep(0.05)
        """
    )
    cloud.batch.cut_off(user.claimed(run))
    user.claimed(run, epoch=2)

    (tmp_path / "end-1").touch()
    log = fenced_log(cloud, run)
    found = user.run(run)
    (tmp_path / "end-2").touch()
    ended = user.ended(run)

    assert '"event":"fenced"' in log
    assert (found.state, found.completion) == (RunState.RUNNING, None)
    assert ended.state is RunState.SUCCEEDED
    assert ended.completion is not None
    assert ended.completion.epoch == 2
