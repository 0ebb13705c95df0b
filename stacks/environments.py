"""dev, staging and prod as values, and the profiles that they enable: the file to edit.

A profile is one accelerator class: a resumed run must fit wherever it lands, so every instance type of a profile has
the same number of GPUs with the same memory. What may be set, and why, stands in `stacks.settings`. staging begins with
what dev has and prod with what staging has, but each names its own region and zones; only the environment that is asked
for is checked.
"""

from dataclasses import replace
from typing import Final

from aws_cdk import aws_logs as logs

from spotkeeper.contract.descriptor import Caps
from stacks.alarm_settings import AlarmSettings
from stacks.game_day_settings import GameDay  # noqa: F401 - for whoever sets game_day
from stacks.network_modes import Isolated, PublicEgress
from stacks.settings import MAX_ATTEMPT_SECONDS_LIMIT, Environment, Profile
from stacks.training_settings import TrainingProfile, TrainingSettings

CPU: Final = Profile(
    name="cpu",
    vcpus=4,
    memory_mib=14336,
    gpus=0,
    gpu_memory_mib=0,
    shared_memory_mib=2048,
    # x86 of four vCPUs with at least 16 GiB: several families and generations, so that pools fail independently.
    spot_instance_types=(
        "m5.xlarge", "m5a.xlarge", "m5d.xlarge", "m6a.xlarge", "m6i.xlarge", "m6id.xlarge", "m7a.xlarge", "m7i.xlarge",
        "r5.xlarge", "r5a.xlarge", "r6a.xlarge", "r6i.xlarge", "r7i.xlarge",
    ),
    on_demand_instance_types=("m6a.xlarge", "m6i.xlarge", "m7i.xlarge"),
    root_volume_gib=50,
)  # fmt: skip

GPU_24GB: Final = Profile(
    name="gpu-24gb",
    vcpus=4,
    memory_mib=14336,
    gpus=1,
    gpu_memory_mib=22_888,
    shared_memory_mib=4096,
    # Every size with one A10G (g5, compute capability 8.6) or one L4 (g6, gr6; 8.9): 8.6 is what a job may count on.
    spot_instance_types=(
        "g5.xlarge", "g5.2xlarge", "g5.4xlarge", "g5.8xlarge", "g5.16xlarge",
        "g6.xlarge", "g6.2xlarge", "g6.4xlarge", "g6.8xlarge", "g6.16xlarge", "gr6.4xlarge", "gr6.8xlarge",
    ),
    on_demand_instance_types=("g5.xlarge", "g5.2xlarge", "g6.xlarge", "g6.2xlarge"),
    root_volume_gib=150,
)  # fmt: skip

GPU_24GB_X4: Final = Profile(
    name="gpu-24gb-x4",
    vcpus=48,
    memory_mib=172032,
    gpus=4,
    gpu_memory_mib=22_888,
    shared_memory_mib=32768,
    # All that AWS offers with four A10G (8.6) or L4 (8.9).
    spot_instance_types=("g5.12xlarge", "g5.24xlarge", "g6.12xlarge", "g6.24xlarge"),
    on_demand_instance_types=("g5.12xlarge", "g6.12xlarge"),
    root_volume_gib=300,
)

GPU_48GB: Final = Profile(
    name="gpu-48gb",
    vcpus=4,
    memory_mib=28672,
    gpus=1,
    gpu_memory_mib=45_776,
    shared_memory_mib=8192,
    # All that AWS offers with one L40S (8.9).
    spot_instance_types=("g6e.xlarge", "g6e.2xlarge", "g6e.4xlarge", "g6e.8xlarge", "g6e.16xlarge"),
    on_demand_instance_types=("g6e.xlarge", "g6e.2xlarge"),
    root_volume_gib=200,
)

