"""What the ledger knows of a sweep beside its members, which are runs."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """A group of runs that differ in their parameters alone. Times are ISO 8601, UTC."""

    name: str
    created_at: str
    size: int
    """Number of members; member `i` is the run `contract.names.member_id(name, i)`."""
    parameters: tuple[str, ...]
    """Names of the variables that members set each for itself."""
    digest: str
    """Of everything that was asked for: whoever asks for the same under the same name goes on with this one."""
    sent_at: str | None = None
    """When SubmitJob was called for the array of all first submissions. That happens once."""
