"""What SageMaker's mirrors have brought to S3, and the calls by which the control plane reads it and clears it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any, Protocol

from spotkeeper.contract.checkpoint_layout import mirror_prefix, parse_manifest_key
from tests.simulation.fakes import Link
from tests.simulation.invariants import Invariants


class MirrorWatcher(Protocol):
    """Is told of every change, at once."""

    def mirror_changed(self, run_id: str, whole: list[tuple[int, int]]) -> None: ...


class Mirrors:
    """All that has arrived of runs without network."""

    def __init__(self, watcher: MirrorWatcher) -> None:
        self._objects: dict[str, bytes] = {}
        self._watcher = watcher

    def files_of(self, run_id: str) -> dict[str, bytes]:
        """Return what a job of the run finds in its folder."""
        prefix = mirror_prefix(run_id)
        return {key.removeprefix(prefix): body for key, body in self._objects.items() if key.startswith(prefix)}

    def put(self, run_id: str, key: str, body: bytes) -> None:
        """Let a file arrive."""
        self._objects[mirror_prefix(run_id) + key] = body
        self._watcher.mirror_changed(run_id, whole_steps(self.files_of(run_id)))

    def listed(self, prefix: str) -> list[dict[str, Any]]:
        """Return what S3 lists below a prefix."""
        found = sorted(key for key in self._objects if key.startswith(prefix))
        return [{"Key": key, "Size": len(self._objects[key])} for key in found]

    def get(self, key: str) -> bytes:
        """Return an object; nothing of ours asks for one that it has not listed, or that it has let go."""
        return self._objects[key]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        runs = set()
        for key in keys:
            runs.add(key.split("/")[1])
            self._objects.pop(key, None)
        for run_id in runs:
            self._watcher.mirror_changed(run_id, whole_steps(self.files_of(run_id)))


def whole_steps(files: Mapping[str, bytes]) -> list[tuple[int, int]]:
    """Return (epoch, step) of every checkpoint of which everything is there, oldest first."""
    whole = []
    for key, body in files.items():
        position = parse_manifest_key(key)
        if position is None:
            continue
        named = json.loads(body)["objects"]
        if all(len(files.get(one["key"], b"")) == one["bytes"] for one in named):
            whole.append(position)
    return sorted(whole)


class LinkedS3:
    """The calls of S3 that the shipped adapter makes, over a link."""

    def __init__(self, mirrors: Mirrors, link: Link, invariants: Invariants) -> None:
        self._mirrors, self._link, self._invariants = mirrors, link, invariants

    def get_paginator(self, operation: str) -> "LinkedS3":
        """Return what pages through a listing: there is one page."""
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> Iterator[dict[str, Any]]:  # noqa: N803, ARG002  as S3 has them
        """List."""
        yield {"Contents": self._read("s3.list", lambda: self._mirrors.listed(Prefix))}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803, ARG002  as above
        """Read."""
        return {"Body": BytesIO(self._read("s3.get", lambda: self._mirrors.get(Key)))}

    def delete_objects(self, *, Bucket: str, Delete: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803, ARG002
        """Delete; whoever does it must have known that nobody mirrors."""
        keys = [one["Key"] for one in Delete["Objects"]]
        for run_id in {key.split("/")[1] for key in keys}:
            self._invariants.mirror_cleared(run_id, self._link.name)
        self._link.call("s3.delete", self._link.swarm.read, lambda: self._mirrors.delete(keys), lost=ConnectionError)
        return {}

    def _read(self, operation: str, effect: Callable[[], Any]) -> Any:
        return self._link.call(operation, self._link.swarm.read, effect, lost=ConnectionError)
