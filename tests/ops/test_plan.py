from dataclasses import replace
from typing import Any

import pytest

from spotkeeper.ops.plan import Plan, Request, plan
from spotkeeper.ops.source import PackedSource
from tests.ops.deployed_environment import BUCKET, DIGEST, SECRET, descriptor

NOW = "2026-11-23T18:00:00.000+00:00"
SOURCE = PackedSource(sha256="c" * 64, archive=b"", files=frozenset({"train.py", "requirements.txt", "pkg/main.py"}))
BASE = {
    "jobDefinitionName": "cpu",
    "jobDefinitionArn": "arn:definition",
    "revision": 3,
    "status": "ACTIVE",
    "type": "container",
    "containerProperties": {"image": "trainer@sha256:" + "0" * 64, "command": ["true"], "user": "1000", "secrets": []},
    "retryStrategy": {"attempts": 10, "evaluateOnExit": []},
    "timeout": {"attemptDurationSeconds": 604800},
    "tags": {"spotkeeper:project": "spotkeeper", "aws:cloudformation:stack-name": "x"},
}
BASIC = Request(command=("python", "train.py", "--epochs", "3"))


def made(request: Request = BASIC, *, source: PackedSource | None = SOURCE, **environment: Any) -> Plan:
    return plan(
        request,
        descriptor=descriptor(**environment),
        base_definition=BASE,
        source=source,
        suffix="0a1b2c",
        created_at=NOW,
    )


def variables(plan: Plan) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in plan.request()["containerOverrides"]["environment"]}


def test_the_exact_request_of_a_plain_submission() -> None:
    assert made().request() == {
        "jobName": "train-0a1b2c-1",
        "jobQueue": "arn:queue",
        "jobDefinition": "arn:definition",
        "shareIdentifier": "research",
        "containerOverrides": {
            "command": ["spotkeeper-exec", "--", "python", "train.py", "--epochs", "3"],
            "environment": [
                {"name": "SPOTKEEPER_ATTEMPT_SECONDS", "value": "86400"},
                {"name": "SPOTKEEPER_RUN_ID", "value": "train-0a1b2c"},
                {"name": "SPOTKEEPER_SOURCE_SHA256", "value": "c" * 64},
                {"name": "SPOTKEEPER_SOURCE_URI", "value": f"s3://{BUCKET}/source/{'c' * 64}.tar.gz"},
                {"name": "SPOTKEEPER_SUBMISSION", "value": "1"},
            ],
        },
        "timeout": {"attemptDurationSeconds": 86400},
        "tags": {
            "spotkeeper:project": "spotkeeper",
            "spotkeeper:environment": "dev",
            "spotkeeper:team": "research",
            "spotkeeper:profile": "cpu",
            "spotkeeper:market": "spot",
            "spotkeeper:run": "train-0a1b2c",
        },
        "propagateTags": True,
    }


def test_every_option_reaches_the_request() -> None:
    plan = made(
        replace(
            BASIC,
            name="digits",
            profile="gpu-24gb",
            data={"images": "s3://datasets/public/mnist"},
            environment_variables={"MODEL": "small"},
            requirements="requirements.txt",
            max_lost_seconds=60,
            attempt_seconds=7200,
            progress_seconds=5,
        )
    )

    assert plan.run.run_id == "digits-0a1b2c"
    assert plan.request()["timeout"] == {"attemptDurationSeconds": 7200}
    assert plan.request()["tags"]["spotkeeper:profile"] == "gpu-24gb"
    assert variables(plan).items() >= {
        ("SPOTKEEPER_DATA_IMAGES", "s3://datasets/public/mnist"),
        ("MODEL", "small"),
        ("SPOTKEEPER_REQUIREMENTS_FILE", "requirements.txt"),
        ("SPOTKEEPER_MAX_LOST_SECONDS", "60"),
        ("SPOTKEEPER_PROGRESS_SECONDS", "5"),
    }


def test_image_and_secrets_make_a_definition_of_their_own_named_by_its_content() -> None:
    plan = made(replace(BASIC, image=DIGEST, secrets={"WANDB_API_KEY": SECRET}))

    assert plan.definition is not None
    name = plan.definition["jobDefinitionName"]
    assert plan.definition == {
        "jobDefinitionName": name,
        "type": "container",
        "containerProperties": {
            "image": DIGEST,
            "command": ["true"],
            "user": "1000",
            "secrets": [{"name": "WANDB_API_KEY", "valueFrom": SECRET}],
        },
        "retryStrategy": {"attempts": 10, "evaluateOnExit": []},
        "timeout": {"attemptDurationSeconds": 604800},
        "tags": {"spotkeeper:project": "spotkeeper"},
    }
    assert name.startswith("cpu-")
    again = made(replace(BASIC, name="other", image=DIGEST, secrets={"WANDB_API_KEY": SECRET}))
    other = made(replace(BASIC, image=DIGEST))
    assert again.definition == plan.definition
    assert other.definition is not None
    assert other.definition["jobDefinitionName"] != name


