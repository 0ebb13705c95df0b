"""The checkpoints of a run for an operator: listed, rolled back behind a bad one, and brought back after a deletion.

A rollback puts delete markers over newer manifests, so that the next attempt resumes the older checkpoint. Nothing is
gone at once: S3 keeps what a marker hides, manifests for 30 days, their data for a day after an attempt has let it go.

Those of a run without network are what SageMaker's mirror brought. Nobody mirrors while a run is paused or parked, so
the same is done there, where S3 keeps manifests for a day as well.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spotkeeper.contract.checkpoint_layout import commit_prefix, mirror_prefix, parse_manifest_key
from spotkeeper.contract.ledger import RunState
from spotkeeper.control.aws.mirrors import S3Mirrors
from spotkeeper.control.run import Run
from spotkeeper.ops.connection import Connection
from spotkeeper.ops.failure import OperationError


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCheckpoint:
    """A checkpoint by its manifest: there, or hidden by a delete marker."""

    epoch: int
    step: int
    committed_at: str
    removed_at: str | None
    """When it was rolled back or let go; None: it is there."""
    key: str
    version_id: str
    markers: tuple[str, ...]
    """Version ids of the delete markers that hide it."""


def stored(run_id: str, connection: Connection) -> tuple[StoredCheckpoint, ...]:
    """Return the checkpoints of a run that are there or can be brought back, newest first.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    root = _root(connection.run_of(run_id))
    found = []
    for key, history in _histories(root + commit_prefix(run_id), connection):
        position = parse_manifest_key(key.removeprefix(root))
        if position is None or history.version_id is None:
            continue
        found.append(
            StoredCheckpoint(
                epoch=position[0],
                step=position[1],
                committed_at=history.written_at or "",
                removed_at=history.hidden_at,
                key=key,
                version_id=history.version_id,
                markers=history.markers,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.epoch, one.step), reverse=True))


def newest_to_resume(run_id: str, found: Iterable[StoredCheckpoint], connection: Connection) -> tuple[int, int] | None:
    """Return (fencing epoch, step) of the one among a run's checkpoints that the next attempt tries first, if any.

    Raises:
        UnknownRun: the ledger has no such run.
    """
    if connection.run_of(run_id).is_isolated:
        whole = _mirrors(connection).newest_whole(run_id)
        return None if whole is None else (whole.epoch, whole.step)
    return next(((one.epoch, one.step) for one in found if one.removed_at is None), None)


def roll_back(
    run_id: str, connection: Connection, *, step: int, epoch: int | None = None
) -> tuple[StoredCheckpoint, ...]:
    """Let the next attempt resume this checkpoint: hide every newer one, and return those.

    Args:
        run_id: A run that is paused or parked.
        connection: Its environment.
        step: Of the checkpoint.
        epoch: Its fencing epoch; by default the newest that has this step.

    Raises:
        UnknownRun: the ledger has no such run.
        OperationError: if the run has a job or has ended, or the checkpoint is not there, or not whole.
    """
    run = _standing(run_id, connection)
    there = [one for one in stored(run_id, connection) if one.removed_at is None]
    target = _find(there, step, epoch, "is not there")
    if run.is_isolated and not _mirrors(connection).has_arrived(run_id, target.key.removeprefix(_root(run))):
        raise OperationError(
            f"the checkpoint of step {target.step} and fencing epoch {target.epoch} did not arrive whole: the next "
            f"attempt would resume none of it; `spotkeeper checkpoints list {run_id}` tells the newest that did"
        )
    newer = tuple(one for one in there if (one.epoch, one.step) > (target.epoch, target.step))
    for one in newer:
        connection.s3.delete_object(Bucket=connection.descriptor.checkpoint_bucket, Key=one.key)
    # Progress is counted from here, or the steps that are trained again would pass for none.
    connection.ledger.advance(run, committed_step=target.step)
    return newer


