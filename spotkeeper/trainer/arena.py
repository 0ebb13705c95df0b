"""The memory that a checkpoint is copied into, and that the writer process reads: a file without a name.

Not in /dev/shm, of which a container has 64 MB by default. It is kept from one save to the next: touching fresh memory
costs ten times what copying into it does (measured: 0.4 to 2.4 GB/s against 13 to 20 GB/s).
"""

import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable
from typing import Final

from spotkeeper.trainer.memory_limit import available_bytes

GRAIN_BYTES: Final = 2 * 1024 * 1024
SHARE: Final = 0.9
"""Of the memory that is free, the rest being for what the training allocates meanwhile."""
SMALLEST_BYTES: Final = 64 * 1024 * 1024
"""Below this an arena saves no memory worth speaking of, and every chunk costs a round trip."""


class Arena:
    """Shared memory of one size, which grows when a save needs more. Its descriptor is inherited by the writer."""

    def __init__(self, available_bytes: Callable[[], int] = available_bytes) -> None:
        """Take how to ask for the memory that is left."""
        self._available_bytes = available_bytes
        self.descriptor = _nameless_file()
        # The memory goes with the last that refers to it: this object, a view, the writer.
        weakref.finalize(self, os.close, self.descriptor)
        self.size_bytes = 0
        self._mapping: mmap.mmap | None = None
        self.address = 0
        """Of its first byte, in this process; page-aligned."""

    def reserve(self, wanted_bytes: int) -> int:
        """Make room, and return how many bytes there are: all of them, or as many as the memory limit allows.

        With fewer than were wanted, the content has to go through it in chunks. Views from before are invalid.
        """
        if wanted_bytes <= self.size_bytes:
            return self.size_bytes
        free = self.size_bytes + int(SHARE * self._available_bytes())
        size = min(_rounded_up(wanted_bytes), max(_rounded_up(free) - GRAIN_BYTES, SMALLEST_BYTES, self.size_bytes))
        if size > self.size_bytes:
            self._map(size)
        return self.size_bytes

    def view(self, begin: int, end: int) -> memoryview:
        """Return these bytes."""
        assert self._mapping is not None
        return memoryview(self._mapping)[begin:end]

    def _map(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)
        self._mapping = mmap.mmap(self.descriptor, size)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self.size_bytes = size


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("spotkeeper-arena")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _rounded_up(size: int) -> int:
    return -(-size // GRAIN_BYTES) * GRAIN_BYTES
