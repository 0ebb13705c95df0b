"""What lies in a checkpoint folder that another framework writes, and what of it is complete.

Frameworks do not say when a checkpoint is complete, so it is told by what can be seen: nothing of it has changed for a
while, no process has it open to write, and files of known formats are whole. What belongs together is a *unit*: each
folder directly below, such as Hugging Face's `checkpoint-500`, is one, and all files directly below are one together.
"""

import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Final

LOOSE: Final = ""
"""Name of the unit that the files directly in the folder make."""
TEMPORARY: Final = ("*.tmp", "tmp-*", "tmp_*", "*.partial", "*.part", "*.incomplete", "*.lock", ".spotkeeper-*")
"""Names by which frameworks, and we, say themselves that something is not complete; such a folder counts whole."""
GROWING: Final = ("*.log", "*.csv", "*.jsonl", "*.out", "events.out.tfevents.*")
"""Files that are only ever appended to, and may be at any time: they hold back nothing, and are taken as long as they
are when it is looked."""
MOST_JSON_BYTES: Final = 64 * 1024 * 1024

_ZIPPED: Final = (".pt", ".pth", ".ckpt", ".bin", ".npz")
"""`torch.save` writes a zip archive, whose directory is at its end."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it lay there at one moment. Two equal states are of the same content."""

    bytes: int
    mode: int
    """Permission bits."""
    identity: tuple[int, int, int, int]
    """Device, inode, and the times of change of content and of anything, in nanoseconds: the last, nobody can set."""
    link: str | None = None
    """Of a symbolic link: where it points."""


Snapshot = Mapping[str, FileState]
"""By path relative to the folder, with slashes."""


def scan(folder: Path) -> dict[str, FileState]:
    """Return all files in the folder but those with temporary names; nothing if there is no such folder.

    Links out of the folder are left out: what they point to is somebody else's.
    """
    found: dict[str, FileState] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_like(name, TEMPORARY))
        # A link to a folder is listed among the folders, and not followed.
        for name in (*files, *folders):
            path = Path(parent) / name
            with suppress(FileNotFoundError):  # it has been removed meanwhile
                state = _state_of(path, folder)
                if state is not None and not _is_like(name, TEMPORARY):
                    found[path.relative_to(folder).as_posix()] = state
    return found


def is_growing(path: str) -> bool:
    """Tell whether a file is one that is only appended to."""
    return _is_like(PurePosixPath(path).name, GROWING)


def units_of(snapshot: Snapshot) -> dict[str, dict[str, FileState]]:
    """Return the files of each unit, by the unit's name."""
    units: dict[str, dict[str, FileState]] = {}
    for path, state in snapshot.items():
        head, slash, _ = path.partition("/")
        units.setdefault(head if slash else LOOSE, {})[path] = state
    return units


def written_now(folder: Path) -> set[str]:
    """Return the paths in the folder that some process has open to write, as far as /proc shows processes to us."""
    root = f"{folder.resolve()}/"
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError, ValueError):  # it has ended or is somebody else's
            target = str(link.readlink())
            if target.startswith(root) and _may_write(link):
                found.add(target.removeprefix(root))
    return found


def defect_of(folder: Path, path: str) -> str | None:
    """Return what shows that a file is not whole, or None if nothing does.

    Formats that cannot be judged from outside, pickles among them, pass.
    """
    file = folder / path
    try:
        size = file.stat().st_size
        match file.suffix:
            case ".safetensors":
                return _defect_of_safetensors(file, size)
            case ".json" if size <= MOST_JSON_BYTES:
                return _defect_of_json(file)
            case suffix if suffix in _ZIPPED:
                return _defect_of_zip(file, size)
    except FileNotFoundError:
        return f"{path} has been removed"
    return None


def _state_of(path: Path, folder: Path) -> FileState | None:
    found = path.lstat()
    identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    if stat.S_ISLNK(found.st_mode):
        target = path.readlink()
        if target.is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
            return None
        return FileState(0, 0, identity, str(target))
    if not stat.S_ISREG(found.st_mode):
        return None
    return FileState(found.st_size, stat.S_IMODE(found.st_mode), identity)


def _is_like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _may_write(link: Path) -> bool:
    told = (link.parents[1] / "fdinfo" / link.name).read_text()
    match = re.search(r"^flags:\s*([0-7]+)$", told, re.MULTILINE)
    return match is not None and int(match[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _defect_of_safetensors(file: Path, size: int) -> str | None:
    # huggingface.co/docs/safetensors: eight bytes, the header's length; the header; the tensors, without gaps.
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 2 <= length <= size - 8:
            return f"{file.name} is cut off in its header"
        try:
            header: dict[str, Any] = json.loads(opened.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return f"{file.name} has a header that cannot be read"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"{file.name} has {size} bytes instead of {expected}"


def _defect_of_json(file: Path) -> str | None:
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return f"{file.name} is not whole JSON"
    # A sharded model's index names its shards.
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if file.name.endswith(".index.json") and isinstance(shards, dict):
        missing = sorted({str(name) for name in shards.values() if not (file.parent / str(name)).is_file()})
        if missing:
            return f"{file.name} names {missing[0]}, which is not there"
    return None


def _defect_of_zip(file: Path, size: int) -> str | None:
    if size == 0:
        return f"{file.name} is empty"
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            return None  # of the time before torch 1.6, or another format
    try:
        with zipfile.ZipFile(file):
            return None
    except (zipfile.BadZipFile, OSError, ValueError):
        return f"{file.name} is cut off: its archive has no directory"
