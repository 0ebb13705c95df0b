"""The commands as a user types them, against an environment in moto."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner

from spotkeeper.contract.checkpoint_layout import manifest_key, source_key
from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.names import descriptor_parameter
from spotkeeper.control.others import OthersJob
from spotkeeper.control.run import Attempt, HistoryEvent, Run
from spotkeeper.ops import log_stream
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.source import pack
from tests.control.fakes import NOW, new_run
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import BUCKET, DIGEST, LOG_GROUP, SECRET, descriptor, with_clients
from tests.ops.intercepted import intercepted


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    # A defect shows as an exception; a refusal must not.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def only_run(environment: Connection) -> Run:
    (run,) = environment.ledger.list_runs("open", 10)
    return run


def jobs(environment: Connection) -> list[Any]:
    queue = environment.descriptor.profiles["cpu"].spot_queue
    found = [
        summary
        for status in ("SUBMITTED", "RUNNABLE", "RUNNING", "SUCCEEDED", "FAILED")
        for summary in environment.batch_client.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]
    ]
    return environment.batch_client.describe_jobs(jobs=[job["jobId"] for job in found])["jobs"] if found else []


def test_submit_uploads_records_and_submits_and_prints_the_run_id_alone(environment: Connection) -> None:
    result = spotkeeper("submit", "--env", "MODEL=small", "--", "python", "train.py", "--epochs", "3")

    assert result.exit_code == 0
    run = only_run(environment)
    assert result.stdout == f"{run.run_id}\n"
    assert f"spotkeeper logs --follow {run.run_id}" in result.stderr
    assert re.fullmatch(r"train-[0-9a-f]{6}", run.run_id)
    assert (run.state, run.command) == (RunState.SUBMITTED, ("python", "train.py", "--epochs", "3"))
    archive = environment.s3.get_object(Bucket=BUCKET, Key=source_key(pack(Path.cwd()).sha256))["Body"].read()
    assert archive == pack(Path.cwd()).archive
    (job,) = jobs(environment)
    assert (job["jobId"], job["jobName"]) == (run.job_id, f"{run.run_id}-1")
    told = {pair["name"]: pair["value"] for pair in job["container"]["environment"]}
    assert told["SPOTKEEPER_RUN_ID"] == run.run_id
    assert told["MODEL"] == "small"
    assert job["container"]["command"] == ["spotkeeper-exec", "--", "python", "train.py", "--epochs", "3"]


def told(result: Any) -> dict[str, str]:
    pairs = json.loads(result.stdout)["containerOverrides"]["environment"]
    return {pair["name"]: pair["value"] for pair in pairs}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "command",
    [
        "python train.py -c config.yaml",
        "python train.py -m resnet",
        "python -W ignore train.py",
        "python -m train",
        "torchrun train.py",
        "bash -c train",
        "nvidia-smi",
    ],
)
def test_in_doubt_the_current_folder_is_sent_and_said(command: str) -> None:
    result = spotkeeper("submit", "--dry-run", "--", *command.split())

    assert told(result)["SPOTKEEPER_SOURCE_SHA256"] == pack(Path.cwd()).sha256
    assert f"source: the current folder {Path.cwd()} (--source for another, --no-source for none), 1 f" in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "words",
    [["--", "python", "-c", "1"], ["--", "python", "-m", "json.tool"], ["--no-source", "--", "nvidia-smi"]],
)
def test_no_folder_is_sent_where_none_is_needed(words: list[str]) -> None:
    result = spotkeeper("submit", "--dry-run", *words)

    assert "SPOTKEEPER_SOURCE_SHA256" not in told(result)
    assert "source:" not in result.stderr


@pytest.mark.usefixtures("environment")
def test_with_an_image_the_folder_is_sent_if_the_program_is_in_it() -> None:
    def sends(*command: str) -> bool:
        return "SPOTKEEPER_SOURCE_URI" in told(spotkeeper("submit", "--dry-run", "--image", DIGEST, "--", *command))

    assert sends("python", "train.py")
    assert sends("python", "-m", "train")
    assert not sends("python", "other.py")
    assert not sends("serve")


@pytest.mark.usefixtures("environment")
def test_the_home_folder_is_not_sent_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))

    result = spotkeeper("submit", "--dry-run", "--", "nvidia-smi")

    assert result.exit_code == 2
    assert "is too much to send: give the program's with --source" in result.stderr


@pytest.mark.usefixtures("environment")
def test_what_is_left_out_of_the_source_is_said() -> None:
    for number in range(9):
        Path(f"k{number}.pem").touch()

    result = spotkeeper("submit", "--dry-run", "--", "python", "train.py")

    assert "left out: k0.pem, k1.pem" in result.stderr
    assert "k7.pem and 1 more (!NAME in .spotkeeperignore sends it anyway)" in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("s3://datasets/public/mnist", "MNIST"),
        ("s3://datasets/public/tiny-shakespeare/", "TINY_SHAKESPEARE"),
        ("s3://datasets/public/day=1/", "DAY_1"),
        ("s3://datasets/public/2026", "DATA"),
        ("mine=s3://datasets/public/mnist", "MINE"),
    ],
)
def test_data_without_a_name_is_called_after_its_last_part(given: str, name: str) -> None:
    variables = told(spotkeeper("submit", "--dry-run", "--data", given, "--", "python", "train.py"))

    assert variables[f"SPOTKEEPER_DATA_{name}"] == given.removeprefix("mine=")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("submit", "--data", "digits", "--", "true"), "--data must be [NAME=]s3://BUCKET/FOLDER, got 'digits'"),
        (("submit", "--nodes", "two", "--", "true"), "got 'two'"),
        (("priority", "digits-7fq2", "high"), "got 'high'"),
    ],
)
def test_a_value_of_the_wrong_form_is_named(words: tuple[str, ...], told: str) -> None:
    result = spotkeeper(*words)

    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_an_unchanged_folder_is_uploaded_once(environment: Connection) -> None:
    environment.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        assert spotkeeper("submit", "--", "python", "train.py").exit_code == 0

    assert len(environment.s3.list_object_versions(Bucket=BUCKET)["Versions"]) == 1
    assert len(environment.ledger.list_runs("open", 10)) == 2


def test_a_dry_run_prints_the_exact_request_and_writes_nothing(environment: Connection) -> None:
    result = spotkeeper("submit", "--dry-run", "--name", "digits", "--", "python", "train.py")

    assert result.exit_code == 0
    request = json.loads(result.stdout)
    assert re.fullmatch(r"digits-[0-9a-f]{6}-1", request["jobName"])
    assert request["jobQueue"] == environment.descriptor.profiles["cpu"].spot_queue
    assert request["containerOverrides"]["command"] == ["spotkeeper-exec", "--", "python", "train.py"]
    assert "would upload" in result.stderr
    assert environment.ledger.list_runs("open", 10) == ()
    assert "Contents" not in environment.s3.list_objects_v2(Bucket=BUCKET)
    assert jobs(environment) == []


def test_a_dry_run_with_an_image_shows_the_definition_and_registers_nothing(environment: Connection) -> None:
    result = spotkeeper("submit", "--dry-run", "--image", DIGEST, "--secret", f"KEY={SECRET}", "--", "true")

    request = json.loads(result.stdout)
    assert re.fullmatch(r"cpu-[0-9a-f]{16}", request["jobDefinition"])
    assert f'"image": "{DIGEST}"' in result.stderr
    definitions = environment.batch_client.describe_job_definitions()["jobDefinitions"]
    assert [definition["jobDefinitionName"] for definition in definitions] == ["cpu"]


def test_an_image_registers_one_definition_that_later_runs_use_again(environment: Connection) -> None:
    for _ in range(2):
        assert spotkeeper("submit", "--image", DIGEST, "--secret", f"KEY={SECRET}", "--", "true").exit_code == 0

    definitions = environment.batch_client.describe_job_definitions()["jobDefinitions"]
    (derived,) = [item for item in definitions if item["jobDefinitionName"] != "cpu"]
    assert derived["containerProperties"]["image"] == DIGEST
    assert derived["containerProperties"]["secrets"] == [{"name": "KEY", "valueFrom": SECRET}]
    assert derived["containerProperties"]["user"] == "1000"
    assert derived["retryStrategy"]["attempts"] == 10
    runs = environment.ledger.list_runs("open", 10)
    assert {run.job_definition for run in runs} == {derived["jobDefinitionArn"]}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["submit", "--", "python", "trein.py"], "names 'trein.py', which is not in the source folder"),
        (["submit", "--no-source", "--", "python", "train.py"], "names 'train.py', but no source is sent"),
        (["submit", "--no-source", "--source", ".", "--", "true"], "--source and --no-source are given: choose one"),
        (
            ["submit", "--secret", "KEY=TOPSECRETVALUE", "--no-source", "--", "true"],
            "the 14 characters after = are none",
        ),
        (["submit", "--source", "/nowhere", "--", "python", "train.py"], "--source must be a folder, got '/nowhere'"),
        (["submit", "--max-lost", "15", "--", "true"], "--max-lost must be a number with a unit"),
        (["submit", "--max-lost", "2h", "--", "true"], "--max-lost must be 1s to 1h, got '2h'"),
        (["submit", "--time-limit", "30s", "--", "true"], "--time-limit must be 1m to"),
        (["submit", "--env", "TOPSECRETVALUE", "--", "true"], "--env must be NAME=VALUE, got 14 characters"),
        (["submit", "--env", "A=1", "--env", "A=2", "--", "true"], "--env A is given twice"),
        (["submit", "--profile", "tpu", "--", "true"], "--profile must be one of cpu, gpu-24gb"),
        (["-e", "Dev!", "status"], "environment must be 1 to 40 of a-z"),
    ],
)
def test_what_the_user_mistyped_ends_with_one_sentence_and_exit_code_2(words: list[str], sentence: str) -> None:
    result = spotkeeper(*words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("spotkeeper: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert "TOPSECRETVALUE" not in result.stderr


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-e", "prod", "status"], "there is no environment 'prod' in region us-east-1 of this AWS account: deploy it"),
        (["--local", "status"], "no emulation is running: start one: `"),
        (["status", "nobody-1"], "there is no run 'nobody-1'; `spotkeeper status` lists the runs"),
        (["logs", "nobody-1"], "there is no run 'nobody-1'"),
        (["cancel", "nobody-1"], "there is no run 'nobody-1'"),
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence_and_exit_code_1(words: list[str], sentence: str) -> None:
    result = spotkeeper(*words)

    assert result.exit_code == 1
    assert result.stderr.startswith("spotkeeper: ")
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr


def test_without_credentials_the_sentence_says_how_to_get_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)

    result = spotkeeper("--region", "us-east-1", "status")

    assert result.exit_code == 1
    assert result.stderr == (
        "spotkeeper: no AWS credentials found: sign in (`aws sso login`), or set AWS_PROFILE; --local needs none\n"
    )


@pytest.mark.parametrize("target", ["diff", "deploy", "destroy", "image"])
def test_make_says_the_same_before_the_cdk_says_it_at_length(target: str, tmp_path: Path) -> None:
    nobody = {
        "HOME": str(tmp_path),
        "PATH": os.defpath,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    venv = f"BIN={Path(sys.executable).parent}"

    refused = subprocess.run(
        ["make", target, venv, "--assume-old=.venv/.ready"],
        cwd=Path(__file__).parents[2], env=nobody, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip

    assert refused.returncode != 0
    assert refused.stdout == ""
    said, *from_make = refused.stderr.splitlines()
    assert said == "no AWS credentials found: sign in (`aws sso login`), or set AWS_PROFILE"
    assert [line for line in from_make if not line.startswith("make")] == []


@pytest.mark.usefixtures("environment")
def test_the_region_is_that_of_the_option_else_of_aws_region_else_of_what_boto3_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def asked(*words: str) -> str:
        return str(spotkeeper(*words, "-e", "prod", "status").stderr).partition(" in region ")[2].partition(" ")[0]

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert asked() == "eu-north-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert asked() == "eu-west-1"
    assert asked("--region", "eu-west-3") == "eu-west-3"


@pytest.mark.usefixtures("environment")
def test_a_hint_leaves_out_what_the_shell_says_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("SPOTKEEPER_ENV", "dev")

    assert "watch: `spotkeeper logs --follow " in spotkeeper("submit", "--", "python", "train.py").stderr


@pytest.mark.usefixtures("environment")
def test_an_emulation_that_is_gone_is_named_with_its_address_and_how_to_start_one(tmp_path: Path) -> None:
    file = tmp_path / "state" / "spotkeeper" / "local.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert "is not what an emulation writes" in spotkeeper("--local", "status").stderr

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    file.write_text(json.dumps({"endpoint_url": address, "region": REGION, "environment": "dev", "pid": 1}))
    result = spotkeeper("--local", "status")

    assert result.exit_code == 1
    assert f"the emulation at {address} is gone, and its runs with it: start a new one: `" in result.stderr
    assert "python -m emulation up`" in result.stderr


@pytest.mark.usefixtures("environment")
def test_a_descriptor_of_another_version_names_both() -> None:
    stored = json.loads(descriptor().to_json())
    boto3.client("ssm", region_name=REGION).put_parameter(
        Name=descriptor_parameter("dev"), Value=json.dumps({**stored, "version": 2}), Type="String", Overwrite=True
    )

    result = spotkeeper("status")

    assert "descriptor has version 2; this spotkeeper reads version 1" in result.stderr


def with_history(environment: Connection) -> Run:
    ledger = environment.ledger
    run = ledger.create(
        new_run(state=RunState.RUNNING, epoch=2, job_id="job-1", created_at="2026-11-23T18:00:00+00:00")
    )
    first = Attempt(run_id=run.run_id, submission=1, attempt=1)
    ledger.record_attempt(
        first,
        started_at="2026-11-23T18:01:00+00:00",
        stopped_at="2026-11-23T18:31:05+00:00",
        cause="interrupted",
        epoch=1,
        instance_type="g5.xlarge",
        availability_zone="us-east-1a",
        market="spot",
        log_stream="cpu/1",
    )
    second = Attempt(run_id=run.run_id, submission=1, attempt=2)
    ledger.record_attempt(second, started_at="2026-11-23T18:40:00+00:00", log_stream="cpu/2")
    ledger.append_event(run.run_id, HistoryEvent(at=NOW, event_id="e", kind="queue-blocked", message="[red]CAPACITY"))
    for epoch, step in ((1, 900), (2, 1200), (2, 1100)):
        environment.s3.put_object(Bucket=BUCKET, Key=manifest_key(run.run_id, epoch, step), Body=b"{}")
    environment.s3.put_object(Bucket=BUCKET, Key=f"commit/{run.run_id}/stray.txt", Body=b"")
    return run


def test_status_of_a_run_shows_attempts_cause_pool_and_newest_checkpoint(environment: Connection) -> None:
    with_history(environment)

    result = spotkeeper("status", "digits-7fq2")

    assert result.exit_code == 0
    assert re.search(r"checkpoint +step 1200, fencing epoch 2, \d+s old", result.stdout)
    assert re.search(
        r"1\.1 +2026-11-23T18:01:00\+00:00 +30m05s +g5.xlarge/us-east-1a +spot +1 +interrupted", result.stdout
    )
    assert re.search(r"1\.2 .* running", result.stdout)
    assert "[red]CAPACITY" in result.stdout


def test_status_as_json_is_for_programs(environment: Connection) -> None:
    with_history(environment)

    one = json.loads(spotkeeper("status", "digits-7fq2", "--json").stdout)
    listed = json.loads(spotkeeper("status", "--json").stdout)

    assert (one["run"]["state"], one["checkpoint"]["step"]) == ("running", 1200)
    assert [attempt["cause"] for attempt in one["attempts"]] == ["interrupted", None]
    assert [run["run_id"] for run in listed] == ["digits-7fq2"]


def test_status_lists_open_runs_then_ended_ones_with_their_reason(environment: Connection) -> None:
    environment.ledger.create(new_run("open-1"))
    environment.ledger.create(new_run("ended-1", state=RunState.FAILED, reason="the program failed with exit code 3"))

    lines = spotkeeper("status").stdout.splitlines()

    assert [line.split()[:2] for line in lines[1:]] == [["open-1", "submitting"], ["ended-1", "failed"]]
    assert lines[2].endswith("the program failed with exit code 3")


def write_log(environment: Connection, stream: str, *messages: str) -> None:
    environment.logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    environment.logs.put_log_events(
        logGroupName=LOG_GROUP,
        logStreamName=stream,
        logEvents=[{"timestamp": 1_795_000_000_000 + number, "message": text} for number, text in enumerate(messages)],
    )


def test_logs_prints_every_attempts_lines_in_order_and_attempts_apart(environment: Connection) -> None:
    with_history(environment)
    write_log(environment, "cpu/1", "one", "two")
    write_log(environment, "cpu/2", "three")

    result = spotkeeper("logs", "digits-7fq2")

    assert result.stdout == "one\ntwo\nthree\n"
    assert result.stderr == "--- attempt 1.1\n--- attempt 1.2\n"
    assert spotkeeper("logs", "digits-7fq2", "--attempt", "1.2").stdout == "three\n"


@pytest.mark.parametrize("follow", [(), ("--follow",)], ids=["once", "follow"])
def test_an_attempt_that_there_is_not_is_answered_with_those_there_are(
    environment: Connection, follow: tuple[str, ...]
) -> None:
    with_history(environment)

    result = spotkeeper("logs", "digits-7fq2", "--attempt", "99", *follow)

    assert result.exit_code == 1
    assert result.stderr == "spotkeeper: run digits-7fq2 has no attempt '99': there are 1.1, 1.2\n"


def test_logs_of_an_attempt_that_has_not_written_yet_are_empty(environment: Connection) -> None:
    with_history(environment)

    result = spotkeeper("logs", "digits-7fq2")

    assert (result.exit_code, result.stdout) == (0, "")


def test_followed_logs_end_with_the_run_and_lose_no_last_line(environment: Connection) -> None:
    run = with_history(environment)
    write_log(environment, "cpu/1", "one")
    pauses = []

    def pause() -> None:
        pauses.append(1)
        write_log(environment, "cpu/2", "two", "last")
        environment.ledger.advance(run, state=RunState.SUCCEEDED)

    lines = [line.text for line in log_stream.read(run.run_id, environment, pause=pause)]

    assert lines == ["one", "two", "last"]
    assert len(pauses) == 1


def test_an_empty_page_is_not_taken_for_the_end_of_a_log(environment: Connection) -> None:
    """CloudWatch may return a page without lines in the middle; moto never does."""
    run = environment.ledger.create(new_run(state=RunState.FAILED))
    unseen = Attempt(run_id=run.run_id, submission=1, attempt=1)
    environment.ledger.record_attempt(unseen, log_stream="cpu/1")
    pages: list[tuple[list[str], str]] = [(["one"], "t1"), ([], "t2"), (["two"], "t3"), ([], "t3")]
    logs = boto3.client("logs", region_name=REGION)
    with Stubber(logs) as stubber:
        for texts, token in pages:
            reply = {"events": [{"timestamp": 1, "message": text} for text in texts], "nextForwardToken": token}
            stubber.add_response("get_log_events", reply)
        connection = with_clients(environment, {"logs": logs})

        assert [line.text for line in log_stream.read(run.run_id, connection)] == ["one", "two"]
        stubber.assert_no_pending_responses()


def test_cancel_stops_the_job_and_says_so(environment: Connection) -> None:
    run_id = spotkeeper("submit", "--", "python", "train.py").stdout.strip()

    result = spotkeeper("cancel", run_id)

    # moto ends a job at once; where it takes its time, the run ends with it.
    assert result.stdout == f"{run_id} is cancelled\n"
    run = environment.ledger.get(run_id)
    assert run is not None
    assert (run.state, run.cancel_requested_at is not None) == (RunState.CANCELLED, True)


def test_cancel_of_a_job_that_still_stops_says_that(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.SUBMITTED, job_id="of-another-batch"))

    assert spotkeeper("cancel", "digits-7fq2").stdout == "digits-7fq2 is being cancelled; its job is stopping\n"


def test_cancelling_what_has_ended_says_how_it_ended(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.SUCCEEDED))

    assert spotkeeper("cancel", "digits-7fq2").stdout == "digits-7fq2 has already ended: succeeded\n"


def test_pause_stops_the_job_and_says_so(environment: Connection) -> None:
    run_id = spotkeeper("submit", "--", "python", "train.py").stdout.strip()

    result = spotkeeper("pause", run_id)

    assert result.stdout == f"{run_id} is being paused; its job is stopping\n"
    assert only_run(environment).pause_requested_at is not None
    assert "(pausing)" in spotkeeper("status", run_id).stdout
    assert "submitted (pausing)" in spotkeeper("status").stdout
    assert [each["state"] for each in json.loads(spotkeeper("status", "--json").stdout)] == ["submitted"]


def test_pausing_a_run_that_waits_takes_effect_at_once(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.WAITING, wait_until=NOW))

    result = spotkeeper("pause", "digits-7fq2")

    assert result.stdout == "digits-7fq2 is paused: `spotkeeper resume digits-7fq2` lets it go on\n"
    assert only_run(environment).state is RunState.PAUSED


def test_resume_submits_a_parked_run_again(environment: Connection) -> None:
    first = spotkeeper("submit", "--", "python", "train.py").stdout.strip()
    run = only_run(environment)
    environment.ledger.advance(run, state=RunState.PARKED, reason="no newer checkpoint")

    result = spotkeeper("resume", first)

    assert result.stdout == f"{first} goes on: it is submitted\n"
    assert (only_run(environment).submission, only_run(environment).state) == (2, RunState.SUBMITTED)


def test_resuming_what_has_ended_says_how_it_ended(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.FAILED, reason="the program failed with exit code 3"))

    result = spotkeeper("resume", "digits-7fq2")

    assert result.stderr == "spotkeeper: digits-7fq2 has ended: it is failed: the program failed with exit code 3\n"


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "digits-7fq2"),
        ("resume", "digits-7fq2"),
        ("priority", "digits-7fq2", "5"),
        ("budget", "set", "--run", "digits-7fq2", "--fallback-cap", "5"),
    ],
    ids=lambda words: words[0],
)
def test_what_cannot_be_done_to_an_ended_run_fails_and_says_so(environment: Connection, words: tuple[str, ...]) -> None:
    ended = environment.ledger.create(new_run(state=RunState.SUCCEEDED))

    result = spotkeeper(*words)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("spotkeeper: digits-7fq2 has ended")
    assert environment.ledger.get(ended.run_id) == ended


def test_a_run_that_is_being_cancelled_is_not_resumed_and_the_command_fails(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.RUNNING, job_id="job-1", cancel_requested_at=NOW))

    result = spotkeeper("resume", "digits-7fq2")

    assert result.exit_code == 1
    assert result.stderr == "spotkeeper: digits-7fq2 cannot go on: it is being cancelled\n"


def test_a_hint_that_is_recorded_with_a_run_can_be_typed_as_it_is_shown(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.PAUSED, reason="`spotkeeper resume RUN` lets it go on"))

    for words in (("status",), ("status", "digits-7fq2")):
        shown = spotkeeper("-e", "dev", *words).stdout
        assert "`spotkeeper --environment dev resume digits-7fq2` lets it go on" in shown


def test_priority_is_shown_and_says_from_when_it_counts(environment: Connection) -> None:
    run = environment.ledger.create(new_run(state=RunState.SUBMITTED))
    assert spotkeeper("priority", run.run_id, "200").stdout == "digits-7fq2 has priority 200\n"
    environment.ledger.advance(only_run(environment), state=RunState.RUNNING)

    assert spotkeeper("priority", run.run_id, "300").stdout == (
        "digits-7fq2 has priority 300 from its next job on: the one that runs goes on\n"
    )
    assert re.search(r"^priority +300 *$", spotkeeper("status", run.run_id).stdout, re.MULTILINE)


@pytest.mark.usefixtures("environment")
def test_a_negative_priority_is_out_of_range_and_no_unknown_option() -> None:
    result = spotkeeper("priority", "digits-7fq2", "-5")

    assert result.exit_code == 2
    assert result.stderr == "spotkeeper: a priority must be 0 to 9999 (higher goes first; usual: 100), got -5\n"


@pytest.mark.parametrize("command", ["pause", "resume", "cancel"])
@pytest.mark.usefixtures("environment")
def test_a_run_that_nobody_knows_is_named(command: str) -> None:
    result = spotkeeper(command, "nobody-1")

    assert result.exit_code == 1
    assert "there is no run 'nobody-1'" in result.stderr


def test_status_says_until_when_a_run_waits_and_why(environment: Connection) -> None:
    environment.ledger.create(new_run(state=RunState.WAITING, wait_until=NOW, reason="no capacity"))

    told = spotkeeper("status", "digits-7fq2").stdout

    assert "waiting: no capacity" in told
    assert re.search(rf"waits until +{re.escape(NOW)}", told)


@pytest.mark.usefixtures("environment")
def test_waiting_for_a_run_that_fails_exits_1_with_its_reason() -> None:
    result = spotkeeper("submit", "--wait", "--", "python", "train.py")

    assert result.exit_code == 1
    assert f"{result.stdout.strip()}: failed: " in result.stderr


def test_options_after_the_program_belong_to_the_program(environment: Connection) -> None:
    assert spotkeeper("submit", "python", "train.py", "--name", "mine", "--dry-run").exit_code == 0

    assert only_run(environment).command == ("python", "train.py", "--name", "mine", "--dry-run")


def test_every_command_has_help_that_asks_no_aws() -> None:
    for command in ("submit", "status", "logs", "cancel", "pause", "resume", "budget", "fallback"):
        assert spotkeeper(command, "--help").exit_code == 0


def test_ctrl_c_while_a_log_is_followed_says_that_the_run_goes_on(environment: Connection) -> None:
    run = with_history(environment)

    def break_off(**_: Any) -> None:
        raise KeyboardInterrupt

    with intercepted("cloudwatch-logs.GetLogEvents", break_off):
        result = spotkeeper("-e", "dev", "logs", "--follow", run.run_id)

    assert result.exit_code == 130
    assert f"run {run.run_id} goes on" in result.stderr
    assert f"`spotkeeper --environment dev logs --follow {run.run_id}`" in result.stderr
    assert f"`spotkeeper --environment dev cancel {run.run_id}`" in result.stderr


def test_ctrl_c_while_submit_waits_says_that_the_run_goes_on(environment: Connection) -> None:
    def break_off(**_: Any) -> None:
        raise KeyboardInterrupt

    # Waiting describes the job; submitting does not.
    with intercepted("batch.DescribeJobs", break_off):
        result = spotkeeper("submit", "--wait", "--", "python", "train.py")

    assert result.exit_code == 130
    assert f"run {only_run(environment).run_id} goes on without you" in result.stderr


def test_jobs_of_others_are_listed_with_the_most_that_they_can_have_cost_and_why_they_are_no_runs(
    environment: Connection,
) -> None:
    queue = "arn:aws:batch:us-east-1:123456789012:job-queue/spot"
    priced = OthersJob(job_id="theirs-1", name="etl", queue=queue, status="FAILED", created_at=NOW, observed_at=NOW,
                       most_microusd=1_500_000, pricing="at most $2/h")  # fmt: skip
    environment.others.record(priced, expires_at=1)
    environment.others.record(replace(priced, job_id="theirs-2", name="x", most_microusd=None), expires_at=1)
    training = replace(
        priced,
        job_id="arn:aws:sagemaker:us-east-1:123456789012:training-job/dev-nightly-1",
        name="nightly-1",
        queue="sagemaker/sm-cpu/spot",
        why_no_run="its SPOTKEEPER_TEAM is none of the environment's teams: 'nobody'",
    )
    environment.others.record(training, expires_at=1)

    result = spotkeeper("status", "--others")

    assert re.search(r"theirs-1 +etl +spot +FAILED .*\$1\.50 +at most \$2/h", result.stdout)
    assert re.search(r"theirs-2 .* unpriced ", result.stdout)
    shown = " ".join(result.stdout.split())
    assert re.search(r"dev-nightly-1 +nightly-1 +sagemaker/sm-cpu/spot +FAILED", result.stdout)
    assert "its SPOTKEEPER_TEAM is none of" in shown, "why it is no run"
    told = json.loads(spotkeeper("status", "--others", "--json").stdout)
    costs = {job["job_id"]: job["most_microusd"] for job in told}
    assert costs == {"theirs-1": 1_500_000, "theirs-2": None, training.job_id: 1_500_000}
    assert spotkeeper("status", "--others", "train-1").exit_code == 2
