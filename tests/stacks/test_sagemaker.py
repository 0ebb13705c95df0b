import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern

import app
from stacks.environments import DEV, TRAINING_CPU
from stacks.training_settings import TrainingSettings
from tests.stacks.iam_evaluation import Request, Statement, is_allowed
from tests.stacks.policies import as_list
from tests.stacks.synthesized import ACCOUNT, REGION, Assembly

BUCKET = f"arn:aws:service:{REGION}:{ACCOUNT}:Checkpoints620E2F20.Arn"
ROLE = f"arn:aws:service:{REGION}:{ACCOUNT}:TrainingRoleAA3C7BE5.Arn"
LOGS = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs"
HTTPS = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
CREATES = {**HTTPS, "s3:ObjectCreationOperation": "true"}
IF_ABSENT = {**CREATES, "s3:if-none-match": "*"}
RECORDED = Path(__file__).parents[1] / "recorded_events"
MOVERS = ("ObserveJob", "SweepRuns")


def job(name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"


def policy(assembly: Assembly, stack: str, type_: str, id_prefix: str) -> list[Statement]:
    document = assembly.one(stack, type_, id_prefix)["PolicyDocument"]
    statements: list[Statement] = assembly.resolved(stack, document["Statement"])
    return statements


def training_role(assembly: Assembly) -> list[Statement]:
    return policy(assembly, "sagemaker", "AWS::IAM::Policy", "TrainingRole")


def bucket_policy(assembly: Assembly) -> list[Statement]:
    return policy(assembly, "storage", "AWS::S3::BucketPolicy", "")


def mover(assembly: Assembly, function: str) -> list[Statement]:
    return policy(assembly, "recovery", "AWS::IAM::Policy", f"{function}Role")


def person(assembly: Assembly) -> list[Statement]:
    return policy(assembly, "sagemaker", "AWS::IAM::ManagedPolicy", "SubmitTrainingPolicy")


def described(assembly: Assembly) -> dict[str, Any] | None:
    (parameter,) = assembly.resources("batch", "AWS::SSM::Parameter").values()
    training: dict[str, Any] | None = json.loads(assembly.resolved("batch", parameter["Properties"]["Value"]))[
        "training"
    ]
    return training


def synthesized(training: TrainingSettings | None, folder: Path) -> Assembly:
    app.assemble(replace(DEV, training=training), str(folder)).synth()
    return Assembly(folder, "dev")


def test_an_environment_without_training_settings_has_no_stack_no_permission_and_no_event_of_sagemaker(
    tmp_path: Path,
) -> None:
    without = synthesized(None, tmp_path)

    assert "sagemaker" not in without.templates
    assert described(without) is None
    assert "sagemaker" not in json.dumps(without.templates).lower()


@pytest.mark.parametrize(
    ("action", "key", "context"),
    [
        ("PutObject", "data/mine/e000001-s000000000100-a1b2/r0.safetensors", CREATES),
        ("PutObject", "commit/mine/000001-000000000100.json", IF_ABSENT),
        ("PutObject", "epoch/mine/000001", IF_ABSENT),
        # SageMaker's mirror overwrites.
        ("PutObject", "mirror/mine/state.json", CREATES),
        ("GetObject", "mirror/mine/state.json", HTTPS),
        ("GetObject", "source/9f86d081.tar.gz", HTTPS),
        ("ListBucket", "", HTTPS),
    ],
)
def test_a_training_job_may_do_what_checkpoints_and_mirror_need(
    any_environment: Assembly, action: str, key: str, context: dict[str, str]
) -> None:
    request = Request(action=f"s3:{action}", resource=f"{BUCKET}/{key}" if key else BUCKET, context=context)

    assert is_allowed(request, training_role(any_environment), bucket_policy(any_environment))


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:PutObject", f"{BUCKET}/source/9f86d081.tar.gz", IF_ABSENT),
        ("s3:PutObject", f"{BUCKET}/other/x", CREATES),
        # A manifest that is there is never written again.
        ("s3:PutObject", f"{BUCKET}/commit/mine/000001-000000000100.json", CREATES),
        ("s3:DeleteObjectVersion", f"{BUCKET}/mirror/mine/state.json", HTTPS),
        ("s3:PutObject", "arn:aws:s3:::somebody-elses/x", CREATES),
        ("sagemaker:CreateTrainingJob", job("dev-mine-2"), {}),
        ("sagemaker:StopTrainingJob", job("dev-other-1"), {}),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "sagemaker.amazonaws.com"}),
        ("logs:PutLogEvents", f"{LOGS}:log-stream:somebody-else-1/algo-1-1", {}),
        ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "Spotkeeper"}),
    ],
)
def test_a_training_job_may_do_nothing_beside(
    any_environment: Assembly, action: str, resource: str, context: dict[str, str]
) -> None:
    request = Request(action=action, resource=resource, context=context)

    assert not is_allowed(request, training_role(any_environment), bucket_policy(any_environment))


