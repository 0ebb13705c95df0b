import base64
import email.policy
import itertools
import re
from dataclasses import replace
from email import message_from_string
from pathlib import Path

import pytest

import app
from spotkeeper.contract.descriptor import Descriptor
from spotkeeper.control.terms import EnvironmentTerms
from spotkeeper.policy import placement
from spotkeeper.policy.money import parse_usd
from spotkeeper.policy.placement import Market
from stacks.batch import BatchStack
from stacks.constructs.training_job import RETRY_RULES
from stacks.environments import DEV, ENVIRONMENTS, PROD
from tests.stacks.synthesized import Assembly

TAGS = {"spotkeeper:project": "spotkeeper", "spotkeeper:environment": "dev"}


def test_the_spot_compute_environment_of_a_profile(dev: Assembly) -> None:
    environment = dev.one("batch", "AWS::Batch::ComputeEnvironment", "cpuSpot")

    assert environment == {
        "Type": "MANAGED",
        "ComputeResources": {
            "Type": "SPOT",
            "AllocationStrategy": "SPOT_PRICE_CAPACITY_OPTIMIZED",
            "MinvCpus": 0,
            "MaxvCpus": 64,
            "InstanceTypes": [
                "m5.xlarge", "m5a.xlarge", "m5d.xlarge", "m6a.xlarge", "m6i.xlarge", "m6id.xlarge", "m7a.xlarge",
                "m7i.xlarge", "r5.xlarge", "r5a.xlarge", "r6a.xlarge", "r6i.xlarge", "r7i.xlarge",
            ],
            "Ec2Configuration": [{"ImageType": "ECS_AL2023"}],
            "UpdateToLatestImageVersion": True,
            "InstanceRole": {"Fn::GetAtt": ["HostRoleInstanceProfile2E9ADD27", "Arn"]},
            "LaunchTemplate": {
                "LaunchTemplateId": {"Ref": "cpuHostTemplate7696045A"},
                "Version": {"Fn::GetAtt": ["cpuHostTemplate7696045A", "LatestVersionNumber"]},
            },
            "SecurityGroupIds": environment["ComputeResources"]["SecurityGroupIds"],
            "Subnets": environment["ComputeResources"]["Subnets"],
            "Tags": {**TAGS, "spotkeeper:profile": "cpu", "spotkeeper:market": "spot"},
        },
        "ReplaceComputeEnvironment": False,
        "UpdatePolicy": {"JobExecutionTimeoutMinutes": 7200, "TerminateJobsOnUpdate": False},
    }  # fmt: skip
    subnets = dev.resolved("batch", environment["ComputeResources"]["Subnets"])
    assert len(subnets) == 2
    assert all("network-VpcJobsSubnet" in subnet for subnet in subnets)


def test_the_on_demand_compute_environment_differs_in_market_strategy_types_and_size(dev: Assembly) -> None:
    spot = dev.one("batch", "AWS::Batch::ComputeEnvironment", "cpuSpot")
    on_demand = dev.one("batch", "AWS::Batch::ComputeEnvironment", "cpuOnDemand")

    changed = {
        name: value for name, value in on_demand["ComputeResources"].items() if value != spot["ComputeResources"][name]
    }
    assert changed == {
        "Type": "EC2",
        "AllocationStrategy": "BEST_FIT_PROGRESSIVE",
        "MaxvCpus": 16,
        "InstanceTypes": ["m6a.xlarge", "m6i.xlarge", "m7i.xlarge"],
        "Tags": {**TAGS, "spotkeeper:profile": "cpu", "spotkeeper:market": "on-demand"},
    }
    rest = [{name: value for name, value in item.items() if name != "ComputeResources"} for item in (spot, on_demand)]
    assert rest[0] == rest[1]