GPU_80GB_X8: Final = Profile(
    name="gpu-80gb-x8",
    vcpus=96,
    memory_mib=1032192,
    gpus=8,
    gpu_memory_mib=81_920,
    shared_memory_mib=131072,
    # All that AWS offers with eight GPUs of 80 GB: A100 (p4de, 8.0) and H100 (p5, 9.0). Apart, each would be a profile
    # with one spot type; a job counts on 8.0, and an environment that wants H100 only makes a profile of on-demand p5.
    spot_instance_types=("p4de.24xlarge", "p5.48xlarge"),
    on_demand_instance_types=("p4de.24xlarge", "p5.48xlarge"),
    root_volume_gib=500,
)

# On SageMaker: names of their own, since `--profile` chooses the service too. An environment with a total cap takes
# only types with a price, which stacks/training_prices.py has few of: state your own.
TRAINING_CPU: Final = TrainingProfile(
    name="sm-cpu",
    gpus=0,
    gpu_memory_mib=0,
    spot_instance_types=("ml.m5.xlarge", "ml.m6i.xlarge", "ml.m7i.xlarge"),
    # The only one whose price has a source.
    on_demand_instance_types=("ml.m5.xlarge",),
    volume_gib=50,
)

TRAINING_GPU_24GB: Final = TrainingProfile(
    name="sm-gpu-24gb",
    gpus=1,
    gpu_memory_mib=22_888,
    spot_instance_types=("ml.g5.xlarge", "ml.g6.2xlarge", "ml.g5.2xlarge", "ml.g6.16xlarge"),
    on_demand_instance_types=("ml.g6.2xlarge", "ml.g5.xlarge", "ml.g5.2xlarge"),
    volume_gib=150,
)

TRAINING_GPU_24GB_X4: Final = TrainingProfile(
    name="sm-gpu-24gb-x4",
    gpus=4,
    gpu_memory_mib=22_888,
    spot_instance_types=("ml.g6.12xlarge", "ml.g5.12xlarge", "ml.g6.24xlarge", "ml.g5.24xlarge"),
    on_demand_instance_types=("ml.g6.12xlarge", "ml.g5.12xlarge"),
    volume_gib=300,
)

# For the operator to check, since no source that we could cite has them: on-demand, Linux, us-east-1, of 2026-11-23.
# Without them profile `cpu` never falls back; a price that is too low makes a reservation that is too small.
CPU_PRICES_USD: Final = {
    "m5.xlarge": "0.192", "m5a.xlarge": "0.172", "m5d.xlarge": "0.226", "m6a.xlarge": "0.1728", "m6i.xlarge": "0.192",
    "m6id.xlarge": "0.2373", "m7a.xlarge": "0.23184", "m7i.xlarge": "0.2016",
    "r5.xlarge": "0.252", "r5a.xlarge": "0.226", "r6a.xlarge": "0.2268", "r6i.xlarge": "0.252", "r7i.xlarge": "0.2646",
}  # fmt: skip

# The same, for a total cap over spot: the prices of every type that a profile may be given.
GPU_PRICES_USD: Final = {
    "g5.4xlarge": "1.624", "g5.8xlarge": "2.448", "g5.16xlarge": "4.096", "g5.24xlarge": "8.144",
    "g6.4xlarge": "1.3232", "g6.8xlarge": "2.0144", "g6.16xlarge": "3.3968", "g6.24xlarge": "6.6752",
    "gr6.4xlarge": "1.5392", "gr6.8xlarge": "2.4464",
    "g6e.2xlarge": "2.24208", "g6e.4xlarge": "3.00424", "g6e.8xlarge": "4.52856", "g6e.16xlarge": "7.57719",
    "p4de.24xlarge": "27.44705",
}  # fmt: skip

