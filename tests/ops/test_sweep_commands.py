"""`spotkeeper sweep` as a user types it, against an environment in moto."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from typer.testing import CliRunner

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import array_job_name, member_id
from spotkeeper.control.aws.batch import AWSBatch
from spotkeeper.control.run import Run
from spotkeeper.ops import sweep_submission
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.plan import Request
from spotkeeper.ops.spending import Spending
from spotkeeper.ops.submission import prepare
from spotkeeper.ops.sweep_plan import SweepPlan, cross_product, plan_sweep
from tests.control.fakes import NOW

GRID = ("--param", "LR=0.1,0.01", "--param", "SEED=0,1,2")
PROGRAM = ("--", "python", "train.py")


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def members(environment: Connection, name: str = "lr") -> tuple[Run, ...]:
    record = environment.sweeps.get(name)
    assert record is not None
    return tuple(environment.sweeps.members(record))


def arrays(environment: Connection) -> list[Any]:
    queue = environment.descriptor.profiles["cpu"].spot_queue
    found = [
        job
        for status in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
        for job in environment.batch_client.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]
        if job["jobName"] == array_job_name("lr") and ":" not in job["jobId"]
    ]
    return environment.batch_client.describe_jobs(jobs=[job["jobId"] for job in found])["jobs"] if found else []


def test_submit_records_every_combination_and_sends_one_array(environment: Connection) -> None:
    result = spotkeeper("sweep", "submit", "lr", *GRID, "--env", "MODEL=small", *PROGRAM)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "lr\n"
    (array,) = arrays(environment)
    assert f"6 members, array job {array['jobId']}; watch: `spotkeeper sweep status lr`\n" in result.stderr
    assert array["jobName"] == "lr-array"
    told = {pair["name"]: pair["value"] for pair in array["container"]["environment"]}
    assert (told["SPOTKEEPER_SWEEP"], told["MODEL"]) == ("lr", "small")
    assert not {"LR", "SEED", "SPOTKEEPER_RUN_ID"} & told.keys()
    found = members(environment)
    assert [run.run_id for run in found] == [member_id("lr", index) for index in range(6)]
    assert [(run.variables["LR"], run.variables["SEED"]) for run in found] == [
        (rate, seed) for rate in ("0.1", "0.01") for seed in ("0", "1", "2")
    ]
    assert {(run.state, run.sweep, run.variables["MODEL"]) for run in found} == {(RunState.SUBMITTING, "lr", "small")}


@pytest.mark.parametrize(
    "words",
    [
        ("status", "lr"),
        ("logs", "lr"),
        ("cancel", "lr"),
        ("pause", "lr"),
        ("resume", "lr"),
        ("priority", "lr", "5"),
        ("budget", "--run", "lr"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("environment")
def test_a_sweep_that_is_taken_for_a_run_is_called_a_sweep(words: tuple[str, ...]) -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)

    result = spotkeeper("-e", "dev", *words)

    assert result.exit_code == 1
    assert result.stderr.startswith("spotkeeper: 'lr' is a sweep: `spotkeeper --environment dev sweep status lr` shows")


@pytest.mark.usefixtures("environment")
def test_a_sweep_without_a_budget_is_told_from_one_that_nobody_submitted() -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)

    told = [spotkeeper("budget", "--sweep", name) for name in ("lr", "rl")]

    assert [result.exit_code for result in told] == [1, 1]
    assert "sweep 'lr' has no budget yet: the first of its members that reserves money makes it" in told[0].stderr
    assert "there is no sweep 'rl': no run was submitted with --sweep rl, or they are long over" in told[1].stderr


def test_runs_that_were_each_submitted_with_a_sweep_are_shown_and_cancelled_together(environment: Connection) -> None:
    for name, sweep in (("one", "seeds"), ("two", "seeds"), ("three", "others")):
        spotkeeper("submit", "--name", name, "--sweep", sweep, *PROGRAM)
    ids = {run.run_id.partition("-")[0]: run.run_id for run in environment.ledger.list_runs("open", 10)}

    shown = spotkeeper("sweep", "status", "seeds").stdout
    assert shown.startswith("sweep seeds: 2 members: 2 submitted")
    assert (ids["one"] in shown, ids["two"] in shown, ids["three"] in shown) == (True, True, False)
    assert re.search(r"^sweep +seeds *$", spotkeeper("status", ids["one"]).stdout, re.MULTILINE)
    assert "sweep 'seeds' has no budget yet" in spotkeeper("budget", "--sweep", "seeds").stderr
    assert "'seeds' is a sweep" in spotkeeper("status", "seeds").stderr

    assert "2 members are cancelled, or stopping; 0 had ended" in spotkeeper("sweep", "cancel", "seeds").stdout
    assert environment.run_of(ids["two"]).cancel_requested_at is not None
    assert environment.run_of(ids["three"]).cancel_requested_at is None


@pytest.mark.usefixtures("environment")
def test_a_run_with_other_caps_for_its_sweep_is_warned_before_any_money_is_reserved() -> None:
    words = ("--sweep", "seeds", "--fallback-cap", "9", "--sweep-fallback-cap")
    first = spotkeeper("submit", "--name", "one", *words, "11", *PROGRAM)
    other = spotkeeper("submit", "--name", "two", *words, "12", "--dry-run", *PROGRAM)
    same = spotkeeper("submit", "--name", "two", *words, "11", "--dry-run", *PROGRAM)

    assert "warning" not in first.stderr + same.stderr
    assert f"warning: run {first.stdout.strip()} gave sweep seeds other caps, and those of whichever" in other.stderr


def test_a_dry_run_prints_the_array_request_and_the_first_members_and_changes_nothing(environment: Connection) -> None:
    result = spotkeeper("sweep", "submit", "lr", *GRID, "--dry-run", *PROGRAM)

    request = json.loads(result.stdout)
    assert (request["jobName"], request["arrayProperties"]) == ("lr-array", {"size": 6})
    assert "lr-0001: LR=0.1 SEED=1" in result.stderr
    assert "and 1 more members" in result.stderr
    assert environment.sweeps.get("lr") is None
    assert arrays(environment) == []


def test_members_of_a_file_are_combined_with_the_parameters(environment: Connection, tmp_path: Path) -> None:
    file = tmp_path / "members.jsonl"
    file.write_text('{"LR": 0.1, "WARM": true}\n\n{"LR": "1e-3", "NAME": "a,b"}\n')

    assert spotkeeper("sweep", "submit", "lr", "--members", str(file), "--param", "SEED=0,1", *PROGRAM).exit_code == 0

    own = [{name: run.variables[name] for name in ("LR", "WARM", "NAME", "SEED") if name in run.variables}
           for run in members(environment)]  # fmt: skip
    assert own == [
        {"LR": "0.1", "WARM": "true", "SEED": "0"},
        {"LR": "0.1", "WARM": "true", "SEED": "1"},
        {"LR": "1e-3", "NAME": "a,b", "SEED": "0"},
        {"LR": "1e-3", "NAME": "a,b", "SEED": "1"},
    ]


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--param", "LR=0.1"], "a sweep has 2 to 10,000 members, and these parameters make 1: use `spotkeeper"),
        (["--param", f"A={','.join(map(str, range(101)))}", "--param", f"B={','.join(map(str, range(100)))}"],
         "these parameters make 10,100: divide it"),
        (["--param", "LR=0.1,0.1"], "--param LR names a value twice"),
        (["--param", "LR=0.1,"], "--param LR has an empty value"),
        (["--param", "LR=1,2", "--param", "LR=3,4"], "--param LR is given twice"),
        (["--param", "L-R=1,2"], "a name must be letters, digits and _"),
        (["--param", "SPOTKEEPER_RUN_ID=a,b"], "are reserved; got 'SPOTKEEPER_RUN_ID'"),
        (["--param", "LR=1,2", "--env", "LR=3"], "LR is a parameter and given with --env: choose one"),
        (["--param", "API_TOKEN=0123456789abcdef0123,1123456789abcdef0123"], "looks like a secret"),
        (["--param", "LR=1,2", "--sweep-fallback-cap", "5"], "the run's own --fallback-cap is $0"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_sweep_is_refused_with_the_rule(words: list[str], told: str) -> None:
    result = spotkeeper("sweep", "submit", "lr", *words, *PROGRAM)

    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "members.jsonl:1 is no JSON"),
        ('{"A": "1"}\n["B"]', "members.jsonl:2 must be a JSON object"),
        ('{"A": {"B": 1}}', "A must be text, a number, true or false"),
        ("\n", "holds no member"),
        ('{"A": 1}\n{"A": 2}\n{"A": 1}', "members 0 and 2 have the same parameters"),
    ],
)
def test_a_file_of_members_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "members.jsonl"
    file.write_text(text)

    result = spotkeeper("sweep", "submit", "lr", "--members", str(file), *PROGRAM)

    assert result.exit_code == 2
    assert told in result.stderr


def test_the_same_command_again_submits_nothing_twice_and_another_under_the_name_is_refused(
    environment: Connection,
) -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)

    again = spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)
    other = spotkeeper("sweep", "submit", "lr", "--param", "LR=0.1,0.2", *PROGRAM)

    assert again.exit_code == 0, again.stderr
    assert len(arrays(environment)) == 1
    assert other.exit_code == 1
    assert "there is a sweep 'lr' already" in other.stderr
    assert len(members(environment)) == 6


def plan(environment: Connection, size: int = 250) -> SweepPlan:
    request = Request(command=("python", "-c", "pass"), name="lr", spending=Spending.of(sweep="lr"))
    base = prepare(request, connection=environment, source_directory=None, suffix="base", now=NOW)
    return plan_sweep(
        base, request, name="lr", members=cross_product({"SEED": [str(seed) for seed in range(size)]}, [])
    )


def test_a_submission_that_was_cut_off_between_members_is_gone_on_with(environment: Connection) -> None:
    def cut_off(recorded: int) -> None:
        if recorded == 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep_submission.submit(
            plan(environment), connection=environment, now=NOW, pause=lambda _: None, progress=cut_off
        )
    assert (len(members(environment)), arrays(environment)) == (200, [])

    assert sweep_submission.submit(plan(environment), connection=environment, now=NOW, pause=lambda _: None)

    assert len(members(environment)) == 250
    (array,) = arrays(environment)
    assert array["jobName"] == "lr-array"


def test_a_throttled_array_is_sent_again_and_one_without_a_reply_is_only_looked_for(environment: Connection) -> None:
    client = boto3.client("batch", region_name="us-east-1")
    submits = boto3.client("batch", region_name="us-east-1")
    connection = replace(environment, batch=AWSBatch(client, submits))
    paused: list[float] = []
    with Stubber(submits) as stubbed, Stubber(client) as reads:
        stubbed.add_client_error("submit_job", "TooManyRequestsException", http_status_code=429)
        stubbed.add_client_error("submit_job", "ServerException", http_status_code=500)
        for _ in range(4):
            reads.add_response("list_jobs", {"jobSummaryList": []}, {"jobQueue": ANY, "filters": ANY})

        with pytest.raises(OperationError, match="did not confirm its array job lr-array"):
            sweep_submission.submit(plan(environment, 2), connection=connection, now=NOW, pause=paused.append)

        reads.assert_no_pending_responses()
        stubbed.assert_no_pending_responses()
    assert paused == [1, 2, 4, 8]


def test_status_counts_states_and_shows_members_with_their_parameters(environment: Connection) -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)
    first = members(environment)[0]
    environment.ledger.advance(first, state=RunState.PARKED, reason="no newer checkpoint")

    result = spotkeeper("sweep", "status", "lr")
    parked = spotkeeper("sweep", "status", "lr", "--state", "parked", "--json")

    assert "sweep lr: 6 members: 5 submitting, 1 parked" in result.stdout
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines()[1:]}
    assert lines["MEMBER"][:5] == ["MEMBER", "LR", "SEED", "STATE", "ATTEMPTS"]
    assert lines["lr-0000"] == ["lr-0000", "0.1", "0", "parked", "0", "no", "newer", "checkpoint"]
    told = json.loads(parked.stdout)
    assert told["counts"] == {"submitting": 5, "parked": 1}
    assert [member["run_id"] for member in told["members"]] == ["lr-0000"]


def test_status_shows_behind_the_state_of_a_member_what_was_asked_for(environment: Connection) -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)
    first, second, third, *_ = members(environment)
    environment.ledger.advance(first, state=RunState.RUNNING, cancel_requested_at=NOW)
    environment.ledger.advance(second, state=RunState.RUNNING, pause_requested_at=NOW)
    environment.ledger.advance(third, state=RunState.RUNNING, waits_since=NOW)

    shown = spotkeeper("sweep", "status", "lr").stdout

    states = {line.split()[0]: re.split("  +", line)[3] for line in shown.splitlines()[2:]}
    assert states["lr-0000"] == "running (cancelling)"
    assert states["lr-0001"] == "running (pausing)"
    assert states["lr-0002"] == "interrupted"
    # As `--state` takes it.
    assert "sweep lr: 6 members: 3 submitting, 3 running" in shown


def test_cancel_ends_every_member_that_has_not_ended(environment: Connection) -> None:
    spotkeeper("sweep", "submit", "lr", *GRID, *PROGRAM)
    first = members(environment)[0]
    environment.ledger.advance(first, state=RunState.SUCCEEDED, closed_at=NOW)

    result = spotkeeper("sweep", "cancel", "lr")

    assert "5 members are cancelled, or stopping; 1 had ended" in result.stdout
    found = members(environment)
    assert found[0].state is RunState.SUCCEEDED
    assert all(run.cancel_requested_at is not None for run in found[1:])


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", ["status", "cancel"])
def test_a_sweep_that_is_not_there_is_told_in_one_sentence(command: str) -> None:
    result = spotkeeper("sweep", command, "nosuch")

    assert result.exit_code == 1
    assert "there is no sweep 'nosuch'" in result.stderr