def test_hosts_with_gpus_run_the_image_with_the_driver(dev: Assembly) -> None:
    gpu = dev.one("batch", "AWS::Batch::ComputeEnvironment", "gpu24gbSpot")["ComputeResources"]

    assert gpu["Ec2Configuration"] == [{"ImageType": "ECS_AL2023_NVIDIA"}]


def test_compute_environments_carry_no_tags_of_their_own(any_environment: Assembly) -> None:
    # CloudFormation replaces a compute environment whose tags change, and its queue would hold it.
    environments = any_environment.resources("batch", "AWS::Batch::ComputeEnvironment").values()

    assert not [item for item in environments if "Tags" in item["Properties"]]


def test_a_queue_has_one_market_fair_shares_and_time_limits(dev: Assembly) -> None:
    queue = dev.one("batch", "AWS::Batch::JobQueue", "cpuSpot")
    del queue["Tags"]

    assert queue == {
        "Priority": 1,
        "ComputeEnvironmentOrder": [{"Order": 1, "ComputeEnvironment": {"Ref": "cpuSpotComputeEnvironment954B28BB"}}],
        "SchedulingPolicyArn": {"Fn::GetAtt": ["cpuSpotShares19830DFE", "Arn"]},
        "JobStateTimeLimitActions": [
            {"Reason": reason, "State": "RUNNABLE", "MaxTimeSeconds": 600, "Action": "CANCEL"}
            for reason in (
                "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
                "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE",
                "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT",
                "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED",
            )
        ],
    }


def test_waiting_for_capacity_is_a_setting_and_misconfiguration_is_not(prod: Assembly) -> None:
    actions = prod.one("batch", "AWS::Batch::JobQueue", "cpuSpot")["JobStateTimeLimitActions"]

    assert [action["MaxTimeSeconds"] for action in actions] == [PROD.runnable_limit_seconds, 600, 600, 600]


def test_every_enabled_profile_has_two_queues_with_a_share_for_each_team(any_environment: Assembly) -> None:
    settings = ENVIRONMENTS[any_environment.environment]
    queues = any_environment.resources("batch", "AWS::Batch::JobQueue")
    policies = any_environment.resources("batch", "AWS::Batch::SchedulingPolicy")

    assert len(queues) == len(policies) == 2 * len(settings.profiles)
    for policy in policies.values():
        shares = policy["Properties"]["FairsharePolicy"]["ShareDistribution"]
        assert shares == [{"ShareIdentifier": team, "WeightFactor": 1} for team in settings.teams]


def test_the_launch_template_asks_for_imdsv2_and_an_encrypted_volume(dev: Assembly) -> None:
    data = dev.one("batch", "AWS::EC2::LaunchTemplate", "cpuHost")["LaunchTemplateData"]

    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert data["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {"VolumeSize": 50, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
        }
    ]


def test_volumes_carry_the_tags_by_which_their_cost_is_found(dev: Assembly) -> None:
    data = dev.one("batch", "AWS::EC2::LaunchTemplate", "gpu24gbHost")["LaunchTemplateData"]

    (specification,) = data["TagSpecifications"]
    assert specification["ResourceType"] == "volume"
    assert {tag["Key"]: tag["Value"] for tag in specification["Tags"]} == {**TAGS, "spotkeeper:profile": "gpu-24gb"}


