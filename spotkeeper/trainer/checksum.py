"""CRC64NVME, the checksum that S3 keeps of a whole object however it was uploaded.

docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html. Computed by awscrt as fast as memory is
read, without holding the interpreter: large content is counted by several threads, and beside whatever else is done
with it.
"""

import base64
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Final

from awscrt import checksums

PART_BYTES: Final = 32 * 1024 * 1024
"""Of content that one thread counts: long enough that starting the thread does not matter."""
MAX_THREADS: Final = 4
"""Of a host's processors: the training's other processes start beside a restore."""


class Crc64Nvme:
    """The checksum of content that comes in chunks."""

    def __init__(self) -> None:
        self._value = 0
        self.total_bytes = 0
        """That it is over."""

    def add(self, chunk: bytes | bytearray | memoryview) -> None:
        """Go on with the next chunk."""
        self._value = checksums.crc64nvme(chunk, self._value)
        self.total_bytes += len(chunk)

    def join(self, following: "Crc64Nvme") -> None:
        """Go on with content of which only the checksum is here."""
        other = following._value  # noqa: SLF001  (of the same class)
        self._value = checksums.combine_crc64nvme(self._value, other, following.total_bytes)
        self.total_bytes += following.total_bytes

    def beside(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield the chunks unchanged, and add each while whoever takes it is busy with it."""
        with ThreadPoolExecutor(1, "spotkeeper-checksum") as pool:
            for chunk in chunks:
                added = pool.submit(self.add, chunk)
                try:
                    yield chunk
                finally:
                    added.result()

    def text(self) -> str:
        """Return the checksum as S3 writes it: base64 of the eight bytes, big-endian."""
        return base64.b64encode(self._value.to_bytes(8, "big")).decode()


def crc64nvme(content: bytes | bytearray | memoryview) -> str:
    """Return the checksum of the whole content, as S3 writes it."""
    view = memoryview(content)
    parts = [view[begin : begin + PART_BYTES] for begin in range(0, len(view), PART_BYTES)]
    if len(parts) < 2:
        return _counted(view).text()
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), "spotkeeper-checksum") as pool:
        return reduce(_joined, pool.map(_counted, parts)).text()


def _counted(content: memoryview) -> Crc64Nvme:
    checksum = Crc64Nvme()
    checksum.add(content)
    return checksum


def _joined(first: Crc64Nvme, following: Crc64Nvme) -> Crc64Nvme:
    first.join(following)
    return first
