"""The commands on SageMaker as a user types them, against an environment in moto that has a training profile."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.sagemaker.models import sagemaker_backends
from typer.testing import CliRunner

from spotkeeper.contract.ledger import RunState
from spotkeeper.contract.training import LOG_GROUP, STOP_REASON_TAG
from spotkeeper.control.run import Attempt
from spotkeeper.ops import log_stream
from spotkeeper.ops.cli import app
from spotkeeper.ops.connection import Connection, connect
from spotkeeper.ops.failure import OperationError
from spotkeeper.ops.plan import Request
from spotkeeper.ops.submission import prepare, submit
from spotkeeper.ops.training_place import SAGEMAKER
from tests.control.fakes import NOW
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import ACCOUNT, BUCKET, DATA, DIGEST, ROLE, SECRET, TRAINING, put, with_clients
from tests.ops.deployed_environment import descriptor as described
from tests.ops.intercepted import intercepted


def spotkeeper(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def submitted(*options: str) -> str:
    result = spotkeeper("submit", "--on", "sagemaker", "--name", "digits", *options, "--", "python", "train.py")
    assert result.exit_code == 0, result.stderr
    return str(result.stdout.strip())


@pytest.mark.usefixtures("with_training")
@pytest.mark.parametrize(("nodes", "too_little", "enough"), [("1", "6.74", "6.75"), ("4", "26.99", "27")])
def test_a_cap_too_small_for_the_shortest_attempt_of_all_nodes_is_warned_of(
    nodes: str, too_little: str, enough: str
) -> None:
    words = ("submit", "--dry-run", "--on", "sagemaker", "--nodes", nodes, "--no-source", "--name", "digits")

    warned = spotkeeper(*words, "--fallback-cap", too_little, "--", "nvidia-smi")
    assert "warning: the run will not fall back to on-demand: the shortest attempt there reserves" in warned.stderr
    assert "warning" not in spotkeeper(*words, "--fallback-cap", enough, "--", "nvidia-smi").stderr


@pytest.mark.usefixtures("with_training")
def test_a_dry_run_says_what_its_request_would_lose_if_somebody_else_sends_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    words = ("submit", "--dry-run", "--on", "sagemaker", "--source", str(tmp_path), "--name", "digits")
    given = ("--fallback-cap", "9", "--deadline", "12h", "--work", "3h", "--sweep", "seeds")

    said = spotkeeper(*words, *given, "--", "python", "train.py").stderr
    assert "note: a request holds no --fallback-cap, --deadline, --sweep: sent by the SDK or boto3, its run" in said
    assert "finds its source only if that was uploaded before" in said
    plain = ("submit", "--dry-run", "--on", "sagemaker", "--no-source", "--name", "digits", "--", "nvidia-smi")
    assert "note:" not in spotkeeper(*plain).stderr


@pytest.mark.usefixtures("with_training")
def test_a_dry_run_prints_the_exact_request_and_creates_nothing() -> None:
    words = ("--on", "sagemaker", "--nodes", "2", "--name", "digits", "--no-source", "--time-limit", "1h")

    result = spotkeeper("submit", "--dry-run", *words, "--", "nvidia-smi", "-L")

    request = json.loads(result.stdout)
    run_id = request["Environment"]["SPOTKEEPER_RUN_ID"]
    assert request == {
        "TrainingJobName": f"dev-{run_id}-1",
        "AlgorithmSpecification": {
            "TrainingImage": DIGEST,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["spotkeeper-exec", "--"],
            "ContainerArguments": ["nvidia-smi", "-L"],
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/mirror/{run_id}.output/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 50},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600 + 2 * 86400},
        "EnableManagedSpotTraining": True,
        "Environment": {
            "SPOTKEEPER_ENV": "dev",
            "SPOTKEEPER_RUN_ID": run_id,
            "SPOTKEEPER_SUBMISSION": "1",
            "SPOTKEEPER_ATTEMPT_SECONDS": "3600",
            "SPOTKEEPER_QUEUE": "sagemaker/train-cpu/spot",
            "SPOTKEEPER_TEAM": "research",
            "SPOTKEEPER_URI": f"s3://{BUCKET}",
            "SPOTKEEPER_LEDGER_TABLE": "ledger",
        },
        "Tags": [
            {"Key": "spotkeeper:project", "Value": "spotkeeper"},
            {"Key": "spotkeeper:environment", "Value": "dev"},
            {"Key": "spotkeeper:team", "Value": "research"},
            {"Key": "spotkeeper:profile", "Value": "train-cpu"},
            {"Key": "spotkeeper:market", "Value": "spot"},
            {"Key": "spotkeeper:run", "Value": run_id},
        ],
    }
    assert boto3.client("sagemaker", region_name=REGION).list_training_jobs()["TrainingJobSummaries"] == []


def test_a_run_is_recorded_with_its_training_jobs_arn_its_image_and_its_nodes(with_training: Connection) -> None:
    run = with_training.run_of(submitted("--nodes", "2"))

    assert (run.state, run.profile, run.num_nodes) == (RunState.SUBMITTED, "train-cpu", 2)
    assert (run.job_queue, run.job_definition) == ("sagemaker/train-cpu/spot", DIGEST)
    job = boto3.client("sagemaker", region_name=REGION).describe_training_job(TrainingJobName=f"dev-{run.run_id}-1")
    assert job["TrainingJobArn"] == run.job_id
    assert job["ResourceConfig"]["InstanceCount"] == 2


def test_status_tells_of_a_run_on_sagemaker(with_training: Connection) -> None:
    run_id = submitted()

    assert "train-cpu, spot, team research" in spotkeeper("status", run_id).stdout
    assert run_id in spotkeeper("status").stdout
    assert with_training.run_of(run_id).is_live


def record_two_attempts(connection: Connection, run_id: str) -> None:
    """One from 18:00 to 18:10, and one from 18:12 on."""
    run = connection.run_of(run_id)
    first = Attempt(run_id=run_id, submission=1, attempt=1, job_id=run.job_id)
    connection.ledger.record_attempt(first, started_at="2026-11-26T18:00:00+00:00", stopped_at=at(10))
    connection.ledger.record_attempt(replace(first, attempt=2), started_at="2026-11-26T18:12:00+00:00")


def at(minute: float) -> str:
    return (datetime(2026, 11, 26, 18, tzinfo=UTC) + timedelta(minutes=minute)).isoformat()


def write_log(run_id: str, *lines: tuple[float, str], began: float, node: int = 1) -> None:
    """Write a node's lines, each at a minute after 18:00, into the stream of a start."""
    logs = boto3.client("logs", region_name=REGION)
    stream = f"dev-{run_id}-1/algo-{node}-{datetime.fromisoformat(at(began)).timestamp():.0f}"
    logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
    events: Any = [
        {"timestamp": int(datetime.fromisoformat(at(minute)).timestamp() * 1000), "message": text}
        for minute, text in lines
    ]
    logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=events)


