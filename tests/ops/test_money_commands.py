"""`spotkeeper budget` and `spotkeeper fallback` as a user types them, against an environment in moto."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from spotkeeper.contract.budgets import environment_holder, month_of, run_holder, sweep_holder, team_holder
from spotkeeper.contract.descriptor import Caps, Descriptor
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import descriptor_parameter
from spotkeeper.control import begin, shortage
from spotkeeper.control.aws.budgets import DynamoDBBudgets
from spotkeeper.control.budget import UNLIMITED_MICROUSD, Budget, Cap
from spotkeeper.control.run import Run
from spotkeeper.control.submit import finish
from spotkeeper.ops import budgets
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection, connect
from tests.control.fakes import NOW, new_run
from tests.control.ledger_table import TABLE
from tests.control.mocked_aws import REGION


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def row(result: Any, holder: str, cap: str) -> list[str]:
    """Limit, reserved, spent and left of one line of the table."""
    (found,) = re.findall(rf"^{re.escape(holder)} +{cap} +(.*?) *$", result.stdout, re.MULTILINE)
    return str(found).split()


def this_month() -> str:
    return month_of(current_time())


def current_time() -> str:
    return datetime.now(UTC).isoformat()


def with_caps(environment: Connection, caps: Caps) -> Connection:
    """Deploy other caps of the environment."""
    changed = replace(environment.descriptor, caps=caps)
    store(changed)
    return connect("dev", region=REGION)


def store(descriptor: Descriptor) -> None:
    boto3.client("ssm", region_name=REGION).put_parameter(
        Name=descriptor_parameter("dev"), Value=descriptor.to_json(), Type="String", Overwrite=True
    )


def on_demand_run(environment: Connection, **changes: Any) -> Run:
    """A run that fell back, with its reservation."""
    profile = environment.descriptor.profiles["cpu"]
    waiting = new_run(
        **{
            "state": RunState.WAITING,
            "job_queue": profile.spot_queue,
            "job_definition": profile.job_definition,
            "fallback_cap_microusd": 20_000_000,
            **changes,
        }
    )
    environment.ledger.create(waiting)
    begun = begin.on_demand(waiting, ports=environment.ports, now=current_time())
    assert isinstance(begun, Run), begun
    return finish(waiting.run_id, ports=environment.ports, now=current_time())


def test_the_environment_and_its_teams_are_shown_for_this_month_before_anything_was_spent(
    environment: Connection,
) -> None:
    result = spotkeeper("budget")

    assert result.exit_code == 0
    assert row(result, environment_holder(this_month()), "on-demand") == ["$50.00", "$0.00", "$0.00", "$50.00"]
    assert row(result, environment_holder(this_month()), "total")[:4] == ["unlimited", "$0.00", "$0.00", "unlimited"]
    assert result.stdout.count("spot is counted only of runs, sweeps and teams with a total cap") == 2
    assert row(result, team_holder("research", this_month()), "on-demand")[0] == "unlimited"
    assert environment.budgets.get(environment_holder(this_month())) is None


def test_what_a_run_has_reserved_is_shown_of_it_its_team_and_its_environment(environment: Connection) -> None:
    run = on_demand_run(environment)

    # $3.60 an hour for 3,600 s, 150 s to stop, 1,500 s around, 2,100 s of a start that hangs, and a twin of 2,100 s.
    assert row(spotkeeper("budget", "--run", run.run_id), run_holder(run.run_id), "on-demand") == [
        "$20.00",
        "$9.45",
        "$0.00",
        "$10.55",
    ]
    assert "spot is not counted (no total cap)" in spotkeeper("budget", "--run", run.run_id).stdout
    shown = spotkeeper("budget")
    assert row(shown, environment_holder(this_month()), "on-demand") == ["$50.00", "$9.45", "$0.00", "$40.55"]
    assert row(shown, team_holder("research", this_month()), "total")[1] == "$9.45"
    (stored,) = json.loads(spotkeeper("budget", "--run", run.run_id, "--json").stdout)
    assert stored["fallback"] == {"limit": 20_000_000, "available": 10_550_000, "reserved": 9_450_000, "spent": 0}


def test_the_cap_of_a_run_is_raised_and_on_demand_then_allowed(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.RUNNING, job_id="job-1"))
    assert not shortage.allows_fallback(environment.run_of("digits-7fq2"), environment.ports)

    result = spotkeeper("budget", "set", "--run", "digits-7fq2", "--fallback-cap", "40")

    assert result.exit_code == 0
    assert row(result, "run/digits-7fq2", "on-demand") == ["$40.00", "$0.00", "$0.00", "$40.00"]
    assert row(result, "run/digits-7fq2", "total")[0] == "unlimited"
    assert "digits-7fq2 is running" in result.stderr
    assert shortage.allows_fallback(environment.run_of("digits-7fq2"), environment.ports)


def test_team_environment_and_sweep_are_set_for_this_month_or_for_good(environment: Connection) -> None:
    for words, holder in (
        (["--team", "research"], team_holder("research", this_month())),
        (["--this-environment"], environment_holder(this_month())),
        (["--sweep", "lr"], sweep_holder("lr")),
    ):
        result = spotkeeper("budget", "set", *words, "--fallback-cap", "7.50")

        assert row(result, holder, "on-demand") == ["$7.50", "$0.00", "$0.00", "$7.50"]
        assert "`spotkeeper resume RUN`" in result.stderr
        budget = environment.budgets.get(holder)
        assert budget is not None
        assert budget.fallback == Cap.of(7_500_000)
    assert row(spotkeeper("budget", "--sweep", "lr"), sweep_holder("lr"), "on-demand")[0] == "$7.50"


def test_a_cap_below_what_is_reserved_leaves_less_than_nothing_and_takes_nothing_back(environment: Connection) -> None:
    run = on_demand_run(environment)

    result = spotkeeper("budget", "set", "--run", run.run_id, "--fallback-cap", "5")

    assert row(result, run_holder(run.run_id), "on-demand") == ["$5.00", "$9.45", "$0.00", "-$4.45"]


def test_unlimited_takes_a_cap_away(environment: Connection) -> None:
    result = spotkeeper("budget", "set", "--this-environment", "--fallback-cap", "unlimited")

    assert row(result, environment_holder(this_month()), "on-demand")[0] == "unlimited"
    budget = environment.budgets.get(environment_holder(this_month()))
    assert budget is not None
    assert budget.fallback.limit == UNLIMITED_MICROUSD


class OvertakenOnce(DynamoDBBudgets):
    """Somebody else sets the limits between the first read and its write."""

    is_overtaken = False

    def set_limits(self, budget: Budget, *, fallback: int, total: int, is_deployed: bool = False) -> Budget:
        if not self.is_overtaken:
            self.is_overtaken = True
            super().set_limits(budget, fallback=budget.fallback.limit, total=9_000_000)
        return super().set_limits(budget, fallback=fallback, total=total, is_deployed=is_deployed)


def test_setting_one_cap_keeps_the_other_that_somebody_set_at_the_same_moment(environment: Connection) -> None:
    overtaken = replace(environment, budgets=OvertakenOnce(boto3.client("dynamodb", region_name=REGION), TABLE))
    environment.ledger.create(new_run(total_cap_microusd=5_000_000))
    holder = budgets.run("digits-7fq2", overtaken, now=NOW)

    budget = budgets.set_caps(holder, overtaken, fallback="40", total=None)

    assert (budget.fallback.limit, budget.total.limit, budget.version) == (40_000_000, 9_000_000, 3)


def parked_for_money(environment: Connection) -> Run:
    """A run whose first hour its own total cap does not pay."""
    result = spotkeeper("submit", "--total-cap", "0.10", "--name", "poor", "--", "python", "train.py")
    told = "no job on spot, profile cpu yet: the run is parked: the total cap of run/"
    assert told in result.stderr
    assert "To let it go on: `spotkeeper budget set` with a higher cap, then `spotkeeper resume poor-" in result.stderr
    (run,) = environment.ledger.list_runs("open", 10)
    assert run.state is RunState.PARKED
    return run


def test_raising_the_cap_of_a_run_that_is_parked_for_money_lets_it_go_on(environment: Connection) -> None:
    run = parked_for_money(environment)

    result = spotkeeper("budget", "set", "--run", run.run_id, "--total-cap", "40")

    assert f"{run.run_id} goes on: it is submitted" in result.stderr
    after = environment.run_of(run.run_id)
    assert (after.state, after.submission) == (RunState.SUBMITTED, 2)
    (reservation,) = environment.budgets.reservations(run.run_id)
    assert reservation.submission == 2


def test_raising_it_by_too_little_says_what_is_still_missing(environment: Connection) -> None:
    run = parked_for_money(environment)

    result = spotkeeper("budget", "set", "--run", run.run_id, "--total-cap", "0.20")

    assert f"{run.run_id} is still parked: the total cap of run/{run.run_id} has $0.20 left of $0.20" in result.stderr


def test_a_run_that_is_parked_for_another_reason_is_not_resumed_but_told_how(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.PARKED, reason="no newer checkpoint"))

    result = spotkeeper("budget", "set", "--run", "digits-7fq2", "--fallback-cap", "40")

    assert "another reason (no newer checkpoint); `spotkeeper resume digits-7fq2` resumes it" in result.stderr
    assert environment.run_of("digits-7fq2").state is RunState.PARKED


def test_a_run_that_waits_is_told_until_when(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.WAITING, wait_until=NOW, reason="no spot capacity"))

    result = spotkeeper("budget", "set", "--run", "digits-7fq2", "--fallback-cap", "40")

    assert f"digits-7fq2 waits until {NOW}, and is then decided anew" in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["budget", "set", "--fallback-cap", "5"], "whose caps? give one of --run RUN, --team TEAM, --sweep NAME"),
        (["budget", "set", "--team", "research"], "nothing to set: give --fallback-cap, --total-cap or both"),
        (["budget", "set", "--team", "sales", "--fallback-cap", "5"], "--team must be one of research in environment"),
        (["budget", "set", "--sweep", "S!", "--fallback-cap", "5"], "--sweep must be 1 to 40 of a-z"),
        (["budget", "set", "--team", "research", "--fallback-cap", "10,00"], "--fallback-cap must be US dollars as"),
        (["budget", "set", "--team", "research", "--fallback-cap", "1e308"], "got '1e308'"),
        (["budget", "set", "--team", "research", "--fallback-cap", "nan"], "got 'nan'"),
        (["budget", "set", "--team", "research", "--fallback-cap=-5"], "got '-5'"),
        (["budget", "set", "--team", "research", "--total-cap", "5"], "--total-cap cannot be kept for team/research"),
        (["budget", "--team", "research", "--run", "r"], "one holder at a time"),
        (["budget", "--team", "research", "set", "--fallback-cap", "5"], "options of a holder come after 'set'"),
        (["fallback", "off"], "--reason must say why"),
        (["submit", "--fallback-cap", "10,00", "--", "python", "train.py"], "--fallback-cap must be US dollars"),
        (
            ["submit", "--mode", "fast", "--", "python", "train.py"],
            "--mode must be one of budget-first, dead",
        ),
    ],
)
def test_what_the_user_mistyped_ends_with_one_sentence_and_exit_code_2(words: list[str], sentence: str) -> None:
    result = spotkeeper(*words)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("spotkeeper: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["budget", "--run", "nobody-1"], "there is no run 'nobody-1'"),
        (["budget", "set", "--run", "nobody-1", "--fallback-cap", "5"], "there is no run 'nobody-1'"),
        (
            ["budget", "--sweep", "lr"],
            "there is no sweep 'lr': no run was submitted with --sweep lr, or they are long over",
        ),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence_and_exit_code_1(words: list[str], sentence: str) -> None:
    result = spotkeeper(*words)

    assert result.exit_code == 1
    assert sentence in result.stderr


def test_a_total_cap_is_set_where_spot_is_leased(environment: Connection) -> None:
    with_caps(environment, Caps(fallback_usd="50", total_usd="1000"))

    result = spotkeeper("budget", "set", "--team", "research", "--total-cap", "300")

    assert row(result, team_holder("research", this_month()), "total")[0] == "$300.00"
    assert "spot is" not in spotkeeper("budget").stdout


def test_switching_on_demand_off_reserves_nothing_more_and_names_no_run_without_anything_to_stop(
    environment: Connection,
) -> None:
    """What does run there, moto does not show: it ends a job at once. tests/story/test_on_demand.py does."""
    run = on_demand_run(environment)
    assert run.job_id is not None
    elsewhere = new_run("on-spot", state=RunState.RUNNING, job_id="job-1", fallback_cap_microusd=20_000_000)
    environment.ledger.create(elsewhere)

    result = spotkeeper("fallback", "off", "--reason", "the month is over budget")

    assert result.exit_code == 0
    assert "on-demand is off: the month is over budget" in result.stdout
    assert run.run_id not in result.stdout
    assert "on-spot" not in result.stdout
    assert "the sweeper stops within five minutes" in result.stderr
    parked = environment.ledger.advance(elsewhere, state=RunState.WAITING)
    held = begin.on_demand(parked, ports=environment.ports, now=NOW)
    assert getattr(held, "reason", "") == "on-demand is switched off: the month is over budget"
    assert "on-demand is switched off: the month is over budget" in spotkeeper("budget").stderr


def test_switched_on_again_on_demand_is_reserved_as_before(environment: Connection) -> None:
    spotkeeper("fallback", "off", "--reason", "a test")

    result = spotkeeper("fallback", "on")

    assert result.stdout == "on-demand is on, within the caps\n"
    assert on_demand_run(environment).market == "on-demand"
    assert "switched off" not in spotkeeper("budget").stderr


@pytest.mark.usefixtures("environment")
def test_switching_off_what_is_off_keeps_the_first_reason() -> None:
    spotkeeper("fallback", "off", "--reason", "first")

    assert "on-demand is off: first" in spotkeeper("fallback", "off", "--reason", "second").stdout


def test_submit_shows_the_caps_in_a_dry_run_and_records_them(environment: Connection) -> None:
    caps = ("--fallback-cap", "20", "--total-cap", "100", "--sweep", "lr", "--sweep-fallback-cap", "50")

    dry = spotkeeper("submit", *caps, "--dry-run", "--", "python", "train.py")
    spotkeeper("submit", *caps, "--", "python", "train.py")

    assert "caps: on-demand $20.00, total $100.00, budget-first; sweep lr: on-demand $50.00, total unl" in dry.stderr
    json.loads(dry.stdout)
    (run,) = environment.ledger.list_runs("open", 10)
    assert (run.fallback_cap_microusd, run.total_cap_microusd, run.sweep) == (20_000_000, 100_000_000, "lr")
    (lease,) = environment.budgets.reservations(run.run_id)
    assert lease.market.value == "spot"
    assert row(spotkeeper("budget", "--sweep", "lr"), "sweep/lr", "total")[1] == "$5.10"


@pytest.mark.usefixtures("environment")
def test_a_later_run_with_other_caps_for_its_sweep_is_warned_that_the_first_ones_stay() -> None:
    def warned(cap: str) -> bool:
        words = ("--fallback-cap", "20", "--sweep", "lr", "--sweep-fallback-cap", cap)
        result = spotkeeper("submit", *words, "--dry-run", "--", "python", "-c", "1")
        return "warning: sweep lr has caps already, and keeps them" in result.stderr

    assert not warned("50")
    spotkeeper("budget", "set", "--sweep", "lr", "--fallback-cap", "50")
    assert not warned("50")
    assert warned("60")


def test_submit_warns_of_a_fallback_cap_above_what_the_month_allows(environment: Connection) -> None:
    limit = environment.ports.terms.limits.fallback_microusd
    assert limit is not None

    def warned(usd: int) -> bool:
        result = spotkeeper("submit", "--fallback-cap", str(usd), "--dry-run", "--", "python", "-c", "1")
        assert result.exit_code == 0
        return "is more than environment dev may spend on on-demand in a month" in result.stderr

    assert warned(limit // 1_000_000 + 1)
    assert not warned(limit // 1_000_000)


@pytest.mark.usefixtures("environment")
def test_submit_warns_where_the_price_of_on_demand_is_not_known() -> None:
    result = spotkeeper(
        "submit", "--profile", "gpu-24gb", "--fallback-cap", "20", "--dry-run", "--", "python", "-c", "1"
    )

    assert result.exit_code == 0
    assert "warning: the run will not fall back to on-demand: of profile 'gpu-24gb' the price of m6i" in result.stderr


def test_status_shows_market_standby_and_money_of_a_run(environment: Connection) -> None:
    run = on_demand_run(environment)
    environment.ledger.advance(run, standby_submission=3, standby_ready_at=NOW)

    told = spotkeeper("status", run.run_id).stdout

    assert "cpu, on-demand, team research" in told
    assert re.search(rf"standby +submission 3 on spot has had a machine since {re.escape(NOW)}", told)
    assert re.search(r"on-demand cost +\$0.00 spent, \$9.45 reserved, cap \$20.00", told)
    assert re.search(
        r"total cost +\$0.00 spent, \$9.45 reserved, cap unlimited; spot is not counted \(no total cap\)", told
    )
    budget = json.loads(spotkeeper("status", run.run_id, "--json").stdout)["budget"]
    assert budget["fallback"]["reserved"] == 9_450_000


def test_status_shows_the_caps_of_a_run_that_has_reserved_nothing(environment: Connection) -> None:
    environment.ledger.create(new_run(fallback_cap_microusd=20_000_000))

    assert re.search(
        r"on-demand cost +\$0.00 spent, \$0.00 reserved, cap \$20.00", spotkeeper("status", "digits-7fq2").stdout
    )


def test_what_was_spent_is_shown_once_it_is_settled(environment: Connection) -> None:
    run = on_demand_run(environment)
    (reservation,) = environment.budgets.reservations(run.run_id)
    environment.budgets.settle(reservation, 1_500_000, at=NOW)

    shown = spotkeeper("budget", "--run", run.run_id)

    assert row(shown, run_holder(run.run_id), "on-demand") == ["$20.00", "$0.00", "$1.50", "$18.50"]