def test_the_user_data_is_one_shell_script_that_configures_the_ecs_agent(dev: Assembly) -> None:
    text = dev.one("batch", "AWS::EC2::LaunchTemplate", "cpuHost")["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    message = message_from_string(text, policy=email.policy.default)
    (script,) = message.iter_parts()

    assert message.get_content_type() == "multipart/mixed"
    assert script.get_content_type() == "text/x-shellscript"
    assert script.get_content().splitlines() == [
        "#!/bin/bash",
        "echo ECS_CONTAINER_STOP_TIMEOUT=110s >> /etc/ecs/ecs.config",
        "echo ECS_ENABLE_SPOT_INSTANCE_DRAINING=true >> /etc/ecs/ecs.config",
        "echo ECS_ENABLE_CONTAINER_METADATA=true >> /etc/ecs/ecs.config",
        "echo ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE=true >> /etc/ecs/ecs.config",
    ]
    assert len(base64.b64encode(text.encode())) < 16 * 1024


def test_the_job_definition_of_a_profile(dev: Assembly) -> None:
    definition = dev.resolved("batch", dev.one("batch", "AWS::Batch::JobDefinition", "cpu"))
    container = definition.pop("ContainerProperties")
    image, environment = container.pop("Image"), container.pop("Environment")

    assert definition == {
        "Type": "container",
        "PlatformCapabilities": ["EC2"],
        "PropagateTags": True,
        "SchedulingPriority": 100,
        "ResourceRetentionPolicy": {"SkipDeregisterOnUpdate": True},
        "RetryStrategy": {
            "Attempts": 10,
            "EvaluateOnExit": [
                {"OnStatusReason": "Host EC2*", "Action": "RETRY"},
                {"OnExitCode": "75", "Action": "RETRY"},
                {"OnReason": "*", "Action": "EXIT"},
                {"OnStatusReason": "*", "Action": "EXIT"},
                {"OnExitCode": "*", "Action": "EXIT"},
            ],
        },
        "Tags": TAGS,
        "Timeout": {"AttemptDurationSeconds": 21600},
    }
    assert container == {
        "Command": ["spotkeeper-exec", "--", "true"],
        "ResourceRequirements": [{"Type": "VCPU", "Value": "4"}, {"Type": "MEMORY", "Value": "14336"}],
        "User": "10001:10001",
        "Privileged": False,
        "ReadonlyRootFilesystem": False,
        "LinuxParameters": {"InitProcessEnabled": True, "SharedMemorySize": 2048},
        "JobRoleArn": "arn:aws:service:us-east-1:123456789012:JobRole014917C6.Arn",
        "ExecutionRoleArn": "arn:aws:service:us-east-1:123456789012:ExecutionRole605A040B.Arn",
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": "spotkeeper-dev-batch-JobLogs4F84869B-0123456789ab",
                "awslogs-region": "us-east-1",
                "awslogs-stream-prefix": "cpu",
            },
        },
    }
    assert image.endswith(":not-built-yet.run-make-image")
    assert {item["Name"]: item["Value"] for item in environment} == {
        "AWS_DEFAULT_REGION": "us-east-1",
        "SPOTKEEPER_ENV": "dev",
        "SPOTKEEPER_LEDGER_TABLE": "spotkeeper-dev-storage-LedgerB7379752-0123456789ab",
        "SPOTKEEPER_URI": "s3://spotkeeper-dev-storage-Checkpoints620E2F20-0123456789ab",
    }


def test_every_job_of_a_fair_share_queue_has_a_priority_with_room_on_both_sides(any_environment: Assembly) -> None:
    # AWS Batch answers SubmitJob without one: "Either schedulingPriority in job definition or
    # schedulingPriorityOverride should be specified".
    queues = any_environment.resources("batch", "AWS::Batch::JobQueue").values()
    definitions = any_environment.resources("batch", "AWS::Batch::JobDefinition").values()

    assert all("SchedulingPolicyArn" in queue["Properties"] for queue in queues)
    assert all(0 < definition["Properties"]["SchedulingPriority"] < 9999 for definition in definitions)


def test_every_job_definition_has_a_time_limit_no_privileges_and_its_gpus(any_environment: Assembly) -> None:
    settings = ENVIRONMENTS[any_environment.environment]
    definitions = any_environment.resources("batch", "AWS::Batch::JobDefinition").values()

    assert len(definitions) == len(settings.profiles)
    for profile, definition in zip(settings.profiles, definitions, strict=True):
        properties = definition["Properties"]
        container = properties["ContainerProperties"]
        asked = {item["Type"]: int(item["Value"]) for item in container["ResourceRequirements"]}
        assert properties["Timeout"] == {"AttemptDurationSeconds": settings.max_attempt_seconds}
        assert container["Privileged"] is False
        assert container["User"].split(":")[0] not in ("0", "root")
        assert asked.get("GPU", 0) == profile.gpus
        assert container["LinuxParameters"]["SharedMemorySize"] == profile.shared_memory_mib


