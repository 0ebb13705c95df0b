"""The commit protocol: how a checkpoint comes to exist, which one is resumed, and which are let go.

1. The attempt creates a marker of its epoch. An attempt that sees a newer epoch is a leftover: it stops.
2. Data objects go under names never used before; size and checksum are asked back from the store.
3. Markers are listed again, and then the manifest is created, never replaced: the only commit point.
4. On resume the newest manifest wins whose own bytes and whose every object verify. Damaged ones are
   reported and left alone.
5. Only after a commit, and behind the newest valid ones, checkpoints are deleted: manifest before data.
"""

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from spotkeeper.contract.checkpoint_layout import (
    DATA_PREFIX,
    FORMAT_VERSION,
    Manifest,
    StoredFile,
    StoredObject,
    commit_prefix,
    data_key,
    epoch_key,
    epoch_prefix,
    file_key,
    manifest_key,
    parse_data_key,
    parse_manifest_key,
)
from spotkeeper.contract.exit_codes import EXIT_FENCED
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.manifest import DamagedError, seal, unseal
from spotkeeper.trainer.store import Stat, Store

Content = TypeVar("Content")

MAX_EPOCH_RACES: Final = 100
"""Attempts that start at the same moment without a ledger; each race has a winner, so this is never reached."""

_FILE = re.compile(r"/f\d{6}$")


class FencedError(SystemExit):
    """A newer attempt owns the run. Not caught, it ends the program with EXIT_FENCED; it is no `Exception`."""

    def __init__(self, reason: str) -> None:
        super().__init__(EXIT_FENCED)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RankPart:
    """What a process other than rank 0 has written for a checkpoint."""

    stored: StoredObject
    state: dict[str, Any]
    """What is no tensor."""


