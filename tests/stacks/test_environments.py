from dataclasses import replace
from typing import Any

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES

from stacks.environments import CPU, DEV, ENVIRONMENTS, GPU_24GB, GPU_80GB_X8, PROD, Profile, find_environment

SHIPPED = PROD.profiles

ACCELERATORS = {"A10G", "L4", "L40S", "A100", "H100"}


def accelerators(instance_type: str) -> tuple[int, int]:
    """GPUs of an instance type, and MiB of memory of one."""
    gpus = INSTANCE_TYPES[instance_type].get("GpuInfo", {}).get("Gpus", [])
    return (gpus[0]["Count"], gpus[0]["MemoryInfo"]["SizeInMiB"]) if gpus else (0, 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "Dev"}, r"Environment.name must be .* got 'Dev'"),
        ({"availability_zones": ("us-east-1a",)}, r"2 to 16 different zones, got \('us-east-1a',\)"),
        ({"availability_zones": ("us-east-1a", "us-east-1a")}, "2 to 16 different zones"),
        ({"availability_zones": ("us-east-1a", "eu-west-1b")}, "zones of region 'us-east-1' .* got 'eu-west-1b'"),
        ({"profiles": (CPU, CPU)}, "profiles must have different names"),
        ({"default_profile": "gpu"}, r"default_profile must be one of \['cpu', 'gpu-24gb'\], got 'gpu'"),
        ({"spot_max_vcpus": 3}, "spot_max_vcpus must be at least 4, .* profile 'cpu', got 3"),
        ({"profiles": (CPU, GPU_80GB_X8), "spot_max_vcpus": 96}, "on_demand_max_vcpus must be at least 96"),
        ({"teams": ()}, "at least one team"),
        ({"teams": ("a", "a")}, "each once"),
        ({"teams": ("ml-research",)}, "share identifiers take no punctuation.* got 'ml-research'"),
        ({"data_prefixes": ("s3://bucket/data",)}, "ending with a slash .* got 's3://bucket/data'"),
        ({"data_prefixes": ("s3://bucket/*/",)}, "without wildcards"),
        ({"secret_arns": ("hunter2",)}, "secret_arns must be ARNs"),
        ({"image_repositories": ("team/trainer:latest",)}, "without registry or tag, got 'team/trainer:latest'"),
        ({"max_attempt_seconds": 59}, "max_attempt_seconds must be 60 to 432000 .* got 59"),
        ({"max_attempt_seconds": 432001}, "got 432001"),
        ({"runnable_limit_seconds": 599}, "runnable_limit_seconds must be 600 to 86400 .* got 599"),
        ({"runnable_limit_seconds": 86401}, "got 86401"),
    ],
)
def test_an_environment_that_cannot_work_is_refused_with_field_rule_and_value(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(DEV, **change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "GPU"}, "Profile.name must be"),
        ({"vcpus": 0}, "Profile.vcpus must be 1 to 1024 .* got 0"),
        ({"gpus": -1}, "Profile.gpus must be 0 to 16 .* got -1"),
        ({"shared_memory_mib": 14336}, r"shared_memory_mib must be 64 to 14335 \(below memory_mib\)"),
        ({"root_volume_gib": 29}, "root_volume_gib must be 30 to 16384 .* got 29"),
        ({"spot_instance_types": ()}, "spot_instance_types must name instance types"),
        ({"spot_instance_types": ("g5.xlarge", "optimal")}, "families and 'optimal'"),
        ({"on_demand_instance_types": ("g5.xlarge", "g5.xlarge")}, "each once"),
    ],
)
def test_a_profile_that_cannot_work_is_refused_with_field_rule_and_value(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(GPU_24GB, **change)


def test_a_refused_secret_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError, match="secret_arns") as refusal:
        replace(DEV, secret_arns=("correct-horse-battery-staple",))

    assert "battery" not in str(refusal.value)


def test_the_limits_themselves_are_allowed() -> None:
    assert replace(DEV, max_attempt_seconds=432000, runnable_limit_seconds=86400).max_attempt_seconds == 432000
    assert replace(DEV, data_prefixes=("s3://bucket/", "s3://bucket/a/b/")).data_prefixes


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_job_fits_every_instance_type_of_its_profile(profile: Profile) -> None:
    for name in (*profile.spot_instance_types, *profile.on_demand_instance_types):
        instance = INSTANCE_TYPES[name]

        assert instance["VCpuInfo"]["DefaultVCpus"] >= profile.vcpus, name
        # An eighth is left for the system and the ECS agent.
        assert instance["MemoryInfo"]["SizeInMiB"] * 7 / 8 >= profile.memory_mib, name
        assert "x86_64" in instance["ProcessorInfo"]["SupportedArchitectures"], name


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_profile_is_one_accelerator_class(profile: Profile) -> None:
    types = (*profile.spot_instance_types, *profile.on_demand_instance_types)

    assert len({accelerators(name) for name in types}) == 1
    assert accelerators(types[0])[0] == profile.gpus


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_profile_has_ten_spot_types_or_all_that_aws_offers(profile: Profile) -> None:
    offered = {
        name
        for name in INSTANCE_TYPES
        if profile.gpus
        and accelerators(name) == accelerators(profile.spot_instance_types[0])
        and INSTANCE_TYPES[name]["GpuInfo"]["Gpus"][0]["Name"] in ACCELERATORS
        and INSTANCE_TYPES[name]["GpuInfo"]["Gpus"][0].get("GpuPartitionSize", 1.0) == 1.0
    }

    assert len(profile.spot_instance_types) >= 10 or set(profile.spot_instance_types) == offered


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_fallback_uses_types_of_the_profile(profile: Profile) -> None:
    assert set(profile.on_demand_instance_types) <= set(profile.spot_instance_types)


def test_the_environments_differ_where_it_matters() -> None:
    dev, staging, prod = ENVIRONMENTS["dev"], ENVIRONMENTS["staging"], ENVIRONMENTS["prod"]

    assert (dev.is_protected, staging.is_protected, prod.is_protected) == (False, True, True)
    assert dev.spot_max_vcpus < staging.spot_max_vcpus < prod.spot_max_vcpus
    assert len(dev.availability_zones) < len(staging.availability_zones) < len(prod.availability_zones)
    assert len(dev.profiles) < len(prod.profiles)
    assert dev.max_attempt_seconds < staging.max_attempt_seconds < prod.max_attempt_seconds
    assert len({dev.log_retention, staging.log_retention, prod.log_retention}) == 3


def test_an_unknown_environment_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="unknown environment 'production': choose one of dev, staging, prod"):
        find_environment("production")
