"""A new file that survives a power cut, written about as fast as the disk takes it."""

import errno
import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 8 * 1024 * 1024
"""Of one write: large enough for the disk."""
PAGE_BYTES: Final = 4096
"""What direct writes are aligned to, in memory, in the file and in length."""
DIRECT: Final = getattr(os, "O_DIRECT", 0)
REFUSED: Final = {errno.EINVAL, errno.EOPNOTSUPP}
"""By file systems that cannot write past the page cache, and for memory that is not aligned."""


def write_durably(path: Path, chunks: Iterable[memoryview]) -> None:
    """Create the file, which must not exist, write the chunks one after the other, and flush it to the disk.

    Whole pages go past the page cache where the file system lets them: their bytes are copied once less, and the
    cache is left to the training's data.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        for chunk in chunks:
            _write(descriptor, chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, chunk: memoryview) -> None:
    whole = len(chunk) // PAGE_BYTES * PAGE_BYTES
    written = _write_direct(descriptor, chunk[:whole]) if whole >= BLOCK_BYTES // 8 else 0
    while written < len(chunk):
        written += os.write(descriptor, chunk[written : written + BLOCK_BYTES])


def _write_direct(descriptor: int, pages: memoryview) -> int:
    """Return how much could be written: nothing where it is not supported."""
    if not DIRECT or os.lseek(descriptor, 0, os.SEEK_CUR) % PAGE_BYTES:
        return 0
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | DIRECT)
    except OSError:
        return 0
    written = 0
    try:
        while written < len(pages):
            count = os.write(descriptor, pages[written : written + BLOCK_BYTES])
            written += count
            if count % PAGE_BYTES:
                break  # the disk is nearly full; the rest goes the usual way, and says so
    except OSError as error:
        if error.errno not in REFUSED:
            raise
    finally:
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return written
