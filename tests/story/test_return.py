"""Spot goes and comes back: a run falls back to on-demand, and a standby takes it back to spot."""

from pathlib import Path

import pytest

from emulation.cloud import Cloud
from emulation.events.router import deliver_once
from spotkeeper.contract.budgets import environment_holder, month_of, run_holder
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import LogEvent, parse_line
from spotkeeper.control.classify import Cause
from spotkeeper.control.run import Run
from spotkeeper.ops.spending import Spending
from spotkeeper.policy.money import parse_usd
from tests.story.faults import lose_every_event
from tests.story.programs import Trained, overlaps, trains_until
from tests.story.user import User, eventually, later

TOTAL_CAP = "9"


@pytest.fixture
def speed() -> float:
    """At this, an attempt on on-demand is told of its time limit after 42 s, long after a standby has asked."""
    return 100


@pytest.mark.parametrize("faults", [deliver_once, lose_every_event])
def test_a_run_without_spot_pays_for_on_demand_until_a_standby_asks_for_it_and_loses_no_step(
    cloud: Cloud, user: User
) -> None:
    cloud.market.dry()
    run = user.submit(trains_until(last_epoch=2), spending=Spending.of(fallback_cap="5", total_cap=TOTAL_CAP))
    on_demand = user.falls_back(run)
    assert on_demand.job_id is not None
    reserved = {one.submission: one.microusd for one in user.connection.budgets.reservations(run.run_id)}
    assert reserved[2] > 0
    cloud.market.restore()
    asked = eventually(lambda: user.run(run), lambda found: found.handover_asked_at or found.submission == 3, 150)
    ended = user.ended(run)

    assert (asked.submission, asked.standby_submission, asked.epoch) == (2, 3, 1)
    assert (ended.state, ended.market, ended.submission, ended.epoch) == (RunState.SUCCEEDED, "spot", 3, 2)
    before, after = user.output_of(on_demand.job_id), user.output(ended)
    assert "a standby on spot has asked for this run" in before
    assert '"cause":"signal"' in before
    assert events(after)[:4] == [LogEvent.STANDBY, LogEvent.HANDOVER_ASKED, LogEvent.CLAIMED, LogEvent.RESUMED]
    steps = Trained.all_in(before + after)
    assert overlaps(steps) == []
    assert [step.step for step in steps] == list(range(len(steps)))
    assert {step.epoch for step in steps} == {1, 2}
    assert ended.completion is not None
    assert ended.completion.step == len(steps)
    told = [(one.submission, one.market, one.epoch, one.cause) for one in user.attempts(run)]
    assert told == [(2, "on-demand", 1, Cause.YIELDED), (3, "spot", 2, Cause.COMPLETED)]
    assert_money_is_settled(user, run)


SAVES_SLOWLY = """
    import os, pathlib, signal, sys, time, boto3

    s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket = os.environ["SPOTKEEPER_URI"].removeprefix("s3://")
    epoch = int(os.environ["SPOTKEEPER_EPOCH"])

    def commit(step):
        key = f"commit/{{os.environ['SPOTKEEPER_RUN_ID']}}/{{epoch:06}}-{{step:012}}.json"
        s3.put_object(Bucket=bucket, Key=key, Body=b"{{}}", IfNoneMatch="*")

    def save(*_):
        while not pathlib.Path({may_end!r}).exists():
            time.sleep(0.05)
        commit(2)
        sys.exit(0)

    signal.signal(signal.SIGTERM, save)
    if epoch == 1:
        commit(1)
        time.sleep(600)
"""
"""Told to stop, it saves for as long as the story needs."""


def test_the_word_of_the_user_wins_over_a_standby_that_has_asked_for_the_run(
    cloud: Cloud, user: User, tmp_path: Path
) -> None:
    may_end = tmp_path / "may-end"
    program = SAVES_SLOWLY.format(may_end=str(may_end))
    cloud.market.dry()
    runs = [user.submit(program, spending=Spending.of(fallback_cap="5")) for _ in range(2)]
    user.sweep(at=later(60))  # withdraws both at once; Batch's own limit is for the head of the queue alone
    to_cancel, to_pause = [user.falls_back(run) for run in runs]
    cloud.market.restore()
    standbys = []
    for run, command in ((to_cancel, "cancel"), (to_pause, "pause")):
        asked = eventually(lambda run=run: user.run(run), lambda found: found.handover_asked_at)  # type: ignore[misc]
        user.types(command, run.run_id)
        standbys.append(asked.standby_job_id)
    may_end.touch()

    cancelled = user.ended(to_cancel)
    paused = eventually(lambda: user.run(to_pause), lambda found: found.state is RunState.PAUSED)

    assert (cancelled.state, cancelled.submission, cancelled.epoch) == (RunState.CANCELLED, 2, 1)
    assert (paused.submission, paused.epoch, paused.standby_submission) == (2, 1, None)
    for job_id in (to_cancel.job_id, to_pause.job_id, *standbys):
        assert job_id is not None
        assert cloud.batch.wait(job_id, {"SUCCEEDED", "FAILED"}, 60)["status"] == "FAILED"
    for run, cause in ((to_cancel, Cause.CANCELLED), (to_pause, Cause.PAUSED)):
        held, standby = eventually(lambda run=run: user.attempts(run), lambda told: told[-1].cause)  # type: ignore[misc]
        assert (held.cause, held.epoch) == (cause, 1)
        assert (standby.market, standby.epoch, standby.cause) == ("spot", None, Cause.STANDBY)
    assert user.num_commits(to_pause) == 2
    user.types("resume", to_pause.run_id)
    ended = user.ended(to_pause)
    assert (ended.state, ended.market, ended.submission, ended.epoch) == (RunState.SUCCEEDED, "spot", 4, 2)


def events(output: str) -> list[str]:
    return [event["event"] for event in map(parse_line, output.splitlines()) if event is not None]


def assert_money_is_settled(user: User, run: Run) -> None:
    """Each submission cost at most what had been reserved for it, and all that was within the caps."""
    paid = {attempt.submission for attempt in user.attempts(run)}
    user.sweep(at=later(3600))  # what may still show up in a look-up is waited for in real time

    reservations = user.connection.budgets.reservations(run.run_id)
    assert [(one.submission, one.market) for one in reservations] == [(1, "spot"), (2, "on-demand"), (3, "spot")]
    assert sum(one.microusd for one in reservations) <= parse_usd(TOTAL_CAP, what="--total-cap")
    for one in reservations:
        assert one.spent_microusd is not None
        assert one.spent_microusd <= one.microusd
        assert (one.spent_microusd > 0) == (one.submission in paid)
    spent = {one.submission: one.spent_microusd or 0 for one in reservations}
    for holder in (run_holder(run.run_id), environment_holder(month_of(run.created_at))):
        budget = user.connection.budgets.get(holder)
        assert budget is not None
        assert (budget.total.reserved, budget.total.spent) == (0, sum(spent.values()))
        assert (budget.fallback.reserved, budget.fallback.spent) == (0, spent[2])
