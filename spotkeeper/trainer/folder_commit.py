"""Turns a checkpoint folder that another framework writes into committed checkpoints."""

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spotkeeper.contract.checkpoint_layout import StoredFile, StoredObject
from spotkeeper.contract.log_lines import LogEvent
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.event_log import EventLog
from spotkeeper.trainer.folder_state import FileState, Snapshot, defect_of, is_growing, scan, units_of, written_now

QUIET_SECONDS: Final = 10.0
"""How long nothing of a unit must have changed. A training writes the files of one checkpoint without such a pause."""
BLOCK_BYTES: Final = 8 * 1024 * 1024
MOST_PAUSE_SECONDS: Final = 60.0
"""Between two tries while the store does not take a checkpoint."""

Stored = Mapping[str, tuple[FileState, StoredObject | None]]
"""By path: a file as it lay there, and its content in the store; None for a link."""


class FolderChangedError(Exception):
    """A file has changed while it was read."""


@dataclass(slots=True)
class _Seen:
    """A unit as it was last seen, and since when it has been so."""

    files: Snapshot
    since: float


class FolderCommit:
    """Commits what is complete in a folder, each time that something new has become so.

    A unit that is being written is committed as it was before. One that has been removed stays committed until
    everything that is there is complete: frameworks that keep one checkpoint remove it when they have written the next.
    """

    def __init__(
        self,
        folder: Path,
        checkpoints: Checkpoints,
        log: EventLog,
        *,
        step: int,
        stored: Stored,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        """Go on after checkpoint number `step`, which holds `stored`; both are 0 and empty at the beginning.

        Checkpoints of a folder are counted, since nobody tells which step a framework has saved.
        """
        self._folder = folder
        self._checkpoints = checkpoints
        self._log = log
        self._step = step
        self._quiet_seconds = quiet_seconds
        self._committed: dict[str, Stored] = {
            unit: {path: stored[path] for path in files}
            for unit, files in units_of({path: state for path, (state, _) in stored.items()}).items()
        }
        self._uploaded: dict[str, tuple[FileState, StoredObject | None]] = dict(stored)
        """What is in the store, committed or about to be."""
        self._seen: dict[str, _Seen] = {}
        self._failures = 0
        self._not_before = 0.0
        self._told: set[str] = set()

    def look(self, cause: str = "periodic", *, program_ended: bool = False) -> bool:
        """Look at the folder, and commit if something new in it is complete. Return whether nothing is left to do.

        What can never be committed, such as a file that was cut off, has been said and counts as done.

        Args:
            cause: What a commit is for, as the manifest says it.
            program_ended: Nobody writes any more, and what is there was meant to be so.

        Raises:
            FencedError: if a newer attempt has started.
        """
        now = time.monotonic()
        found = units_of(scan(self._folder))
        complete = self._complete(found, now, program_ended=program_ended)
        is_all = complete.keys() == found.keys()
        if not any(self._is_new(unit, files) for unit, files in complete.items()):
            return is_all or program_ended
        if now < self._not_before and not program_ended:
            return False
        kept = {} if is_all else {unit: files for unit, files in self._committed.items() if unit not in complete}
        try:
            self._commit(complete, kept, cause)
        except FolderChangedError:
            return False  # it is looked again
        except OSError as error:
            self._failures += 1
            self._not_before = time.monotonic() + min(MOST_PAUSE_SECONDS, 2.0**self._failures)
            self._log.write(LogEvent.SAVE_FAILED, step=self._step, reason=str(error))
            return False
        self._failures = 0
        return is_all or program_ended

    def _complete(
        self, found: Mapping[str, Snapshot], now: float, *, program_ended: bool
    ) -> dict[str, Mapping[str, FileState]]:
        quiet = {}
        for unit, files in found.items():
            lasting = {path: state for path, state in files.items() if not is_growing(path)}
            seen = self._seen.get(unit)
            if seen is None or seen.files != lasting:
                seen = self._seen[unit] = _Seen(lasting, now)
            if program_ended or now - seen.since >= self._quiet_seconds:
                quiet[unit] = files
        for unit in self._seen.keys() - found.keys():
            del self._seen[unit]
        new = {unit for unit, files in quiet.items() if self._is_new(unit, files)}
        if not new:
            return quiet
        written = {path for path in written_now(self._folder) if not is_growing(path)}
        return {
            unit: files
            for unit, files in quiet.items()
            if unit not in new or (written.isdisjoint(files) and not self._has_defect(unit, files))
        }

    def _has_defect(self, unit: str, files: Snapshot) -> bool:
        for path, state in files.items():
            defect = None if state.link or is_growing(path) else defect_of(self._folder, path)
            if defect is not None:
                said = f"{unit}: {defect}" if unit else defect
                if said not in self._told:
                    self._told.add(said)
                    self._log.write(LogEvent.SAVE_FAILED, step=self._step, reason=f"not committed: {said}")
                return True
        return False

    def _is_new(self, unit: str, files: Snapshot) -> bool:
        """Tell whether a unit holds anything that is not committed, growing files aside."""
        committed = self._committed.get(unit, {})
        lasting = {path: state for path, state in files.items() if not is_growing(path)}
        # A unit of growing files alone is new once, and then comes with the others.
        if not lasting:
            return unit not in self._committed
        return lasting != {path: state for path, (state, _) in committed.items() if not is_growing(path)}

    def _commit(self, complete: Mapping[str, Snapshot], kept: Mapping[str, Stored], cause: str) -> None:
        # A number that was tried is not used again: its manifest may be there, although no reply said so.
        self._step += 1
        began_at, nonce = time.monotonic(), secrets.token_hex(4)
        units: dict[str, Stored] = dict(kept)
        sent_bytes, sent_files = 0, 0
        for unit, files in complete.items():
            stored: dict[str, tuple[FileState, StoredObject | None]] = {}
            for path, state in files.items():
                known = self._uploaded.get(path)
                if known is None or known[0] != state:
                    known = (state, None if state.link else self._upload(path, state, nonce, sent_files))
                    self._uploaded[path] = known
                    sent_bytes, sent_files = sent_bytes + state.bytes, sent_files + 1
                stored[path] = known
            units[unit] = stored
        self._refuse_if_changed(complete)
        objects: list[StoredObject] = []
        entries: list[StoredFile] = []
        for stored_unit in units.values():
            for path, (state, stored_object) in sorted(stored_unit.items()):
                entry: StoredFile = {"path": path, "mode": state.mode}
                if stored_object is None:
                    entry["link"] = state.link or ""
                else:
                    entry["object"] = len(objects)
                    objects.append(stored_object)
                entries.append(entry)
        self._checkpoints.commit_folder(step=self._step, cause=cause, objects=objects, files=entries)
        self._committed = units
        self._uploaded = {path: known for unit in units.values() for path, known in unit.items()}
        self._log.write(
            LogEvent.COMMITTED,
            step=self._step,
            cause=cause,
            seconds=round(time.monotonic() - began_at, 3),
            bytes=sent_bytes,
            files=len(entries),
        )

    def _upload(self, path: str, state: FileState, nonce: str, number: int) -> StoredObject:
        try:
            return self._checkpoints.write_file(
                step=self._step,
                nonce=nonce,
                number=number,
                chunks=_read(self._folder / path, state.bytes),
                total_bytes=state.bytes,
            )
        except FileNotFoundError as error:
            if (self._folder / path).exists():
                raise
            raise FolderChangedError(path) from error

    def _refuse_if_changed(self, complete: Mapping[str, Snapshot]) -> None:
        """Make sure that what was read is of one moment: from the first look at it until now nothing has changed."""
        now = scan(self._folder)
        for files in complete.values():
            for path, state in files.items():
                if not is_growing(path) and now.get(path) != state:
                    raise FolderChangedError(path)


def _read(path: Path, total_bytes: int) -> Iterator[memoryview]:
    """Yield the first bytes of a file, in blocks.

    Raises:
        FolderChangedError: if it has become shorter.
    """
    left = total_bytes
    with path.open("rb") as file:
        while left:
            block = file.read(min(BLOCK_BYTES, left))
            if not block:
                raise FolderChangedError(path)
            left -= len(block)
            yield memoryview(block)