def retried(status_reason: str | None, reason: str | None, exit_code: int | None) -> bool:
    """AWS Batch's rule, stated anew: the first entry whose every condition matches decides; no match is a retry."""
    seen = {
        "onStatusReason": status_reason,
        "onReason": reason,
        "onExitCode": None if exit_code is None else str(exit_code),
    }

    def matches(pattern: str, text: str | None) -> bool:
        if text is None:
            return False
        return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern

    for rule in RETRY_RULES:
        if all(matches(pattern, seen[name]) for name, pattern in rule.items() if name != "action"):
            return rule["action"] == "RETRY"
    return True


STATUS_REASONS = [
    None,
    "",
    "Essential container in task exited",
    "Task failed to start",
    "Job attempt duration exceeded timeout",
]
REASONS = [None, "", "OutOfMemoryError: Container killed due to memory usage", "CannotPullContainerError: not found"]
EXIT_CODES = [None, 0, 1, 2, 7, 76, 77, 78, 134, 137, 139, 143, 175, 750]


@pytest.mark.parametrize("exit_code", [None, 0, 1, 75, 137, 143])
@pytest.mark.parametrize("reason", [None, "CannotInspectContainerError: gone"])
def test_a_lost_host_is_retried_whatever_else_is_said(reason: str | None, exit_code: int | None) -> None:
    assert retried("Host EC2 (instance i-0abc) terminated.", reason, exit_code)


@pytest.mark.parametrize("reason", REASONS)
def test_a_yielded_attempt_is_retried(reason: str | None) -> None:
    assert retried("Essential container in task exited", reason, 75)


def test_every_other_outcome_ends_the_job_even_where_fields_are_absent() -> None:
    outcomes = [
        outcome
        for outcome in itertools.product(STATUS_REASONS, REASONS, EXIT_CODES)
        # Batch always gives a final attempt at least one of the three.
        if outcome != (None, None, None)
    ]

    assert not [outcome for outcome in outcomes if retried(*outcome)]


def test_retry_rules_keep_to_what_aws_batch_accepts() -> None:
    assert len(RETRY_RULES) <= 5
    for rule in RETRY_RULES:
        for name, pattern in rule.items():
            grammar = r"\d*\*?" if name == "onExitCode" else r"[A-Za-z0-9.:\s]*\*?"
            assert name == "action" or re.fullmatch(grammar, pattern), rule


def test_a_descriptor_that_no_parameter_holds_is_refused_when_it_is_synthesized(tmp_path: Path) -> None:
    many = tuple(f"s3://bucket/{'a' * 80}{index}/" for index in range(80))

    with pytest.raises(ValueError, match=r"descriptor of environment 'dev' may take \d+ .* takes 8192: name fewer"):
        app.assemble(replace(DEV, data_prefixes=many), str(tmp_path))


@pytest.mark.parametrize("data_prefixes", [0, 20])
def test_the_bound_of_the_descriptor_is_above_what_is_deployed_and_not_far(data_prefixes: int, tmp_path: Path) -> None:
    prefixes = tuple(f"s3://bucket/{index}/" for index in range(data_prefixes))
    built = app.assemble(replace(DEV, data_prefixes=prefixes), str(tmp_path))
    stack = built.node.find_child("spotkeeper-dev-batch")
    assert isinstance(stack, BatchStack)
    built.synth()
    assembly = Assembly(tmp_path, "dev")
    deployed = assembly.resolved("batch", assembly.one("batch", "AWS::SSM::Parameter", "Descriptor")["Value"])

    assert len(deployed) <= stack.descriptor_characters <= len(deployed) + 1000


