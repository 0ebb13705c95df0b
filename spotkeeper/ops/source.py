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
from pathlib import Path
from typing import Final

from spotkeeper.ops.source_rules import IGNORE_FILE, SourceRules, is_noise

MAX_BYTES: Final = 200 * 1024 * 1024
"""Source, not data: every attempt downloads it before it trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSource:
    """A packed source folder."""

    sha256: str
    archive: bytes
    """A gzipped tar."""
    files: frozenset[str]
    """Paths within the folder, with `/`."""
    left_out: tuple[str, ...] = ()
    """What the rules keep back, in order, folders with a final `/`; without version control and caches."""


def pack(directory: Path) -> PackedSource:
    """Pack a folder, without what `source_rules` leaves out.

    Raises:
        ValueError: if the folder is missing, empty, too large, or holds what cannot be packed.
    """
    if not directory.is_dir():
        raise ValueError(f"--source must be a folder, got {str(directory)!r}")
    root = directory.resolve()
    left_out: list[str] = []
    members = list(_walk(root, root, SourceRules(), left_out))
    if not members:
        but = f" but what is left out: {', '.join(left_out[:5])}" if left_out else ""
        raise ValueError(f"the source folder {str(directory)!r} has no files{but}")
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
        left_out=tuple(left_out),
    )


def _walk(root: Path, folder: Path, outer: SourceRules, left_out: list[str]) -> Iterator[Path]:
    prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    rules = outer.within(folder, prefix)
    # Sorted, because a file system lists in an order of its own.
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        name = f"{prefix}{entry.name}{'/' if is_folder else ''}"
        if rules.leaves_out(name):
            if not is_noise(name):
                left_out.append(name)
        elif entry.is_symlink():
            _check_link(root, path)
            yield path
        elif is_folder:
            yield from _walk(root, path, rules, left_out)
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
