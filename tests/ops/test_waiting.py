from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.ledger import DynamoDBLedger
from spotkeeper.control.ports import Throttled, UnknownRun
from spotkeeper.control.run import Attempt
from spotkeeper.ops import log_stream, waiting
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.plan import Request
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.submission import prepare, submit
from tests.control.fakes import NOW, new_run
from tests.control.ledger_table import TABLE
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import LOG_GROUP, with_clients


def refusal() -> Any:
    """Return a refusal as botocore takes it from a handler."""
    body = {"Error": {"Code": "ThrottlingException", "Message": "slow down"}, "ResponseMetadata": {}}
    return SimpleNamespace(status_code=400), body


def throttled(environment: Connection, *times: int) -> Connection:
    """Return the environment with a ledger that refuses so many reads for their rate; one passes between two rows."""
    client = boto3.client("dynamodb", region_name=REGION, config=Config(retries={"total_max_attempts": 1}))
    answers = iter([answer for count in times for answer in [*[refusal] * count, None]])

    def answer_read(**_: Any) -> Any:
        answer = next(answers, None)
        return answer() if answer is not None else None

    client.meta.events.register("before-call.dynamodb.GetItem", answer_read)
    return replace(environment, ledger=DynamoDBLedger(client, TABLE))


def no_pause(*_: object) -> None:
    raise AssertionError("nothing to wait for")


def test_waiting_outlasts_reads_that_are_refused_for_their_rate(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.SUCCEEDED))
    pauses: list[int] = []

    run = waiting.wait("digits-7fq2", throttled(environment, 3), pause=lambda: pauses.append(1))

    assert (run.state, len(pauses)) == (RunState.SUCCEEDED, 3)


def test_waiting_gives_up_where_no_read_succeeds_any_more(environment: Connection) -> None:
    pauses: list[int] = []

    with pytest.raises(Throttled):
        waiting.wait("digits-7fq2", throttled(environment, 1000), pause=lambda: pauses.append(1))
    assert len(pauses) == waiting.MAX_FAILURES - 1


def test_only_failures_in_a_row_count(environment: Connection) -> None:
    run = environment.ledger.create(new_run())
    almost = waiting.MAX_FAILURES - 1
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == almost + 1:
            environment.ledger.advance(run, state=RunState.SUCCEEDED)

    assert waiting.wait("digits-7fq2", throttled(environment, almost, almost), pause=pause).is_closed
    assert len(pauses) == almost + 1 + almost


def test_a_followed_log_outlasts_refusals_of_its_lines(environment: Connection) -> None:
    run = environment.ledger.create(new_run(state=RunState.SUCCEEDED))
    attempt = Attempt(run_id=run.run_id, submission=1, attempt=1)
    environment.ledger.record_attempt(attempt, log_stream="cpu/1")
    environment.logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName="cpu/1")
    environment.logs.put_log_events(
        logGroupName=LOG_GROUP, logStreamName="cpu/1", logEvents=[{"timestamp": 1_795_000_000_000, "message": "one"}]
    )
    client = boto3.client("logs", region_name=REGION, config=Config(retries={"total_max_attempts": 1}))
    answers = iter([refusal()])
    client.meta.events.register("before-call.cloudwatch-logs.GetLogEvents", lambda **_: next(answers, None))
    pauses: list[int] = []

    lines = log_stream.read(run.run_id, with_clients(environment, {"logs": client}), pause=lambda: pauses.append(1))

    assert [line.text for line in lines] == ["one"]
    assert len(pauses) == 1


def test_a_followed_log_outlasts_refusals_of_the_ledger(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.SUCCEEDED))
    pauses: list[int] = []

    assert list(log_stream.read("digits-7fq2", throttled(environment, 2), pause=lambda: pauses.append(1))) == []
    assert len(pauses) == 2
    with pytest.raises(Throttled):
        list(log_stream.read("digits-7fq2", throttled(environment, 1)))


def test_a_run_whose_job_has_ended_is_closed_though_no_event_ever_came(environment: Connection) -> None:
    request = Request(command=("python", "-c", "1"))
    plan = prepare(request, connection=environment, source_directory=None, suffix="0a1b2c", now=NOW)
    run = submit(plan, connection=environment, now=NOW, pause=no_pause)
    assert run.job_id is not None
    environment.batch.terminate(run.job_id, "by somebody else")

    ended = waiting.wait(run.run_id, environment, pause=no_pause)

    assert ended.state is RunState.FAILED
    assert ended == environment.ledger.get(run.run_id)


def test_a_run_that_may_fall_back_is_left_to_those_who_may_submit_to_on_demand(environment: Connection) -> None:
    request = Request(command=("python", "-c", "1"), spending=Spending.of(fallback_cap="20"))
    plan = prepare(request, connection=environment, source_directory=None, suffix="0a1b2c", now=NOW)
    run = submit(plan, connection=environment, now=NOW, pause=no_pause)

    job = environment.batch.describe(str(run.job_id))
    assert job is not None
    assert job.has_ended
    assert waiting.read(run.run_id, environment) == run


@pytest.mark.parametrize("state", [RunState.PARKED, RunState.PAUSED])
def test_waiting_ends_with_a_run_that_waits_for_a_person(environment: Connection, state: RunState) -> None:
    run = environment.ledger.create(new_run(state=state, reason="no newer checkpoint"))

    assert waiting.wait("digits-7fq2", environment, pause=no_pause) == run


def test_reading_a_run_whose_job_goes_on_changes_nothing(environment: Connection) -> None:
    for run_id, job_id in (("no-job", None), ("job-of-another-batch", "gone")):
        run = environment.ledger.create(new_run(run_id, state=RunState.SUBMITTED, job_id=job_id))

        assert waiting.read(run_id, environment) == run


def test_a_run_that_nobody_knows_is_named(environment: Connection) -> None:
    with pytest.raises(UnknownRun, match="nobody-1"):
        waiting.wait("nobody-1", environment, pause=no_pause)
