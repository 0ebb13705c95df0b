"""The completion record of an attempt that can reach no ledger: a file among its checkpoints, mirrored as they are.

The control plane adopts it when the job has ended. An attempt that finds one has nothing left to do: SageMaker may
start a job again whose program had finished. But files arrive in no order, and what was on its way goes with its host:
a record whose last checkpoint is not there tells of work that is lost, and that is done again.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from spotkeeper.contract.checkpoint_layout import CompletionRecord, commit_prefix, completion_key, parse_manifest_key
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.local_store import LocalStore
from spotkeeper.trainer.manifest import DamagedError, unseal


class CompletionFile:
    """The record of one run, in the folder that is mirrored."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / completion_key(run_id)
        self._store = LocalStore(folder)
        self._run_id = run_id

    def write(self, step: int | None) -> None:
        """Record that the program has finished, at once: half a record is never there to be copied."""
        record = CompletionRecord(
            run_id=self._run_id,
            step=step,
            manifest=self._newest_manifest(),
            completed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        os.replace(partial, self._path)  # noqa: PTH105

    def read(self, log: EventLog) -> CompletionRecord | None:
        """Return the record, or None if there is none that is whole, or its checkpoint is not, which is then logged."""
        try:
            record: CompletionRecord = json.loads(self._path.read_text())
            if record["run_id"] != self._run_id or "step" not in record:
                return None
            manifest = record.get("manifest")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if manifest is not None and (why := self._lack(manifest)) is not None:
            reason = f"a completion record names it, but {why}: the program goes on from what is there"
            log.write(LogEvent.DAMAGED, manifest=manifest, reason=reason)
            return None
        return record

    def _newest_manifest(self) -> str | None:
        keys = (key for key in self._store.list(commit_prefix(self._run_id)) if parse_manifest_key(key) is not None)
        return max(keys, default=None)

    def _lack(self, key: str) -> str | None:
        """Return what a checkpoint lacks to be whole, or None."""
        try:
            manifest = unseal(self._store.get(key), key, self._run_id)
        except (OSError, DamagedError, ValueError) as error:
            return f"its manifest cannot be read: {error}"
        for stored in manifest["objects"]:
            there = self._store.head(stored["key"])
            if there is None or (there.bytes, there.crc64nvme) != (stored["bytes"], stored["crc64nvme"]):
                return f"{stored['key']} is not there as it was written"
        return None