def restore(run_id: str, connection: Connection, *, step: int, epoch: int | None = None) -> StoredCheckpoint:
    """Bring a checkpoint back that a rollback, or anybody else's deletion, has hidden; return it.

    Raises:
        UnknownRun: the ledger has no such run.
        OperationError: if the run has a job or has ended, there is nothing to bring back, or its data has expired.
    """
    run = _standing(run_id, connection)
    removed = [one for one in stored(run_id, connection) if one.removed_at is not None]
    kept = "a day" if run.is_isolated else "30 days"
    target = _find(removed, step, epoch, f"was not removed, or longer than {kept} ago")
    bucket = connection.descriptor.checkpoint_bucket
    body = connection.s3.get_object(Bucket=bucket, Key=target.key, VersionId=target.version_id)["Body"].read()
    named = [{**one, "key": _root(run) + one["key"]} for one in json.loads(body)["objects"]]
    hidden = [marker for one in named for marker in _markers_over(one, target, connection)]
    # The data first: a manifest that is listed can be resumed, at every moment.
    for key, marker in (*hidden, *((target.key, marker) for marker in target.markers)):
        connection.s3.delete_object(Bucket=bucket, Key=key, VersionId=marker)
    return target


def _root(run: Run) -> str:
    """Return what stands before the keys of a run's checkpoints."""
    return mirror_prefix(run.run_id) if run.is_isolated else ""


def _mirrors(connection: Connection) -> S3Mirrors:
    return S3Mirrors(connection.s3, f"s3://{connection.descriptor.checkpoint_bucket}")


def _standing(run_id: str, connection: Connection) -> Run:
    """Return a run that no attempt works on and none will, until a person resumes it."""
    run = connection.run_of(run_id)
    if run.is_closed:
        raise OperationError(f"{run_id} has ended ({run.state}) and is not opened again: submit a new run")
    if run.state not in (RunState.PAUSED, RunState.PARKED):
        raise OperationError(
            f"{run_id} is {run.state}: an attempt may be writing. `spotkeeper pause {run_id}`, and again once it is "
            "paused"
        )
    return run


def _find(among: list[StoredCheckpoint], step: int, epoch: int | None, problem: str) -> StoredCheckpoint:
    found = [one for one in among if one.step == step and epoch in (None, one.epoch)]
    if not found:
        named = f"checkpoint of step {step}" + (f" and fencing epoch {epoch}" if epoch is not None else "")
        steps = ", ".join(str(one.step) for one in among) or "none"
        raise OperationError(f"the {named} {problem}; these could be chosen: {steps}")
    return found[0]


def _markers_over(named: dict[str, Any], target: StoredCheckpoint, connection: Connection) -> list[tuple[str, str]]:
    """Return the delete markers that hide one object of a checkpoint.

    Raises:
        OperationError: if under them is not what the manifest names.
    """
    histories = dict(_histories(named["key"], connection))
    history = histories.get(named["key"])
    if history is None or history.version_id is None:
        raise OperationError(f"the data of step {target.step} has expired: a day after it was let go it is gone")
    if named["version_id"] not in (None, history.version_id):
        raise OperationError(f"{named['key']} was overwritten since step {target.step}: it would not verify")
    return [(named["key"], marker) for marker in history.markers]


@dataclass(slots=True)
class _History:
    """Of one key: the newest version that has content, and the delete markers above it."""

    version_id: str | None = None
    written_at: str | None = None
    hidden_at: str | None = None
    markers: tuple[str, ...] = ()


def _histories(prefix: str, connection: Connection) -> Iterator[tuple[str, _History]]:
    pages = connection.s3.get_paginator("list_object_versions").paginate(
        Bucket=connection.descriptor.checkpoint_bucket, Prefix=prefix
    )
    versions: dict[str, list[dict[str, Any]]] = {}
    markers: dict[str, list[dict[str, Any]]] = {}
    for page in pages:
        for version in page.get("Versions", []):
            versions.setdefault(version["Key"], []).append(dict(version))
        for marker in page.get("DeleteMarkers", []):
            markers.setdefault(marker["Key"], []).append(dict(marker))
    for key in sorted({*versions, *markers}):
        # S3 lists the versions of a key newest first.
        newest = versions.get(key, [{}])[0]
        is_hidden = not newest.get("IsLatest", False)
        above = markers.get(key, []) if is_hidden else []
        if newest:
            above = [marker for marker in above if marker["LastModified"] >= newest["LastModified"]]
        yield (
            key,
            _History(
                version_id=newest.get("VersionId"),
                written_at=newest["LastModified"].isoformat() if newest else None,
                hidden_at=above[0]["LastModified"].isoformat() if above else None,
                markers=tuple(marker["VersionId"] for marker in above),
            ),
        )
