import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from emulation.aws import Aws
from emulation.server import Server
from emulation.templates import launch_template
from emulation.templates.adapt import SKIPPED
from emulation.templates.assembly import Assembly, read, synthesize, zip_folder
from emulation.templates.deployment import UnsupportedError
from emulation.templates.load import LoadError, load, location
from emulation.templates.verify import differences
from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.contract.names import descriptor_parameter
from stacks.environments import DEV, ENVIRONMENTS
from tests.emulation import sample_stack


@pytest.fixture(scope="session")
def dev(deployable: Callable[[str], Assembly]) -> Assembly:
    return deployable("dev")


# The templates that an account would get


def test_every_resource_of_dev_is_created_or_skipped_for_a_known_reason(
    dev: Assembly, aws: Aws, server: Server
) -> None:
    _, report = load(dev, aws, environment="dev", failures=lambda: server.failures)

    wanted = {(stack.name, logical_id) for stack in dev.stacks for logical_id in stack.template["Resources"]}
    created = {(resource.stack, resource.logical_id) for resource in report.created}
    assert len(wanted) == len(created) + len(report.skipped)
    assert created < wanted
    # Nothing more may be left out without this test being told.
    assert {note.type for note in report.skipped} == {
        "AWS::Batch::SchedulingPolicy",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::CompositeAlarm",
        "AWS::Lambda::EventSourceMapping",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
    }
    assert server.failures == ()


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_every_environment_that_is_shipped_loads(
    environment: str, aws: Aws, server: Server, deployable: Callable[[str], Assembly]
) -> None:
    deployment, report = load(deployable(environment), aws, environment=environment, failures=lambda: server.failures)

    assert len(deployment.job_queues) == 2 * len(ENVIRONMENTS[environment].profiles)
    assert report.created
    assert server.failures == ()


def test_the_descriptor_of_dev_leads_to_queues_definitions_table_and_bucket_that_exist(dev: Assembly, aws: Aws) -> None:
    deployment, _ = load(dev, aws, environment="dev")

    stored = aws.ssm.get_parameter(Name=descriptor_parameter("dev"))["Parameter"]["Value"]
    descriptor = Descriptor.from_json(stored)
    assert descriptor.environment == "dev"
    for profile in descriptor.profiles.values():
        assert deployment.job_queues[profile.spot_queue].compute_environments
        assert deployment.job_queues[profile.on_demand_queue].compute_environments
        assert deployment.job_definitions[profile.job_definition].properties["containerProperties"]["image"]
        spot, on_demand = (
            deployment.compute_environments[deployment.job_queues[arn].compute_environments[0]]
            for arn in (profile.spot_queue, profile.on_demand_queue)
        )
        assert (spot.market, on_demand.market) == ("spot", "on-demand")
        assert len(spot.instance_types) >= 10
        assert len(spot.zones) >= 2
    aws.s3.head_bucket(Bucket=descriptor.checkpoint_bucket)
    assert aws.dynamodb.describe_table(TableName=descriptor.ledger_table)["Table"]["TableStatus"] == "ACTIVE"


def test_a_fast_emulation_hands_out_nearer_deadlines_and_says_so(dev: Assembly, aws: Aws) -> None:
    _, report = load(dev, aws, environment="dev", speed=60)

    stored = aws.ssm.get_parameter(Name=descriptor_parameter("dev"))["Parameter"]["Value"]
    placement = Descriptor.from_json(stored).placement
    assert (placement.fallback_after_seconds, placement.segment_seconds) == (10, 7200)
    assert any("fallback_after_seconds 600 -> 10" in line for line in report.lines())


def test_an_aws_budget_is_left_out_for_a_known_reason(aws: Aws, tmp_path: Path) -> None:
    app.assemble(replace(DEV, budget_alert_emails=("finance@example.org",)), str(tmp_path)).synth()

    _, report = load(read(tmp_path), aws, environment="dev")

    assert {"AWS::Budgets::Budget", "AWS::Budgets::BudgetsAction"} < {note.type for note in report.skipped}


