"""`spotkeeper savings` of runs on SageMaker: what their nodes told, and what SageMaker bills."""

import json
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import LogEvent, format_line
from spotkeeper.contract.training import LOG_GROUP
from spotkeeper.control.run import Attempt, Run
from spotkeeper.ops.connection import Connection
from tests.control.fakes import new_run
from tests.ops import test_savings_command
from tests.ops.intercepted import intercepted
from tests.ops.test_command_line import spotkeeper

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def ran(connection: Connection, *, market: str = "spot", **changes: Any) -> Run:
    """Two attempts in one job, of 60 and 120 minutes: the first loses 10 of 50 steps, a minute each."""
    told = {"profile": "train-cpu", "job_queue": f"sagemaker/train-cpu/{market}", "state": RunState.SUCCEEDED}
    created_at, closed_at = at(-1).isoformat(), at(200).isoformat()
    run = connection.ledger.create(new_run(**told, created_at=created_at, closed_at=closed_at, market=market))
    for number, (start, stop, cause) in enumerate(((0, 60, "interrupted"), (70, 190, "completed")), start=1):
        connection.ledger.record_attempt(
            Attempt(run_id=run.run_id, submission=1, attempt=number),
            started_at=at(start).isoformat(),
            stopped_at=at(stop).isoformat(),
            claimed_at=at(start).isoformat(),
            cause=cause,
            instance_type="ml.m5.xlarge",
            market=market,
            **(changes if number == 2 else {}),
        )
    return run


def write(connection: Connection, run: Run, *lines: tuple[float, str], began: float, node: int = 1) -> None:
    stream = f"dev-{run.run_id}-1/algo-{node}-{at(began).timestamp():.0f}"
    connection.logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    events: Any = [{"timestamp": int(at(minutes).timestamp() * 1000), "message": text} for minutes, text in lines]
    connection.logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)


def write_counters(connection: Connection, run: Run) -> None:
    def said(minutes: float, event: LogEvent, **fields: Any) -> tuple[float, str]:
        return minutes, format_line(event, run=run.run_id, epoch=1, **fields)

    first = {"step": 50, "num_steps": 50, "seconds": {"step": 2900.0, "data": 100.0, "stall": 120.0, "slowdown": 0.0}}
    second = {"step": 140, "num_steps": 100, "seconds": {"step": 6000.0, "data": 0.0, "stall": 0.0}}
    write(connection, run, said(5, LogEvent.STARTED, step=0), said(60, LogEvent.PROGRESS, **first), began=-0.1)
    write(
        connection,
        run,
        said(76, LogEvent.RESUMED, step=40),
        (77, "epoch 1: loss 0.3"),
        said(190, LogEvent.PROGRESS, **second),
        began=69.9,
    )
    # Started late, and silent in the first attempt: it must not be taken for what that one told.
    write(connection, run, (80, "a warning of the second node"), began=70, node=2)


