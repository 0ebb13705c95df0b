"""Checkpoints in a local folder, safe against a kill or a power cut at any moment."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from spotkeeper.trainer.checksum import Crc64Nvme, crc64nvme
from spotkeeper.trainer.durable_file import write_durably
from spotkeeper.trainer.mapped_file import map_file
from spotkeeper.trainer.store import Stat


class LocalStore:
    """A folder as a `Store`.

    An object is written beside its name, flushed to the disk, and then linked to its name: `link` never
    replaces a file, so two writers cannot both win. A killed writer leaves a `.partial` file that no reader
    takes for an object.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._written: dict[str, Stat] = {}
        """What this store has written, flushed to the disk and not deleted."""

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Link the object to its name, if the name is free."""
        return self._create(key, [memoryview(body)])

    def _create(self, key: str, chunks: Iterable[memoryview]) -> bool:
        target = self._root / key
        self._make_folder(target.parent)
        partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
        try:
            write_durably(partial, chunks)
            os.link(partial, target)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return True

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:  # noqa: ARG002  (S3 asks for it)
        """Write an object under a new name."""
        checksum = Crc64Nvme()
        if not self._create(key, checksum.beside(chunks)):
            raise FileExistsError(f"{key} exists already in {self._root}")
        self._written[key] = Stat(bytes=(self._root / key).stat().st_size, crc64nvme=checksum.text())
        return checksum.text()

    def get(self, key: str) -> bytes:
        """Read the file."""
        return (self._root / key).read_bytes()

    def fetch(self, key: str, total_bytes: int, into: Path | None = None) -> memoryview:  # noqa: ARG002  (S3 asks for it)
        """Map the file, or a copy of it: what the page cache holds is not copied."""
        if into is None:
            return map_file(self._root / key, is_populated=True)
        shutil.copyfile(self._root / key, into)
        return map_file(into)

    def head(self, key: str) -> Stat | None:
        """Look at the file's size; its checksum, which a file system does not keep, is counted if nobody knows it yet.

        Of what was written here it is known: that went to the disk, and to read it back would cost as much as the save.
        """
        try:
            size = (self._root / key).stat().st_size
            known = self._written.get(key)
            if known is not None and known.bytes == size:
                return known
            return Stat(bytes=size, crc64nvme=crc64nvme(self.fetch(key, size)))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> list[str]:
        """Walk the folder; what another process deletes meanwhile is left out."""
        # Not rglob, which raises when a folder is deleted between its name being read and its being entered.
        found = (
            Path(parent, name)
            for parent, _, names in os.walk(self._root / prefix, onerror=_unless_gone)
            for name in names
        )
        return sorted(path.relative_to(self._root).as_posix() for path in found if path.is_file())

    def delete(self, key: str) -> None:
        """Remove the file, durably, and its folder if nothing else is in it."""
        target = self._root / key
        target.unlink(missing_ok=True)
        self._written.pop(key, None)
        try:
            # Durable before whatever is deleted next: a manifest must not outlive its data.
            _sync_folder(target.parent)
            target.parent.rmdir()
        except OSError as error:
            # Something else is in it, or another process has removed it.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                raise

    def _make_folder(self, folder: Path) -> None:
        """Create the folder and make each new name in its path durable."""
        if folder.exists():
            return
        if folder != folder.parent:
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make names created or removed in the folder survive a power cut; fsync of a file does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be read is no empty folder; one that is gone is."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error