def test_the_functions_of_dev_are_published_and_read_from_queues_with_dead_letters(dev: Assembly, aws: Aws) -> None:
    deployment, _ = load(dev, aws, environment="dev")

    assert deployment.event_sources
    for source in deployment.event_sources:
        function = deployment.functions[source.function_name]
        archive = aws.s3.get_object(Bucket=function.code_bucket, Key=function.code_key)["Body"].read()
        assert archive.startswith(b"PK")
        assert deployment.queues[source.queue_arn].dead_letter_arn in deployment.queues
        assert source.reports_batch_item_failures
    targets = {target.queue_arn for rule in deployment.rules for target in rule.targets}
    assert targets == {source.queue_arn for source in deployment.event_sources}


def test_an_environment_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"environment 'nowhere' could not be synthesized.*dev.*staging.*prod"):
        synthesize("nowhere", tmp_path)


@pytest.mark.parametrize(
    ("program", "error", "told"),
    [
        (
            "raise SystemExit('RuntimeError: ENOSPC: no space left on device, copyfile')",
            OSError,
            "No space left on device",
        ),
        ("print('first'); raise SystemExit('last line')", ValueError, r"\(exit 1\): last line"),
        ("raise SystemExit(3)", ValueError, r"\(exit 3\): no message"),
    ],
)
def test_an_application_that_fails_is_reported_in_its_own_words(
    tmp_path: Path, program: str, error: type[Exception], told: str
) -> None:
    (tmp_path / "app.py").write_text(program)

    with pytest.raises(error, match=told):
        synthesize("dev", tmp_path / "out", app=tmp_path / "app.py")


# What moto drops, on the sample


def test_what_cloudformation_in_moto_drops_is_set_through_the_api(sample: Callable[..., Assembly], aws: Aws) -> None:
    deployment, report = load(sample(), aws, environment="dev")

    bucket = deployment.one("AWS::S3::Bucket").physical_id
    assert aws.s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert aws.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    rules = aws.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert {rule["ID"]: rule["Filter"] for rule in rules} == {"data": {"Prefix": "data/"}, "leftovers": {"Prefix": ""}}
    table = deployment.one("AWS::DynamoDB::Table").physical_id
    assert aws.dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["AttributeName"] == "expires_at"
    backups = aws.dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    (queue,) = aws.batch.describe_job_queues()["jobQueues"]
    (policy,) = aws.batch.describe_scheduling_policies(arns=[queue["schedulingPolicyArn"]])["schedulingPolicies"]
    assert policy["fairsharePolicy"]["shareDecaySeconds"] == 3600
    assert policy["fairsharePolicy"]["shareDistribution"] == [{"shareIdentifier": "research", "weightFactor": 1}]
    assert len(report.repaired) == 7


def test_answers_about_definitions_and_queues_say_what_the_template_says(
    sample: Callable[..., Assembly], aws: Aws, server: Server
) -> None:
    server.deployment, _ = load(sample(), aws, environment="dev")

    (definition,) = aws.batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    (queue,) = aws.batch.describe_job_queues()["jobQueues"]

    assert definition["propagateTags"] is True
    assert definition["platformCapabilities"] == ["EC2"]
    assert definition["tags"]["Upper:case"] == "kept"
    assert definition["parameters"] == {"Step": ""}
    assert definition["timeout"] == {"attemptDurationSeconds": 900}
    assert definition["revision"] == 1
    assert definition["containerProperties"]["logConfiguration"]["options"] == {
        "awslogs-group": "jobs",
        "Mode": "non-blocking",
    }
    assert queue["jobStateTimeLimitActions"] == [
        {
            "reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
            "state": "RUNNABLE",
            "maxTimeSeconds": 600,
            "action": "CANCEL",
        }
    ]