DEV: Final = Environment(
    name="dev",
    region="us-east-1",
    availability_zones=("us-east-1a", "us-east-1b"),
    network=PublicEgress(),
    profiles=(CPU, GPU_24GB),
    default_profile="cpu",
    spot_max_vcpus=64,
    on_demand_max_vcpus=16,
    teams=("research",),
    max_attempt_seconds=6 * 3600,
    runnable_limit_seconds=600,
    log_retention=logs.RetentionDays.TWO_WEEKS,
    is_protected=False,
    has_own_key=False,
    fallback_cap_usd_per_month="50",
    total_cap_usd_per_month=None,
    on_demand_prices_usd=CPU_PRICES_USD,
    # People wait for what they develop: soon away from dry spot, and soon back.
    fallback_after_seconds=10 * 60,
    segment_seconds=2 * 3600,
    standby_after_seconds=5 * 60,
    standby_age_seconds=5 * 60,
    standby_patience_seconds=30 * 60,
    # Such as emails=("ml-oncall@example.com",): each must confirm a message of AWS's. Without, an alarm tells nobody.
    alarms=AlarmSettings(emails=()),
    # game_day=GameDay(profiles=("cpu",)) lets people drill an environment: runbooks/run-a-drill.md.
    game_day=None,
    # In SageMaker's own network, so that programs may download what they want, as with public egress.
    training=TrainingSettings(profiles=(TRAINING_CPU,), default_profile="sm-cpu"),
)

STAGING: Final = replace(
    DEV,
    name="staging",
    region="us-east-1",
    availability_zones=("us-east-1a", "us-east-1b", "us-east-1c"),
    # As in prod, so that a program which needs the internet fails here first; in one zone, since it may wait for AWS.
    network=Isolated(endpoint_zones=1),
    spot_max_vcpus=256,
    on_demand_max_vcpus=64,
    max_attempt_seconds=24 * 3600,
    log_retention=logs.RetentionDays.ONE_MONTH,
    is_protected=True,
    has_own_key=True,
    # People push into dev from their machines; what others rely on is built in the account, from what was deployed.
    image_builder="codebuild",
    fallback_cap_usd_per_month="200",
    fallback_after_seconds=30 * 60,
    segment_seconds=4 * 3600,
    standby_after_seconds=15 * 60,
    standby_age_seconds=20 * 60,
    # As in prod: no way to the internet, a key of our own, and nothing readable between nodes.
    training=TrainingSettings(
        profiles=(TRAINING_CPU, TRAINING_GPU_24GB),
        default_profile="sm-cpu",
        is_in_vpc=True,
        encrypts_between_nodes=True,
        has_own_key=True,
    ),
)

PROD: Final = replace(
    STAGING,
    name="prod",
    region="us-east-1",
    availability_zones=("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1f"),
    network=Isolated(),
    profiles=(CPU, GPU_24GB, GPU_24GB_X4, GPU_48GB, GPU_80GB_X8),
    spot_max_vcpus=2048,
    on_demand_max_vcpus=384,
    teams=("research", "applied", "platform"),
    max_attempt_seconds=MAX_ATTEMPT_SECONDS_LIMIT,
    runnable_limit_seconds=900,
    log_retention=logs.RetentionDays.SIX_MONTHS,
    fallback_cap_usd_per_month="5000",
    total_cap_usd_per_month="20000",
    # So that one team cannot leave nothing to the two others.
    team_caps={"research": Caps(fallback_usd="3000", total_usd="12000")},
    on_demand_prices_usd={**CPU_PRICES_USD, **GPU_PRICES_USD},
    fallback_after_seconds=15 * 60,
    # Without the CPU types whose price has no source: a total cap could not be kept over them.
    training=TrainingSettings(
        profiles=(TRAINING_GPU_24GB, TRAINING_GPU_24GB_X4),
        default_profile="sm-gpu-24gb",
        is_in_vpc=True,
        encrypts_between_nodes=True,
        has_own_key=True,
    ),
)

ENVIRONMENTS: Final = {environment.name: environment for environment in (DEV, STAGING, PROD)}


def find_environment(name: str) -> Environment:
    """Return the environment of that name.

    Raises:
        ValueError: listing the names there are.
    """
    if name not in ENVIRONMENTS:
        problem = f"unknown environment {name!r}" if name else "no environment given"
        raise ValueError(f"{problem}: choose one of {', '.join(ENVIRONMENTS)}, as in `make synth ENV=dev`")
    return ENVIRONMENTS[name]