def test_the_descriptor_tells_the_command_line_all_it_needs_within_8192_characters(
    any_environment: Assembly,
) -> None:
    settings = ENVIRONMENTS[any_environment.environment]
    parameter = any_environment.one("batch", "AWS::SSM::Parameter", "Descriptor")
    text = any_environment.resolved("batch", parameter["Value"])
    descriptor = Descriptor.from_json(text)

    assert parameter["Name"] == f"/spotkeeper/{settings.name}/descriptor"
    assert parameter["Tier"] == "Intelligent-Tiering"
    assert len(text) < 8192
    assert descriptor.environment == settings.name
    assert descriptor.region == settings.region
    assert descriptor.checkpoint_bucket.startswith(f"spotkeeper-{settings.name}-storage-Checkpoints")
    assert descriptor.ledger_table.startswith(f"spotkeeper-{settings.name}-storage-Ledger")
    assert descriptor.job_log_group.startswith(f"spotkeeper-{settings.name}-batch-JobLogs")
    assert descriptor.default_profile == settings.default_profile
    assert descriptor.teams == settings.teams
    assert descriptor.trainer_images == settings.trainer_images
    for limit in ("max_attempt_seconds", "runnable_limit_seconds", "spot_max_vcpus", "on_demand_max_vcpus"):
        assert getattr(descriptor, limit) == getattr(settings, limit)
    assert list(descriptor.profiles) == sorted(profile.name for profile in settings.profiles)
    for profile in settings.profiles:
        told = descriptor.profiles[profile.name]
        prefix = profile.name.replace("-", "")
        assert f"job-queue/{prefix}SpotQueue" in told.spot_queue
        assert f"job-queue/{prefix}OnDemandQueue" in told.on_demand_queue
        assert re.search(rf"job-definition/{prefix}Job\w+-\w+:\d+$", told.job_definition)
        assert (told.vcpus, told.memory_mib, told.gpus) == (profile.vcpus, profile.memory_mib, profile.gpus)
        assert told.spot_instance_types == profile.spot_instance_types
        assert told.on_demand_instance_types == profile.on_demand_instance_types
        assert told.usd_per_hour == settings.prices_of(profile)


def test_the_descriptor_tells_the_control_plane_caps_and_times(any_environment: Assembly) -> None:
    settings = ENVIRONMENTS[any_environment.environment]
    text = any_environment.resolved("batch", any_environment.one("batch", "AWS::SSM::Parameter", "Descriptor")["Value"])
    terms = EnvironmentTerms.of(Descriptor.from_json(text))

    assert terms.limits.fallback_microusd == parse_usd(settings.fallback_cap_usd_per_month)
    total = settings.total_cap_usd_per_month
    assert terms.limits.total_microusd == (None if total is None else parse_usd(total))
    assert set(terms.team_limits) == set(settings.team_caps)
    assert terms.placement == placement.Terms(
        **{name: getattr(settings, name) for name in placement.Terms.__dataclass_fields__}
    )
    for market in Market:
        for name in terms.profiles if total is not None or market is Market.ON_DEMAND else ():
            assert terms.profiles[name].dearest_usd_per_hour(market, num_nodes=1)


def test_every_host_is_in_the_security_group_into_which_nothing_comes(any_environment: Assembly) -> None:
    (group,) = [
        any_environment.resolved("network", {"Fn::GetAtt": [id_, "GroupId"]})
        for id_ in any_environment.resources("network", "AWS::EC2::SecurityGroup")
        if id_.startswith("Hosts")
    ]

    for hosts in any_environment.resources("batch", "AWS::Batch::ComputeEnvironment").values():
        groups = hosts["Properties"]["ComputeResources"]["SecurityGroupIds"]
        assert any_environment.resolved("batch", groups) == [group]