def test_a_definition_that_is_registered_later_is_answered_as_it_was_registered(
    sample: Callable[..., Assembly], aws: Aws, server: Server
) -> None:
    server.deployment, _ = load(sample(), aws, environment="dev")

    registered = aws.batch.register_job_definition(
        jobDefinitionName="derived",
        type="container",
        propagateTags=True,
        schedulingPriority=0,
        containerProperties={"image": "other", "vcpus": 1, "memory": 512},
    )

    (definition,) = aws.batch.describe_job_definitions(jobDefinitions=[registered["jobDefinitionArn"]])[
        "jobDefinitions"
    ]
    assert definition["containerProperties"]["image"] == "other"
    assert definition["propagateTags"] is True
    assert definition["schedulingPriority"] == 0


@pytest.mark.parametrize(
    ("undo", "told"),
    [
        (
            lambda aws, names: aws.s3.put_bucket_versioning(
                Bucket=names["AWS::S3::Bucket"], VersioningConfiguration={"Status": "Suspended"}
            ),
            "versioning should be 'Enabled', is 'Suspended'",
        ),
        (lambda aws, names: aws.s3.delete_bucket(Bucket=names["AWS::S3::Bucket"]), "Not Found"),
        (
            lambda aws, names: aws.s3.put_bucket_lifecycle_configuration(
                Bucket=names["AWS::S3::Bucket"],
                LifecycleConfiguration={"Rules": [{"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}]},
            ),
            "lifecycle should be",
        ),
        (
            lambda aws, names: aws.dynamodb.update_time_to_live(
                TableName=names["AWS::DynamoDB::Table"],
                TimeToLiveSpecification={"AttributeName": "expires_at", "Enabled": False},
            ),
            "time to live should be ('expires_at', 'ENABLED')",
        ),
        (
            lambda aws, names: aws.sqs.set_queue_attributes(
                QueueUrl=names["AWS::SQS::Queue"], Attributes={"VisibilityTimeout": "7"}
            ),
            "visibility time-out should be '60', is '7'",
        ),
        (
            lambda aws, names: aws.functions.update_function_configuration(
                FunctionName=names["AWS::Lambda::Function"], Timeout=9
            ),
            "time-out should be 20, is 9",
        ),
        (
            lambda aws, names: aws.ssm.put_parameter(Name=names["AWS::SSM::Parameter"], Value="x", Overwrite=True),
            "value should be",
        ),
    ],
)
def test_any_difference_between_template_and_service_is_found(
    sample: Callable[..., Assembly], aws: Aws, undo: Callable[[Aws, dict[str, str]], Any], told: str
) -> None:
    deployment, _ = load(sample(), aws, environment="dev")
    assert differences(aws, deployment) == ()
    (queue,) = (queue for queue in deployment.queues.values() if queue.dead_letter_arn)
    names = {resource.type: resource.physical_id for resource in deployment.resources} | {
        "AWS::SQS::Queue": queue.url,
        "AWS::Lambda::Function": deployment.event_sources[0].function_name,
    }

    undo(aws, names)

    (found,) = differences(aws, deployment)
    assert told in found


def test_a_resource_that_moto_does_not_create_is_missed(sample: Callable[..., Assembly], aws: Aws) -> None:
    def never(template: dict[str, Any]) -> None:
        template["Conditions"] = {"Never": {"Fn::Equals": ["1", "2"]}}
        template["Resources"]["Extra"] = {"Type": "AWS::SQS::Queue", "Condition": "Never", "Properties": {}}

    with pytest.raises(
        LoadError, match=r"says that stack sample-application is complete, but it lacks Extra \(AWS::SQS"
    ):
        load(sample(never), aws, environment="dev")


def test_what_moto_cannot_load_is_reported_with_its_own_reason(
    sample: Callable[..., Assembly], aws: Aws, server: Server
) -> None:
    def no_priority(template: dict[str, Any]) -> None:
        del template["Resources"]["JobQueue"]["Properties"]["Priority"]

    with pytest.raises(LoadError, match="sample-application could not be loaded into moto: KeyError: 'Priority'"):
        load(sample(no_priority), aws, environment="dev", failures=lambda: server.failures)


def compute(setting: str, value: Any) -> dict[str, Any]:
    given = sample_stack.APPLICATION["Resources"]["Compute"]["Properties"]["ComputeResources"]
    changed = {**given, setting: value}
    return {"ComputeResources": {name: value for name, value in changed.items() if value is not None}}


def user_data(text: str) -> dict[str, Any]:
    return {"LaunchTemplateData": {"UserData": {"Fn::Base64": text}}}


@pytest.mark.parametrize(
    ("logical_id", "change", "told"),
    [
        ("Changes", {"Targets": [{"Arn": {"Fn::GetAtt": ["Events", "Arn"]}, "Id": "T", "InputPath": "$.detail"}]},
         "rule Changes sends to .* through InputPath"),
        ("Changes", {"Targets": [{"Arn": {"Fn::GetAtt": ["Act", "Arn"]}, "Id": "T"}]}, "delivers whole events to SQS"),
        ("ConsumeEvents", {"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}, "reads .* through a filter"),
        ("Act", {"Code": {"ZipFile": "x"}}, r"function Act has code of kind \['ZipFile'\]"),
        ("Compute", compute("AllocationStrategy", "SPOT_CAPACITY_OPTIMIZED"),
         "strategy SPOT_CAPACITY_OPTIMIZED; the emulation has SPOT_PRICE_CAPACITY_OPTIMIZED for compute of type SPOT"),
        ("Compute", compute("Type", "EC2"), "the emulation has BEST_FIT_PROGRESSIVE for compute of type EC2"),
        ("Compute", compute("AllocationStrategy", None), "the allocation strategy BEST_FIT;"),
        ("Compute", compute("MinvCpus", 4), "MinvCpus 4; the emulation keeps no idle instances"),
        ("Template", user_data("ECS_CONTAINER_STOP_TIMEOUT=soon"), "duration such as 110s or 1m50s.*got 'soon'"),
        ("Template", user_data("ECS_CONTAINER_STOP_TIMEOUT=0s"), "1 s or more; got '0s'"),
    ],
)  # fmt: skip
def test_what_the_emulation_does_not_do_is_refused_rather_than_ignored(
    sample: Callable[..., Assembly], aws: Aws, logical_id: str, change: dict[str, Any], told: str
) -> None:
    def unsupported(template: dict[str, Any]) -> None:
        template["Resources"][logical_id]["Properties"].update(change)

    with pytest.raises(UnsupportedError, match=told):
        load(sample(unsupported), aws, environment="dev")


@pytest.mark.parametrize(
    ("data", "stop_timeout_seconds", "reaches_containers"),
    [
        ({}, 30, False),
        ({"UserData": "ECS_CONTAINER_STOP_TIMEOUT=110s\n"}, 110, False),
        ({"UserData": "x\necho ECS_CONTAINER_STOP_TIMEOUT=1m50s >> /etc/ecs/ecs.config\n"}, 110, False),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 1}}, 30, False),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 2}}, 30, True),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 2, "HttpEndpoint": "disabled"}}, 30, False),
    ],
)
def test_a_launch_template_decides_the_stop_timeout_and_who_reaches_imds(
    data: dict[str, Any], stop_timeout_seconds: float, reaches_containers: bool
) -> None:
    if "UserData" in data:
        data = {**data, "UserData": base64.b64encode(data["UserData"].encode()).decode()}

    assert launch_template.stop_timeout_seconds(data) == stop_timeout_seconds
    assert launch_template.metadata_reaches_containers(data) is reaches_containers


