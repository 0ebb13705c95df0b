"""The completion record of an attempt that can reach no ledger: a file among its checkpoints, mirrored as they are.

The control plane adopts it when the job has ended. An attempt that finds one has nothing left to do: SageMaker may
start a job again whose program had finished.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from spotkeeper.contract.checkpoint_layout import CompletionRecord, completion_key


class CompletionFile:
    """The record of one run, in the folder that is mirrored."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / completion_key(run_id)
        self._run_id = run_id

    def write(self, step: int | None) -> None:
        """Record that the program has finished, at once: half a record is never there to be copied."""
        record = CompletionRecord(
            run_id=self._run_id, step=step, completed_at=datetime.now(UTC).isoformat(timespec="milliseconds")
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        os.replace(partial, self._path)  # noqa: PTH105

    def read(self) -> CompletionRecord | None:
        """Return the record, or None if there is none that is whole."""
        try:
            record: CompletionRecord = json.loads(self._path.read_text())
            return record if record["run_id"] == self._run_id and "step" in record else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
