"""SubmitPolicy against the calls that the commands really make, recorded in moto, which evaluates no policies."""

import json
from collections.abc import Iterator

import pytest

from spotkeeper.contract.checkpoint_layout import manifest_key
from spotkeeper.contract.ledger import RunState
from spotkeeper.ops.connection import Connection
from tests.control.fakes import new_run
from tests.ops.deployed_environment import BUCKET, DIGEST, LOG_GROUP, SECRET
from tests.ops.iam_requests import Call, DeployedNames, recorded, requests_of
from tests.ops.test_command_line import spotkeeper
from tests.ops.test_savings_on_sagemaker import ran, write_counters
from tests.stacks.iam_evaluation import Request, Statement, is_allowed
from tests.stacks.policies import queues_of
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

ADMINISTRATOR: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def submit_policy(assembly: Assembly) -> list[Statement]:
    return managed_policy(assembly, "batch", "SubmitPolicy")


def managed_policy(assembly: Assembly, stack: str, name: str) -> list[Statement]:
    policy = assembly.one(stack, "AWS::IAM::ManagedPolicy", name)
    found: list[Statement] = assembly.resolved(stack, policy["PolicyDocument"]["Statement"])
    return found


def bucket_policy(assembly: Assembly) -> list[Statement]:
    found: list[Statement] = assembly.resolved(
        "storage", assembly.one("storage", "AWS::S3::BucketPolicy")["PolicyDocument"]["Statement"]
    )
    return found


def denied(calls: list[Call], assembly: Assembly, *also: Statement) -> list[Request]:
    """The requests of these calls that somebody with SubmitPolicy, and what else is given, may not make."""
    deployed = DeployedNames(assembly)
    identity, resource = [*submit_policy(assembly), *also], bucket_policy(assembly)
    asked = [request for call in calls for request in requests_of(call, deployed)]
    return [
        request
        for request in asked
        if not is_allowed(request, identity, resource if request.action.startswith("s3:") else ())
    ]


@pytest.fixture
def used(environment: Connection) -> Iterator[list[Call]]:
    """The calls of a day's work: every command that people have for runs and sweeps, each of which succeeds."""
    environment.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    environment.ledger.create(new_run("old", state=RunState.PAUSED, committed_step=2))
    for step in (1, 2):
        environment.s3.put_object(Bucket=BUCKET, Key=manifest_key("old", 1, step), Body=b'{"objects": []}')
    environment.ledger.create(new_run("parked", state=RunState.PARKED, **where(environment)))
    with recorded() as calls:
        for words in (
            ("submit", "--name", "first", "--total-cap", "9", "--fallback-cap", "2", "--", "python", "train.py"),
            ("submit", "--name", "own", "--image", DIGEST, "--secret", f"KEY={SECRET}", "--no-source", "--", "true"),
            ("sweep", "submit", "lr", "--param", "LR=0.1,0.01", "--", "python", "train.py"),
            ("sweep", "status", "lr"),
            ("status",),
            ("resume", "parked"),
            ("checkpoints", "list", "old"),
            ("checkpoints", "roll-back", "old", "--step", "1"),
            ("budget", "--run", "parked"),
            ("savings",),
            ("pools",),
            ("sweep", "cancel", "lr"),
        ):
            result = spotkeeper(*words)
            assert result.exit_code == 0, (words, result.stderr)
            if words[:3] == ("submit", "--name", "first"):
                run = only_run_named(environment, "first")
                for more in (("status", run), ("logs", run), ("priority", run, "7"), ("pause", run), ("cancel", run)):
                    result = spotkeeper(*more)
                    assert result.exit_code == 0, (more, result.stderr)
        yield calls


def where(environment: Connection) -> dict[str, str]:
    """Queue and job definition, as a run that was submitted there has them."""
    profile = environment.descriptor.profiles["cpu"]
    return {"job_queue": profile.spot_queue, "job_definition": profile.job_definition}


def only_run_named(environment: Connection, name: str) -> str:
    (found,) = [run.run_id for run in environment.ledger.list_runs("open", 10) if run.run_id.startswith(name)]
    return found


def test_it_suffices_for_every_call_of_every_command_that_people_have_for_runs(
    used: list[Call], any_environment: Assembly
) -> None:
    assert denied(used, any_environment) == []
    assert {"RegisterJobDefinition", "SubmitJob", "TerminateJob", "TransactWriteItems", "DeleteObject"} <= {
        operation for _, operation, _ in used
    }