def test_logs_are_those_of_each_attempt_oldest_first(with_training: Connection) -> None:
    run_id = submitted()
    record_two_attempts(with_training, run_id)
    write_log(run_id, (12, "second attempt"), began=11)
    write_log(run_id, (0, "first attempt"), began=-1)

    result = spotkeeper("logs", run_id)

    assert (result.stdout, result.stderr) == (
        "first attempt\nsecond attempt\n",
        "--- attempt 1.1\n--- attempt 1.2\n",
    )
    assert spotkeeper("logs", "--attempt", "1.2", run_id).stdout == "second attempt\n"


def test_logs_of_several_nodes_are_all_shown_by_time_each_line_with_its_node(with_training: Connection) -> None:
    run_id = submitted("--nodes", "2")
    record_two_attempts(with_training, run_id)
    write_log(run_id, (1, "hello"), (3, "waits"), began=-1)
    write_log(run_id, (13, "hello again"), (15, "waits"), began=11)
    # The second node says nothing until it fails: that is of the second attempt, though its only stream.
    write_log(run_id, (14, "Traceback"), (14.5, "ValueError: the data are odd"), began=11, node=2)

    assert spotkeeper("logs", "--attempt", "1.1", run_id).stdout == "node 1: hello\nnode 1: waits\n"
    assert spotkeeper("logs", "--attempt", "1.2", run_id).stdout.splitlines() == [
        "node 1: hello again",
        "node 2: Traceback",
        "node 2: ValueError: the data are odd",
        "node 1: waits",
    ]


def test_followed_logs_follow_every_node_and_repeat_nothing_after_a_refusal(with_training: Connection) -> None:
    run_id = submitted("--nodes", "2")
    record_two_attempts(with_training, run_id)
    write_log(run_id, (12, "one"), began=11)
    write_log(run_id, (13, "two"), began=11, node=2)
    client = boto3.client("logs", region_name=REGION, config=Config(retries={"total_max_attempts": 1}))
    refused = iter([None, throttled()])  # the second node's page, when that of the first is here
    client.meta.events.register("before-call.cloudwatch-logs.GetLogEvents", lambda **_: next(refused, None))
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 2:
            write_log(run_id, (14, "three"), began=11.5, node=2)
            run = with_training.run_of(run_id)
            with_training.ledger.advance(run, state=RunState.SUCCEEDED)

    lines = log_stream.read(run_id, with_clients(with_training, {"logs": client}), attempt="1.2", pause=pause)

    assert [(line.node, line.text) for line in lines] == [(1, "one"), (2, "two"), (2, "three")]


