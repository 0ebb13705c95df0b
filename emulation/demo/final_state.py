"""The last checkpoint of a run: what two runs are compared by."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from spotkeeper.contract.checkpoint_layout import commit_prefix
from spotkeeper.trainer.manifest import unseal

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
    def in_bucket(cls, s3: "S3Client", bucket: str, run_id: str) -> Self:
        """Read the newest checkpoint of a run from S3. Raises as `read` does."""
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=commit_prefix(run_id))
        keys = [stored["Key"] for stored in listed.get("Contents", [])]
        return cls.read(keys, run_id, lambda key: s3.get_object(Bucket=bucket, Key=key)["Body"].read())

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