@dataclass(frozen=True, slots=True)
class VerifiedPart:
    """The part of this process, other than rank 0, in a checkpoint."""

    tensors: memoryview
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint of which every byte that this process needs has been verified."""

    key: str
    manifest: Manifest
    tensors: memoryview
    """The safetensors file of rank 0."""
    part: VerifiedPart | None = None
    """What this process wrote, if it is not rank 0 and the checkpoint has such a rank."""


class Checkpoints:
    """The checkpoints of one run, as one attempt of it sees and writes them."""

    def __init__(self, store: Store, *, run_id: str, keep: int, epoch: int | None) -> None:
        """Take part in the run with the ledger's `epoch`, or without a ledger with the next free one.

        Raises:
            FencedError: if a newer attempt has started.
        """
        if keep < 2:
            raise ValueError(f"keep must be at least 2, because the newest checkpoint may turn out damaged; got {keep}")
        self._store = store
        self._run_id = run_id
        self._keep = keep
        self._parent: str | None = None
        self._intact: dict[str, bool] = {}
        self._has_swept = False
        self._unreferenced: set[str] = set()
        """Data that this attempt wrote, or began to, and has not committed."""
        self.epoch = self._next_epoch() if epoch is None else self._take_epoch(epoch)
        self._log = EventLog(run_id, self.epoch)

    def continues(self, parent: str | None) -> None:
        """Name the manifest that this attempt resumed from, where another process has found it."""
        self._parent = parent

    @property
    def parent(self) -> str | None:
        """Key of the manifest that this attempt resumed from."""
        return self._parent

    def newest_valid(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, and report every newer one that is not.

        Raises:
            FencedError: if one is missing because a newer attempt has started.
            OSError: if the store does not answer: no reason to fall back to older work.
            ValueError: if it is that of a folder.
        """
        return self._newest(self._read)

    def newest_folder(
        self, read: Callable[[Manifest, Callable[[StoredObject, Path], None]], Content]
    ) -> Content | None:
        """Return what `read` makes of the newest checkpoint of a folder that is whole.

        It gets the manifest, and a function that writes the content of an object into a new file, and verifies it.

        Raises:
            FencedError, OSError: as `newest_valid`, and what `read` raises of its own.
            ValueError: if it is not that of a folder.
        """

        def read_folder(key: str, manifest: Manifest) -> Content:
            if "files" not in manifest:
                raise ValueError(
                    f"{key} was saved by spotkeeper.Run and is no checkpoint folder: give no --checkpoint-folder to a "
                    "program that uses the library, or start a new run"
                )
            return read(manifest, self._write_verified)

        return self._newest(read_folder)

    def _newest(self, read: Callable[[str, Manifest], Content]) -> Content | None:
        for key in reversed(self._manifest_keys()):
            try:
                content = read(key, unseal(self._store.get(key), key, self._run_id))
            except (DamagedError, FileNotFoundError) as error:
                self._refuse_if_fenced()  # a newer attempt may have let it go since it was listed
                self._report_damaged(key, error)
                continue
            self._intact[key] = True
            self._parent = key
            return content
        return None

    def _read(self, key: str, manifest: Manifest) -> Checkpoint:
        _check_objects(key, manifest)
        for stored in manifest["objects"][1:]:
            self._check_stored(stored)
        return Checkpoint(key, manifest, self._verified_content(manifest["objects"][0]))

    def load(self, key: str, rank: int) -> Checkpoint:
        """Return, for a rank other than 0, the checkpoint that rank 0 has found valid.

        Raises:
            OSError: if the store does not answer, or does not show what it showed to rank 0.
        """
        try:
            manifest = unseal(self._store.get(key), key, self._run_id)
            _check_objects(key, manifest)
            tensors = self._verified_content(manifest["objects"][0])
            part = None
            if rank < manifest["world_size"]:
                own = self._verified_content(manifest["objects"][rank])
                part = VerifiedPart(own, manifest["rank_states"][rank - 1])
        except DamagedError as error:
            raise OSError(f"rank 0 found {key} valid, but rank {rank} does not: {error}") from error
        return Checkpoint(key, manifest, tensors, part)

    def write_data(self, *, step: int, chunks: Iterable[memoryview], total_bytes: int, rank: int = 0) -> StoredObject:
        """Make the tensors of a checkpoint-to-be durable, and return what its manifest says of them.

        Chunks are taken one at a time and not looked at again once the next is taken.

        Raises:
            OSError: if the store refused or lost something.
        """
        return self._write(data_key(self._run_id, self.epoch, step, secrets.token_hex(4), rank), chunks, total_bytes)

    def write_file(
        self, *, step: int, nonce: str, number: int, chunks: Iterable[memoryview], total_bytes: int
    ) -> StoredObject:
        """Do the same with a file of a checkpoint folder; `nonce` is that of the checkpoint-to-be.

        Raises:
            OSError: if the store refused or lost something.
        """
        return self._write(file_key(self._run_id, self.epoch, step, nonce, number), chunks, total_bytes)

    def _write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> StoredObject:
        self._unreferenced.add(key)
        checksum = self._store.write(key, chunks, total_bytes)
        stored: StoredObject = {"key": key, "bytes": total_bytes, "crc64nvme": checksum, "version_id": None}
        try:
            stat = self._check_stored(stored)
        except DamagedError as error:
            raise OSError(f"the store did not keep what it was sent: {error}") from error
        return {**stored, "version_id": stat.version_id}

    def commit(
        self,
        *,
        step: int,
        cause: str,
        stored: StoredObject,
        state: dict[str, Any],
        parts: Sequence[RankPart] = (),
    ) -> str:
        """Make a checkpoint of what `write_data` returned, and return its manifest's key.

        `parts` are those of the other ranks, in their order; this process is rank 0.

        Raises:
            FencedError: if a newer attempt has started; nothing was committed.
            OSError: if the store refused or lost something; nothing was committed.
        """
        objects = [stored, *(part.stored for part in parts)]
        self._unreferenced.update(each["key"] for each in objects)
        rank_states = {"rank_states": [part.state for part in parts]} if parts else {}
        return self._commit(step, cause, objects, {"world_size": len(objects), "state": state, **rank_states})

    def commit_folder(self, *, step: int, cause: str, objects: list[StoredObject], files: list[StoredFile]) -> str:
        """Make a checkpoint of the files of a folder, and return its manifest's key.

        Objects may be those of earlier checkpoints of the folder, whose files have not changed since.

        Raises:
            FencedError: if a newer attempt has started; nothing was committed.
            OSError: if the store refused or lost something; nothing was committed.
        """
        for stored in objects:
            try:
                self._check_stored(stored)
            except DamagedError as error:
                raise OSError(f"what an earlier checkpoint had stored is damaged: {error}") from error
        return self._commit(step, cause, objects, {"world_size": 1, "state": {}, "files": files})

    def _commit(self, step: int, cause: str, objects: list[StoredObject], content: dict[str, Any]) -> str:
        self._refuse_if_fenced()
        key = manifest_key(self._run_id, self.epoch, step)
        body = seal(
            {
                "format": FORMAT_VERSION,
                "run_id": self._run_id,
                "epoch": self.epoch,
                "step": step,
                "cause": cause,
                "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "parent": self._parent,
                "objects": objects,
                **content,
            }
        )
        # A refusal may be the second try of a request whose first reply was lost: then ours is what is there.
        if self._store.put_if_absent(key, body) or self._store.get(key) == body:
            self._intact[key] = True
            self._unreferenced.difference_update(each["key"] for each in objects)
        elif not self._is_intact(key):
            raise FileExistsError(f"{key} exists already, and is damaged: step {step} cannot be committed again")
        # Otherwise a writer of this attempt has committed this very step and died before it could say so.
        self._let_go()
        return key

    def sweep_uncommitted(self) -> None:
        """Delete, in a rank other than 0 and after a commit, what it wrote for checkpoints that were not committed.

        A failure costs space, not safety.
        """
        try:
            self._sweep_failed_saves()
        except OSError as error:
            print(f"spotkeeper: what was not committed stays for now: {error}", file=sys.stderr, flush=True)

    def _check_stored(self, expected: StoredObject) -> Stat:
        stat = self._store.head(expected["key"])
        if stat is None or (stat.bytes, stat.crc64nvme) != (expected["bytes"], expected["crc64nvme"]):
            raise DamagedError(
                f"{expected['key']} should have {expected['bytes']} bytes and CRC64NVME {expected['crc64nvme']}; "
                f"stored is {stat}"
            )
        return stat

    def _verified_content(self, stored: StoredObject, into: Path | None = None) -> memoryview:
        content = self._store.fetch(stored["key"], stored["bytes"], into)
        if len(content) != stored["bytes"]:
            raise DamagedError(f"{stored['key']} has {len(content)} bytes instead of {stored['bytes']}")
        if crc64nvme(content) != stored["crc64nvme"]:
            raise DamagedError(f"{stored['key']} does not match its checksum {stored['crc64nvme']}")
        return content

    def _write_verified(self, stored: StoredObject, into: Path) -> None:
        self._verified_content(stored, into)

    # Epochs

    def _next_epoch(self) -> int:
        for _ in range(MAX_EPOCH_RACES):
            epoch = self._newest_epoch() + 1
            if self._mark(epoch):
                return epoch
        raise OSError(f"{epoch_prefix(self._run_id)} cannot be marked: {MAX_EPOCH_RACES} others were faster")

    def _take_epoch(self, epoch: int) -> int:
        self._mark(epoch)  # it may be there: this attempt's own, of a start before this one
        self.epoch = epoch
        self._refuse_if_fenced()
        return epoch

    def run_seconds(self) -> float:
        """Return how long ago the first attempt of the run began, by its host's clock; 0 if its mark does not tell."""
        try:
            mark = json.loads(self._store.get(epoch_key(self._run_id, 1)))
            began = datetime.fromisoformat(mark["started_at"])
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            return 0.0
        return max(0.0, (datetime.now(UTC) - began).total_seconds())

    def _mark(self, epoch: int) -> bool:
        started = seal({"started_at": datetime.now(UTC).isoformat(timespec="milliseconds")})
        return self._store.put_if_absent(epoch_key(self._run_id, epoch), started)

    def _newest_epoch(self) -> int:
        prefix = epoch_prefix(self._run_id)
        marked = [key.removeprefix(prefix) for key in self._store.list(prefix)]
        committed = [_position(key)[0] for key in self._manifest_keys()]
        return max([0, *committed, *(int(name) for name in marked if name.isdigit())])

    def _refuse_if_fenced(self) -> None:
        newest = self._newest_epoch()
        if newest > self.epoch:
            raise FencedError(f"epoch {newest} has started; this attempt has epoch {self.epoch}")

    # What is listed, what is whole, what may go

    def _manifest_keys(self) -> list[str]:
        """Return the manifests' keys, oldest first; the padded names sort by epoch and step."""
        return [key for key in self._store.list(commit_prefix(self._run_id)) if parse_manifest_key(key)]

    def _is_intact(self, key: str) -> bool:
        """Tell whether a checkpoint can be relied on, by the checksums that the store holds."""
        if key not in self._intact:
            try:
                manifest = unseal(self._store.get(key), key, self._run_id)
                for stored in manifest["objects"]:
                    self._check_stored(stored)
                self._intact[key] = True
            except (DamagedError, FileNotFoundError) as error:
                self._report_damaged(key, error)
            except ValueError:
                self._intact[key] = False  # of a format that this version cannot judge
        return self._intact[key]

    def _report_damaged(self, key: str, error: Exception) -> None:
        self._intact[key] = False
        self._log.write(LogEvent.DAMAGED, manifest=key, reason=str(error))

    def _let_go(self) -> None:
        """Delete what is older than the newest valid checkpoints. A failure costs space, not safety."""
        try:
            num_valid = 0
            for key in reversed(self._manifest_keys()):
                if num_valid < self._keep:
                    num_valid += self._is_intact(key)
                elif _position(key)[0] <= self.epoch and self._intact.get(key, True):
                    self._delete(key)
            self._sweep_failed_saves()
            if not self._has_swept:
                self._sweep_orphans()
                self._has_swept = True
        except OSError as error:
            print(f"spotkeeper: older checkpoints stay for now: {error}", file=sys.stderr, flush=True)

    def _delete(self, key: str) -> None:
        try:
            manifest = unseal(self._store.get(key), key, self._run_id)
        except (DamagedError, FileNotFoundError, ValueError):
            return  # what cannot be read is evidence, or a newer version's
        # The manifest first: whatever is listed can be resumed, at every moment.
        self._store.delete(key)
        shared = self._named_by_folders() if "files" in manifest else set()
        for stored in manifest["objects"]:
            if stored["key"] not in shared:
                self._store.delete(stored["key"])

    def _named_by_folders(self) -> set[str]:
        """Return the objects of every checkpoint of a folder: several may have one.

        Raises:
            OSError: if one cannot be read, so that nobody knows what it names.
        """
        named: set[str] = set()
        for key in self._manifest_keys():
            try:
                manifest = unseal(self._store.get(key), key, self._run_id)
            except (DamagedError, ValueError) as error:
                raise OSError(f"{key} cannot be read, and may need what they have: {error}") from error
            if "files" in manifest:
                named.update(stored["key"] for stored in manifest["objects"])
        return named

    def _sweep_failed_saves(self) -> None:
        """Delete what this attempt's failed saves left, but nothing that a manifest names after all.

        A manifest whose every reply was lost may be there.
        """
        manifests = self._manifest_keys()
        for key in sorted(self._unreferenced):
            manifest = self._manifest_of(key)
            if manifest not in manifests or key not in self._named_by(manifest):
                self._store.delete(key)
            self._unreferenced.discard(key)

    def _manifest_of(self, data: str) -> str:
        position = parse_data_key(data)
        assert position is not None
        return manifest_key(self._run_id, *position)

    def _named_by(self, manifest: str) -> list[str]:
        return [stored["key"] for stored in unseal(self._store.get(manifest), manifest, self._run_id)["objects"]]

    def _sweep_orphans(self) -> None:
        """Delete data of earlier attempts that were killed before they could commit it."""
        committed = {_position(key) for key in self._manifest_keys()}
        keys = self._store.list(f"{DATA_PREFIX}{self._run_id}/")
        shared = self._named_by_folders() if any(_FILE.search(key) for key in keys) else set()
        for key in keys:
            position = parse_data_key(key)
            if position is None:
                continue
            if position[0] < self.epoch and position not in committed and key not in shared:
                self._store.delete(key)


def _check_objects(key: str, manifest: Manifest) -> None:
    if "files" in manifest:
        raise ValueError(
            f"{key} is the checkpoint of a folder, which spotkeeper.Run cannot resume: submit the run with the same "
            "--checkpoint-folder, or start a new one"
        )
    counts = (len(manifest["objects"]), 1 + len(manifest.get("rank_states", [])))
    if counts != (manifest["world_size"], manifest["world_size"]):
        raise DamagedError(f"it is of {manifest['world_size']} processes and names objects and states of {counts}")


def _position(key: str) -> tuple[int, int]:
    """Return (epoch, step) of a key that `_manifest_keys` returned."""
    position = parse_manifest_key(key)
    assert position is not None
    return position
