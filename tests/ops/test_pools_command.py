"""`spotkeeper pools`, and a plan that rests on what the environment has seen."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from spotkeeper.contract.ledger import RunState
from spotkeeper.control.run import Attempt
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.pools import seen_pools
from tests.control.fakes import new_run
from tests.ops.test_savings_command import BEGAN, interrupted_run, priced, write_counters

PLAN = ("plan", "--work-hours", "6", "--samples", "10", "--on-demand-price", "3", "--spot-price", "1", "--json")


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def taken(environment: Connection, number: int, *, cause: str = "host-lost", **placement: str) -> None:
    """Add a run whose one attempt was taken after two hours."""
    run = environment.ledger.create(
        new_run(
            run_id=f"taken-{number}", state=RunState.FAILED, created_at=BEGAN.isoformat(), closed_at=BEGAN.isoformat()
        )
    )
    placed = {"market": "spot", "instance_type": "m6i.xlarge", "availability_zone": "us-east-1a", **placement}
    environment.ledger.record_attempt(
        Attempt(run_id=run.run_id, submission=1, attempt=1),
        started_at=BEGAN.isoformat(),
        stopped_at=(BEGAN + timedelta(hours=2)).isoformat(),
        cause=cause,
        **placed,
    )


def test_a_pool_shows_its_hours_its_losses_and_what_a_useful_hour_cost(environment: Connection) -> None:
    run = interrupted_run(environment)
    write_counters(environment, run)

    (pool,) = seen_pools([run], priced(environment, (-600, "0.70")), now=datetime.now(UTC)).pools

    assert (pool.pool.instance_type, pool.pool.availability_zone) == ("m6i.xlarge", "us-east-1a")
    assert (pool.num_machines, pool.rate.num_events, pool.rate.exposure_hours) == (2, 1, 3)
    # Three hours, for 40 and 100 minutes of work.
    assert pool.usd_per_hour == pytest.approx(0.7)
    assert pool.usd_per_useful_hour == pytest.approx(0.9)


def test_too_few_losses_are_insufficient_data_and_batch_is_said_to_choose(environment: Connection) -> None:
    for number in range(4):
        taken(environment, number)
    taken(environment, 9, market="on-demand")

    shown = spotkeeper("pools").stdout

    (row,) = [line for line in shown.splitlines() if line.startswith("m6i.xlarge")]
    assert "insufficient data" in row
    assert row.split()[2:4] == ["8.0", "4"]
    assert "AWS Batch chooses the pool of a job by itself" in shown
    (told,) = json.loads(spotkeeper("pools", "--json").stdout)["pools"]
    assert (told["is_rate_sufficient"], told["usd_per_useful_hour"]) == (False, None)


def test_an_environment_that_saw_no_spot_says_so(environment: Connection) -> None:
    taken(environment, 1, market="on-demand")

    assert spotkeeper("pools").stdout == "no attempt on spot has said where it ran in this time\n"


def test_a_plan_takes_the_environments_own_hazard_where_there_is_enough_of_it(environment: Connection) -> None:
    for number in range(4):
        taken(environment, number)
    few = json.loads(spotkeeper(*PLAN, "--from-environment").stdout)
    taken(environment, 5, cause="interrupted")
    enough = json.loads(spotkeeper(*PLAN, "--from-environment").stdout)
    without = json.loads(spotkeeper(*PLAN).stdout)

    assert "insufficient data in this environment, where 4 of 4 machines on spot were taken" in few["market"]
    assert few["outlooks"] == without["outlooks"]
    assert "the hazard of this environment, where 5 of 5 machines on spot were taken" in enough["market"]
    assert enough["rate"]["num_events"] == 5
    assert enough["outlooks"] != without["outlooks"]


def test_a_plan_of_other_types_takes_nothing_from_machines_that_are_none_of_them(environment: Connection) -> None:
    for number in range(6):
        taken(environment, number)

    words = ("plan", "--work-hours", "6", "--samples", "5", "--from-environment", "--json", "--instance-type")
    assert "recorded GPU pools" in json.loads(spotkeeper(*words, "g5.xlarge").stdout)["market"]
