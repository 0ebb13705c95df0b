"""What can be set, and which settings are refused; `stacks.environments` holds the values.

Everything is checked before it is synthesized, because AWS refuses it minutes into a deployment, or never: a job that
fits no host only waits. A profile is checked when it is made; an environment when it is asked for, so that one which is
being edited does not stand in the way of the others.

Quotas: docs.aws.amazon.com/batch/latest/userguide/service_limits.html
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, get_args

from aws_cdk import aws_logs as logs

from spotkeeper.contract.descriptor import Caps
from spotkeeper.contract.image_variant import IMAGE_VARIANTS, ImageVariant, image_variant
from spotkeeper.contract.names import check_name
from stacks.alarm_settings import AlarmSettings
from stacks.game_day_settings import GameDay, check_game_day
from stacks.instance_types import INSTANCE_TYPES, InstanceType
from stacks.network_modes import ExistingVpc, Isolated, Network, PublicEgress, check_zones
from stacks.on_demand_prices import ON_DEMAND_PRICES_USD
from stacks.setting_types import OWN_CHECK, check_types
from stacks.training_settings import TrainingSettings

MAX_ATTEMPT_SECONDS_LIMIT: Final = 7200 * 60
"""AWS Batch lets running jobs finish for at most 7,200 minutes after a compute environment was updated."""

MAX_VCPUS_LIMIT: Final = 100_000
"""Ours, against a slip of the keyboard: far above any account's quota, and a bill of thousands of dollars an hour."""

MAX_TEAMS: Final = 500
"""Share identifiers that AWS Batch lets one scheduling policy have."""

MAX_PROFILES: Final = 25
"""AWS Batch allows 50 queues and 50 compute environments an account and region, and a profile takes two of each."""

MIN_SPOT_TYPES: Final = 2
"""One type is one pool a zone: an interruption and its retry would meet the same shortage."""

MAX_USD: Final = 10_000_000
"""Ours, against a slip of the keyboard: `spotkeeper.policy.money`, which reads what is set here, takes no more."""

MAX_BUDGET_SUBSCRIBERS: Final = 10
"""E-mail addresses that AWS Budgets lets one notification have."""

Usd = Annotated[str, OWN_CHECK]
"""US dollars as text: see `_check_usd`."""

ImageBuilder = Literal["docker", "codebuild"]
"""Who builds the trainer image for `make image`: Docker on the machine of whoever calls it, or a CodeBuild project."""

ARCHITECTURE: Final = "x86_64"
"""What `trainer_image/Dockerfile` is built for."""


def memory_for_a_job_mib(instance: InstanceType) -> int:
    """Return the MiB that a job may ask for of an instance type: 7/8 of what is installed.

    Hypervisor and kernel keep about 2.5 % (7,985 of 8,192 MiB are left of an m4.large), and AWS advises to leave
    the ECS agent and the system 5 %; the rest is margin for bigger kernels. A job that asks for more than a host
    registers waits for ever. docs.aws.amazon.com/batch/latest/userguide/memory-management.html
    """
    return instance.memory_mib * 7 // 8


_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+){1,2}-\d{1,2}")
_SECRET_ARN: Final = re.compile(r"arn:aws[a-z-]*:secretsmanager:([a-z0-9-]+):\d{12}:secret:[\w/+=.@-]+-[A-Za-z0-9]{6}")
_DATA_PREFIX: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(?:[^*?\s]+/)?")
_REPOSITORY: Final = re.compile(r"(?=.{2,256}$)[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TEAM: Final = re.compile(r"[a-z][a-z0-9]{0,39}")
_USD: Final = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")
_ECR_IMAGE: Final = re.compile(
    r"\d{12}\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/(?P<name>[a-z0-9._/-]{2,256})@sha256:[0-9a-f]{64}"
)
_BOUNDARY_ARN: Final = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]{1,512}", re.ASCII)
# An `@id` or `-id` after owner and repository is GitHub's immutable form, which new repositories have since 2026-06-18.
_GITHUB_SUBJECT: Final = re.compile(r"repo:[\w.@-]+/[\w.@-]+:environment:[\w.-]{1,255}", re.ASCII)
_EMAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)


def _check_range(field: str, value: int, low: int, high: int, source: str) -> None:
    # A bool is an int to Python, and True vCPUs are nobody's intention.
    if type(value) is not int or not low <= value <= high:
        raise ValueError(
            f"{field} must be {low} to {high} ({source}), a whole number, got {value!r}: choose a value in that range"
        )


