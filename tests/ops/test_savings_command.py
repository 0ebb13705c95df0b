"""`spotkeeper savings`: from the ledger, the logs and EC2's record of prices to what was saved."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from typer.testing import CliRunner

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.log_lines import LogEvent, format_line
from spotkeeper.control.run import Attempt, Run
from spotkeeper.ops import savings as accounting
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.savings_command import period_option, plain
from tests.control.fakes import new_run
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import LOG_GROUP, with_clients

BEGAN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
ZONE = "us-east-1a"


def at(minutes: float) -> str:
    return (BEGAN + timedelta(minutes=minutes)).isoformat()


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def interrupted_run(environment: Connection, *, market: str = "spot", **changes: Any) -> Run:
    """Two attempts on spot of 60 and 120 minutes: the first loses 10 of 50 steps, a minute each."""
    changes = {"state": RunState.SUCCEEDED, "created_at": at(-1), "closed_at": at(200), **changes}
    run = environment.ledger.create(new_run(**changes))
    for number, (start, stop, cause) in enumerate(((0, 60, "interrupted"), (70, 190, "completed")), start=1):
        attempt = Attempt(run_id=run.run_id, submission=1, attempt=number)
        environment.ledger.record_attempt(
            attempt,
            started_at=at(start),
            stopped_at=at(stop),
            cause=cause,
            log_stream=f"{run.run_id}/{number}",
            instance_type="m6i.xlarge",
            availability_zone=ZONE,
            market=market,
            claimed_at=at(start),
        )
    return run


def write(environment: Connection, run: Run, attempt: int, *lines: tuple[float, LogEvent, dict[str, Any]]) -> None:
    stream = f"{run.run_id}/{attempt}"
    environment.logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    events = [
        {
            "timestamp": int((BEGAN + timedelta(minutes=minutes)).timestamp() * 1000),
            "message": format_line(event, run=run.run_id, epoch=attempt, **fields),
        }
        for minutes, event, fields in lines
    ]
    noise = {"timestamp": events[0]["timestamp"], "message": "epoch 1: loss 0.3 spotkeeper"}
    environment.logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=[noise, *events])  # type: ignore[list-item]


def write_counters(environment: Connection, run: Run) -> None:
    first = {"step": 50, "num_steps": 50, "seconds": {"step": 2900.0, "data": 100.0, "stall": 120.0, "slowdown": 0.0}}
    second = {"step": 140, "num_steps": 100, "seconds": {"step": 6000.0, "data": 0.0, "stall": 0.0}}
    write(environment, run, 1, (5, LogEvent.STARTED, {"step": 0}), (60, LogEvent.PROGRESS, first))
    write(environment, run, 2, (76, LogEvent.RESUMED, {"step": 40}), (190, LogEvent.PROGRESS, second))


def priced(environment: Connection, *prices: tuple[float, str]) -> Connection:
    """The environment with EC2's record: from so many minutes on, so much."""
    session: Any = boto3.Session(region_name=REGION, aws_access_key_id="testing", aws_secret_access_key="testing")
    ec2 = session.client("ec2")
    stubber = Stubber(ec2)
    told = [
        {
            "AvailabilityZone": ZONE,
            "InstanceType": "m6i.xlarge",
            "SpotPrice": usd,
            "Timestamp": BEGAN + timedelta(minutes=minutes),
        }
        for minutes, usd in prices
    ]
    stubber.add_response("describe_spot_price_history", {"SpotPriceHistory": told})
    stubber.activate()
    return with_clients(environment, {"ec2": ec2})


def test_a_run_costs_what_its_very_pool_cost_while_it_ran(environment: Connection) -> None:
    run = interrupted_run(environment)
    write_counters(environment, run)

    # The price changes in the middle of the second attempt: 2 h at $0.90, 1 h at $1.80; on demand it is $3.60.
    connection = priced(environment, (-600, "0.90"), (130, "1.80"))
    found = accounting.savings_of([run], connection, now=datetime.now(UTC))

    (one,) = plain(found)["runs"]
    assert one["spent_microusd"] == 3_600_000
    assert one["is_upper_bound"] is False
    # 40 and 100 minutes of work, and one start of 5 minutes.
    assert one["useful_seconds"] == 8400
    assert one["split"]["on_demand_microusd"] == 8_700_000
    assert one["split"]["theoretical"] == pytest.approx(1 - 1.2 / 3.6)
    assert one["split"]["effective"] == pytest.approx(1 - 3.6 / 8.7)
    waste = one["split"]["waste_microusd"]
    assert waste["lost"] == 150_000  # 10 minutes at $0.90
    assert waste["stall"] == 30_000
    assert sum(waste.values()) == one["split"]["spent_microusd"] - one["split"]["theoretical_microusd"]
    assert found.notes == ()