def account(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(spotkeeper("savings", run.run_id, "--json").stdout)["runs"][0]
    return found


def test_a_run_is_measured_by_what_its_first_node_told_and_costs_what_sagemaker_bills(
    with_training: Connection,
) -> None:
    # A third of the three hours that both attempts had: $1.20 an hour, where on demand it is $3.60.
    run = ran(with_training, job_billed_seconds=3600)
    write_counters(with_training, run)

    found = account(run)

    assert found["spent_microusd"] == 3_600_000
    assert (found["is_upper_bound"], found["maybe_free_microusd"]) == (False, 0)
    # 40 and 100 minutes of work, and one start of 5 minutes; not the three hours less what is not billed.
    assert found["useful_seconds"] == 8400
    assert found["split"]["on_demand_microusd"] == 8_700_000
    assert found["split"]["effective"] == pytest.approx(1 - 3.6 / 8.7)
    assert found["split"]["waste_microusd"]["lost"] == 200_000  # 10 minutes at $1.20
    waste = found["split"]["waste_microusd"]
    assert sum(waste.values()) == found["split"]["spent_microusd"] - found["split"]["theoretical_microusd"]
    shown = spotkeeper("savings", run.run_id).stdout
    assert "first hour" not in shown
    # 145 minutes at $1.20: no price of spot, which SageMaker does not publish.
    assert re.search(r"the work and one start, at SageMaker's mean bill for an hour on spot +\$2.90\n", shown)
    assert "mean spot price" not in shown


def test_until_sagemaker_has_told_what_it_bills_the_cost_is_a_bound_at_the_price_of_on_demand(
    with_training: Connection,
) -> None:
    run = ran(with_training)
    write_counters(with_training, run)

    found = account(run)

    assert (found["spent_microusd"], found["is_upper_bound"]) == (3 * 3_600_000, True)
    shown = spotkeeper("savings", run.run_id).stdout
    assert "SageMaker tells it once a job has ended" in shown
    assert "SageMaker's mean bill for an hour on spot, on-demand's where none is known" in shown


def test_of_runs_on_both_services_the_table_names_the_price_of_each(with_training: Connection) -> None:
    run = ran(with_training, job_billed_seconds=3600)
    write_counters(with_training, run)
    on_batch = test_savings_command.interrupted_run(with_training, run_id="batch-0a1b2c")
    test_savings_command.write_counters(with_training, on_batch)

    shown = spotkeeper("savings").stdout

    assert "at the mean spot price, or SageMaker's mean bill for an hour on spot" in shown


def test_machines_that_were_billed_before_their_containers_are_part_of_the_start(with_training: Connection) -> None:
    # Ten minutes for image and data, on on-demand, where nothing is taken off.
    run = ran(with_training, market="on-demand", job_billed_seconds=3 * 3600 + 600)
    write_counters(with_training, run)

    found = account(run)

    assert found["spent_microusd"] == found["fallback_microusd"] == 3 * 3_600_000 + 600_000
    assert found["fallback_seconds"] == found["machine_seconds"] == 3 * 3600 + 600
    assert found["useful_seconds"] == 8400
    assert found["is_upper_bound"] is False


def test_a_program_that_tells_no_counters_is_not_measured_and_its_cost_counts(with_training: Connection) -> None:
    run = ran(with_training, job_billed_seconds=3600)
    write(with_training, run, (1, "hello"), began=-0.1)

    found = account(run)

    assert (found["spent_microusd"], found["useful_seconds"], found["split"]) == (3_600_000, None, None)


def test_of_a_run_whose_log_may_not_be_read_the_cost_is_told_and_other_runs_are_accounted_for(
    with_training: Connection,
) -> None:
    """Those who have `SubmitPolicy` and not `SubmitTrainingPolicy`."""
    run = ran(with_training, job_billed_seconds=3600)
    write_counters(with_training, run)

    def refuse(**_: object) -> Any:
        body = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
        return SimpleNamespace(status_code=400), body | {"ResponseMetadata": {"HTTPStatusCode": 400}}

    with intercepted("cloudwatch-logs.DescribeLogStreams", refuse):
        result = spotkeeper("savings")

    assert result.exit_code == 0
    assert "$3.60" in result.stdout
    assert f"their log may not be read, and only their cost is told: {run.run_id}" in result.stdout


def test_of_a_long_log_its_beginning_and_its_end_are_read_and_nothing_between(with_training: Connection) -> None:
    run = ran(with_training, job_billed_seconds=3600)
    write_counters(with_training, run)
    between = [(100 + number / 1000, "step") for number in range(10_000)]
    for _ in range(3):
        stream = f"dev-{run.run_id}-1/algo-1-{at(69.9).timestamp():.0f}"
        events: Any = [{"timestamp": int(at(minutes).timestamp() * 1000), "message": text} for minutes, text in between]
        with_training.logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)

    assert account(run)["useful_seconds"] == 8400
