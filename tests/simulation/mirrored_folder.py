"""The model of SageMaker's mirror: a job's own folder, filled when its machines start, copied late and in no order.

What is removed from a folder stays in its mirror. A host that is lost takes what was on its way with it, but for a
leftover; a container that ends by itself, or because it was told to stop, has all of it copied. A mirror may also stop
without a word, and a completion record may come when its job has ended long ago.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spotkeeper.contract.checkpoint_layout import CompletionRecord, completion_key, parse_manifest_key
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.store import Stat
from tests.simulation.choices import Choices
from tests.simulation.clock import iso
from tests.simulation.fakes import Trace
from tests.simulation.faults import LATE_RECORD, STOPPED_MIRROR, Swarm
from tests.simulation.mirror import Mirrors, whole_steps
from tests.simulation.sched import Scheduler

LATE_SECONDS: Final = (5.0, 60.0, 600.0, 1500.0)
"""How late a file may be copied; the first is dull."""
LATE_RECORD_SECONDS: Final = (300.0, 30.0, 850.0, 3000.0)
"""How long after its container a completion record may be copied, where it comes late."""
LEFTOVER: Final = ".sagemaker-uploading"


class MirroredFolder:
    """The checkpoint folder of one attempt, as `trainer.store.Store`, and its mirror."""

    def __init__(
        self,
        mirrors: Mirrors,
        run_id: str,
        *,
        name: str,
        scheduler: Scheduler,
        choices: Choices,
        swarm: Swarm,
        trace: Trace,
    ) -> None:
        self._mirrors, self._run_id, self._name = mirrors, run_id, name
        self._scheduler, self._choices, self._trace = scheduler, choices, trace
        self._files = mirrors.files_of(run_id)
        self._waiting: set[str] = set()
        self._has_ended = False
        self._fate = choices.draw(f"{name}: its mirror", swarm.mirror)
        self._is_stopped = False
        if self._fate == STOPPED_MIRROR:
            scheduler.after(choices.among(f"{name}: its mirror stops after", (1000.0, 0.0, 2000.0)), self._stop)

    # What the container does

    def is_complete(self) -> bool:
        """Tell whether an attempt before has recorded that the program has finished, with its last checkpoint."""
        record = self._files.get(completion_key(self._run_id))
        if record is None:
            return False
        manifest = json.loads(record)["manifest"]
        return manifest is None or parse_manifest_key(manifest) in whole_steps(self._files)

    def complete(self, step: int | None) -> None:
        """Write the completion record."""
        commits = (key for key in self._files if parse_manifest_key(key) is not None)
        record = CompletionRecord(
            run_id=self._run_id,
            step=step,
            manifest=max(commits, default=None),
            completed_at=iso(self._scheduler.now_seconds),
        )
        self._write(completion_key(self._run_id), json.dumps(record).encode())

    def put_if_absent(self, key: str, body: bytes) -> bool:
        if key in self._files:
            return False
        self._write(key, body)
        return True

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
        body = b"".join(chunks)
        assert len(body) == total_bytes
        assert key not in self._files, f"{key} was used before"
        self._write(key, body)
        return crc64nvme(body)

    def get(self, key: str) -> bytes:
        if key not in self._files:
            raise FileNotFoundError(key)
        return self._files[key]

    def fetch(self, key: str, total_bytes: int, into: Path | None = None) -> memoryview:  # noqa: ARG002
        assert into is None, "no folders in a simulation"
        return memoryview(self.get(key))

    def head(self, key: str) -> Stat | None:
        body = self._files.get(key)
        return None if body is None else Stat(bytes=len(body), crc64nvme=crc64nvme(body))

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self._files if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._files.pop(key, None)

    # What SageMaker does

    def cut_off(self) -> None:
        """Lose what is on its way with the host."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._waiting and not self._is_stopped:
            key = self._choices.among(f"{self._name}: leftover", sorted(self._waiting))
            body = self._files.get(key, b"")
            self._mirrors.put(self._run_id, key + LEFTOVER, body[: len(body) // 2])

    def finish(self) -> None:
        """Copy what is left; only the completion record may come later still."""
        if self._has_ended:
            return
        self._has_ended = True
        if self._is_stopped:
            return
        record = completion_key(self._run_id)
        for key in sorted(self._waiting):
            if key == record and self._fate == LATE_RECORD:
                late = self._choices.among(f"{self._name}: record after", LATE_RECORD_SECONDS)
                self._scheduler.after(late, lambda: self._copy(record))
            else:
                self._copy(key)

    def _stop(self) -> None:
        if not self._has_ended:
            self._trace(self._name, "is mirrored no longer, and nobody is told")
            self._is_stopped = True

    def _write(self, key: str, body: bytes) -> None:
        self._files[key] = body
        self._waiting.add(key)
        kind = key.partition("/")[0]
        late = self._choices.among(f"{self._name}: {kind} copied after", LATE_SECONDS)
        self._scheduler.after(late, lambda: None if self._has_ended or self._is_stopped else self._copy(key))

    def _copy(self, key: str) -> None:
        self._waiting.discard(key)
        if key in self._files:
            self._trace(self._name, f"has {key} mirrored")
            self._mirrors.put(self._run_id, key, self._files[key])