def test_the_nodes_of_a_run_are_machines_of_their_own_and_nodes_that_do_the_same_save_the_same_share(
    environment: Connection,
) -> None:
    accounts = []
    for run_id, num_nodes in (("alone-7fq2", 1), ("four-7fq2", 4)):
        run = interrupted_run(environment, run_id=run_id, num_nodes=num_nodes)
        write_counters(environment, run)
        connection = priced(environment, (-600, "0.90"), (130, "1.80"))
        accounts += plain(accounting.savings_of([run], connection, now=datetime.now(UTC)))["runs"]

    alone, four = accounts
    for amount in ("spent_microusd", "machine_on_demand_microusd", "machine_seconds", "useful_seconds"):
        assert four[amount] == 4 * alone[amount] > 0, amount
    for share in ("effective", "theoretical", "capture_ratio"):
        assert four["split"][share] == pytest.approx(alone["split"][share]), share


def test_a_price_that_ec2_does_not_know_is_bounded_by_on_demand_and_said_so(environment: Connection) -> None:
    run = interrupted_run(environment)
    write_counters(environment, run)

    connection = priced(environment, (65, "0.90"))
    one = plain(accounting.savings_of([run], connection, now=datetime.now(UTC)))["runs"][0]

    assert one["attempts_at_on_demand_price"] == ["digits-7fq2 1.1"]
    assert one["spent_microusd"] == 3_600_000 + 1_800_000
    assert one["is_upper_bound"] is True
    assert (one["split"]["theoretical"], one["split"]["capture_ratio"]) == (None, None)


def test_of_a_run_that_was_never_on_spot_no_price_of_spot_is_spoken_of(environment: Connection) -> None:
    run = interrupted_run(environment, market="on-demand")
    write_counters(environment, run)

    shown = spotkeeper("savings").stdout

    # 145 minutes at $3.60, of three hours that were paid.
    assert re.search(r"the work and one start, at the on-demand price where a run was never on spot +\$8.70\n", shown)
    assert "mean spot price" not in shown
    assert "nothing was saved by spot, as all of it ran on on-demand" in shown
    assert re.search(r"\$10.80 +\$8.70 +-24.1% +not known +not known +3.00 +2.33 +3.00\n", shown)
    (one,) = json.loads(spotkeeper("savings", "--json").stdout)["runs"]
    assert (one["split"]["theoretical"], one["split"]["capture_ratio"]) == (None, None)
    last = spotkeeper("status", run.run_id).stdout.splitlines()[-1]
    assert "24% dearer; nothing was saved by spot, as all of it ran on on-demand" in last


def test_beside_a_run_on_spot_the_price_of_one_that_never_was_is_told_too(environment: Connection) -> None:
    fell_back = interrupted_run(environment, run_id="fallback-7fq2", market="on-demand")
    on_spot = interrupted_run(environment, run_id="spot-7fq2")
    for run in (fell_back, on_spot):
        write_counters(environment, run)

    shown = spotkeeper("savings").stdout

    assert "at the mean spot price, or the on-demand price where a run was never on spot " in shown
    assert "what limits the savings most is" in shown


def test_a_run_without_counters_is_shown_as_not_measured(environment: Connection) -> None:
    run = interrupted_run(environment)

    result = spotkeeper("savings", run.run_id)

    assert result.exit_code == 0
    assert "not measured" in result.stdout
    assert "savings are those of 0 of 1 runs" in result.stdout
    assert json.loads(spotkeeper("savings", run.run_id, "--json").stdout)["runs"][0]["split"] is None


