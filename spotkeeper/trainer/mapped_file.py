"""Files as memory: what is larger than memory is written back, and read again, by the system."""

import mmap
import os
from pathlib import Path
from typing import Final

POPULATE: Final = getattr(mmap, "MAP_POPULATE", 0)
"""Linux maps all pages in one go, which is several times faster than one fault after the other."""


def map_file(path: Path, *, is_populated: bool = False) -> memoryview:
    """Return a file's content, which stays in the page cache; `is_populated` where all of it is wanted at once."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")  # which cannot be mapped
        flags = mmap.MAP_SHARED | (POPULATE if is_populated else 0)
        return memoryview(mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ))


def create_file(path: Path, total_bytes: int) -> mmap.mmap:
    """Return a new file of so many bytes, at least one, as memory to be written.

    Raises:
        OSError: if there is no room for it on the disk.
    """
    with path.open("x+b") as file:
        # All of its blocks now: where the disk is full later, a write to this memory would kill the process.
        allocate = getattr(os, "posix_fallocate", lambda descriptor, _begin, size: os.ftruncate(descriptor, size))
        allocate(file.fileno(), 0, total_bytes)
        return mmap.mmap(file.fileno(), total_bytes)