def test_sagemaker_alone_takes_on_the_role_and_for_this_account_only(any_environment: Assembly) -> None:
    (statement,) = any_environment.one("sagemaker", "AWS::IAM::Role", "TrainingRole")["AssumeRolePolicyDocument"][
        "Statement"
    ]

    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_role_reads_the_ledger_items_of_runs_only(dev: Assembly) -> None:
    ledger = f"arn:aws:service:{REGION}:{ACCOUNT}:LedgerB7379752.Arn"
    for key, expected in (("RUN#mine", True), ("BUDGET#env", False), ("INSTANCE#i-0abc", False)):
        request = Request(action="dynamodb:UpdateItem", resource=ledger, context={"dynamodb:LeadingKeys": [key]})

        assert is_allowed(request, training_role(dev)) is expected, key


CLOSED: dict[str, Any] = {"sagemaker:VpcSubnets": ["subnet-1"], "sagemaker:InterContainerTrafficEncryption": "true"}
"""What the control plane asks for in staging and prod."""


@pytest.mark.parametrize("function", MOVERS)
def test_what_reserves_may_create_follow_and_stop_the_environments_training_jobs(
    synthesize: Callable[[str], Assembly], function: str
) -> None:
    cases: tuple[tuple[str, str, dict[str, Any]], ...] = (("dev", "ml.m5.xlarge", {}), ("prod", "ml.g5.xlarge", CLOSED))
    for name, type_, context in cases:
        statements = mover(synthesize(name), function)
        spot: dict[str, Any] = {**context, "sagemaker:InstanceTypes": [type_]}

        assert is_allowed(
            Request(action="sagemaker:CreateTrainingJob", resource=job(f"{name}-mine-1"), context=spot), statements
        )
        # The on-demand leg, should SageMaker not tell IAM the types of InstancePreferences.
        assert is_allowed(
            Request(action="sagemaker:CreateTrainingJob", resource=job(f"{name}-mine-1"), context=context), statements
        )
        for action in ("DescribeTrainingJob", "StopTrainingJob", "AddTags", "ListTags"):
            assert is_allowed(Request(action=f"sagemaker:{action}", resource=job(f"{name}-mine-1")), statements)


@pytest.mark.parametrize(
    ("resource", "context"),
    [
        (job("somebody-elses"), {**CLOSED, "sagemaker:InstanceTypes": ["ml.g5.xlarge"]}),
        (job("prod-mine-1"), {**CLOSED, "sagemaker:InstanceTypes": ["ml.p5.48xlarge"]}),
        (job("prod-mine-1"), {**CLOSED, "sagemaker:InstanceTypes": ["ml.g5.xlarge", "ml.p5.48xlarge"]}),
        (job("prod-mine-1"), {"sagemaker:InterContainerTrafficEncryption": "true"}),
        (job("prod-mine-1"), {**CLOSED, "sagemaker:InterContainerTrafficEncryption": "false"}),
    ],
)
def test_what_reserves_may_create_no_other_training_jobs(
    prod: Assembly, resource: str, context: dict[str, Any]
) -> None:
    for function in MOVERS:
        request = Request(action="sagemaker:CreateTrainingJob", resource=resource, context=context)

        assert not is_allowed(request, mover(prod, function)), function


@pytest.mark.parametrize("function", MOVERS)
def test_a_function_passes_the_training_role_to_sagemaker_and_to_nothing_else(dev: Assembly, function: str) -> None:
    statements = mover(dev, function)
    for service, role, expected in (
        ("sagemaker.amazonaws.com", ROLE, True),
        ("ec2.amazonaws.com", ROLE, False),
        ("sagemaker.amazonaws.com", f"{ROLE}-other", False),
    ):
        request = Request(action="iam:PassRole", resource=role, context={"iam:PassedToService": service})

        assert is_allowed(request, statements) is expected, (service, role)