# The deployment that the other parts read


def test_the_deployment_says_what_the_template_says_with_references_resolved(
    sample: Callable[..., Assembly], aws: Aws
) -> None:
    deployment, _ = load(sample(), aws, environment="dev")

    (compute,) = deployment.compute_environments.values()
    assert (compute.market, compute.instance_types, compute.zones, compute.max_vcpus) == (
        "spot",
        ("m5.xlarge", "m6i.xlarge"),
        ("us-east-1b",),
        16,
    )
    assert (compute.stop_timeout_seconds, compute.metadata_reaches_containers) == (20, True)
    (queue,) = deployment.job_queues.values()
    assert queue.compute_environments == (compute.arn,)
    assert queue.scheduling_policy_arn == deployment.one("AWS::Batch::SchedulingPolicy").physical_id
    assert [action.max_time_seconds for action in queue.state_time_limit_actions] == [600]
    (definition,) = deployment.job_definitions.values()
    table = deployment.one("AWS::DynamoDB::Table").physical_id
    assert definition.properties["containerProperties"]["environment"] == [{"name": "LEDGER", "value": table}]
    assert definition.properties["tags"] == {"Upper:case": "kept"}
    assert "retryStrategy" not in definition.properties
    consume = deployment.functions[deployment.event_sources[0].function_name]
    assert consume.environment["BUCKET"] == deployment.one("AWS::S3::Bucket").physical_id
    pattern = next(rule.pattern for rule in deployment.rules if rule.pattern)
    assert pattern["detail"] == {"jobQueue": [queue.arn]}
    assert pattern["account"] == ["123456789012"]


