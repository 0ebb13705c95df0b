"""What the checkpoint bucket tells by its keys alone."""

from typing import TYPE_CHECKING

from spotkeeper.contract.checkpoint_layout import commit_prefix, parse_manifest_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Checkpoints:
    """Implements `ports.Checkpoints`.

    Args:
        client: Needs s3:ListBucket only.
        uri: `s3://bucket`, the root of the checkpoint tree.
    """

    def __init__(self, client: "S3Client", uri: str) -> None:
        self._client = client
        self._bucket = uri.removeprefix("s3://")

    def newest_step(self, run_id: str) -> int | None:
        """List the run's manifests: the newest epoch's last step, since an epoch may begin again at an earlier one."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=commit_prefix(run_id)
        )
        positions = [
            position
            for page in pages
            for stored in page.get("Contents", [])
            if (position := parse_manifest_key(stored["Key"])) is not None
        ]
        return max(positions)[1] if positions else None
