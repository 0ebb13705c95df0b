"""Each page is followed in the emulation: the condition comes about, the page's own lines are typed, Verify reads well.

What a step needs an account for is not done here: a deployment is what the test says in its place, or nothing.
"""

import json
from collections.abc import Callable
from functools import partial

import pytest

from emulation.alarms.metric_alarm import ALARM
from emulation.cloud import Cloud
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from spotkeeper.ops import budgets
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.training_place import SAGEMAKER
from tests.runbooks.conftest import Delivery
from tests.runbooks.exercise import Exercise
from tests.runbooks.runbook import runbooks
from tests.story.age import age_commits, age_mirror
from tests.story.programs import (
    GOES_ON_WHEN_TOLD_TO_STOP,
    HANGS_WHEN_IT_HAS_SAVED,
    library_program,
    saves_each_step,
    trains_until,
)
from tests.story.user import User, eventually, later, now

pytestmark = [pytest.mark.xdist_group("runbooks")]

Open = Callable[[str], Exercise]
GOES_ON = saves_each_step(total=100_000, seconds_a_step=0.3)
HANGS = "import time; time.sleep(600)"


def fires(exercise: Exercise) -> None:
    """Wait until the page's alarm is on."""
    exercise.watched.until(exercise.watched.fired, lambda names: exercise.page.name in names)


def is_over(exercise: Exercise) -> None:
    """Wait until the page's alarm, which was on, is not any more."""

    def states() -> list[str]:
        return [state[exercise.page.name] for state in exercise.watched.states()]

    exercise.watched.until(states, lambda found: ALARM in found and found[-1] != ALARM)


def is_in(user: User, run: Run, *states: RunState) -> Run:
    return eventually(lambda: user.run(run), lambda found: found.state in states)


def test_dead_letters(emulated: Cloud, exercise: Open) -> None:
    page = exercise("DeadLetters")
    queues = emulated.deployment.queues
    source = next(queue for queue in queues.values() if "RecordInterruption" in queue.name and queue.dead_letter_arn)
    emulated.session.client("sqs", endpoint_url=emulated.endpoint_url).send_message(
        QueueUrl=source.url, MessageBody="no event"
    )
    fires(page)

    assert "no event: 'no event'" in page.diagnoses()
    page.mitigates("A")
    eventually(lambda: page.user.types("dead-letters", "list"), lambda told: "no event: 'no event'" in told)
    (letter,) = json.loads(page.user.types("dead-letters", "list", "--json"))
    page.sets(MESSAGE_ID=letter["message_id"])
    page.mitigates("B")
    page.verifies()
    is_over(page)


