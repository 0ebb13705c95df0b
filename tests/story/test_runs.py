import pytest

from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.cancel import cancel
from spotkeeper.control.classify import TWIN_REASON, Cause
from spotkeeper.control.submit import job_request
from tests.story.faults import lose_every_event
from tests.story.programs import library_program, saves_by_itself
from tests.story.user import User, eventually, now


def test_a_reclaimed_run_goes_on_in_a_second_attempt_and_succeeds_by_its_completion_record(
    cloud: Cloud, user: User
) -> None:
    run = user.submit(library_program())
    instance_id = user.claimed(run)
    eventually(lambda: user.output(run), lambda text: '"progress"' in text)

    cloud.market.reclaim(instance_id, notice=True)
    ended = user.ended(run)

    assert (ended.state, ended.epoch) == (RunState.SUCCEEDED, 2)
    assert ended.completion is not None
    assert (ended.completion.epoch, ended.completion.step) == (2, 40)
    first, second = user.attempts(run)
    assert (first.cause, first.exit_code, second.cause) == (Cause.INTERRUPTED, None, Cause.COMPLETED)
    assert first.warned_at is not None
    assert first.instance_id == instance_id != second.instance_id
    assert '"cause":"notice"' in user.output(run)
    assert user.output(run).count("after the loop") == 1


def test_a_program_that_saves_into_a_folder_by_itself_goes_on_on_another_machine(cloud: Cloud, user: User) -> None:
    run = user.submit(saves_by_itself(total=60, seconds_a_step=0.1), checkpoint_folder="out")
    eventually(lambda: user.output(run), lambda text: "at 5" in text)

    cloud.market.reclaim(user.claimed(run), notice=True)
    ended = user.ended(run)

    assert (ended.state, ended.epoch) == (RunState.SUCCEEDED, 2)
    output = user.output(run)
    assert f"total {sum(range(1, 61))}" in output
    assert output.count("begins at 0") == 1
    assert '"cause":"notice"' in output
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.INTERRUPTED, Cause.COMPLETED]


def test_a_host_that_is_lost_without_warning_is_told_from_an_interruption(cloud: Cloud, user: User) -> None:
    run = user.submit("import time; time.sleep(2)")

    cloud.market.reclaim(user.claimed(run), notice=False)

    assert user.ended(run).state is RunState.SUCCEEDED
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.HOST_LOST, Cause.COMPLETED]


def test_a_program_that_fails_ends_its_run_at_once_and_costs_no_second_machine(cloud: Cloud, user: User) -> None:
    run = user.ended(user.submit("import sys; sys.exit('no such dataset')"))

    assert run.state is RunState.FAILED
    assert run.reason == "the program failed with exit code 1"
    assert [attempt.exit_code for attempt in user.attempts(run)] == [1]
    assert len(cloud.market.instances) == 1


def test_exit_0_of_a_program_that_left_its_loop_early_is_no_success(user: User) -> None:
    run = user.ended(user.submit(library_program(in_loop="if step == 3: break")))

    assert run.state is RunState.FAILED
    assert run.completion is None
    assert "after the loop" in user.output(run)
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.INCOMPLETE]


def test_a_cancelled_run_is_stopped_after_it_has_saved(user: User) -> None:
    run = user.submit(library_program(total=10_000))
    eventually(lambda: user.output(run), lambda text: '"progress"' in text)

    cancel(run.run_id, ports=user.connection.ports, now=now())
    ended = user.ended(run)

    assert ended.state is RunState.CANCELLED
    assert '"cause":"signal"' in user.output(run)
    assert [attempt.cause for attempt in user.attempts(run)] == [Cause.CANCELLED]


def test_exit_0_of_a_program_that_was_told_to_stop_is_no_success_and_the_run_goes_on(user: User) -> None:
    run = user.submit(
        """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("half way", flush=True)
        if os.environ["SPOTKEEPER_EPOCH"] == "1":
            time.sleep(600)
        """,
        attempt_seconds=3600,  # 12 s here, of which the program is told after 6
    )
    ended = user.ended(run)

    assert (ended.state, ended.submission, ended.epoch) == (RunState.SUCCEEDED, 1, 2)
    assert ended.completion is not None
    assert ended.completion.epoch == 2
    told = [(attempt.cause, attempt.exit_code) for attempt in user.attempts(run)]
    assert told == [(Cause.YIELDED, 75), (Cause.COMPLETED, 0)]


def test_a_second_job_of_the_same_run_is_stopped_before_it_trains(user: User) -> None:
    run = user.submit(library_program(total=60))
    user.claimed(run)

    twin = user.connection.batch.submit(job_request(run))
    told = user.cloud.batch.wait(twin, {"SUCCEEDED", "FAILED"}, 120)
    attempts = user.cloud.batch.attempts(twin)

    # On a slow machine its container may be refused its claim before the function has stopped the job.
    is_fenced = [attempt.exit_code for attempt in attempts] == [76]
    assert told["status"] == "FAILED"
    assert told["statusReason"] == TWIN_REASON or is_fenced, told["statusReason"]
    logs = [attempt.log_path.read_text() for attempt in attempts if attempt.log_path.exists()]
    assert not any('"started"' in log for log in logs)
    ended = user.ended(run)
    assert (ended.state, ended.epoch, ended.job_id) == (RunState.SUCCEEDED, 1, run.job_id)


@pytest.mark.parametrize("faults", [lose_every_event])
def test_a_second_job_of_the_same_run_that_nobody_hears_of_is_fenced_and_never_trains(user: User) -> None:
    run = user.submit(library_program(total=60))
    user.claimed(run)

    twin = user.connection.batch.submit(job_request(run))
    told = user.cloud.batch.wait(twin, {"SUCCEEDED", "FAILED"}, 120)
    (attempt,) = user.cloud.batch.attempts(twin)

    assert (told["status"], attempt.exit_code) == ("FAILED", 76)
    assert '"fenced"' in attempt.log_path.read_text()
    assert '"started"' not in attempt.log_path.read_text()
    ended = user.ended(run)
    assert (ended.state, ended.epoch, ended.job_id) == (RunState.SUCCEEDED, 1, run.job_id)


def test_without_capacity_a_run_waits_and_starts_when_it_comes_back(cloud: Cloud, user: User) -> None:
    cloud.market.dry()
    run = user.submit("print('here')")
    assert run.job_id is not None
    cloud.batch.wait(run.job_id, {"RUNNABLE"}, 60)
    assert cloud.market.instances == ()

    cloud.market.restore()

    assert user.ended(run).state is RunState.SUCCEEDED
