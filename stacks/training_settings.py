"""What an environment may run on SageMaker, and which settings are refused.

Limits: docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html, API_ResourceConfig.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from spotkeeper.contract.image_variant import ImageVariant, image_variant
from spotkeeper.contract.names import check_name
from stacks.instance_types import INSTANCE_TYPES
from stacks.setting_types import OWN_CHECK, check_types
from stacks.training_prices import TRAINING_PRICES_USD

MAX_PREFERENCES: Final = 5
"""Instance types that SageMaker lets an on-demand job name, in order of preference."""

MAX_SERVICE_INSTANCES: Final = 1000
"""Ours, against a slip of the keyboard: far above what an account's quotas allow at first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProfile:
    """One accelerator class on SageMaker."""

    name: str
    """What users pass as `--profile`. None is the name of a profile on AWS Batch."""
    gpus: int
    """GPUs of a node, all those of an instance; 0 for a profile without."""
    gpu_memory_mib: int
    """MiB of one GPU, as in `stacks.settings.Profile`; 0 without GPUs."""
    spot_instance_types: tuple[str, ...]
    """Tried one after the other, since a spot job names exactly one; AWS tells no spot price of `ml.` types."""
    on_demand_instance_types: tuple[str, ...]
    """For fallback: at most five, the first that has capacity wins. The budget reserves the price of the dearest."""
    volume_gib: int
    """GiB of the storage volume. Types with an NVMe disk of their own use that."""

    def __post_init__(self) -> None:
        """Check every field."""
        check_types(self)
        check_name("TrainingProfile.name", self.name)
        _check_whole("TrainingProfile.volume_gib", self.volume_gib, 1, 16_384)
        if not 1 <= len(self.on_demand_instance_types) <= MAX_PREFERENCES:
            raise ValueError(
                f"TrainingProfile.on_demand_instance_types must be 1 to {MAX_PREFERENCES} types (SageMaker's "
                f"InstancePreferences), got {self.on_demand_instance_types}"
            )
        if not self.spot_instance_types:
            raise ValueError("TrainingProfile.spot_instance_types must name at least one type, got ()")
        for name in ("spot_instance_types", "on_demand_instance_types"):
            self._check_instance_types(f"TrainingProfile.{name}", getattr(self, name))

    def _check_instance_types(self, field: str, names: tuple[str, ...]) -> None:
        if len(set(names)) != len(names):
            raise ValueError(f"{field} must name each type once, got {names}: remove the copies")
        for name in names:
            instance = INSTANCE_TYPES.get(name.removeprefix("ml."))
            if not name.startswith("ml.") or instance is None:
                raise ValueError(
                    f"{field} must be 'ml.' and a type of the table in stacks/instance_types.py, such as "
                    f"'ml.m5.xlarge', got {name!r}: correct the name, or add the type's row there"
                )
            if (instance.gpus, instance.gpu_memory_mib) != (self.gpus, self.gpu_memory_mib):
                raise ValueError(
                    f"{field} must be of one class, {self.gpus} GPUs of {self.gpu_memory_mib} MiB "
                    "(TrainingProfile.gpus, gpu_memory_mib), because a run must resume wherever it lands; "
                    f"{name} has {instance.gpus} of {instance.gpu_memory_mib}: move it to a profile of its own class"
                )
            if instance.architecture != "x86_64":
                raise ValueError(f"{field} must be of architecture x86_64, which the image is built for, got {name!r}")

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Types of both markets, sorted, each once."""
        return tuple(sorted({*self.spot_instance_types, *self.on_demand_instance_types}))

    @property
    def image_variant(self) -> ImageVariant:
        """Which variant of the trainer image its jobs run."""
        return image_variant(self.gpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """SageMaker in an environment: it costs nothing while no job runs, unless `has_own_key` is set."""

    profiles: tuple[TrainingProfile, ...]
    default_profile: str
    """Profile of a training job that names none."""
    starting_seconds: int = 1200
    """A spot job that has no machine for so long is stopped, and the next type tried; sooner, after the environment's
    `fallback_after_seconds`, where that is shorter and the run can pay on-demand. Below SageMaker's own waiting
    time, which would only end the job."""
    is_in_vpc: bool = False
    """True: containers stand in the environment's subnets and reach S3 and DynamoDB by its gateways. Interfaces of
    SageMaker's have no public addresses, so nothing else, unless the network has a NAT gateway. False: SageMaker's own
    network, which reaches the internet."""
    is_isolated: bool = False
    """True: containers reach no network at all. SageMaker brings source and data as channels and mirrors a folder with
    the checkpoints; the control plane claims for the attempts. One node only: SageMaker lets isolated containers of
    several nodes talk, but ours would have no ledger to agree by. Runs that are open when it is set are not submitted
    again."""
    encrypts_between_nodes: bool = False
    """True: what the nodes of a job say to each other is encrypted, which slows training on several nodes down."""
    has_own_key: bool = False
    """True: a KMS key of the environment's own encrypts storage volumes and output, for a dollar a month. Disks that
    an instance type has by itself (NVMe) are encrypted by their hardware, and take no key."""
    service_queue_instances: int | None = None
    """Instances that an AWS Batch queue for SageMaker training jobs may use at once, for users of the SDK's
    `TrainingQueue`. None: there is no such queue. The control plane neither uses nor sees it: whether spot works in
    such jobs is documented nowhere, and AWS Batch names them itself."""
    on_demand_prices_usd: Mapping[str, Annotated[str, OWN_CHECK]] = field(default_factory=dict)
    """Type -> US dollars per hour of training as text, checked for your region and contract. They come before
    `stacks.training_prices`. A profile with an on-demand type of unknown price never falls back."""

    def __post_init__(self) -> None:
        """Check every field; the environment checks the prices, and names against its own profiles."""
        check_types(self)
        names = [profile.name for profile in self.profiles]
        if len(set(names)) != len(names):
            raise ValueError(f"TrainingSettings.profiles must name each once, got {names}: remove the copies")
        if self.default_profile not in names:
            raise ValueError(f"TrainingSettings.default_profile must be one of {names}, got {self.default_profile!r}")
        # Below, a job would be given up while SageMaker still launches; above, spot is waited for longer than a day.
        _check_whole("TrainingSettings.starting_seconds", self.starting_seconds, 600, 86_400)
        for switch in ("is_in_vpc", "is_isolated", "encrypts_between_nodes", "has_own_key"):
            if type(getattr(self, switch)) is not bool:
                raise ValueError(f"TrainingSettings.{switch} must be True or False, got {getattr(self, switch)!r}")
        if self.service_queue_instances is not None:
            _check_whole(
                "TrainingSettings.service_queue_instances", self.service_queue_instances, 1, MAX_SERVICE_INSTANCES
            )
        known = {name for profile in self.profiles for name in profile.instance_types}
        for name in self.on_demand_prices_usd:
            if name not in known:
                raise ValueError(
                    f"TrainingSettings.on_demand_prices_usd must name types of its profiles, {sorted(known)}, got "
                    f"{name!r}: correct the name"
                )

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Types of all profiles, sorted, each once."""
        return tuple(sorted({name for profile in self.profiles for name in profile.instance_types}))

    def prices_of(self, profile: TrainingProfile, region: str) -> dict[str, str]:
        """Return the on-demand prices of a profile's types in a region, as far as they are known."""
        known = {**TRAINING_PRICES_USD.get(region, {}), **self.on_demand_prices_usd}
        return {name: known[name] for name in profile.instance_types if name in known}


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    # A bool is an int to Python.
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