def test_handler_errors(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("HandlerErrors")
    dynamodb = emulated.session.client("dynamodb", endpoint_url=emulated.endpoint_url)
    table = user.connection.descriptor.ledger_table
    key = {"pk": {"S": "RUN#newer"}, "sk": {"S": "RUN"}}
    told = {"run_id": "newer", "listing": "open", "created_at": later(-60), "state": "hibernating"}
    dynamodb.put_item(TableName=table, Item={**key, **{name: {"S": value} for name, value in told.items()}})
    fires(page)

    first, *_ = page.steps("Diagnose", "")
    page.does(first)
    page.reads_instead("Diagnose", 1, "is not a valid RunState")
    # The newer release, deployed again, would end the run.
    dynamodb.delete_item(TableName=table, Key=key)
    page.sets(RUN_ID=user.submit(GOES_ON))
    page.mitigates("D")
    page.verifies()
    is_over(page)


def test_sweeper_silent(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("SweeperSilent")
    emulated.market.dry()
    waits = user.submit("print('at last')")
    waiting = is_in(user, waits, RunState.WAITING)
    emulated.router.stop()
    emulated.market.restore()
    fires(page)

    page.diagnoses()
    assert user.run(waits).submission == waiting.submission
    page.sets(RUN_ID=waits)
    page.mitigates("D")
    emulated.router.start_schedules()  # A: the rule is enabled again
    page.verifies()
    is_over(page)


def test_sweeper_repairing(emulated: Cloud, user: User, delivery: Delivery, exercise: Open) -> None:
    page = exercise("SweeperRepairing")
    emulated.market.dry()
    delivery.is_broken = True
    runs = []

    def some_more_end() -> set[str]:
        for _ in range(3):
            runs.append(user.submit(HANGS))
            user.connection.batch.terminate(runs[-1].job_id or "", "somebody")
        page.watched.sweeps(1)
        return page.watched.fired()

    eventually(some_more_end, lambda names: "SweeperRepairing" in names)

    page.diagnoses()
    delivery.is_broken = False  # A: the rule is enabled again
    page.verifies()
    assert all(user.run(run).state is RunState.PARKED for run in runs[:-3])
    is_over(page)


def test_checkpoint_stale(user: User, exercise: Open) -> None:
    page = exercise("CheckpointStale")
    run = user.submit(HANGS_WHEN_IT_HAS_SAVED)
    eventually(partial(user.num_commits, run), bool)
    age_commits(user, run, seconds=3700)
    fires(page)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    page.verifies()
    eventually(lambda: user.run(run), lambda found: (found.state, found.epoch) == (RunState.RUNNING, 2))
    is_over(page)


def test_mirror_stopped(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("MirrorStopped")
    program = library_program(total=100_000, in_loop="step % 10 == 1 and run.save_now()")
    run = user.submit(program, service=SAGEMAKER, is_isolated=True)
    mirrors = user.connection.ports.mirrors
    assert mirrors is not None
    eventually(lambda: mirrors.newest_whole(run.run_id), bool, seconds=80)  # the library's imports take a while
    emulated.training.stop_mirrors()
    age_mirror(user, run, seconds=3700)
    fires(page)

    page.sets(RUN_ID=run)
    page.diagnoses()
    pause, resume = page.steps("Mitigate", "A")
    page.does(pause)
    emulated.training.resume_mirrors()  # the next job has one of its own
    page.does(resume)
    page.verifies()
    eventually(lambda: user.run(run), lambda found: (found.state, found.epoch) == (RunState.RUNNING, 2))
    is_over(page)


def test_spot_capacity_dry(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("SpotCapacityDry")
    emulated.market.dry()
    run = user.submit(GOES_ON)
    fires(page)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    is_in(user, run, RunState.WAITING)
    user.waits_no_longer(run)
    page.verifies()
    assert user.run(run).market == "on-demand"
    is_over(page)


def test_budget_headroom(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("BudgetHeadroom")
    user.sweep(at=later(3600))  # what other pages' runs had reserved is free a quarter of an hour after their jobs
    cap = budgets.budget_of(budgets.environment(user.connection, now=now()), user.connection).fallback
    user.types("budget", "set", "--this-environment", "--fallback-cap", f"{0.75 + cap.spent / 1e6:.6f}")
    emulated.market.dry()
    user.falls_back(user.submit(GOES_ON, spending=Spending.of(fallback_cap="20"), attempt_seconds=4 * 3600))
    fires(page)

    page.diagnoses()
    page.mitigates("A")
    page.verifies()
    is_over(page)


def test_preemption_storm(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("PreemptionStorm")
    runs = [user.submit(HANGS) for _ in range(5)]
    for epoch in (1, 2):
        for run in runs:
            emulated.market.reclaim(user.claimed(run, epoch), notice=False)
    emulated.market.dry()
    fires(page)

    urgent, *_, later_run = runs
    page.sets(URGENT_RUN=urgent, LATER_RUN=later_run)
    page.diagnoses()
    page.mitigates("A")
    page.mitigates("B")
    page.verifies()


def test_no_progress(user: User, exercise: Open) -> None:
    page = exercise("NoProgress")
    run = user.submit(HANGS)
    for epoch in (1, 2, 3):
        user.claimed(run, epoch)
        user.connection.batch.terminate(user.run(run).job_id or "", "somebody")
    is_in(user, run, RunState.PARKED)
    fires(page)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    page.verifies()
    assert not user.run(run).needs_person
    is_over(page)
    page.mitigates("B")
    page.verifies()


def test_notice_not_honoured(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("NoticeNotHonoured")
    run = user.submit(GOES_ON_WHEN_TOLD_TO_STOP)
    instance_id = user.claimed(run)
    eventually(partial(user.num_commits, run), bool)
    age_commits(user, run, seconds=600)
    emulated.market.reclaim(instance_id, notice=True)
    fires(page)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.verifies()


def test_first_deploy(exercise: Open) -> None:
    page = exercise("first-deploy")

    page.verifies()


@pytest.mark.parametrize("name", ["upgrade-while-jobs-run", "roll-back-a-release"])
def test_a_deployment(name: str, user: User, exercise: Open) -> None:
    page = exercise(name)
    run = user.submit(GOES_ON)
    eventually(partial(user.num_commits, run), bool)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.verifies()
    assert user.run(run).epoch == 1


def test_roll_out_an_image(user: User, exercise: Open) -> None:
    page = exercise("roll-out-an-image")
    run = user.submit(GOES_ON)
    user.claimed(run)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    page.verifies()
    assert user.run(run).epoch == 1


def test_run_a_drill(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("run-a-drill")
    run = user.submit(trains_until(last_epoch=3))
    eventually(partial(user.num_commits, run), bool)

    page.sets(RUN_ID=run)
    page.diagnoses()
    emulated.market.reclaim(user.claimed(run), notice=True)  # what the experiment does
    page.mitigates("A")
    user.claimed(run, 2)
    page.verifies()


def test_replace_a_compute_environment(exercise: Open) -> None:
    page = exercise("replace-a-compute-environment")

    page.diagnoses()
    page.mitigates("A")
    page.verifies()


def test_raise_a_quota(emulated: Cloud, user: User, exercise: Open) -> None:
    page = exercise("raise-a-quota")
    emulated.market.dry()
    run = user.submit(GOES_ON)
    is_in(user, run, RunState.WAITING)

    page.sets(RUN_ID=run)
    page.diagnoses()
    emulated.market.restore()  # AWS has raised it
    page.mitigates("A")
    is_in(user, run, RunState.RUNNING)
    page.verifies()


def test_budget_exhausted(user: User, exercise: Open) -> None:
    page = exercise("budget-exhausted")
    run = user.submit(saves_each_step(total=12, seconds_a_step=0.3), spending=Spending.of(total_cap="0.40"))
    eventually(partial(user.num_commits, run), bool)
    user.sweep(at=later(3600))
    is_in(user, run, RunState.PARKED)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    page.mitigates("C")
    page.mitigates("D")
    page.verifies()
    assert user.attempts(run)[0].cause == Cause.OVER_BUDGET


def test_restore_a_checkpoint(user: User, exercise: Open) -> None:
    page = exercise("restore-a-checkpoint")
    run = user.submit(trains_until(last_epoch=100))

    def removed() -> list[int]:
        found = json.loads(user.types("checkpoints", "list", run.run_id, "--json"))
        return [one["step"] for one in found if one["removed_at"] is not None]

    eventually(removed, bool)
    page.sets(RUN_ID=run)
    page.diagnoses()
    pause, look, roll_back, resume = page.steps("Mitigate", "A")
    page.does(pause)
    page.does(look)
    page.sets(STEP=str(removed()[0]))
    page.mitigates("B")
    page.does(roll_back)
    page.does(resume)
    user.claimed(run, epoch=2)
    page.verifies()

    resumed = [line for line in page.verifies().splitlines() if '"event":"resumed"' in line]
    assert f'"step":{page.variables["STEP"]}' in resumed[0]


def test_poisoned_job(user: User, exercise: Open) -> None:
    page = exercise("poisoned-job")
    user.types("sweep", "submit", "lr", "--no-source", "--param", "LR=1,2", "--", "python", "-c", "raise SystemExit(3)")
    run = user.submit("raise SystemExit(3)")
    is_in(user, run, RunState.FAILED)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    page.verifies()


def test_tear_down(user: User, exercise: Open) -> None:
    page = exercise("tear-down")
    run = user.submit(GOES_ON)
    eventually(partial(user.num_commits, run), bool)

    page.sets(RUN_ID=run)
    page.diagnoses()
    page.mitigates("A")
    is_in(user, run, RunState.PAUSED)


def test_every_page_is_exercised() -> None:
    source = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    shared = {"upgrade-while-jobs-run", "roll-back-a-release"}

    def words(name: str) -> str:
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).strip("_")

    missing = [page.name for page in runbooks() if words(page.name).replace("-", "_") not in source]
    assert set(missing) == {"TEMPLATE", *shared}
