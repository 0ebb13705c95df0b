import fnmatch
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from spotkeeper.contract.budgets import SWITCH_PARTITION, budget_partition
from spotkeeper.contract.ledger import completion_request, instance_partition
from stacks.environments import DEV
from tests.stacks.policies import as_list, queues_of
from tests.stacks.synthesized import Assembly

# The APIs that have no resource-level permission; the ones of Batch only read.
WITHOUT_RESOURCE = {
    "ecr:GetAuthorizationToken",
    "batch:DescribeJobs",
    "batch:ListJobs",
    "ec2:DescribeSpotPriceHistory",
    "ecs:DiscoverPollEndpoint",
    "sagemaker:ListTrainingJobs",
    # SageMaker's reading of the network, where containers stand in it; its metrics, bound to its namespace.
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "cloudwatch:PutMetricData",
}


def allowed(assembly: Assembly, stack: str, role: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of action and resource that the policies of roles whose id begins with `role` allow."""
    for id_, policy in assembly.resources(stack, "AWS::IAM::Policy").items():
        if id_.startswith(role):
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                for action in as_list(statement["Action"]) if statement["Effect"] == "Allow" else ():
                    for resource in as_list(statement["Resource"]):
                        yield action, assembly.resolved(stack, resource)


def test_only_reads_without_resource_level_permission_are_allowed_on_everything(any_environment: Assembly) -> None:
    for stack in any_environment.templates:
        for action, resource in allowed(any_environment, stack):
            assert "*" not in action
            assert resource != "*" or action in WITHOUT_RESOURCE, action


def test_a_job_may_do_exactly_this(dev: Assembly) -> None:
    bucket = "arn:aws:service:us-east-1:123456789012:Checkpoints620E2F20.Arn"
    ledger = "arn:aws:service:us-east-1:123456789012:LedgerB7379752.Arn"

    assert set(allowed(dev, "batch", "JobRole")) == {
        *(("s3:GetObject", f"{bucket}/{prefix}/*") for prefix in ("data", "commit", "epoch", "source")),
        *(("s3:PutObject", f"{bucket}/{prefix}/*") for prefix in ("data", "commit", "epoch")),
        *(("s3:DeleteObject", f"{bucket}/{prefix}/*") for prefix in ("data", "commit")),
        *(("s3:AbortMultipartUpload", f"{bucket}/{prefix}/*") for prefix in ("data", "commit")),
        ("s3:ListBucket", bucket),
        ("dynamodb:GetItem", ledger),
        ("dynamodb:UpdateItem", ledger),
    }


def statement(assembly: Assembly, sid: str) -> dict[str, Any]:
    """The only statement of the batch stack with that name."""
    found = [
        statement
        for policy in assembly.resources("batch", "AWS::IAM::Policy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement.get("Sid") == sid
    ]
    assert len(found) == 1
    resolved: dict[str, Any] = assembly.resolved("batch", found[0])
    return resolved


def test_a_job_reads_and_writes_ledger_items_of_runs_only_and_never_without_naming_a_key(dev: Assembly) -> None:
    request = completion_request(table="t", run_id="resnet-1", epoch=1, step=1, completed_at="")
    condition = statement(dev, "ClaimAndComplete")["Condition"]
    (pattern,) = condition["ForAllValues:StringLike"].pop("dynamodb:LeadingKeys")

    assert condition == {"ForAllValues:StringLike": {}, "Null": {"dynamodb:LeadingKeys": "false"}}
    assert fnmatch.fnmatchcase(request["Key"]["pk"]["S"], pattern)
    for closed in (instance_partition("i-0abc"), budget_partition("run/resnet-1"), SWITCH_PARTITION):
        assert not fnmatch.fnmatchcase(closed, pattern)


def test_a_host_may_join_its_cluster_and_do_exactly_this(dev: Assembly) -> None:
    ecs = "arn:aws:ecs:us-east-1:123456789012"

    assert "ManagedPolicyArns" not in dev.one("batch", "AWS::IAM::Role", "HostRole")
    assert set(allowed(dev, "batch", "HostRole")) == {
        ("ecs:DiscoverPollEndpoint", "*"),
        ("ecs:RegisterContainerInstance", f"{ecs}:cluster/AWSBatch*"),
        ("ecs:DeregisterContainerInstance", f"{ecs}:cluster/AWSBatch*"),
        ("ecs:SubmitAttachmentStateChanges", f"{ecs}:cluster/AWSBatch*"),
        ("ecs:SubmitContainerStateChange", f"{ecs}:cluster/AWSBatch*"),
        ("ecs:SubmitTaskStateChange", f"{ecs}:cluster/AWSBatch*"),
        ("ecs:Poll", f"{ecs}:container-instance/*"),
        ("ecs:StartTelemetrySession", f"{ecs}:container-instance/*"),
        ("ecs:UpdateContainerInstancesState", f"{ecs}:container-instance/*"),
        ("ecs:TagResource", f"{ecs}:container-instance/*"),
    }
    assert statement(dev, "TakeTasksAndDrain")["Condition"] == {"ArnLike": {"ecs:cluster": f"{ecs}:cluster/AWSBatch*"}}
    assert statement(dev, "TagOnJoining")["Condition"] == {
        "StringEquals": {"ecs:CreateAction": "RegisterContainerInstance"}
    }


def test_no_role_of_batch_has_a_policy_that_somebody_else_may_widen(any_environment: Assembly) -> None:
    roles = any_environment.resources("batch", "AWS::IAM::Role").values()

    assert len(roles) == 3
    assert not [role for role in roles if "ManagedPolicyArns" in role["Properties"]]


def test_a_job_can_neither_delete_versions_nor_submit_jobs(any_environment: Assembly) -> None:
    actions = {action for action, _ in allowed(any_environment, "batch")}

    for forbidden in ("s3:DeleteObjectVersion", "s3:PutBucket*", "batch:*", "iam:*", "dynamodb:DeleteItem"):
        assert not fnmatch.filter(actions, forbidden)


def test_starting_a_job_needs_its_image_and_its_log_stream(dev: Assembly) -> None:
    repository = "arn:aws:service:us-east-1:123456789012:Images2D38C313.Arn"
    group = "arn:aws:service:us-east-1:123456789012:JobLogs4F84869B.Arn:*"

    assert set(allowed(dev, "batch", "ExecutionRole")) == {
        ("ecr:BatchCheckLayerAvailability", repository),
        ("ecr:BatchGetImage", repository),
        ("ecr:GetDownloadUrlForLayer", repository),
        ("ecr:GetAuthorizationToken", "*"),
        ("logs:CreateLogStream", group),
        ("logs:PutLogEvents", group),
    }


MOVES_RUNS = {
    ("batch:CancelJob", "arn:aws:batch:us-east-1:123456789012:job/*"),
    ("batch:DescribeJobs", "*"),
    ("batch:ListJobs", "*"),
    ("ec2:DescribeSpotPriceHistory", "*"),
    ("batch:SubmitJob", "arn:aws:batch:us-east-1:123456789012:job-definition/*"),
    ("batch:TagResource", "arn:aws:batch:us-east-1:123456789012:job/*"),
    ("batch:TerminateJob", "arn:aws:batch:us-east-1:123456789012:job/*"),
    *(
        (f"sagemaker:{action}", "arn:aws:sagemaker:us-east-1:123456789012:training-job/dev-*")
        for action in ("AddTags", "CreateTrainingJob", "DescribeTrainingJob", "ListTags", "StopTrainingJob")
    ),
    ("iam:PassRole", "arn:aws:service:us-east-1:123456789012:TrainingRoleAA3C7BE5.Arn"),
    ("s3:ListBucket", "arn:aws:service:us-east-1:123456789012:Checkpoints620E2F20.Arn"),
    *(
        ("s3:GetObject", f"arn:aws:service:us-east-1:123456789012:Checkpoints620E2F20.Arn/mirror/*/{part}/*")
        for part in ("commit", "completion")
    ),
    *(
        ("s3:DeleteObject", f"arn:aws:service:us-east-1:123456789012:Checkpoints620E2F20.Arn/mirror/*/{part}/*")
        for part in ("commit", "data")
    ),
    ("ssm:GetParameter", "arn:aws:ssm:us-east-1:123456789012:parameter/spotkeeper/dev/descriptor"),
}
MOVES_MONEY = {"ConditionCheckItem", "GetItem", "PutItem", "Query", "UpdateItem"}
LEDGER = "arn:aws:service:us-east-1:123456789012:LedgerB7379752.Arn"


@pytest.mark.parametrize(
    ("function", "ledger_actions", "others"),
    [
        ("RecordInterruption", {"UpdateItem"}, set()),
        ("ObserveJob", MOVES_MONEY, MOVES_RUNS),
        ("RecordBlockedQueue", {"GetItem", "PutItem"}, {("batch:DescribeJobs", "*")}),
        (
            "SweepRuns",
            {"BatchGetItem", *MOVES_MONEY},
            {*MOVES_RUNS, ("dynamodb:Query", f"{LEDGER}/index/listing"), ("sagemaker:ListTrainingJobs", "*")},
        ),
    ],
)
def test_a_handler_may_do_exactly_this(
    dev: Assembly, function: str, ledger_actions: set[str], others: set[tuple[str, str]]
) -> None:
    queues = {("batch:SubmitJob", arn) for market in ("spot", "on_demand") for arn in queues_of(dev, market)}
    permissions = set(allowed(dev, "recovery", function))

    assert {action.partition(":")[2] for action, on in permissions if on == LEDGER} == ledger_actions
    rest = {(action, on) for action, on in permissions if on != LEDGER}
    own_queue = {(action, on) for action, on in rest if on.rpartition(":")[2].startswith(f"{function}Events")}
    assert {action for action, _ in own_queue} == {
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:ReceiveMessage",
    }
    logs = {(action, on) for action, on in rest if action in ("logs:CreateLogStream", "logs:PutLogEvents")}
    assert len(logs) == 2
    assert rest - own_queue - logs == others | (queues if others >= MOVES_RUNS else set())


def test_handlers_list_manifests_and_mirrors_only(dev: Assembly) -> None:
    for function in ("ObserveJob", "SweepRuns"):
        statements = dev.one("recovery", "AWS::IAM::Policy", f"{function}Role")["PolicyDocument"]["Statement"]
        listings = [statement for statement in statements if statement["Action"] == "s3:ListBucket"]

        assert [listing["Condition"] for listing in listings] == [
            {"StringLike": {"s3:prefix": [f"{prefix}*"]}} for prefix in ("commit/", "mirror/")
        ]


def test_what_the_settings_name_is_granted_and_nothing_beside_it(dev: Assembly, tmp_path: Path) -> None:
    secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-token-a1b2c3"
    settings = replace(
        DEV,
        data_prefixes=("s3://corpus/books/", "s3://other/"),
        secret_arns=(secret,),
        image_repositories=("team/trainer",),
    )

    app.assemble(settings, str(tmp_path)).synth()

    granted = Assembly(tmp_path, "dev")
    assert set(allowed(granted, "batch")) - set(allowed(dev, "batch")) == {
        ("s3:GetObject", "arn:aws:s3:::corpus/books/*"),
        ("s3:GetObject", "arn:aws:s3:::other/*"),
        ("s3:ListBucket", "arn:aws:s3:::corpus"),
        ("s3:ListBucket", "arn:aws:s3:::other"),
        ("secretsmanager:GetSecretValue", secret),
        *(
            (action, "arn:aws:ecr:us-east-1:123456789012:repository/team/trainer")
            for action in ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
        ),
    }
    statements = granted.one("batch", "AWS::IAM::Policy", "JobRole")["PolicyDocument"]["Statement"]
    listed = [statement["Condition"] for statement in statements if "StringLike" in statement.get("Condition", {})]
    assert listed == [{"StringLike": {"s3:prefix": [prefix]}} for prefix in ("books/*", "*")]
