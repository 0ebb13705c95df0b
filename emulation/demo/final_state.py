"""The last checkpoint of a run: what two runs are compared by."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from spotkeeper.trainer.manifest import unseal


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalState:
    """Weights, optimizer, scheduler, random number generators and data position after the last step."""

    step: int
    num_bytes: int
    """Of all tensors, as stored."""
    sha256: str
    """Of the same bytes."""
    plain_state: dict[str, Any]
    """Everything that is no tensor."""

    @classmethod
    def read(cls, manifest_keys: list[str], run_id: str, get: Callable[[str], bytes]) -> Self:
        """Read the newest of the manifests and its tensors.

        Args:
            manifest_keys: The run's manifests, in any order.
            run_id: The run.
            get: Returns an object's bytes by its key.

        Raises:
            LookupError: if the run has no checkpoint.
            DamagedError: if the manifest is not what was written.
        """
        if not manifest_keys:
            raise LookupError(f"run {run_id} has no checkpoint")
        newest = max(manifest_keys)
        manifest = unseal(get(newest), newest, run_id)
        (stored,) = manifest["objects"]
        tensors = get(stored["key"])
        return cls(
            step=manifest["step"],
            num_bytes=len(tensors),
            sha256=hashlib.sha256(tensors).hexdigest(),
            plain_state=manifest["state"],
        )