def test_other_functions_create_no_training_jobs(any_environment: Assembly) -> None:
    for function in ("RecordInterruption", "RecordBlockedQueue"):
        assert "sagemaker:" not in json.dumps(mover(any_environment, function))


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"sagemaker:InstanceTypes": ["ml.m5.xlarge"], "sagemaker:MaxRuntimeInSeconds": "21600"}, True),
        ({"sagemaker:InstanceTypes": ["ml.m5.xlarge"], "sagemaker:MaxRuntimeInSeconds": "21601"}, False),
        ({"sagemaker:InstanceTypes": ["ml.p5.48xlarge"], "sagemaker:MaxRuntimeInSeconds": "60"}, False),
        (
            {
                "sagemaker:InstanceTypes": ["ml.m5.xlarge", "ml.p5.48xlarge"],  # of InstanceGroups
                "sagemaker:MaxRuntimeInSeconds": "60",
            },
            False,
        ),
        ({"sagemaker:MaxRuntimeInSeconds": "60"}, False),
        ({"sagemaker:InstanceTypes": ["ml.m5.xlarge"]}, False),
    ],
)
def test_people_create_training_jobs_of_the_settings_types_and_length_only(
    dev: Assembly, context: dict[str, Any], expected: bool
) -> None:
    request = Request(action="sagemaker:CreateTrainingJob", resource=job("dev-mine-1"), context=context)

    assert is_allowed(request, person(dev)) is expected


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({**CLOSED, "sagemaker:InstanceTypes": ["ml.g5.xlarge"]}, True),
        (CLOSED, False),
        ({"sagemaker:InterContainerTrafficEncryption": "true", "sagemaker:InstanceTypes": ["ml.g5.xlarge"]}, False),
    ],
    ids=["closed", "without a type", "without a network"],
)
def test_people_name_a_type_and_a_network_where_the_settings_want_one(
    prod: Assembly, context: dict[str, Any], expected: bool
) -> None:
    context = {**context, "sagemaker:MaxRuntimeInSeconds": "60"}
    request = Request(action="sagemaker:CreateTrainingJob", resource=job("prod-mine-1"), context=context)

    assert is_allowed(request, person(prod)) is expected


def test_people_read_log_lines_of_the_environments_jobs_only(dev: Assembly) -> None:
    for stream, expected in (("dev-mine-1/algo-1-1", True), ("prod-mine-1/algo-1-1", False)):
        request = Request(action="logs:GetLogEvents", resource=f"{LOGS}:log-stream:{stream}")

        assert is_allowed(request, person(dev)) is expected, stream
    # It knows no streams, only the group, which holds the lines of all jobs of the account.
    assert not is_allowed(Request(action="logs:FilterLogEvents", resource=f"{LOGS}:*"), person(dev))


@pytest.mark.parametrize(
    ("action", "key", "expected"),
    [
        ("DeleteObject", "commit/mine/000001-000000000100.json", True),
        ("DeleteObject", "data/mine/e000001-s000000000100-a1b2/r0.safetensors", False),
        ("DeleteObjectVersion", "commit/mine/000001-000000000100.json", False),
        ("PutObject", "commit/mine/000001-000000000100.json", False),
        ("GetObject", "data/mine/e000001-s000000000100-a1b2/r0.safetensors", False),
    ],
)
def test_people_roll_back_in_a_mirror_and_neither_read_nor_write_its_data(
    dev: Assembly, action: str, key: str, *, expected: bool
) -> None:
    request = Request(action=f"s3:{action}", resource=f"{BUCKET}/mirror/mine/{key}", context=HTTPS)

    assert is_allowed(request, person(dev)) is expected


def event(name: str) -> dict[str, Any]:
    """In the shape of docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html."""
    return {
        "version": "0",
        "id": "844e2571-85d4-695f-b930-0153b71dcb42",
        "detail-type": "SageMaker Training Job State Change",
        "source": "aws.sagemaker",
        "account": ACCOUNT,
        "time": "2026-11-26T12:00:00Z",
        "region": REGION,
        "resources": [job(name)],
        "detail": {
            "TrainingJobName": name,
            "TrainingJobArn": job(name),
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Interrupted",
        },
    }


def reached(assembly: Assembly, sample: dict[str, Any]) -> list[Any]:
    """Return the targets of each rule that selects an event."""
    rules = [rule["Properties"] for rule in assembly.resources("recovery", "AWS::Events::Rule").values()]
    return [
        rule["Targets"]
        for rule in rules
        if "EventPattern" in rule
        and EventPattern.load(json.dumps(assembly.resolved("recovery", rule["EventPattern"]))).matches_event(sample)  # type: ignore[arg-type]
    ]


def test_state_changes_of_the_environments_training_jobs_reach_the_queue_of_observe_job(dev: Assembly) -> None:
    by_batch = dev.one("recovery", "AWS::Events::Rule", "ObserveJobRule")["Targets"]
    (by_sagemaker,) = reached(dev, event("dev-mine-1"))

    assert [target["Arn"] for target in by_sagemaker] == [target["Arn"] for target in by_batch]
    assert [target["DeadLetterConfig"] for target in by_sagemaker] == [
        target["DeadLetterConfig"] for target in by_batch
    ]
    assert not reached(dev, event("prod-mine-1"))
    assert not reached(dev, {**event("dev-mine-1"), "account": "999999999999"})


