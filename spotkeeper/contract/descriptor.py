"""The descriptor: what a deployed environment tells the command line about itself, as JSON in SSM."""

import json
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
    max_attempt_seconds: int
    version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the compact JSON that is stored; an SSM parameter takes 4,096 characters, an advanced one 8,192."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Descriptor":
        """Read a stored descriptor. Fields that this version does not know are ignored.

        Raises:
            ValueError: if the schema version is newer than this program, or a field is missing.
        """
        stored: dict[str, Any] = json.loads(text)
        version = stored.get("version")
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"the environment's descriptor has version {version!r}; this spotkeeper reads version "
                f"{SCHEMA_VERSION}: install the version that deployed the environment"
            )
        try:
            profiles = {
                name: Profile(**{key: value[key] for key in Profile.__dataclass_fields__})
                for name, value in stored["profiles"].items()
            }
            plain = {
                key: stored[key]
                for key in cls.__dataclass_fields__
                if key not in {"profiles", "teams", "data_prefixes", "secret_arns"}
            }
            return cls(
                **plain,
                profiles=profiles,
                teams=tuple(stored["teams"]),
                data_prefixes=tuple(stored["data_prefixes"]),
                secret_arns=tuple(stored["secret_arns"]),
            )
        except KeyError as error:
            raise ValueError(f"the environment's descriptor lacks the field {error}: deploy it again") from error
