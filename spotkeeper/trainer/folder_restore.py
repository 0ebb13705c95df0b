"""Brings the newest whole checkpoint of a folder back into it, before the program that reads it starts."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spotkeeper.contract.checkpoint_layout import Manifest, StoredFile, StoredObject
from spotkeeper.trainer.checkpoint import Checkpoints
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.folder_commit import Stored
from spotkeeper.trainer.folder_state import scan
from spotkeeper.trainer.manifest import DamagedError
from spotkeeper.trainer.mapped_file import map_file


@dataclass(frozen=True, kw_only=True, slots=True)
class RestoredFolder:
    """What was brought back."""

    step: int
    """Number of the checkpoint."""
    stored: Stored
    """What now lies in the folder, and its contents in the store."""
    set_aside: Path | None
    """Where files of the folder were moved that the checkpoint does not have; None if there were none."""


def restore_folder(folder: Path, checkpoints: Checkpoints) -> RestoredFolder | None:
    """Make the folder what it was when its newest whole checkpoint was committed. Return None if there is none.

    Every byte is verified before any file is put in its place, and a file that lies there already with the right
    content is left alone. What the checkpoint does not have is set aside: a program that looks for its newest
    checkpoint must not find one that nobody has verified.

    Raises:
        FencedError: if a newer attempt has started.
        OSError: if the store does not answer, or the folder cannot be written.
        ValueError: if the run's checkpoints are not those of a folder.
    """
    return checkpoints.newest_folder(lambda manifest, write: _Restoration(folder, manifest, write).run())


class _Restoration:
    def __init__(self, folder: Path, manifest: Manifest, write_verified: Callable[[StoredObject, Path], None]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._write_verified = write_verified
        self._staged: dict[str, Path] = {}
        """Path of each file beside its place, by the path of that place."""

    def run(self) -> RestoredFolder:
        for entry in self._manifest["files"]:
            _check(entry, len(self._manifest["objects"]))
        try:
            for entry in self._manifest["files"]:
                self._stage(entry)
            # From here on nothing is missing and everything is verified.
            for path, staged in self._staged.items():
                staged.replace(self._folder / path)
        finally:
            for staged in self._staged.values():
                staged.unlink(missing_ok=True)
        set_aside = self._set_aside()
        now = scan(self._folder)
        objects = self._manifest["objects"]
        stored = {
            entry["path"]: (now[entry["path"]], objects[entry["object"]] if "object" in entry else None)
            for entry in self._manifest["files"]
            if entry["path"] in now
        }
        return RestoredFolder(step=self._manifest["step"], stored=stored, set_aside=set_aside)

    def _stage(self, entry: StoredFile) -> None:
        place = self._folder / entry["path"]
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = place.with_name(f"{place.name}.{secrets.token_hex(4)}.partial")
        if "link" in entry:
            self._staged[entry["path"]] = staged
            staged.symlink_to(entry["link"])
            return
        stored = self._manifest["objects"][entry["object"]]
        if _holds(place, stored):
            place.chmod(entry["mode"])
            return
        self._staged[entry["path"]] = staged
        self._write_verified(stored, staged)
        staged.chmod(entry["mode"])

    def _set_aside(self) -> Path | None:
        named = {entry["path"] for entry in self._manifest["files"]}
        unknown = sorted(scan(self._folder).keys() - named)
        if not unknown:
            return None
        aside = self._folder / f".spotkeeper-unverified-{secrets.token_hex(4)}"
        for path in unknown:
            (aside / path).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / path).replace(aside / path)
        # A folder that is empty now would still pass for a checkpoint by its name.
        for parent, _, _ in os.walk(self._folder, topdown=False):
            if Path(parent) != self._folder and not any(Path(parent).iterdir()):
                Path(parent).rmdir()
        return aside


def _check(entry: StoredFile, num_objects: int) -> None:
    """Refuse what would write outside of the folder: a manifest's checksum is no signature."""
    target = PurePosixPath(entry["path"]).parent / entry.get("link", ".")
    depth = 0
    for part in target.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            raise DamagedError(f"{entry['path']!r} leads out of the folder")
    path = PurePosixPath(entry["path"])
    if path.is_absolute() or ".." in path.parts or not path.parts or target.is_absolute():
        raise DamagedError(f"{entry['path']!r} leads out of the folder")
    if ("link" in entry) == ("object" in entry) or entry.get("object", 0) not in range(num_objects or 1):
        raise DamagedError(f"{entry['path']!r} has no content")


def _holds(place: Path, stored: StoredObject) -> bool:
    """Tell whether a file is there with this content, of an attempt before on the same host."""
    if place.is_symlink() or not place.is_file() or place.stat().st_size != stored["bytes"]:
        return False
    return crc64nvme(map_file(place)) == stored["crc64nvme"]
