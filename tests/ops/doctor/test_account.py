"""What the doctor finds in an account: moto where it models the service, exact requests where it does not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from spotkeeper.contract import metrics
from spotkeeper.contract.alarms import ALARMS
from spotkeeper.contract.descriptor import Caps
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.doctor import (
    alarms,
    cost_tags,
    event_sources,
    job_queues,
    quotas,
    service_roles,
    spending_stop,
    sweeper,
    trainer_images,
)
from spotkeeper.ops.doctor.checkup import CHECKS, Check, Result, Verdict, examine
from spotkeeper.ops.doctor.examined import Examined
from spotkeeper.ops.doctor.finding import Finding
from stacks.instance_types import INSTANCE_TYPES
from tests.control.mocked_aws import REGION
from tests.ops.deployed_environment import with_clients

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
TOPIC_LOGICAL_ID = "AlarmsTopicDFD7EB1E"
MAPPING = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"

Answers = Callable[[str], Stubber]


@pytest.fixture
def stubs() -> dict[str, Any]:
    """Clients that answer in place of moto, by service."""
    return {}


@pytest.fixture
def stub(stubs: dict[str, Any]) -> Iterator[Answers]:
    """Make a client of a service that takes exact requests only; all of them must have come."""
    made = []

    def stubbed(service: str) -> Stubber:
        stubs[service] = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]  # any service
        made.append(Stubber(stubs[service]))
        made[-1].activate()
        return made[-1]

    yield stubbed
    for stubber in made:
        stubber.assert_no_pending_responses()


@pytest.fixture
def account(environment: Connection, stubs: dict[str, Any]) -> Connection:
    return with_clients(environment, stubs)


def found(connection: Connection, find: Callable[[Examined], Iterator[Finding]]) -> list[Finding]:
    (result,) = made(connection, find)
    assert result.reason is None
    return list(result.findings)


def made(connection: Connection, find: Callable[[Examined], Iterator[Finding]]) -> list[Result]:
    return list(examine(Examined(connection=connection, now=NOW), (Check(name="this", find=find),)))


def with_descriptor(connection: Connection, **changes: Any) -> Connection:
    return replace(connection, descriptor=replace(connection.descriptor, **changes))


# Quotas


def quota(code: str, vcpus: float) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"Quota": {"QuotaName": "some quota", "Value": vcpus}}, {"ServiceCode": "ec2", "QuotaCode": code}


def test_a_quota_below_what_a_compute_environment_may_hold_is_found(account: Connection, stub: Answers) -> None:
    stubber = stub("service-quotas")
    stubber.add_response("get_service_quota", *quota("L-34B43A08", 5.0))
    stubber.add_response("get_service_quota", *quota("L-1216C47A", 16.0))

    (finding,) = found(account, quotas.quotas_suffice)

    assert finding.subject == "quota L-34B43A08, some quota (profiles cpu, gpu-24gb)"
    assert finding.value == "5 vCPUs"
    assert finding.expected.startswith("at least 64, which spot_max_vcpus lets")
    assert "--quota-code L-34B43A08 --desired-value 64 --region us-east-1`" in finding.fix


def test_a_quota_that_was_never_raised_has_the_default_of_aws(account: Connection, stub: Answers) -> None:
    stubber = stub("service-quotas")
    stubber.add_client_error("get_service_quota", "NoSuchResourceException")
    stubber.add_response("get_aws_default_service_quota", *quota("L-34B43A08", 0.0))
    stubber.add_response("get_service_quota", *quota("L-1216C47A", 16.0))

    assert [finding.value for finding in found(account, quotas.quotas_suffice)] == ["0 vCPUs"]


def test_where_nothing_may_be_spent_on_on_demand_its_quota_is_not_asked_for(account: Connection, stub: Answers) -> None:
    stub("service-quotas").add_response("get_service_quota", *quota("L-34B43A08", 64.0))

    assert found(with_descriptor(account, caps=Caps(fallback_usd="0")), quotas.quotas_suffice) == []


def test_gpu_profiles_have_quotas_of_their_own_in_each_market(account: Connection, stub: Answers) -> None:
    profile = account.descriptor.profiles["cpu"]
    big = replace(
        profile,
        spot_instance_types=("p4de.24xlarge", "p5.48xlarge"),
        on_demand_instance_types=("p4de.24xlarge", "p5.48xlarge"),
    )
    small = replace(profile, spot_instance_types=("g5.xlarge", "gr6.4xlarge"), on_demand_instance_types=("g6e.xlarge",))
    stubber = stub("service-quotas")
    for code in ("L-3819A6DF", "L-7212CCBC", "L-C4BD4855", "L-417A185B", "L-DB2E81BA"):
        stubber.add_response("get_service_quota", *quota(code, 0.0))

    of_gpus = found(with_descriptor(account, profiles={"big": big, "small": small}), quotas.quotas_suffice)

    assert len(of_gpus) == 5


def test_a_type_without_a_known_quota_is_no_pass(account: Connection, stub: Answers) -> None:
    odd = replace(account.descriptor.profiles["cpu"], spot_instance_types=("x2idn.xlarge",))
    stub("service-quotas").add_response("get_service_quota", *quota("L-1216C47A", 16.0))

    (result,) = made(with_descriptor(account, profiles={"odd": odd}), quotas.quotas_suffice)

    assert result.verdict is Verdict.NOT_CHECKED
    assert result.reason is not None
    assert "x2idn.xlarge" in result.reason
    assert not result.is_pass


def test_the_quota_of_every_type_that_profiles_may_use_is_known() -> None:
    assert [name for name in INSTANCE_TYPES if quotas.quota_class(name) is None] == []


# Service-linked roles


def test_service_linked_roles_that_are_missing_are_found_each_with_its_service(account: Connection) -> None:
    boto3.client("iam").create_role(RoleName="AWSServiceRoleForBatch", AssumeRolePolicyDocument="{}")

    missing = found(account, service_roles.service_roles_exist)

    assert {finding.subject.rpartition(" ")[2] for finding in missing} == {
        "AWSServiceRoleForAutoScaling", "AWSServiceRoleForEC2Spot", "AWSServiceRoleForECS",
    }  # fmt: skip
    assert "`aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`" in {f.fix for f in missing}


def test_what_my_role_may_not_ask_is_no_pass_and_says_so(account: Connection, stub: Answers) -> None:
    stub("iam").add_client_error("get_role", "AccessDenied", "not authorized to perform iam:GetRole")

    (result,) = made(account, service_roles.service_roles_exist)

    assert result.verdict is Verdict.NOT_CHECKED
    assert result.reason == "your AWS role may not call GetRole: not authorized to perform iam:GetRole"
    assert not result.is_pass


# Trainer images


def test_an_image_whose_digest_is_gone_or_that_was_never_set_is_found(account: Connection) -> None:
    ecr = boto3.client("ecr", region_name=REGION)
    ecr.create_repository(repositoryName="trainer")
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media_type})
    digest = ecr.put_image(repositoryName="trainer", imageManifest=manifest, imageTag="cpu-1")
    repository = "123456789012.dkr.ecr.us-east-1.amazonaws.com/trainer"
    there = f"{repository}@{digest['image']['imageId']['imageDigest']}"
    gone = f"{repository}@sha256:{'b' * 64}"
    elsewhere = there.replace("/trainer@", "/other@")

    def values(images: dict[str, str]) -> list[str]:
        connection = with_descriptor(account, trainer_images=images)
        return [finding.value for finding in found(connection, trainer_images.images_exist)]

    assert values({"cpu": there}) == []
    assert values({"cpu": gone}) == [f"{gone} is not in its repository"]
    assert values({"cpu": elsewhere}) == [f"{elsewhere} is not in its repository"]
    assert values({}) == ["not set"]


# Cost-allocation tags


def test_cost_allocation_tags_that_are_not_active_are_found(account: Connection, stub: Answers) -> None:
    keys = ["spotkeeper:environment", "spotkeeper:market", "spotkeeper:profile", "spotkeeper:project"]
    status = ["Active", "Inactive", "Active"]
    told = [{"TagKey": key, "Type": "UserDefined", "Status": each} for key, each in zip(keys, status, strict=False)]
    stub("ce").add_response("list_cost_allocation_tags", {"CostAllocationTags": told}, {"TagKeys": keys})

    inactive, unknown = found(account, cost_tags.cost_tags_are_active)

    assert (inactive.subject, inactive.value) == ("cost-allocation tag spotkeeper:market", "Inactive")
    assert (unknown.subject, unknown.value) == ("cost-allocation tag spotkeeper:project", "not known to the bill yet")


def test_a_member_account_is_sent_to_the_management_account_and_may_still_be_well(
    account: Connection, stub: Answers
) -> None:
    words = "Failed to list Cost Allocation Tags: Linked account doesn't have access to cost allocation tags."
    stub("ce").add_client_error("list_cost_allocation_tags", "AccessDeniedException", words)

    (result,) = made(account, cost_tags.cost_tags_are_active)

    assert result.verdict is Verdict.NOT_CHECKED_HERE
    assert result.reason is not None
    assert "management account" in result.reason
    assert result.is_pass


def test_a_role_that_may_not_ask_for_cost_allocation_tags_is_no_pass(account: Connection, stub: Answers) -> None:
    words = "User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform: ce:ListCostAllocationTags"
    stub("ce").add_client_error("list_cost_allocation_tags", "AccessDeniedException", words)

    (result,) = made(account, cost_tags.cost_tags_are_active)

    assert result.verdict is Verdict.NOT_CHECKED
    assert not result.is_pass


# Spending stop


def role_of_the_dispatcher() -> None:
    boto3.client("iam").create_role(RoleName="dispatcher", AssumeRolePolicyDocument="{}")


def stop_policy() -> Any:
    document = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Deny", "Action": "batch:SubmitJob", "Resource": "*"},
    }
    created = boto3.client("iam").create_policy(PolicyName="stop", PolicyDocument=json.dumps(document))
    return created["Policy"]["Arn"]


def test_a_role_that_aws_budgets_denied_to_submit_is_found_and_no_other(account: Connection, stub: Answers) -> None:
    role_of_the_dispatcher()
    stop = stop_policy()
    listed = [
        ("SpendingStopPolicy0123ABCD", stop, "AWS::IAM::ManagedPolicy"),
        ("ObserveJobRole0123ABCD", "dispatcher", "AWS::IAM::Role"),
    ]
    stack_lists(stub, "recovery", listed, times=4)

    before = found(account, spending_stop.functions_may_submit)
    boto3.client("iam").attach_role_policy(RoleName="dispatcher", PolicyArn=stop)
    (finding,) = found(account, spending_stop.functions_may_submit)

    assert before == []
    assert (finding.subject, finding.value) == ("role dispatcher", "denied to submit by stop")
    assert "budget-exhausted.md" in finding.fix


# Event sources


def answer_mapping(stub: Answers, state: str, reserved: dict[str, int]) -> None:
    stack_lists(stub, "recovery", [("SweepRunsMapping", MAPPING, "AWS::Lambda::EventSourceMapping")], times=1)
    stubber = stub("lambda")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:sweeper"
    mapping = {"State": state, "FunctionArn": arn, "ScalingConfig": {"MaximumConcurrency": 2}}
    stubber.add_response("get_event_source_mapping", mapping, {"UUID": MAPPING})
    stubber.add_response("get_function_concurrency", reserved, {"FunctionName": "sweeper"})


@pytest.mark.parametrize("reserved", [{}, {"ReservedConcurrentExecutions": 2}])
def test_a_function_that_reads_its_queue_as_often_at_once_as_it_should_is_well(
    account: Connection, stub: Answers, reserved: dict[str, int]
) -> None:
    answer_mapping(stub, "Enabled", reserved)

    assert found(account, event_sources.functions_read_their_queues) == []


def test_a_disabled_mapping_and_a_function_that_may_not_run_are_found_each_with_its_fix(
    account: Connection, stub: Answers
) -> None:
    answer_mapping(stub, "Disabled", {"ReservedConcurrentExecutions": 0})

    mapping, concurrency = found(account, event_sources.functions_read_their_queues)

    assert (mapping.subject, mapping.value) == ("event source mapping of sweeper", "Disabled")
    assert mapping.fix == f"`aws lambda update-event-source-mapping --uuid {MAPPING} --enabled --region us-east-1`"
    assert (concurrency.subject, concurrency.value) == ("reserved concurrency of sweeper", "0")
    assert concurrency.fix == "`aws lambda delete-function-concurrency --function-name sweeper --region us-east-1`"


# Alarms


def stack_lists(stub: Answers, part: str, resources: list[tuple[str, str, str]], times: int) -> None:
    stubber = stub("cloudformation")
    for _ in range(times):
        stubber.add_response(
            "list_stack_resources",
            {
                "StackResourceSummaries": [
                    {
                        "LogicalResourceId": logical,
                        "PhysicalResourceId": physical,
                        "ResourceType": type_,
                        "ResourceStatus": "CREATE_COMPLETE",
                        "LastUpdatedTimestamp": NOW,
                    }
                    for logical, physical, type_ in resources
                ]
            },
            {"StackName": f"spotkeeper-dev-{part}"},
        )


def make_alarm(name: str, topic: str) -> None:
    boto3.client("cloudwatch", region_name=REGION).put_metric_alarm(
        AlarmName=name,
        Namespace=metrics.NAMESPACE,
        MetricName=metrics.SWEEPS,
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="LessThanThreshold",
        AlarmActions=[topic],
    )


PREFIX = "spotkeeper-dev-observability-"


def make_alarms(stub: Answers, topic: str) -> None:
    """As the observability stack leaves them, but for the composite one, which moto does not know."""
    listed = [(TOPIC_LOGICAL_ID, topic, "AWS::SNS::Topic")]
    for alarm in ALARMS:
        make_alarm(f"{PREFIX}{alarm}", topic)
        logical_id = alarm if alarm == "PreemptionStorm" else f"{alarm}0123ABCD"
        listed.append((logical_id, f"{PREFIX}{alarm}", "AWS::CloudWatch::Alarm"))
    stack_lists(stub, "observability", listed, times=2)


def test_alarms_as_the_stack_leaves_them_are_well(account: Connection, stub: Answers) -> None:
    make_alarms(stub, boto3.client("sns", region_name=REGION).create_topic(Name="alarms")["TopicArn"])

    assert found(account, alarms.alarms_exist) == []


def test_an_alarm_that_is_gone_is_silenced_or_tells_somebody_else_is_found(account: Connection, stub: Answers) -> None:
    make_alarms(stub, boto3.client("sns", region_name=REGION).create_topic(Name="alarms")["TopicArn"])
    cloudwatch = boto3.client("cloudwatch", region_name=REGION)
    cloudwatch.delete_alarms(AlarmNames=[f"{PREFIX}NoProgress"])
    cloudwatch.disable_alarm_actions(AlarmNames=[f"{PREFIX}SweeperSilent"])
    make_alarm(f"{PREFIX}PreemptionStorm", "arn:other")

    wrong = {finding.subject: finding for finding in found(account, alarms.alarms_exist)}

    assert {subject: finding.value for subject, finding in wrong.items()} == {
        "alarm NoProgress": "missing",
        "alarm SweeperSilent": "its actions are disabled",
        "alarm PreemptionStorm": "tells arn:other",
    }
    assert f"enable-alarm-actions --alarm-names {PREFIX}SweeperSilent" in wrong["alarm SweeperSilent"].fix


def test_composite_alarms_are_asked_for_and_read_too(account: Connection, stub: Answers) -> None:
    topic, name = "arn:aws:sns:us-east-1:123456789012:alarms", f"{PREFIX}PreemptionStorm"
    listed = [
        (TOPIC_LOGICAL_ID, topic, "AWS::SNS::Topic"),
        ("PreemptionStorm", name, "AWS::CloudWatch::CompositeAlarm"),
    ]
    stack_lists(stub, "observability", listed, times=2)
    stub("cloudwatch").add_response(
        "describe_alarms",
        {"CompositeAlarms": [{"AlarmName": name, "ActionsEnabled": True, "AlarmActions": [topic]}]},
        {"AlarmNames": [name], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
    )

    missing = {finding.subject for finding in found(account, alarms.alarms_exist)}

    assert missing == {f"alarm {alarm}" for alarm in ALARMS if alarm != "PreemptionStorm"}


def test_a_topic_without_subscribers_tells_nobody(account: Connection, stub: Answers) -> None:
    topic = boto3.client("sns", region_name=REGION).create_topic(Name="alarms")["TopicArn"]
    stack_lists(stub, "observability", [(TOPIC_LOGICAL_ID, topic, "AWS::SNS::Topic")], times=1)

    assert [finding.value for finding in found(account, alarms.somebody_is_told)] == ["no subscriptions"]


def test_a_subscription_that_nobody_confirmed_is_found(account: Connection, stub: Answers) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:alarms"
    stack_lists(stub, "observability", [(TOPIC_LOGICAL_ID, topic, "AWS::SNS::Topic")], times=1)
    subscribed = [("PendingConfirmation", "on-call@example.org"), (f"{topic}:0123", "team@example.org")]
    stub("sns").add_response(
        "list_subscriptions_by_topic",
        {
            "Subscriptions": [
                {"SubscriptionArn": arn, "Protocol": "email", "Endpoint": address, "TopicArn": topic}
                for arn, address in subscribed
            ]
        },
        {"TopicArn": topic},
    )

    (finding,) = found(account, alarms.somebody_is_told)

    assert (finding.subject, finding.value) == ("subscription of on-call@example.org", "PendingConfirmation")


# Queues


def test_an_invalid_compute_environment_is_found_with_the_reason_that_batch_gives(account: Connection) -> None:
    hosts, queue = "arn:aws:batch:us-east-1:123456789012:compute-environment/hosts", "arn:queue"
    profile = replace(account.descriptor.profiles["cpu"], spot_queue=queue, on_demand_queue=queue)
    batch = boto3.client("batch", region_name=REGION)
    connection = with_clients(with_descriptor(account, profiles={"cpu": profile}), {"batch": batch})
    described_queue = {
        "jobQueueName": "spot",
        "jobQueueArn": queue,
        "state": "ENABLED",
        "status": "VALID",
        "priority": 1,
        "computeEnvironmentOrder": [{"order": 1, "computeEnvironment": hosts}],
    }
    described_hosts = {
        "computeEnvironmentName": "hosts",
        "computeEnvironmentArn": hosts,
        "state": "ENABLED",
        "status": "INVALID",
        "statusReason": "CLIENT_ERROR - Not authorized to perform sts:AssumeRole",
    }
    with Stubber(batch) as stubber:
        for _ in range(2):
            stubber.add_response("describe_job_queues", {"jobQueues": [described_queue]}, {"jobQueues": [queue]})
        stubber.add_response(
            "describe_compute_environments",
            {"computeEnvironments": [described_hosts]},
            {"computeEnvironments": [hosts]},
        )

        (finding,) = found(connection, job_queues.queues_take_jobs)

    assert finding.subject == "compute environment hosts"
    assert finding.value == "status INVALID: CLIENT_ERROR - Not authorized to perform sts:AssumeRole"


# The sweeper's heartbeat


def heartbeat(at: datetime, environment: str = "dev") -> None:
    boto3.client("cloudwatch", region_name=REGION).put_metric_data(
        Namespace=metrics.NAMESPACE,
        MetricData=[
            {
                "MetricName": metrics.SWEEPS,
                "Dimensions": [{"Name": metrics.ENVIRONMENT_DIMENSION, "Value": environment}],
                "Timestamp": at,
                "Value": 1,
            }
        ],
    )


def test_a_sweep_within_the_last_quarter_of_an_hour_is_a_heartbeat(account: Connection) -> None:
    heartbeat(NOW - timedelta(minutes=10))

    assert found(account, sweeper.sweeper_has_finished) == []


def test_an_older_sweep_or_one_of_another_environment_is_none(account: Connection, stub: Answers) -> None:
    heartbeat(NOW - timedelta(minutes=20))
    heartbeat(NOW - timedelta(minutes=1), environment="prod")
    stack_lists(stub, "recovery", [("SweepRunsLogs0123ABCD", "sweeper-logs", "AWS::Logs::LogGroup")], times=1)

    (finding,) = found(account, sweeper.sweeper_has_finished)

    assert finding.value == "none within 15 minutes"
    assert "`aws logs tail sweeper-logs --since 15m --region us-east-1`" in finding.fix


# The whole


def test_a_check_that_cannot_be_made_keeps_no_other_from_being_made(account: Connection, stub: Answers) -> None:
    stub("service-quotas").add_client_error("get_service_quota", "AccessDeniedException")
    stub("ce").add_client_error("list_cost_allocation_tags", "AccessDeniedException")

    results = {result.check: result for result in examine(Examined(connection=account, now=NOW))}

    assert list(results) == [check.name for check in CHECKS]
    not_checked = {name for name, result in results.items() if result.verdict is Verdict.NOT_CHECKED}
    assert {"quotas", "cost-allocation tags"} <= not_checked
    assert results["kill switch"].verdict is Verdict.WELL
    assert results["alarms"].findings[0].subject == "stack spotkeeper-dev-observability"
