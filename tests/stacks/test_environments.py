from dataclasses import replace

import pytest
from moto.ec2.models.instance_types import INSTANCE_TYPES as SNAPSHOT

from emulation.ec2.prices import instance_type
from stacks.environments import ENVIRONMENTS, find_environment
from stacks.instance_types import INSTANCE_TYPES
from stacks.settings import Environment, Profile

SHIPPED = list(dict.fromkeys(profile for settings in ENVIRONMENTS.values() for profile in settings.profiles))

ACCELERATORS = {"A10G", "L4", "L40S", "A100", "H100"}


def accelerators(instance_type: str) -> tuple[int, int]:
    """GPUs of an instance type, and MiB of memory of one."""
    gpus = SNAPSHOT[instance_type].get("GpuInfo", {}).get("Gpus", [])
    return (gpus[0]["Count"], gpus[0]["MemoryInfo"]["SizeInMiB"]) if gpus else (0, 0)


@pytest.mark.parametrize("name", INSTANCE_TYPES)
def test_a_row_of_the_table_is_what_ec2_says(name: str) -> None:
    row, truth = INSTANCE_TYPES[name], SNAPSHOT[name]

    assert (row.vcpus, row.memory_mib) == (truth["VCpuInfo"]["DefaultVCpus"], truth["MemoryInfo"]["SizeInMiB"])
    assert (row.gpus, row.gpu_memory_mib) == accelerators(name)
    assert row.gpu_model == (truth["GpuInfo"]["Gpus"][0]["Name"] if row.gpus else "")
    assert [row.architecture] == truth["ProcessorInfo"]["SupportedArchitectures"]


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda profile: profile.name)
def test_a_job_fits_every_instance_type_of_its_profile(profile: Profile) -> None:
    for name in (*profile.spot_instance_types, *profile.on_demand_instance_types):
        instance = SNAPSHOT[name]

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
        for name in SNAPSHOT
        if profile.gpus
        and accelerators(name) == accelerators(profile.spot_instance_types[0])
        and SNAPSHOT[name]["GpuInfo"]["Gpus"][0]["Name"] in ACCELERATORS
        and SNAPSHOT[name]["GpuInfo"]["Gpus"][0].get("GpuPartitionSize", 1.0) == 1.0
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
    caps = [int(settings.fallback_cap_usd_per_month) for settings in (dev, staging, prod)]
    assert caps == sorted(caps)
    assert len(set(caps)) == 3
    assert (dev.total_cap_usd_per_month, staging.total_cap_usd_per_month) == (None, None)
    assert prod.total_cap_usd_per_month is not None


@pytest.mark.parametrize("settings", ENVIRONMENTS.values(), ids=lambda settings: settings.name)
def test_every_profile_can_fall_back_because_the_price_of_each_on_demand_type_is_known(settings: Environment) -> None:
    for profile in settings.profiles:
        assert set(profile.on_demand_instance_types) <= set(settings.prices_of(profile)), profile.name


@pytest.mark.parametrize("settings", ENVIRONMENTS.values(), ids=lambda settings: settings.name)
def test_the_emulated_market_takes_the_prices_that_are_reserved_with(settings: Environment) -> None:
    """Else an emulated run could cost more than its reservation."""
    for profile in settings.profiles:
        for name, usd_per_hour in settings.prices_of(profile).items():
            assert instance_type(name).on_demand_usd_per_hour == float(usd_per_hour), name


@pytest.mark.parametrize("settings", ENVIRONMENTS.values(), ids=lambda settings: settings.name)
def test_every_environment_is_one_that_can_be_synthesized(settings: Environment) -> None:
    settings.check()


def test_a_refusal_begins_with_the_environment_and_does_not_stand_in_the_way_of_the_others() -> None:
    elsewhere = replace(ENVIRONMENTS["dev"], region="eu-west-1", availability_zones=("eu-west-1a", "eu-west-1b"))
    elsewhere.check()

    half_edited = replace(elsewhere, name="staging", region="us-east-1")

    with pytest.raises(ValueError, match=r"^environment 'staging': Environment.availability_zones must be zones of"):
        half_edited.check()


def test_an_unknown_environment_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="unknown environment 'production': choose one of dev, staging, prod"):
        find_environment("production")
