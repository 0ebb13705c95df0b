"""What SageMaker's mirrors have brought to S3, whole or in part, and in whatever order."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spotkeeper.contract.checkpoint_layout import (
    DATA_PREFIX,
    CompletionRecord,
    commit_prefix,
    completion_key,
    mirror_prefix,
    parse_data_key,
    parse_manifest_key,
)
from spotkeeper.control.condition import Commit
from spotkeeper.control.moments import is_moment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MOST_LOOKED_AT: Final = 10
"""Manifests at one look, newest first. That none of so many is whole is told as that none is."""
MOST_FOLDERS: Final = 10
"""Of one checkpoint, to be listed each for itself. A file of a checkpoint folder that never changes stays in the folder
of the save that sent it, so a checkpoint can have one for each save of the run: they are listed all at once then."""

PAGE: Final = 1000
"""docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

_Listed = dict[str, dict[str, int]]
"""By part of a mirror, as listed at this look: the sizes of its objects. What arrives later is seen at the next."""


class S3Mirrors:
    """Implements `ports.Mirrors`.

    Nothing is asked for that was not listed: of what is not there, S3 says so only to those who may list everything.

    Args:
        client: Needs s3:ListBucket on `mirror/`, and s3:GetObject on the manifests and completion records there; for
            `delete` s3:DeleteObject on manifests and data.
        uri: `s3://bucket`.
    """

    def __init__(self, client: "S3Client", uri: str) -> None:
        self._client = client
        self._bucket = uri.removeprefix("s3://")

    def newest_whole(self, run_id: str) -> Commit | None:
        """Compare the newest manifests with the sizes of what they name, until one has everything."""
        listed: _Listed = {}
        for key in self._manifests(run_id)[:MOST_LOOKED_AT]:
            told = self._told(run_id, key)
            if told is not None and self._is_whole(run_id, told, listed):
                epoch, step = _position(key)
                return Commit(epoch=epoch, step=step, at=told.made_at)
        return None

    def completion(self, run_id: str) -> CompletionRecord | None:
        """Read the record, if it is listed. One that says something else than a record does is none.

        Nor is one of a checkpoint that has not arrived whole: with its host, the rest of that may have been lost.
        """
        key = completion_key(run_id)
        if key not in self._sizes(mirror_prefix(run_id), key):
            return None
        try:
            told = self._json(run_id, key)
            step = told["step"]
            if told["run_id"] != run_id or not is_moment(told["completed_at"]) or not isinstance(step, int | None):
                return None
            manifest = told.get("manifest")
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if manifest is not None and not self.has_arrived(run_id, manifest):
            return None
        return CompletionRecord(run_id=run_id, step=step, completed_at=told["completed_at"])

    def has_arrived(self, run_id: str, manifest: str) -> bool:
        """Tell whether a manifest, by its key within the mirror, is there with all that it names."""
        told = self._told(run_id, manifest) if manifest in self._manifests(run_id) else None
        return told is not None and self._is_whole(run_id, told, {})

    def outlived(self, run_id: str, *, keep: int) -> Iterator[Sequence[str]]:
        """Yield old manifests and then old data, none of which a manifest that stays names.

        Manifests go first, and by themselves: so whatever is listed can be resumed, at every moment, and what is half
        deleted is taken for no checkpoint. Data is told by its own place and not by its manifest, so what a deletion
        that was cut off has left, or a save that was, is found the next time.
        """
        manifests = self._manifests(run_id)
        named: set[str] = set()
        listed: _Listed = {}
        num_whole = 0
        for number, key in enumerate(manifests[:MOST_LOOKED_AT], start=1):
            told = self._told(run_id, key)
            if told is None:
                return  # checkpoints of a folder share files, and nobody knows which this one needs
            named |= told.sizes.keys()
            num_whole += self._is_whole(run_id, told, listed)
            if num_whole == keep:
                yield from _pages(manifests[number:])
                yield from _pages(self._old_data(run_id, _position(key), named))
                return

    def delete(self, run_id: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Delete up to `PAGE` objects, whose versions the bucket's lifecycle then removes."""
        prefix = mirror_prefix(run_id)
        told = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": prefix + key} for key in keys], "Quiet": True}
        )
        # One that fails is told in a reply that says 200.
        return {
            refused.get("Key", "").removeprefix(prefix): f"{refused.get('Code')}: {refused.get('Message')}"
            for refused in told.get("Errors", [])
        }

    def _old_data(self, run_id: str, oldest_kept: tuple[int, int], named: set[str]) -> list[str]:
        listed = self._sizes(mirror_prefix(run_id), f"{DATA_PREFIX}{run_id}/")
        # What lies in no save's folder is not ours to judge.
        return [key for key in listed if (parse_data_key(key) or oldest_kept) < oldest_kept and key not in named]

    def _manifests(self, run_id: str) -> list[str]:
        """Return the manifests' keys, newest first."""
        listed = self._sizes(mirror_prefix(run_id), commit_prefix(run_id))
        return sorted((key for key in listed if parse_manifest_key(key) is not None), reverse=True)

    def _told(self, run_id: str, key: str) -> "_Told | None":
        """Return what a manifest tells, if it tells that at all."""
        try:
            manifest = self._json(run_id, key)
            sizes = {str(stored["key"]): stored["bytes"] for stored in manifest["objects"]}
            made_at = manifest["created_at"]
        except (ValueError, KeyError, TypeError):
            return None  # damaged on its way, which the attempt that resumes finds out too
        return _Told(sizes=sizes, made_at=str(made_at)) if is_moment(made_at) else None

    def _is_whole(self, run_id: str, told: "_Told", listed: _Listed) -> bool:
        """Tell whether all that a manifest names has arrived, and add to what was listed at this look."""
        folders = {name.rpartition("/")[0] + "/" for name in told.sizes}
        parts = sorted(folders) if len(folders) <= MOST_FOLDERS else [f"{DATA_PREFIX}{run_id}/"]
        there: dict[str, int] = {}
        for part in parts:
            if part not in listed:
                listed[part] = self._sizes(mirror_prefix(run_id), part)
            there |= listed[part]
        return all(there.get(name) == size for name, size in told.sizes.items())

    def _sizes(self, prefix: str, part: str) -> dict[str, int]:
        """Return the sizes of the objects below a part of a mirror, by their keys within it."""
        return {stored["Key"].removeprefix(prefix): stored["Size"] for stored in self._objects(prefix + part)}

    def _objects(self, prefix: str) -> Iterator[Any]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Contents", [])

    def _json(self, run_id: str, key: str) -> Any:
        found = self._client.get_object(Bucket=self._bucket, Key=mirror_prefix(run_id) + key)
        return json.loads(found["Body"].read())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What a manifest tells."""

    sizes: Mapping[str, int]
    """Bytes of each object, by its key within the mirror."""
    made_at: str


def _pages(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), PAGE):
        yield keys[start : start + PAGE]


def _position(key: str) -> tuple[int, int]:
    """Return (epoch, step) of a key that `_manifests` returned."""
    position = parse_manifest_key(key)
    assert position is not None
    return position