def throttled() -> Any:
    body = {"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}
    return SimpleNamespace(status_code=400), body | {"ResponseMetadata": {"HTTPStatusCode": 400}}


@pytest.mark.usefixtures("with_training")
def test_a_name_that_somebody_elses_job_has_is_told_and_the_run_named() -> None:
    def taken(**_: Any) -> Any:
        body = {"Error": {"Code": "ResourceInUse", "Message": "it exists"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return SimpleNamespace(status_code=400), body

    request = Request(service=SAGEMAKER, without_source=True, command=("nvidia-smi",))
    with intercepted("sagemaker.CreateTrainingJob", taken):  # moto gives a name twice
        connection = connect("dev", region=REGION)
        plan = prepare(request, connection=connection, source_directory=None, suffix="0a1b2c", now=NOW)
        pauses: list[float] = []
        with pytest.raises(OperationError) as refusal:
            submit(plan, connection=connection, now=NOW, pause=pauses.append)

    assert "run nvidia-smi-0a1b2c is recorded, " in str(refusal.value)
    assert "training job dev-nvidia-smi-0a1b2c-1 is there already" in str(refusal.value)
    assert pauses == [1, 2, 4, 8]
    assert connection.run_of("nvidia-smi-0a1b2c").refused_at == NOW


@pytest.mark.usefixtures("with_training")
def test_cancel_stops_a_training_job_that_runs_and_says_why() -> None:
    run_id = submitted()
    job = sagemaker_backends[ACCOUNT][REGION].training_jobs[f"dev-{run_id}-1"]
    # moto completes jobs at once, and cannot stop one.
    job.training_job_status, job.secondary_status = "InProgress", "Training"
    stopped: list[Any] = []

    def stop(params: Any, **_: Any) -> Any:
        stopped.append(json.loads(params["body"]))
        return SimpleNamespace(status_code=200), {}

    with intercepted("sagemaker.StopTrainingJob", stop):
        assert spotkeeper("cancel", run_id).exit_code == 0

    assert stopped == [{"TrainingJobName": f"dev-{run_id}-1"}]
    tags = boto3.client("sagemaker", region_name=REGION).list_tags(ResourceArn=job.arn)["Tags"]
    (told,) = [tag["Value"] for tag in tags if tag["Key"] == STOP_REASON_TAG]
    assert told.startswith("Cancelled with spotkeeper cancel @ 20")


REFUSALS = [
    (("--on", "mars"), "--on must be one of batch, sagemaker, got 'mars'"),
    (("--nodes", "2"), "--nodes 2: on AWS Batch a run has one machine"),
    (("--on", "sagemaker", "--nodes", "0"), "--nodes must be 1 to 100, got 0"),
    (
        ("--on", "sagemaker", "--nodes", "2", "--checkpoint-folder", "out"),
        "--checkpoint-folder with --nodes 2: each node",
    ),
    (("--on", "sagemaker", "--profile", "cpu"), "--profile must be one of train-cpu on SageMaker"),
    (("--profile", "train-cpu"), "--profile 'train-cpu' is one of SageMaker: `submit --on sagemaker` takes it"),
    (("--on", "sagemaker", "--secret", f"KEY={SECRET}"), "--secret: SageMaker has no way to inject secrets"),
    (("--on", "sagemaker", "--secret", "KEY"), "--secret: SageMaker has no way to inject secrets"),
    (
        ("--on", "sagemaker", "--env", "HF_TOKEN=abc"),
        "reader of the job: let the program read Secrets Manager itself (or --force if it is none)",
    ),
    (("--on", "sagemaker", "--priority", "7"), "--priority: SageMaker has no queue"),
    (("--on", "sagemaker", "--name", "x" * 60), "--name"),
    (("--on", "sagemaker", "--env", "LONG=" + "x" * 513), "variable LONG has 513 characters, and SageMaker takes 512"),
]


@pytest.mark.parametrize(("options", "words"), REFUSALS)
def test_what_a_service_cannot_do_is_refused_before_anything_is_recorded(
    with_training: Connection, options: tuple[str, ...], words: str
) -> None:
    result = spotkeeper("submit", *options, "--", "python", "train.py")

    assert result.exit_code == 2
    assert words in result.stderr
    assert with_training.ledger.list_runs("open", 10) == ()


@pytest.mark.usefixtures("with_training")
@pytest.mark.parametrize(
    ("options", "words"),
    [(("--on", "ec2"), "--on must be one of"), (("--profile", "huge"), "--profile must be one of")],
)
def test_a_wrong_option_is_told_before_a_missing_program(options: tuple[str, ...], words: str) -> None:
    result = spotkeeper("submit", *options, "--", "python", "missing.py")

    assert result.exit_code == 2
    assert words in result.stderr
    assert "missing.py" not in result.stderr


def test_a_sweep_on_a_profile_of_sagemaker_is_refused_with_what_to_do_instead(with_training: Connection) -> None:
    result = spotkeeper(
        "sweep", "submit", "lr", "--profile", "train-cpu", "--param", "LR=1,2", "--", "python", "train.py"
    )

    assert result.exit_code == 2
    assert "SageMaker has not: submit its runs one by one, with --sweep NAME" in result.stderr
    assert with_training.ledger.list_runs("open", 10) == ()


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("x" * 257, "word 3 of the command has 257 characters, and SageMaker takes 256"),
        ("a\nb", "no line breaks in a word"),
    ],
)
def test_a_command_that_sagemaker_would_refuse_is_refused_with_the_fix(
    with_training: Connection, word: str, words: str
) -> None:
    result = spotkeeper("submit", "--on", "sagemaker", "--", "python", "train.py", word)

    assert result.exit_code == 2
    assert words in result.stderr
    assert with_training.ledger.list_runs("open", 10) == ()


@pytest.mark.usefixtures("environment")
def test_an_environment_without_training_profiles_says_how_to_get_them() -> None:
    result = spotkeeper("submit", "--on", "sagemaker", "--", "python", "train.py")

    assert result.exit_code == 2
    assert "'dev' runs nothing on SageMaker: give it `training` in stacks/environments.py" in result.stderr


@pytest.fixture
def isolated(environment: Connection) -> Connection:
    put(replace(environment.descriptor, training=replace(TRAINING, is_isolated=True)))
    return connect("dev", region=REGION)


def test_a_run_without_network_stays_so_and_is_brought_its_source(isolated: Connection) -> None:
    run = isolated.run_of(submitted())

    job = boto3.client("sagemaker", region_name=REGION).describe_training_job(TrainingJobName=f"dev-{run.run_id}-1")
    assert run.is_isolated
    (channel,) = job["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == run.variables["SPOTKEEPER_SOURCE_URI"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nodes", "2"), "--nodes 2: environment 'dev' isolates training jobs from the network"),
        (("--requirements", "requirements.txt"), "--requirements: environment 'dev' isolates training jobs"),
        (("--data", f"{'x' * 65}={DATA}"), "whose name may have 64 characters, and it has 65: choose a shorter name"),
    ],
)
def test_what_only_a_network_can_bring_is_refused_without_one(
    isolated: Connection, options: tuple[str, ...], words: str
) -> None:
    result = spotkeeper("submit", "--on", "sagemaker", *options, "--", "python", "train.py")

    assert result.exit_code == 2
    assert words in result.stderr
    assert isolated.ledger.list_runs("open", 10) == ()


def test_data_of_which_a_run_without_network_would_be_brought_nothing_is_refused(isolated: Connection) -> None:
    bucket, _, prefix = DATA.removeprefix("s3://").partition("/")
    isolated.s3.create_bucket(Bucket=bucket)
    isolated.s3.put_object(Bucket=bucket, Key=f"{prefix}digits/one.txt", Body=b"1")
    words = ("submit", "--on", "sagemaker", "--data")

    refused = spotkeeper(*words, f"one={DATA}digits/one.txt", "--", "python", "train.py")
    assert refused.exit_code == 2
    assert f"nothing is below {DATA}digits/one.txt/, and SageMaker fails" in refused.stderr
    assert "name the folder, not an object in it" in refused.stderr
    assert spotkeeper(*words, f"one={DATA}digits", "--", "python", "train.py").exit_code == 0


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": TRAINING, "trainer_images": {}}, "has no cpu image yet, which profile 'train-cpu' runs"),
    ],
)
def test_an_environment_that_cannot_keep_its_promises_there_says_what_to_change(
    changes: dict[str, Any], words: str
) -> None:
    put(described(**changes))

    result = spotkeeper("submit", "--on", "sagemaker", "--", "python", "train.py")

    assert result.exit_code == 2
    assert words in result.stderr