def test_dev_costs_nothing_beside_and_the_others_are_closed(synthesize: Callable[[str], Assembly]) -> None:
    dev = described(synthesize("dev"))
    assert dev is not None
    assert (dev["subnet_ids"], dev["security_group_ids"], dev["kms_key_arn"]) == ([], [], None)
    assert not dev["encrypts_between_nodes"]
    for name, zones in (("staging", 3), ("prod", 5)):
        training = described(synthesize(name))
        assert training is not None
        assert (len(training["subnet_ids"]), len(training["security_group_ids"])) == (zones, 1)
        assert training["kms_key_arn"]
        assert training["encrypts_between_nodes"]
        # Straight to S3: isolation is for those who need it.
        assert not training["is_isolated"]


def test_nodes_of_a_job_reach_one_another_and_nothing_else_comes_in(prod: Assembly) -> None:
    (group,) = prod.resources("sagemaker", "AWS::EC2::SecurityGroup")
    (ingress,) = prod.resources("sagemaker", "AWS::EC2::SecurityGroupIngress").values()

    assert "SecurityGroupIngress" not in prod.one("sagemaker", "AWS::EC2::SecurityGroup")
    assert ingress["Properties"]["SourceSecurityGroupId"] == {"Fn::GetAtt": [group, "GroupId"]}
    assert ingress["Properties"]["GroupId"] == {"Fn::GetAtt": [group, "GroupId"]}
    assert ingress["Properties"]["IpProtocol"] == "-1"


def test_sagemaker_makes_interfaces_in_the_environments_subnets_only(prod: Assembly, dev: Assembly) -> None:
    training = described(prod)
    assert training is not None
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    made = f"{ec2}:network-interface/eni-1"

    def may(action: str, resource: str, subnet: str = "") -> bool:
        context = {"ec2:Subnet": f"{ec2}:subnet/{subnet}"} if subnet else {}
        return is_allowed(Request(action=f"ec2:{action}", resource=resource, context=context), training_role(prod))

    for subnet in training["subnet_ids"]:
        assert may("CreateNetworkInterface", f"{ec2}:subnet/{subnet}")
        assert may("DeleteNetworkInterface", made, subnet)
    assert not may("CreateNetworkInterface", f"{ec2}:subnet/subnet-other")
    assert not may("DeleteNetworkInterface", made, "subnet-other")
    assert not [action for s in training_role(dev) for action in as_list(s["Action"]) if action.startswith("ec2:")]


def test_the_key_is_rotated_and_outlives_its_stack_under_its_old_name(synthesize: Callable[[str], Assembly]) -> None:
    for name in ("staging", "prod"):
        keys = synthesize(name).resources("sagemaker", "AWS::KMS::Key")

        assert list(keys) == ["Key961B73FD"]
        assert keys["Key961B73FD"]["Properties"]["EnableKeyRotation"] is True
        assert keys["Key961B73FD"]["DeletionPolicy"] == "Retain"
    assert not synthesize("dev").resources("sagemaker", "AWS::KMS::Key")


def test_a_queue_of_aws_batch_for_training_jobs_is_there_where_it_is_asked_for_only(
    dev: Assembly, tmp_path: Path
) -> None:
    settings = TrainingSettings(profiles=(TRAINING_CPU,), default_profile="sm-cpu", service_queue_instances=8)
    asked = synthesized(settings, tmp_path)
    queue = asked.one("sagemaker", "AWS::Batch::JobQueue")
    training = described(asked)

    assert queue["JobQueueType"] == "SAGEMAKER_TRAINING"
    assert "ComputeEnvironmentOrder" not in queue
    assert asked.one("sagemaker", "AWS::Batch::ServiceEnvironment") | {"Tags": None} == {
        "ServiceEnvironmentType": "SAGEMAKER_TRAINING",
        "CapacityLimits": [{"MaxCapacity": 8, "CapacityUnit": "NUM_INSTANCES"}],
        "Tags": None,
    }
    assert training is not None
    assert is_allowed(Request(action="batch:SubmitServiceJob", resource=training["service_queue"]), person(asked))
    assert not dev.resources("sagemaker", "AWS::Batch::JobQueue")
    assert "batch:" not in json.dumps(person(dev))


def test_what_is_sent_to_that_queue_reaches_no_function_because_aws_batch_names_its_training_job(
    tmp_path: Path,
) -> None:
    settings = TrainingSettings(profiles=(TRAINING_CPU,), default_profile="sm-cpu", service_queue_instances=8)
    asked = synthesized(settings, tmp_path)
    training = described(asked)
    assert training is not None
    told = json.loads((RECORDED / "service_job_succeeded.json").read_text())
    told["detail"]["jobQueue"] = training["service_queue"]
    its_job = told["detail"]["latestAttempt"]["serviceResourceId"]["value"].rpartition("/")[2]

    assert not reached(asked, told)
    assert not reached(asked, event(its_job))
    follows = Request(action="sagemaker:DescribeTrainingJob", resource=job(its_job))
    assert not any(is_allowed(follows, mover(asked, function)) for function in MOVERS)