def test_the_report_names_each_difference_with_its_reason(sample: Callable[..., Assembly], aws: Aws) -> None:
    _, report = load(sample(), aws, environment="dev")

    lines = report.lines()
    assert "skipped  image Trainer: jobs run as processes of this machine" in lines
    assert f"skipped  CheckpointsPolicy (AWS::S3::BucketPolicy): {SKIPPED['AWS::S3::BucketPolicy']}" in lines
    assert any(line.startswith("adapted  Compute (AWS::Batch::ComputeEnvironment): compute env") for line in lines)
    assert any(line.startswith("repaired  Ledger (AWS::DynamoDB::Table): moto's") for line in lines)
    assert (
        report.summary()
        == "22 resources created and checked, 9 of their settings adapted, 7 repaired, 5 resources skipped"
    )


def test_stacks_in_two_regions_are_refused(sample: Callable[..., Assembly]) -> None:
    assembly = sample()
    stacks = (assembly.stacks[0], replace(assembly.stacks[1], region="eu-west-1"))

    with pytest.raises(ValueError, match=r"one account in one region; .*'eu-west-1', 'us-east-1'"):
        location(replace(assembly, stacks=stacks))


# The cloud assembly


def test_the_same_folder_gives_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "package").mkdir(parents=True)
        (tmp_path / name / "package" / "module.py").write_text("x = 1\n")
    (tmp_path / "two" / "package" / "module.py").touch()

    assert zip_folder(tmp_path / "one") == zip_folder(tmp_path / "two")


def test_a_folder_without_a_cloud_assembly_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no manifest\.json"):
        read(tmp_path)


def test_stacks_are_read_after_those_that_they_depend_on(tmp_path: Path) -> None:
    def artifact(*dependencies: str) -> dict[str, Any]:
        return {
            "type": "aws:cloudformation:stack",
            "environment": "aws://unknown-account/us-east-1",
            "properties": {"templateFile": "t.json"},
            "dependencies": list(dependencies),
        }

    (tmp_path / "t.json").write_text(json.dumps({"Resources": {}}))
    (tmp_path / "manifest.json").write_text(
        json.dumps({"artifacts": {"c": artifact("b"), "a": artifact(), "b": artifact("a")}})
    )

    assert [stack.name for stack in read(tmp_path).stacks] == ["a", "b", "c"]

    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": {"a": artifact("b"), "b": artifact("a")}}))
    with pytest.raises(ValueError, match="in a circle"):
        read(tmp_path)
