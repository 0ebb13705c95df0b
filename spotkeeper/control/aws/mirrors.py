"""What SageMaker's mirrors have brought to S3, whole or in part, and in whatever order."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.contract.checkpoint_layout import (
    CompletionRecord,
    commit_prefix,
    completion_key,
    mirror_prefix,
    parse_manifest_key,
)
from spotkeeper.control.condition import Commit
from spotkeeper.control.moments import is_moment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_LOOKED_AT: Final = 10
"""Manifests at one look, newest first. That none of so many is whole is told as that none is."""
MOST_FOLDERS: Final = 100
"""Of one checkpoint. The library makes one; a checkpoint folder shares files with the few checkpoints before."""


class S3Mirrors:
    """Implements `ports.Mirrors`.

    Nothing is asked for that was not listed: of what is not there, S3 says so only to those who may list everything.

    Args:
        client: Needs s3:ListBucket on `mirror/`, and s3:GetObject on the manifests and completion records there.
        uri: `s3://bucket`.
    """

    def __init__(self, client: "S3Client", uri: str) -> None:
        self._client = client
        self._bucket = uri.removeprefix("s3://")

    def newest_whole(self, run_id: str) -> Commit | None:
        """Compare the newest manifests with the sizes of what they name, until one has everything."""
        keys = [
            key
            for key in self._sizes(mirror_prefix(run_id), commit_prefix(run_id))
            if parse_manifest_key(key) is not None
        ]
        for key in sorted(keys, reverse=True)[:MOST_LOOKED_AT]:
            made_at = self._made_at(run_id, key)
            if made_at is not None:
                epoch, step = parse_manifest_key(key) or (0, 0)
                return Commit(epoch=epoch, step=step, at=made_at)
        return None

    def completion(self, run_id: str) -> CompletionRecord | None:
        """Read the record, if it is listed. One that says something else than a record does is none."""
        key = completion_key(run_id)
        if key not in self._sizes(mirror_prefix(run_id), key):
            return None
        try:
            told = self._json(run_id, key)
            step = told["step"]
            if told["run_id"] != run_id or not is_moment(told["completed_at"]) or not isinstance(step, int | None):
                return None
        except (ValueError, KeyError, TypeError):
            return None
        return CompletionRecord(run_id=run_id, step=step, completed_at=told["completed_at"])

    def _made_at(self, run_id: str, key: str) -> str | None:
        """Return when a checkpoint was made, if all of it has arrived."""
        try:
            manifest = self._json(run_id, key)
            needed = {str(stored["key"]): stored["bytes"] for stored in manifest["objects"]}
            made_at = manifest["created_at"]
        except (ValueError, KeyError, TypeError):
            return None  # damaged on its way, which the attempt that resumes finds out too
        folders = {name.rpartition("/")[0] + "/" for name in needed}
        if len(folders) > MOST_FOLDERS or not is_moment(made_at):
            return None
        there: dict[str, int] = {}
        for folder in sorted(folders):
            there |= self._sizes(mirror_prefix(run_id), folder)
        return str(made_at) if all(there.get(name) == size for name, size in needed.items()) else None

    def _sizes(self, prefix: str, part: str) -> dict[str, int]:
        """Return the sizes of the objects below a part of a mirror, by their keys within it."""
        return {stored["Key"].removeprefix(prefix): stored["Size"] for stored in self._listed(prefix + part)}

    def _listed(self, prefix: str) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", [])

    def _json(self, run_id: str, key: str) -> Any:
        found = self._client.get_object(Bucket=self._bucket, Key=mirror_prefix(run_id) + key)
        return json.loads(found["Body"].read())