def test_with_that_of_sagemaker_it_suffices_to_look_at_a_run_there(with_training: Connection, dev: Assembly) -> None:
    run = ran(with_training, job_billed_seconds=3600)
    write_counters(with_training, run)

    with recorded() as calls:
        for words in (("status", run.run_id), ("logs", run.run_id), ("savings",)):
            result = spotkeeper(*words)
            assert result.exit_code == 0, (words, result.stderr)

    assert denied(calls, dev, *managed_policy(dev, "sagemaker", "SubmitTrainingPolicy")) == []
    asked = [request.action for request in denied(calls, dev)]
    assert {"logs:DescribeLogStreams", "logs:GetLogEvents"} == set(asked), "what SubmitPolicy alone does not allow"


def test_reading_a_log_is_allowed_in_the_jobs_own_group_alone(dev: Assembly) -> None:
    stream = {"logGroupName": LOG_GROUP, "logStreamName": "cpu/default/0a1b"}

    assert denied([("logs", "GetLogEvents", stream)], dev) == []
    elsewhere = Request(
        action="logs:GetLogEvents", resource=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:payroll:log-stream:x"
    )
    assert not is_allowed(elsewhere, submit_policy(dev))


@pytest.mark.parametrize("also", [[], [ADMINISTRATOR]], ids=["alone", "administrator"])
def test_it_submits_to_no_on_demand_queue_whatever_else_is_allowed(
    any_environment: Assembly, also: list[Statement]
) -> None:
    for queue in queues_of(any_environment, "on_demand"):
        assert not is_allowed(
            Request(action="batch:SubmitJob", resource=queue), [*submit_policy(any_environment), *also]
        )


def test_it_registers_no_privileged_container_even_for_an_administrator(dev: Assembly) -> None:
    definition = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/mine"

    def may(privileged: str) -> bool:
        request = Request(
            action="batch:RegisterJobDefinition", resource=definition, context={"batch:Privileged": privileged}
        )
        return is_allowed(request, [*submit_policy(dev), ADMINISTRATOR])

    assert may("false")
    assert not may("true")


def test_it_passes_the_two_roles_of_a_job_to_tasks_and_no_role_to_anything_else(dev: Assembly) -> None:
    def may(role: str, service: str) -> bool:
        request = Request(action="iam:PassRole", resource=role, context={"iam:PassedToService": service})
        return is_allowed(request, submit_policy(dev))

    for role in DeployedNames(dev).roles():
        assert may(role, "ecs-tasks.amazonaws.com")
        assert not may(role, "ec2.amazonaws.com")
    assert not may(f"arn:aws:iam::{ACCOUNT}:role/Administrator", "ecs-tasks.amazonaws.com")


@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("PutObject", "commit/train/000001-000000000010.json"),
        ("PutObject", "data/train/x"),
        ("GetObject", "data/train/x"),
        ("DeleteObject", "data/train/x"),
        ("DeleteObject", "source/9f86d081.tar.gz"),
        ("DeleteObjectVersion", "commit/train/000001-000000000010.json"),
    ],
)
def test_it_neither_writes_nor_reads_what_runs_have_saved_nor_deletes_it_for_good(
    dev: Assembly, action: str, key: str
) -> None:
    context = {
        "aws:SecureTransport": "true",
        "s3:TlsVersion": "1.3",
        "s3:ObjectCreationOperation": "true",
        "s3:if-none-match": "*",
    }
    request = Request(action=f"s3:{action}", resource=f"{DeployedNames(dev).bucket()}/{key}", context=context)

    assert not is_allowed(request, submit_policy(dev), bucket_policy(dev))


def test_it_deletes_no_item_of_the_ledger(dev: Assembly) -> None:
    request = Request(action="dynamodb:DeleteItem", resource=DeployedNames(dev).ledger())

    assert not is_allowed(request, submit_policy(dev))


def test_a_call_that_a_command_begins_to_make_is_noticed(dev: Assembly) -> None:
    with pytest.raises(NotImplementedError, match="sns Publish"):
        denied([("sns", "Publish", {})], dev)
    assert denied([("batch", "TerminateJob", {"jobId": "0a1b"})], dev) == []
    without = [statement for statement in submit_policy(dev) if statement["Sid"] != "StopJobs"]
    (stop,) = requests_of(("batch", "TerminateJob", {"jobId": "0a1b"}), DeployedNames(dev))
    assert not is_allowed(stop, without), json.dumps(without)
