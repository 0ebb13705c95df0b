"""What the checkpoint bucket tells by its keys alone."""

from typing import TYPE_CHECKING

from spotkeeper.contract.checkpoint_layout import commit_prefix, parse_manifest_key
from spotkeeper.control.condition import Commit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Checkpoints:
    """Implements `ports.Checkpoints` and `survey.Commits`.

    Args:
        client: Needs s3:ListBucket only.
        uri: `s3://bucket`, the root of the checkpoint tree.
    """

    def __init__(self, client: "S3Client", uri: str) -> None:
        self._client = client
        self._bucket = uri.removeprefix("s3://")

    def newest_step(self, run_id: str) -> int | None:
        """List the run's manifests: the newest epoch's last step, since an epoch may begin again at an earlier one."""
        commits = self.commits(run_id)
        return commits[-1].step if commits else None

    def commits(self, run_id: str) -> tuple[Commit, ...]:
        """List the run's manifests, by epoch and step; S3 tells when each was created, in whole seconds."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=commit_prefix(run_id)
        )
        found = [
            Commit(epoch=position[0], step=position[1], at=stored["LastModified"].isoformat())
            for page in pages
            for stored in page.get("Contents", [])
            if (position := parse_manifest_key(stored["Key"])) is not None
        ]
        return tuple(sorted(found, key=lambda commit: (commit.epoch, commit.step)))