def test_a_key_of_a_json_secret_is_within_the_secret() -> None:
    assert made(replace(BASIC, secrets={"KEY": f"{SECRET}:api::"})).definition is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"command": ()}, r"a command is needed: spotkeeper submit \[options\] -- python train.py"),
        ({"command": ("python", "trein.py")}, r"names 'trein.py', which is not in the source folder"),
        ({"command": ("./run.sh",)}, r"names 'run.sh', which is not in the source folder"),
        ({"command": ("python", "train.py", "--key=AKIA" + "IOSFODNN7EXAMPLE")}, "contains an AWS access key id"),
        ({"name": "Digits"}, "--name must be 1 to 40 of a-z, 0-9 and -"),
        ({"team": "marketing"}, "--team must be one of research in environment 'dev', got 'marketing'"),
        ({"profile": "gpu-80gb"}, "--profile must be one of cpu, gpu-24gb in environment 'dev', got 'gpu-80gb'"),
        (
            {"image": "repository:latest"},
            r"--image must be repository@sha256:.* got 'repository:latest'.*docker inspect",
        ),
        (
            {"data": {"x": "s3://datasets/private/a"}},
            r"may not read 's3://datasets/private/a'; they may read: s3://dat.*data_prefixes",
        ),
        ({"data": {"x": "s3://datasets/public-not/a"}}, "may not read"),
        ({"data": {"x": "/local"}}, "--data x must be s3://bucket/prefix, got '/local'"),
        (
            {"data": {"a": "s3://datasets/public/1", "A": "s3://datasets/public/2"}},
            "two names give .*SPOTKEEPER_DATA_A;",
        ),
        ({"secrets": {"X": SECRET + "Z"}}, "may be given: arn:.*secret_arns in stacks/environments.py"),
        ({"command": ("python", "train.py", "--password=hunter2")}, "contains a value for 'password'"),
        ({"command": ("python", "train.py", "--api-key", "hunter2")}, "contains a value for 'api-key'"),
        ({"environment_variables": {"A-B": "x"}}, "--env: a name must be letters, digits and _.*'A-B'"),
        ({"environment_variables": {"AWS_BATCH_JOB_ID": "x"}}, "AWS_BATCH and SPOTKEEPER are reserved"),
        ({"environment_variables": {"SPOTKEEPER_EPOCH": "9"}}, "reserved"),
        ({"secrets": {"SPOTKEEPER_URI": SECRET}}, "--secret: .*reserved"),
        ({"environment_variables": {"HF_TOKEN": "abc"}}, r"--env HF_TOKEN looks like a secret .*--secret HF_TOKEN=arn"),
        ({"environment_variables": {"A": "1"}, "secrets": {"A": SECRET}}, "with --env and with --secret: A"),
        ({"requirements": "../requirements.txt"}, "--requirements must be a file inside the source folder"),
        ({"max_lost_seconds": 0}, "--max-lost must be 1s to 1h, got 0s"),
        ({"checkpoint_folder": "/out"}, "--checkpoint-folder must be a folder inside the program's working directory"),
        ({"checkpoint_folder": "a/../.."}, "--checkpoint-folder must be a folder inside"),
        ({"checkpoint_folder": "."}, "--checkpoint-folder must be a folder inside"),
        ({"checkpoint_folder": "out", "max_lost_seconds": 60}, "the program itself decides how often it saves"),
        ({"checkpoint_folder": "out", "notice_signal": "KILL"}, "--notice-signal must be one of TERM, INT, USR1, USR2"),
        ({"notice_signal": "USR1"}, "is for programs that save into a --checkpoint-folder"),
        ({"max_lost_seconds": 3601}, "--max-lost must be 1s to 1h"),
        ({"attempt_seconds": 59}, "--time-limit must be 1m to 7d .* got 59s"),
        ({"attempt_seconds": 8 * 86400}, "--time-limit must be 1m to 7d .* got 8d"),
        ({"progress_seconds": 0}, "--progress-seconds must be at least 1"),
        ({"environment_variables": {"BIG": "x " * 16000}}, "AWS Batch takes 30720"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_rule_value_and_fix(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(replace(BASIC, **changes))


def test_a_command_in_one_string_is_refused_before_its_letters_are_taken_for_words() -> None:
    with pytest.raises(TypeError, match=r"must be a tuple of words.*got one string: split it") as refused:
        Request(command="python train.py --key=hunter2")  # type: ignore[arg-type]

    assert "hunter2" not in str(refused.value)


def test_a_script_without_source_is_refused_unless_an_image_of_the_users_may_hold_it() -> None:
    with pytest.raises(ValueError, match="no source is sent: give its folder with --source"):
        made(source=None)
    assert made(replace(BASIC, image=DIGEST), source=None).run.source_sha256 is None
    with pytest.raises(ValueError, match="give --source too"):
        made(replace(BASIC, image=DIGEST, requirements="requirements.txt"), source=None)


def test_the_team_is_needed_where_there_are_several() -> None:
    with pytest.raises(ValueError, match="--team is needed in environment 'dev': one of research, vision"):
        made(teams=("research", "vision"))
    assert made(replace(BASIC, team="vision"), teams=("research", "vision")).run.team == "vision"


def test_force_accepts_what_only_looks_like_a_secret() -> None:
    plan = made(replace(BASIC, environment_variables={"HF_TOKEN": "abc"}, force=True))

    assert variables(plan)["HF_TOKEN"] == "abc"


def test_the_default_time_limit_is_a_day_or_the_environments_if_that_is_less() -> None:
    assert made().run.attempt_seconds == 86400
    assert made(max_attempt_seconds=3600).run.attempt_seconds == 3600


@pytest.mark.parametrize(
    ("command", "run_id"),
    [
        ("python train.py", "train-0a1b2c"),
        ("python3.13 -u pkg/main.py --x y.py", "main-0a1b2c"),
        ("python -m pkg.main", "main-0a1b2c"),
        ("python -c print(1)", "python-0a1b2c"),
        ("torchrun --nproc-per-node=4 x", "torchrun-0a1b2c"),
        ("/opt/program/7z", "run-0a1b2c"),
    ],
)
def test_the_run_is_named_after_what_the_command_starts(command: str, run_id: str) -> None:
    assert made(Request(command=tuple(command.split()))).run.run_id == run_id


def test_a_checkpoint_folder_and_its_signal_are_told_to_spotkeeper_exec() -> None:
    told = variables(made(replace(BASIC, checkpoint_folder="./out/", notice_signal="USR1")))

    assert (told["SPOTKEEPER_CHECKPOINT_FOLDER"], told["SPOTKEEPER_NOTICE_SIGNAL"]) == ("out", "USR1")


def test_what_the_code_says_of_lost_work_holds_unless_the_submitter_says_otherwise() -> None:
    assert "SPOTKEEPER_MAX_LOST_SECONDS" not in variables(made())
    assert variables(made(replace(BASIC, max_lost_seconds=60)))["SPOTKEEPER_MAX_LOST_SECONDS"] == "60"


def test_the_attempt_is_told_the_time_limit_that_batch_enforces() -> None:
    plan = made(replace(BASIC, attempt_seconds=7200))

    assert variables(plan)["SPOTKEEPER_ATTEMPT_SECONDS"] == "7200"
    assert plan.request()["timeout"]["attemptDurationSeconds"] == 7200


@pytest.mark.parametrize("command", ["bash -c train", "nvidia-smi", "torchrun --standalone x"])
def test_a_command_that_does_not_tell_its_files_needs_a_source_or_the_word_that_it_needs_none(command: str) -> None:
    request = Request(command=tuple(command.split()))

    with pytest.raises(ValueError, match="give its folder with --source, or --no-source"):
        made(request, source=None)
    assert made(replace(request, without_source=True), source=None).run.source_sha256 is None
    assert made(replace(request, image=DIGEST), source=None).run.source_sha256 is None


@pytest.mark.parametrize("command", ["python -c print(1)", "python -m json.tool"])
def test_what_needs_no_files_may_go_without_source(command: str) -> None:
    assert made(Request(command=tuple(command.split())), source=None).run.source_sha256 is None


def test_a_script_that_the_rules_leave_out_is_refused_with_the_rule_to_change() -> None:
    source = replace(SOURCE, left_out=("checkpoints/", "other/"))

    with pytest.raises(ValueError, match=r"left out of the source folder as 'checkpoints/' .*\.spotkeeperignore"):
        made(Request(command=("python", "checkpoints/look.py")), source=source)


def test_what_follows_a_secrets_name_is_never_repeated() -> None:
    for typed in ("hunter2-hunter2", f"{SECRET}Z"):
        with pytest.raises(ValueError, match="--secret X must be the ARN") as refusal:
            made(replace(BASIC, secrets={"X": typed}))
        assert typed not in str(refusal.value)


def test_a_profile_without_an_image_takes_no_runs_and_says_how_to_make_one() -> None:
    with pytest.raises(
        ValueError, match=r"'dev' has no cpu image yet, .* 'cpu' runs: `make image ENV=dev VARIANT=cpu`"
    ):
        made(trainer_images={"gpu": DIGEST})


def test_a_profile_without_an_image_takes_a_run_that_brings_its_own() -> None:
    plan = made(replace(BASIC, image=DIGEST), trainer_images={})

    assert plan.definition is not None
    assert plan.definition["containerProperties"]["image"] == DIGEST