def _check_usd(field: str, value: object) -> Decimal:
    # Text, because 0.1 is no float; digits only, because `10,00` is ten to some and a thousand to others.
    if not isinstance(value, str) or not _USD.fullmatch(value) or Decimal(value) > MAX_USD:
        raise ValueError(
            f"{field} must be US dollars as text of plain digits with at most six decimals after a point, such as '20' "
            f"or '12.50', from '0' to '{MAX_USD}', got {value!r}"
        )
    return Decimal(value)


def _check_each_once(field: str, values: Iterable[Any]) -> None:
    values = list(values)
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{field} must name each once, got {', '.join(repeated)} more than once: remove the copies")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One accelerator class, and what a job of it is given."""

    name: str
    """What users pass as `--profile`."""
    vcpus: int
    """vCPUs of a job, at most those of the smallest instance type."""
    memory_mib: int
    """MiB of a job, at most 7/8 of the smallest instance type's: see `memory_for_a_job_mib`."""
    gpus: int
    """GPUs of a job, all those of an instance; 0 for a profile without."""
    gpu_memory_mib: int
    """MiB of one GPU, the same in every instance type (EC2 states 22,888 for 24 GB cards); 0 without GPUs."""
    shared_memory_mib: int
    """MiB of /dev/shm, counted against `memory_mib`. Docker's 64 MB is too little for data-loader workers."""
    spot_instance_types: tuple[str, ...]
    """Every pool that may be taken, at least 2 types: 10 or more where AWS offers them, or interruptions come together.
    """
    on_demand_instance_types: tuple[str, ...]
    """Types for fallback; few, because the budget reserves the price of the dearest."""
    root_volume_gib: int
    """GiB of the encrypted gp3 root volume; holds images, source and the job's scratch files."""

    def __post_init__(self) -> None:
        """Check what AWS would refuse hours later."""
        try:
            self._check_fields()
        except ValueError as error:
            raise ValueError(f"profile {self.name!r}: {error}") from error

    def _check_fields(self) -> None:
        check_types(self)
        check_name("Profile.name", self.name)
        _check_range("Profile.vcpus", self.vcpus, 1, 1024, "vCPUs of one instance")
        _check_range("Profile.memory_mib", self.memory_mib, 4, 32 * 1024 * 1024, "AWS Batch, one instance")
        _check_range("Profile.gpus", self.gpus, 0, 16, "GPUs of one instance")
        _check_range("Profile.shared_memory_mib", self.shared_memory_mib, 64, self.memory_mib - 1, "below memory_mib")
        _check_range("Profile.root_volume_gib", self.root_volume_gib, 30, 16384, "AMI size, gp3 limit")
        self._check_types("Profile.spot_instance_types", self.spot_instance_types, MIN_SPOT_TYPES)
        self._check_types("Profile.on_demand_instance_types", self.on_demand_instance_types, 1)

    def _check_types(self, field: str, names: tuple[str, ...], at_least: int) -> None:
        _check_each_once(field, names)
        if len(names) < at_least:
            raise ValueError(f"{field} must name at least {at_least} instance types, got {names}: add some")
        for name in names:
            if name not in INSTANCE_TYPES:
                raise ValueError(
                    f"{field} must name types of the table in stacks/instance_types.py, got {name!r}: add its "
                    "row there (families and 'optimal' are no types: they bring sizes that no job of the profile fits)"
                )
            self._check_fit(field, name, INSTANCE_TYPES[name])

    def _check_fit(self, field: str, name: str, instance: InstanceType) -> None:
        if instance.architecture != ARCHITECTURE:
            raise ValueError(
                f"{field} must be of architecture {ARCHITECTURE}, which the image is built for; {name} is "
                f"{instance.architecture}: remove it"
            )
        if (instance.gpus, instance.gpu_memory_mib) != (self.gpus, self.gpu_memory_mib):
            raise ValueError(
                f"{field} must be of one class, {self.gpus} GPUs of {self.gpu_memory_mib} MiB (Profile.gpus, "
                f"gpu_memory_mib), because a run must resume wherever it lands; {name} has {instance.gpus} of "
                f"{instance.gpu_memory_mib}: move it to a profile of its own class"
            )
        for wanted, offered in (("vcpus", instance.vcpus), ("memory_mib", memory_for_a_job_mib(instance))):
            if getattr(self, wanted) > offered:
                raise ValueError(
                    f"Profile.{wanted} must be at most {offered}, what {name} in {field} has for a job, got "
                    f"{getattr(self, wanted)}: lower it or remove the type"
                )

    @property
    def image_type(self) -> Literal["ECS_AL2023", "ECS_AL2023_NVIDIA"]:
        """AWS Batch's name of the machine image: Amazon Linux 2023, with the NVIDIA driver where there are GPUs."""
        return "ECS_AL2023_NVIDIA" if self.gpus else "ECS_AL2023"

    @property
    def image_variant(self) -> ImageVariant:
        """Which variant of the trainer image its jobs run."""
        return image_variant(self.gpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Everything that differs between two deployments."""

    name: str
    """Part of the stacks' names and of the descriptor's: `/spotkeeper/<name>/descriptor`."""
    region: str
    """AWS region. The account is that of the credentials with which it is deployed."""
    availability_zones: tuple[str, ...]
    """Zones to use, at least 2. More zones are more spot pools. Append only: subnets are numbered in this order."""
    network: Network
    """`PublicEgress`, `Isolated` or `ExistingVpc`: see `stacks.network_modes`."""
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
    image_builder: ImageBuilder = "docker"
    """Who builds for `make image`: see docs/images.md."""
    trainer_images: Mapping[ImageVariant, str] = field(default_factory=dict)
    """Variant -> `repository@sha256:…`, as `make image` prints it. Profiles of a variant that is not here have queues
    and no image: `spotkeeper submit` refuses them."""
    permissions_boundary_arn: str | None = None
    """ARN of the managed policy that limits every role of the environment; None where the account asks for none."""
    github_subject: str | None = None
    """The one GitHub Actions environment that may deploy, as GitHub names it in its tokens:
    'repo:OWNER/NAME:environment:prod'. None: there is no deploy role. See docs/identity.md."""
    max_attempt_seconds: int
    """Seconds after which AWS Batch ends an attempt. There is no default in Batch: a hung job would bill for ever."""
    runnable_limit_seconds: int
    """Seconds at the head of a queue without capacity after which Batch cancels the job and placement decides anew."""
    log_retention: logs.RetentionDays
    """How long job and function logs are kept."""
    is_protected: bool
    """True: stacks and ledger refuse deletion. Checkpoints and ledger outlive their stack either way."""
    has_own_key: bool
    """True: a KMS key of the environment's own encrypts checkpoints and ledger, for a dollar a month. False: keys of
    AWS's. It may change at any time: what is stored keeps its key, and remains readable."""
    fallback_cap_usd_per_month: Usd
    """US dollars as text that all runs together may spend on on-demand in a month (UTC); '0': there is no fallback. A
    month that has begun keeps its caps: `spotkeeper budget set` changes those."""
    total_cap_usd_per_month: Usd | None
    """The same for spot and on-demand together; None: unlimited. It needs a price of every spot type, too."""
    team_caps: Mapping[str, Caps] = field(default_factory=dict)
    """Caps a month of single teams, within those of the environment; a team that is not here has none of its own."""
    on_demand_prices_usd: Mapping[str, Usd] = field(default_factory=dict)
    """Instance type -> US dollars per hour as text: prices that you have checked for your region and contract. They
    come before `stacks.on_demand_prices`. A profile with a type of unknown price never falls back."""
    fallback_after_seconds: int
    """So long without spot capacity, and a run that may spend on on-demand falls back. On SageMaker each spot type of
    the profile is given so long, or `starting_seconds` where that is shorter; on-demand comes after the last."""
    segment_seconds: int
    """Longest attempt on on-demand. All of it is reserved when it begins; then it is decided anew."""
    standby_after_seconds: int
    """So long after its start on on-demand, a run looks for spot again by a standby."""
    standby_age_seconds: int
    """A standby takes over once it has had its machine so long: evidence that spot is there to stay."""
    standby_patience_seconds: int
    """A standby that has asked for its run gives up after so long."""
    budget_alert_emails: tuple[str, ...] = ()
    """Who is told by AWS Budgets, the second net, at 80 % of the month's cap and at 100 %, where it also stops our
    functions from submitting jobs. Empty: no budget is made, since AWS wants somebody to tell."""
    alarms: AlarmSettings = field(default_factory=AlarmSettings)
    """Whom CloudWatch alarms tell, and from which values on."""
    game_day: GameDay | None = None
    """Drills with AWS FIS; None: there are none, and no role may interrupt a host."""
    training: TrainingSettings | None = None
    """What runs on SageMaker; None: nothing does, and no role may create a training job."""

    def check(self) -> None:
        """Check each field and what they imply for one another.

        Raises:
            ValueError: naming the environment, the field, the value and those allowed.
        """
        try:
            self._check_fields()
        except ValueError as error:
            raise ValueError(f"environment {self.name!r}: {error}") from error

    def _check_fields(self) -> None:
        check_types(self)
        check_name("Environment.name", self.name)
        self._check_zones()
        self._check_profiles()
        limits = "AWS Batch's minimum, and how long it lets a job go on when its compute environment changes"
        _check_range("Environment.max_attempt_seconds", self.max_attempt_seconds, 60, MAX_ATTEMPT_SECONDS_LIMIT, limits)
        _check_range("Environment.runnable_limit_seconds", self.runnable_limit_seconds, 600, 86400, "AWS Batch")
        self._check_teams()
        self._check_data_prefixes()
        self._check_secrets()
        self._check_image_repositories()
        self._check_trainer_images()
        self._check_identity()
        if type(self.log_retention) is not logs.RetentionDays:
            raise ValueError(
                "Environment.log_retention must be one of logs.RetentionDays, such as RetentionDays.ONE_MONTH "
                f"(CloudWatch Logs keeps no other times), got {self.log_retention!r}"
            )
        for switch in ("is_protected", "has_own_key"):
            if type(getattr(self, switch)) is not bool:
                raise ValueError(f"Environment.{switch} must be True or False, got {getattr(self, switch)!r}")
        self._check_caps()
        self._check_placement()
        self._check_prices()
        self._check_budget_alert()
        check_game_day(self.game_day, [profile.name for profile in self.profiles])
        if self.training is not None:
            self._check_training(self.training)

    def _check_zones(self) -> None:
        if not _REGION.fullmatch(self.region):
            raise ValueError(f"Environment.region must be an AWS region such as 'us-east-1', got {self.region!r}")
        zones = self.availability_zones
        if len(zones) < 2 or len(set(zones)) != len(zones) or len(zones) > 16:
            raise ValueError(f"Environment.availability_zones must be 2 to 16 different zones, got {zones}")
        for zone in zones:
            if not re.fullmatch(re.escape(self.region) + "[a-z]", zone):
                raise ValueError(
                    f"Environment.availability_zones must be zones of region {self.region!r} such as "
                    f"'{self.region}a', got {zone!r}: correct the zone or the region"
                )
        if type(self.network) not in (PublicEgress, Isolated, ExistingVpc):
            raise ValueError(
                "Environment.network must be PublicEgress(), Isolated() or ExistingVpc(vpc_id=…, subnet_ids=…) of "
                f"stacks.network_modes, got {self.network!r}"
            )
        check_zones(self.network, zones)

    def _check_profiles(self) -> None:
        names = [profile.name for profile in self.profiles]
        _check_each_once("Environment.profiles", names)
        if len(names) > MAX_PROFILES:
            raise ValueError(
                f"Environment.profiles must be at most {MAX_PROFILES} (two of the account's 50 AWS Batch queues each), "
                f"got {len(names)}: disable some"
            )
        if self.default_profile not in names:
            raise ValueError(f"Environment.default_profile must be one of {names}, got {self.default_profile!r}")
        for limit in ("spot_max_vcpus", "on_demand_max_vcpus"):
            _check_range(f"Environment.{limit}", getattr(self, limit), 1, MAX_VCPUS_LIMIT, "the bound of this file")
            for profile in self.profiles:
                if getattr(self, limit) < profile.vcpus:
                    raise ValueError(
                        f"Environment.{limit} must be at least {profile.vcpus}, the vCPUs of one job of profile "
                        f"{profile.name!r}, got {getattr(self, limit)}: raise it or disable the profile"
                    )

    def _check_teams(self) -> None:
        _check_each_once("Environment.teams", self.teams)
        if not 1 <= len(self.teams) <= MAX_TEAMS:
            raise ValueError(f"Environment.teams must be 1 to {MAX_TEAMS} (AWS Batch shares), got {len(self.teams)}")
        for team in self.teams:
            if not _TEAM.fullmatch(team):
                raise ValueError(
                    "Environment.teams must be 1 to 40 of a-z and 0-9, starting with a letter (AWS Batch share "
                    f"identifiers take no punctuation), got {team!r}: rename the team"
                )

    def _check_data_prefixes(self) -> None:
        _check_each_once("Environment.data_prefixes", self.data_prefixes)
        for prefix in self.data_prefixes:
            if not _DATA_PREFIX.fullmatch(prefix):
                raise ValueError(
                    f"Environment.data_prefixes must look like 's3://bucket/prefix/', without wildcards and ending "
                    f"with a slash so that 'a/' does not grant 'ab/', got {prefix!r}"
                )

    def _check_secrets(self) -> None:
        for arn in self.secret_arns:
            match = _SECRET_ARN.fullmatch(arn)
            if not match:
                # Whoever sets the secret itself must not find it in a build log.
                raise ValueError(
                    "Environment.secret_arns must be whole ARNs 'arn:aws:secretsmanager:REGION:ACCOUNT:secret:"
                    "NAME-SUFFIX' with the suffix of six characters and without wildcards (never the secret itself), "
                    f"got {arn[:12]!r}…: copy the ARN from `aws secretsmanager describe-secret`"
                )
            if match[1] != self.region:
                raise ValueError(
                    f"Environment.secret_arns must be of region {self.region!r}, where jobs run, got one of "
                    f"{match[1]!r}: replicate the secret and name the replica"
                )
        _check_each_once("Environment.secret_arns", self.secret_arns)

    def _check_image_repositories(self) -> None:
        _check_each_once("Environment.image_repositories", self.image_repositories)
        for name in self.image_repositories:
            first, slash, _ = name.partition("/")
            # Docker takes a first part with a dot for a registry.
            if not _REPOSITORY.fullmatch(name) or (slash and "." in first):
                raise ValueError(
                    "Environment.image_repositories must be ECR repository names such as 'team/trainer', without "
                    f"scheme, registry, tag or digest, got {name!r}: jobs pull from this account and region only"
                )

    def _check_trainer_images(self) -> None:
        if self.image_builder not in get_args(ImageBuilder):
            raise ValueError(f"Environment.image_builder must be 'docker' or 'codebuild', got {self.image_builder!r}")
        for variant, image in self.trainer_images.items():
            if variant not in IMAGE_VARIANTS:
                raise ValueError(f"Environment.trainer_images must name variants of {IMAGE_VARIANTS}, got {variant!r}")
            match = _ECR_IMAGE.fullmatch(image)
            if not match or not _REPOSITORY.fullmatch(match["name"]):
                raise ValueError(
                    f"Environment.trainer_images[{variant!r}] must be ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:"
                    f"<64 hex digits>, because a tag may point elsewhere when a run resumes, got {image!r}: copy what "
                    f"`make image ENV={self.name} VARIANT={variant}` prints"
                )
            if match[1] != self.region:
                raise ValueError(
                    f"Environment.trainer_images[{variant!r}] must be of region {self.region!r}, where hosts pull it "
                    f"without crossing regions, got one of {match[1]!r}: build it there, or replicate the repository"
                )

    def _check_identity(self) -> None:
        boundary, subject = self.permissions_boundary_arn, self.github_subject
        if boundary is not None and not _BOUNDARY_ARN.fullmatch(boundary):
            raise ValueError(
                "Environment.permissions_boundary_arn must be the ARN of a managed policy such as "
                f"'arn:aws:iam::123456789012:policy/boundary', or None, got {boundary!r}"
            )
        if subject is not None and not _GITHUB_SUBJECT.fullmatch(subject):
            raise ValueError(
                "Environment.github_subject must be 'repo:OWNER/NAME:environment:ENVIRONMENT' without wildcards, or "
                "None, because only an environment of GitHub can ask for approval before it deploys, got "
                f"{subject!r}: copy the subject that GitHub shows in the repository's OIDC settings"
            )

    def _check_caps(self) -> None:
        _check_usd("Environment.fallback_cap_usd_per_month", self.fallback_cap_usd_per_month)
        if self.total_cap_usd_per_month is not None:
            _check_usd("Environment.total_cap_usd_per_month", self.total_cap_usd_per_month)
        for team, caps in self.team_caps.items():
            if team not in self.teams:
                raise ValueError(f"Environment.team_caps must name teams of {self.teams}, got {team!r}: add the team")
            for name in ("fallback_usd", "total_usd"):
                if getattr(caps, name) is not None:
                    _check_usd(f"Environment.team_caps[{team!r}].{name}", getattr(caps, name))

    def _check_placement(self) -> None:
        for name, low, high, source in (
            ("fallback_after_seconds", 300, 7 * 86400, "one period of the sweeper to a week"),
            ("segment_seconds", 900, MAX_ATTEMPT_SECONDS_LIMIT, "less would be spent on starting; AWS Batch's maximum"),
            ("standby_after_seconds", 300, 86400, "one period of the sweeper to a day"),
            ("standby_age_seconds", 60, 86400, "a minute to a day"),
            ("standby_patience_seconds", 600, 86400, "time for the run to save, stop and be moved, to a day"),
        ):
            _check_range(f"Environment.{name}", getattr(self, name), low, high, source)

    def _check_prices(self) -> None:
        for name, price in self.on_demand_prices_usd.items():
            if name not in INSTANCE_TYPES:
                raise ValueError(
                    "Environment.on_demand_prices_usd must name types of the table in stacks/instance_types.py, got "
                    f"{name!r}: correct the name"
                )
            if not _check_usd(f"Environment.on_demand_prices_usd[{name!r}]", price):
                raise ValueError(f"Environment.on_demand_prices_usd[{name!r}] must be above 0: no instance is free")
        if not self.has_total_cap:
            return
        for profile in self.profiles:
            unknown = sorted(set(profile.spot_instance_types) - set(self.prices_of(profile)))
            if unknown:
                raise ValueError(
                    f"a total cap is set, and without the prices of {', '.join(unknown)} nothing can be leased for "
                    f"profile {profile.name!r}: no run of it would start. Add them to on_demand_prices_usd, remove the "
                    "types, or set the total caps to None"
                )

    def _check_training(self, training: TrainingSettings) -> None:
        shared = {profile.name for profile in training.profiles} & {profile.name for profile in self.profiles}
        if shared:
            raise ValueError(
                f"TrainingSettings.profiles must have names that Environment.profiles has not, got {sorted(shared)} in "
                "both: rename, because `--profile` chooses the service too"
            )
        for name, price in training.on_demand_prices_usd.items():
            if not _check_usd(f"TrainingSettings.on_demand_prices_usd[{name!r}]", price):
                raise ValueError(f"TrainingSettings.on_demand_prices_usd[{name!r}] must be above 0: nothing is free")
        for profile in training.profiles if self.has_total_cap else ():
            unknown = sorted(set(profile.spot_instance_types) - set(training.prices_of(profile, self.region)))
            if unknown:
                raise ValueError(
                    f"a total cap is set, and without the prices of {', '.join(unknown)} nothing can be leased for "
                    f"training profile {profile.name!r}: no run of it would start. Add them to "
                    "TrainingSettings.on_demand_prices_usd, remove the types, or set the total caps to None"
                )

    def _check_budget_alert(self) -> None:
        emails = self.budget_alert_emails
        _check_each_once("Environment.budget_alert_emails", emails)
        if len(emails) > MAX_BUDGET_SUBSCRIBERS:
            raise ValueError(
                f"Environment.budget_alert_emails must be at most {MAX_BUDGET_SUBSCRIBERS} (AWS Budgets), got "
                f"{len(emails)}: name a mailing list"
            )
        for email in emails:
            if not _EMAIL.fullmatch(email):
                raise ValueError(f"Environment.budget_alert_emails must be e-mail addresses, got {email!r}")
        if emails and not Decimal(self.total_cap_usd_per_month or self.fallback_cap_usd_per_month):
            raise ValueError(
                "Environment.budget_alert_emails needs a cap above $0 to alert of: set total_cap_usd_per_month or "
                "fallback_cap_usd_per_month"
            )

    @property
    def has_total_cap(self) -> bool:
        """Whether the environment or a team has a total cap, so that spot is leased too."""
        totals = (self.total_cap_usd_per_month, *(caps.total_usd for caps in self.team_caps.values()))
        return any(total is not None for total in totals)

    def prices_of(self, profile: Profile) -> dict[str, str]:
        """Return the on-demand prices of a profile's types, as far as they are known."""
        known = {**ON_DEMAND_PRICES_USD.get(self.region, {}), **self.on_demand_prices_usd}
        types = {*profile.spot_instance_types, *profile.on_demand_instance_types}
        return {name: known[name] for name in sorted(types) if name in known}
