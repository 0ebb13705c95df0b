"""Pack a source folder into an archive that depends on names, contents and executable bits alone.

The same folder gives the same bytes on every machine and day, so its SHA-256 names it in the bucket and an unchanged
folder is uploaded once.
"""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

IGNORE_FILE: Final = ".spotkeeperignore"
MAX_BYTES: Final = 200 * 1024 * 1024
"""Source, not data: every attempt downloads it before it trains."""

_ALWAYS_IGNORED: Final = (
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "venv",
    "__pycache__",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".DS_Store",
    "*.pyc",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSource:
    """A packed source folder."""

    sha256: str
    archive: bytes
    """A gzipped tar."""
    files: frozenset[str]
    """Paths within the folder, with `/`."""


def pack(directory: Path) -> PackedSource:
    """Pack a folder, without what version control, caches and `.spotkeeperignore` exclude.

    Raises:
        ValueError: if the folder is missing, empty, too large, or holds what cannot be packed.
    """
    if not directory.is_dir():
        raise ValueError(f"--source must be a folder, got {str(directory)!r}")
    root = directory.resolve()
    members = list(_walk(root, root, _patterns(root)))
    if not members:
        raise ValueError(f"the source folder {str(directory)!r} has no files (after what {IGNORE_FILE} excludes)")
    _check_size(root, members)
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0, compresslevel=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in members:
            _add(tar, root, path)
    archive = packed.getvalue()
    return PackedSource(
        sha256=hashlib.sha256(archive).hexdigest(),
        archive=archive,
        files=frozenset(path.relative_to(root).as_posix() for path in members),
    )


def _patterns(root: Path) -> tuple[str, ...]:
    ignore_file = root / IGNORE_FILE
    lines = ignore_file.read_text().splitlines() if ignore_file.is_file() else []
    own = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for pattern in own:
        if pattern.startswith("!"):
            raise ValueError(f"{IGNORE_FILE} cannot re-include: remove the line {pattern!r}")
    return (*_ALWAYS_IGNORED, *own)


def _is_ignored(relative: str, patterns: tuple[str, ...], *, is_folder: bool) -> bool:
    """Match as .gitignore does: without an inner slash by name at any depth, else from the root."""
    name = relative.rpartition("/")[2]
    for pattern in patterns:
        if pattern.endswith("/") and not is_folder:
            continue
        bare = pattern.rstrip("/")
        subject = relative if "/" in bare else name
        if fnmatchcase(subject, bare.lstrip("/")):
            return True
    return False


def _walk(root: Path, folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    # Sorted, because a file system lists in an order of its own.
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_ignored(path.relative_to(root).as_posix(), patterns, is_folder=is_folder):
            continue
        if entry.is_symlink():
            _check_link(root, path)
            yield path
        elif is_folder:
            yield from _walk(root, path, patterns)
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            raise ValueError(f"{entry.path} is neither file, folder nor link: remove it or list it in {IGNORE_FILE}")


def _check_link(root: Path, path: Path) -> None:
    target = path.resolve()
    if not target.is_relative_to(root):
        raise ValueError(
            f"{path} links to {target}, outside the source folder: copy the file in, or list the link in {IGNORE_FILE}"
        )


def _check_size(root: Path, members: list[Path]) -> None:
    sizes = sorted(((path.lstat().st_size, path) for path in members), reverse=True)
    total = sum(size for size, _ in sizes)
    if total > MAX_BYTES:
        largest = ", ".join(f"{path.relative_to(root).as_posix()} ({size / 2**20:.0f} MB)" for size, path in sizes[:5])
        raise ValueError(
            f"the source folder has {total / 2**20:.0f} MB; {MAX_BYTES // 2**20} MB are allowed. Largest: {largest}. "
            f"List data in {IGNORE_FILE} and give it with --data"
        )


def _add(tar: tarfile.TarFile, root: Path, path: Path) -> None:
    member = tarfile.TarInfo(path.relative_to(root).as_posix())
    if path.is_symlink():
        member.type = tarfile.SYMTYPE
        member.linkname = os.path.relpath(path.resolve(), path.parent)
        tar.addfile(member)
        return
    content = path.read_bytes()
    member.size = len(content)
    member.mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
    tar.addfile(member, io.BytesIO(content))
