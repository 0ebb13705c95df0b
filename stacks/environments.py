"""What can be set, and dev, staging and prod as values.

A profile is one accelerator class: a resumed run must fit wherever it lands, so every instance type of a
profile has the same number of the same size of GPU. Instance data: docs.aws.amazon.com/ec2/latest/instancetypes.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from aws_cdk import aws_logs as logs

from spotkeeper.contract.names import check_name

MAX_ATTEMPT_SECONDS_LIMIT: Final = 7200 * 60
"""AWS Batch lets running jobs finish for at most 7,200 minutes after a compute environment was updated."""

_SECRET_ARN: Final = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:\S+")
_DATA_PREFIX: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(?:[^*?\s]+/)?")
_REPOSITORY: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{1,255}")
_TEAM: Final = re.compile(r"[a-z][a-z0-9]{0,39}")


def _check_range(field: str, value: int, low: int, high: int, source: str) -> None:
    if not low <= value <= high:
        raise ValueError(f"{field} must be {low} to {high} ({source}), got {value}: choose a value in that range")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One accelerator class, and what a job of it is given."""

    name: str
    """What users pass as `--profile`."""
    vcpus: int
    """vCPUs of a job, at most those of the smallest instance type."""
    memory_mib: int
    """MiB of a job: about 7/8 of the smallest instance type's; the system and the ECS agent keep the rest."""
    gpus: int
    """GPUs of a job, all those of an instance; 0 for a profile without."""
    shared_memory_mib: int
    """MiB of /dev/shm, counted against `memory_mib`. Docker's 64 MB is too little for data-loader workers."""
    spot_instance_types: tuple[str, ...]
    """Every pool that may be taken: 10 or more types where AWS offers them, or interruptions come together."""
    on_demand_instance_types: tuple[str, ...]
    """Types for fallback; few, because the budget reserves the price of the dearest."""
    root_volume_gib: int
    """GiB of the encrypted gp3 root volume; holds images, source and the job's scratch files."""

    def __post_init__(self) -> None:
        """Check what AWS would refuse hours later."""
        check_name("Profile.name", self.name)
        _check_range("Profile.vcpus", self.vcpus, 1, 1024, "vCPUs of one instance")
        _check_range("Profile.memory_mib", self.memory_mib, 4, 32 * 1024 * 1024, "AWS Batch, one instance")
        _check_range("Profile.gpus", self.gpus, 0, 16, "GPUs of one instance")
        _check_range("Profile.shared_memory_mib", self.shared_memory_mib, 64, self.memory_mib - 1, "below memory_mib")
        _check_range("Profile.root_volume_gib", self.root_volume_gib, 30, 16384, "AMI size, gp3 limit")
        for field in ("spot_instance_types", "on_demand_instance_types"):
            types: tuple[str, ...] = getattr(self, field)
            bundles = [name for name in types if "." not in name]
            if not types or bundles or len(set(types)) != len(types):
                raise ValueError(
                    f"Profile.{field} must name instance types such as 'g5.xlarge', each once; got {types}: "
                    "families and 'optimal' would bring sizes that no job of the profile fits"
                )

    @property
    def image_type(self) -> Literal["ECS_AL2023", "ECS_AL2023_NVIDIA"]:
        """AWS Batch's name of the machine image: Amazon Linux 2023, with the NVIDIA driver where there are GPUs."""
        return "ECS_AL2023_NVIDIA" if self.gpus else "ECS_AL2023"


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Everything that differs between two deployments."""

    name: str
    """Part of the stacks' names and of the descriptor's: `/spotkeeper/<name>/descriptor`."""
    region: str
    """AWS region. The account is that of the credentials with which it is deployed."""
    availability_zones: tuple[str, ...]
    """Zones to use, at least 2. More zones are more spot pools. Append only: subnets are numbered in this order."""
    profiles: tuple[Profile, ...]
    """Enabled profiles; each has a spot and an on-demand queue. Idle ones cost nothing."""
    default_profile: str
    """Profile of a job that names none."""
    spot_max_vcpus: int
    """vCPUs that one spot compute environment may hold. Your account's spot quotas limit it too."""
    on_demand_max_vcpus: int
    """vCPUs that one on-demand compute environment may hold: a second limit behind the budget."""
    teams: tuple[str, ...]
    """Share identifiers of the fair-share policies; AWS allows letters and digits only."""
    data_prefixes: tuple[str, ...] = ()
    """`s3://bucket/prefix/` that jobs may read. A bucket encrypted with its own key needs a grant on the key too."""
    secret_arns: tuple[str, ...] = ()
    """Secrets Manager ARNs that jobs may be given with `--secret`."""
    image_repositories: tuple[str, ...] = ()
    """Names of ECR repositories of this account and region from which jobs may run their own image."""
    max_attempt_seconds: int
    """Seconds after which AWS Batch ends an attempt. There is no default in Batch: a hung job would bill for ever."""
    runnable_limit_seconds: int
    """Seconds at the head of a queue without capacity after which Batch cancels the job and placement decides anew."""
    log_retention: logs.RetentionDays
    """How long job and function logs are kept."""
    is_protected: bool
    """True: stacks and ledger refuse deletion. Checkpoints and ledger outlive their stack either way."""

    def __post_init__(self) -> None:
        """Check each field and what they imply for one another."""
        check_name("Environment.name", self.name)
        self._check_zones()
        self._check_profiles()
        limits = "AWS Batch's minimum, and how long it lets a job go on when its compute environment changes"
        _check_range("Environment.max_attempt_seconds", self.max_attempt_seconds, 60, MAX_ATTEMPT_SECONDS_LIMIT, limits)
        _check_range("Environment.runnable_limit_seconds", self.runnable_limit_seconds, 600, 86400, "AWS Batch")
        self._check_teams()
        self._check_grants()

    def _check_teams(self) -> None:
        for team in self.teams:
            if not _TEAM.fullmatch(team):
                raise ValueError(
                    "Environment.teams must be 1 to 40 of a-z and 0-9, starting with a letter (AWS Batch share "
                    f"identifiers take no punctuation), got {team!r}: rename the team"
                )
        if not self.teams or len(set(self.teams)) != len(self.teams):
            raise ValueError(f"Environment.teams must name at least one team, each once, got {self.teams}")

    def _check_grants(self) -> None:
        for prefix in self.data_prefixes:
            if not _DATA_PREFIX.fullmatch(prefix):
                raise ValueError(
                    f"Environment.data_prefixes must look like 's3://bucket/prefix/', without wildcards and ending "
                    f"with a slash so that 'a/' does not grant 'ab/', got {prefix!r}"
                )
        for arn in self.secret_arns:
            if not _SECRET_ARN.fullmatch(arn):
                raise ValueError(
                    "Environment.secret_arns must be ARNs 'arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-SUFFIX' "
                    f"(never the secret itself), got {arn[:12]!r}…"
                )

        for name in self.image_repositories:
            if not _REPOSITORY.fullmatch(name):
                raise ValueError(
                    "Environment.image_repositories must be ECR repository names such as 'team/trainer', without "
                    f"registry or tag, got {name!r}"
                )

    def _check_zones(self) -> None:
        zones = self.availability_zones
        if len(zones) < 2 or len(set(zones)) != len(zones) or len(zones) > 16:
            raise ValueError(f"Environment.availability_zones must be 2 to 16 different zones, got {zones}")
        for zone in zones:
            if not re.fullmatch(re.escape(self.region) + "[a-z]", zone):
                raise ValueError(
                    f"Environment.availability_zones must be zones of region {self.region!r} such as "
                    f"'{self.region}a', got {zone!r}: correct the zone or the region"
                )

    def _check_profiles(self) -> None:
        names = [profile.name for profile in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError(f"Environment.profiles must have different names, got {names}")
        if self.default_profile not in names:
            raise ValueError(f"Environment.default_profile must be one of {names}, got {self.default_profile!r}")
        for profile in self.profiles:
            for field in ("spot_max_vcpus", "on_demand_max_vcpus"):
                if getattr(self, field) < profile.vcpus:
                    raise ValueError(
                        f"Environment.{field} must be at least {profile.vcpus}, the vCPUs of one job of profile "
                        f"{profile.name!r}, got {getattr(self, field)}: raise it or disable the profile"
                    )


CPU: Final = Profile(
    name="cpu",
    vcpus=4,
    memory_mib=14336,
    gpus=0,
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
    shared_memory_mib=4096,
    # Every size with one A10G (g5) or one L4 (g6, gr6).
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
    shared_memory_mib=32768,
    # All that AWS offers with four A10G or L4.
    spot_instance_types=("g5.12xlarge", "g5.24xlarge", "g6.12xlarge", "g6.24xlarge"),
    on_demand_instance_types=("g5.12xlarge", "g6.12xlarge"),
    root_volume_gib=300,
)

GPU_48GB: Final = Profile(
    name="gpu-48gb",
    vcpus=4,
    memory_mib=28672,
    gpus=1,
    shared_memory_mib=8192,
    # All that AWS offers with one L40S.
    spot_instance_types=("g6e.xlarge", "g6e.2xlarge", "g6e.4xlarge", "g6e.8xlarge", "g6e.16xlarge"),
    on_demand_instance_types=("g6e.xlarge", "g6e.2xlarge"),
    root_volume_gib=200,
)

GPU_80GB_X8: Final = Profile(
    name="gpu-80gb-x8",
    vcpus=96,
    memory_mib=1032192,
    gpus=8,
    shared_memory_mib=131072,
    # All that AWS offers with eight GPUs of 80 GB: A100 (p4de) and H100 (p5).
    spot_instance_types=("p4de.24xlarge", "p5.48xlarge"),
    on_demand_instance_types=("p4de.24xlarge", "p5.48xlarge"),
    root_volume_gib=500,
)

DEV: Final = Environment(
    name="dev",
    region="us-east-1",
    availability_zones=("us-east-1a", "us-east-1b"),
    profiles=(CPU, GPU_24GB),
    default_profile="cpu",
    spot_max_vcpus=64,
    on_demand_max_vcpus=16,
    teams=("research",),
    max_attempt_seconds=6 * 3600,
    runnable_limit_seconds=600,
    log_retention=logs.RetentionDays.TWO_WEEKS,
    is_protected=False,
)

STAGING: Final = replace(
    DEV,
    name="staging",
    availability_zones=("us-east-1a", "us-east-1b", "us-east-1c"),
    spot_max_vcpus=256,
    on_demand_max_vcpus=64,
    max_attempt_seconds=24 * 3600,
    log_retention=logs.RetentionDays.ONE_MONTH,
    is_protected=True,
)

PROD: Final = replace(
    STAGING,
    name="prod",
    availability_zones=("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1f"),
    profiles=(CPU, GPU_24GB, GPU_24GB_X4, GPU_48GB, GPU_80GB_X8),
    spot_max_vcpus=2048,
    on_demand_max_vcpus=384,
    teams=("research", "applied", "platform"),
    max_attempt_seconds=MAX_ATTEMPT_SECONDS_LIMIT,
    runnable_limit_seconds=900,
    log_retention=logs.RetentionDays.SIX_MONTHS,
)

ENVIRONMENTS: Final = {environment.name: environment for environment in (DEV, STAGING, PROD)}


def find_environment(name: str) -> Environment:
    """Return the environment of that name.

    Raises:
        ValueError: listing the names there are.
    """
    if name not in ENVIRONMENTS:
        problem = f"unknown environment {name!r}" if name else "no environment given"
        raise ValueError(f"{problem}: choose one of {', '.join(ENVIRONMENTS)}")
    return ENVIRONMENTS[name]
