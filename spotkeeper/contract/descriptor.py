"""The descriptor: what a deployed environment tells the command line about itself, as JSON in SSM.

docs/descriptor.md lists the fields for people. A field may be added at any time, since readers ignore what they do not
know; one that is removed, or means something else, raises SCHEMA_VERSION.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One accelerator class, with a queue for each market."""

    spot_queue: str
    """ARN of the job queue on spot capacity."""
    on_demand_queue: str
    """ARN of the job queue on on-demand capacity; only the control plane may submit to it."""
    job_definition: str
    """ARN of the job definition, with its revision."""
    vcpus: int
    memory_mib: int
    gpus: int
    spot_instance_types: tuple[str, ...] = ()
    on_demand_instance_types: tuple[str, ...] = ()
    usd_per_hour: dict[str, str] = field(default_factory=dict)
    """On-demand price of an instance type, as decimal text. A type whose price is not known is not in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProfile:
    """One accelerator class on SageMaker, which has no queue of its own: we try the types in their order."""

    spot_instance_types: tuple[str, ...]
    """A spot job names exactly one: SageMaker's rule. The first is tried first."""
    on_demand_instance_types: tuple[str, ...]
    """At most five, SageMaker's limit: the first that has capacity wins."""
    gpus: int
    volume_gb: int
    """Size of the storage volume, for types without an NVMe disk of their own."""
    image_variant: str
    """Which of `Descriptor.trainer_images` runs on it."""
    usd_per_hour: dict[str, str] = field(default_factory=dict)
    """On-demand price of a type for training, as decimal text. A type whose price is not known is not in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Where and as whom training jobs of SageMaker run, and on what."""

    role_arn: str
    default_profile: str
    profiles: dict[str, TrainingProfile]
    """By name; none is the name of one on AWS Batch."""
    starting_seconds: int = 1200
    """A spot job that has no machine for so long is stopped, and the next type tried."""
    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    """With the subnets: both or none."""
    kms_key_arn: str | None = None
    """Encrypts output, and volumes of types without a disk of their own (`local_disk`); None: SageMaker's own key."""
    is_isolated: bool = False
    """Network isolation: a container reaches nothing, so checkpoints go through SageMaker's mirror."""
    encrypts_between_nodes: bool = False
    service_queue: str | None = None
    """ARN of the AWS Batch queue for SageMaker training jobs; None: the environment has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """When runs change markets; see `policy.placement.Terms`."""

    fallback_after_seconds: int = 1800
    segment_seconds: int = 4 * 3600
    standby_after_seconds: int = 900
    standby_age_seconds: int = 1200
    standby_patience_seconds: int = 1800


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """US dollars a month as decimal text; None: unlimited."""

    fallback_usd: str | None = "0"
    """For on-demand. Nothing is spent there that nobody has allowed."""
    total_usd: str | None = None
    """For spot and on-demand together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptor:
    """Everything that a program outside the stacks needs to know of an environment."""

    environment: str
    region: str
    checkpoint_bucket: str
    ledger_table: str
    job_log_group: str
    default_profile: str
    profiles: dict[str, Profile]
    teams: tuple[str, ...]
    data_prefixes: tuple[str, ...] = field(default=())
    """`s3://bucket/prefix/` that jobs may read."""
    secret_arns: tuple[str, ...] = field(default=())
    """Secrets Manager ARNs that jobs may be given."""
    trainer_images: dict[str, str]
    """Variant (see `image_variant`) -> `repository@sha256:…` of the job definitions. A variant that has no image is not
    in it, and profiles of it take only runs with an image of their own."""
    max_attempt_seconds: int
    """Longest time limit that a job may ask for."""
    runnable_limit_seconds: int
    """So long at the head of a queue without capacity, and AWS Batch cancels the job."""
    spot_max_vcpus: int
    """vCPUs that one spot compute environment may hold; the account's quota may be lower."""
    on_demand_max_vcpus: int
    """The same of one on-demand compute environment."""
    placement: Placement = field(default_factory=Placement)
    caps: Caps = field(default_factory=Caps)
    """Of the environment."""
    team_caps: dict[str, Caps] = field(default_factory=dict)
    """Of teams that have caps of their own."""
    training: Training | None = None
    """None: the environment runs nothing on SageMaker."""
    version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the compact JSON that is stored; an SSM parameter takes 4,096 characters, an advanced one 8,192."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Descriptor":
        """Read a stored descriptor. Fields that this version does not know are ignored.

        Raises:
            ValueError: if it is no descriptor, its schema version is not this program's, or a field is missing.
        """
        try:
            stored: dict[str, Any] = json.loads(text)
            version = stored.get("version")
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(
                f"the environment's descriptor must be a JSON object, got {text[:40]!r}: somebody has overwritten it; "
                "deploy the environment again"
            ) from error
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"the environment's descriptor has version {version!r}; this spotkeeper reads version "
                f"{SCHEMA_VERSION}: install the version that deployed the environment"
            )
        try:
            return cls(**{name: _READERS.get(name, _as_stored)(stored[name]) for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"the environment's descriptor lacks the field {error}: deploy it again") from error


def _as_stored(value: Any) -> Any:
    return value


def _profile(stored: dict[str, Any]) -> Profile:
    known = {name: stored[name] for name in Profile.__dataclass_fields__}
    lists = ("spot_instance_types", "on_demand_instance_types")
    return Profile(**{**known, **{name: tuple(known[name]) for name in lists}})


def _placement(stored: dict[str, Any]) -> Placement:
    return Placement(**{name: stored[name] for name in Placement.__dataclass_fields__})


def _caps(stored: dict[str, Any]) -> Caps:
    return Caps(**{name: stored[name] for name in Caps.__dataclass_fields__})


def _training(stored: dict[str, Any] | None) -> Training | None:
    if stored is None:
        return None
    known = {name: stored[name] for name in Training.__dataclass_fields__}
    profiles = {name: _training_profile(value) for name, value in known["profiles"].items()}
    lists = {name: tuple(known[name]) for name in ("subnet_ids", "security_group_ids")}
    return Training(**{**known, **lists, "profiles": profiles})


def _training_profile(stored: dict[str, Any]) -> TrainingProfile:
    known = {name: stored[name] for name in TrainingProfile.__dataclass_fields__}
    lists = {name: tuple(known[name]) for name in ("spot_instance_types", "on_demand_instance_types")}
    return TrainingProfile(**{**known, **lists})


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "profiles": lambda stored: {name: _profile(value) for name, value in stored.items()},
    "team_caps": lambda stored: {name: _caps(value) for name, value in stored.items()},
    "placement": _placement,
    "caps": _caps,
    "training": _training,
    "teams": tuple,
    "data_prefixes": tuple,
    "secret_arns": tuple,
}