def test_runs_are_chosen_by_time_and_team_and_summed(environment: Connection) -> None:
    interrupted_run(environment)
    interrupted_run(environment, run_id="other-1", team="vision")
    interrupted_run(environment, run_id="old-1", created_at=at(-60 * 24 * 60))

    def chosen(*words: str) -> list[str]:
        return [one["run_id"] for one in json.loads(spotkeeper("savings", "--json", *words).stdout)["runs"]]

    assert sorted(chosen()) == ["digits-7fq2", "other-1"]
    assert chosen("--team", "vision") == ["other-1"]
    assert sorted(chosen("--since", "90d")) == ["digits-7fq2", "old-1", "other-1"]
    total = json.loads(spotkeeper("savings", "--json").stdout)["total"]
    assert total["num_attempts"] == 4


def test_a_machine_of_a_type_without_price_is_named_and_in_no_sum(environment: Connection) -> None:
    run = interrupted_run(environment, profile="gpu-24gb")

    result = spotkeeper("savings", run.run_id)

    assert "?: no price at all is known of digits-7fq2 1.1, digits-7fq2 1.2" in result.stdout
    assert "$0.00 + ?" in result.stdout
    assert json.loads(spotkeeper("savings", run.run_id, "--json").stdout)["total"]["spent_microusd"] == 0


def test_the_cost_of_a_run_with_a_machine_without_price_is_no_upper_bound(environment: Connection) -> None:
    run = interrupted_run(environment)
    attempt = environment.ledger.attempts(run.run_id)[1]
    environment.ledger.record_attempt(attempt, instance_type="m9i.xlarge")

    assert re.search(r"digits-7fq2 +(≤ )?\$[0-9.]+ \+ \?", spotkeeper("savings", run.run_id).stdout)
    # EC2 tells no price for the first attempt, so that it counts at on-demand's, and there is none for the second.
    connection = priced(environment, (65, "0.90"))
    one = plain(accounting.savings_of([run], connection, now=datetime.now(UTC)))["runs"][0]
    assert (one["attempts_at_on_demand_price"], one["attempts_without_price"]) == (
        ["digits-7fq2 1.1"],
        ["digits-7fq2 1.2"],
    )
    assert (one["spent_microusd"], one["is_upper_bound"]) == (3_600_000, False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--month", "november"), "--month must be a year and a month, such as 2026-11, got 'november'"),
        (("--since", "1d", "--month", "2026-11"), "give --since or --month, not both"),
        (("digits-7fq2", "--team", "vision"), "leave out --since, --month and --team"),
        (("--since", "30"), "--since must be a number with a unit"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_a_choice_that_makes_no_sense_is_refused(words: tuple[str, ...], said: str) -> None:
    result = spotkeeper("savings", *words)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_month_ends_where_the_next_begins() -> None:
    period = period_option(since=None, month="2026-12", now=datetime.now(UTC))

    assert (period.began_at, period.ended_at) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def test_status_ends_with_the_same_account_in_a_line(environment: Connection) -> None:
    run = interrupted_run(environment)
    write_counters(environment, run)

    last = spotkeeper("status", run.run_id).stdout.splitlines()[-1]

    assert re.fullmatch(
        r"cost (at most )?\$[0-9.]+, \$[0-9.]+ on demand: saved .*; what limits the savings most .*", last
    )


def test_status_of_a_run_that_had_no_machine_says_nothing_of_savings(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.SUBMITTED))

    assert spotkeeper("status", "digits-7fq2").stdout.splitlines()[-1].startswith("total cost ")


def test_status_says_why_it_cannot_account_and_is_no_failure(environment: Connection) -> None:
    run = interrupted_run(environment)

    def refuse(**_: object) -> Any:
        refused: Any = {"Error": {"Code": "AccessDeniedException", "Message": "no"}}
        raise ClientError(refused, "FilterLogEvents")

    environment.logs.meta.events.register("before-call.cloudwatch-logs.FilterLogEvents", refuse)
    told = accounting.line_of(run, environment.ledger.attempts(run.run_id), environment, now=datetime.now(UTC))

    assert told == "what it cost and saved is not known: FilterLogEvents: AccessDeniedException"
