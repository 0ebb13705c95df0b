"""Into which pieces large objects are cut, so that they travel side by side, and how one is sent without a copy."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

MIB: Final = 1024 * 1024
CONNECTIONS: Final = 16
"""S3 gives each 85 to 90 MB/s, so these fill a network of 10 Gbit/s.

docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html
"""
SMALLEST_PART_BYTES: Final = 16 * MIB
"""Below this the requests themselves cost too much; half of it is more than the 5 MiB that S3 asks for."""
LARGEST_PART_BYTES: Final = 64 * MIB
"""Above this a part that breaks off costs too much, until S3's limit on their number asks for more."""
MAX_PARTS: Final = 10_000
SLICE_BYTES: Final = MIB
"""Handed to the network at once: it has to go within the connection's time-out."""


def part_bytes(total_bytes: int) -> int:
    """Return how large the parts of an object should be: one for each connection, within limits."""
    wanted = min(max(-(-total_bytes // CONNECTIONS), SMALLEST_PART_BYTES), LARGEST_PART_BYTES)
    # Parts may come out half as large, and one more for the rest: see `batches`.
    return max(wanted, -(-2 * total_bytes // (MAX_PARTS - 1)))


def batches(chunks: Iterable[memoryview], size: int) -> Iterator[list[memoryview]]:
    """Cut chunks into parts of at most `size` bytes, and all but the last of at least half of it.

    Nothing but chunks which are smaller than that is copied. A batch has to be done with before the next is taken.
    """
    least = size // 2
    rest = bytearray()
    for chunk in chunks:
        missing = least - len(rest) if rest else 0
        rest += chunk[:missing]
        chunk = chunk[missing:]
        if len(rest) == least:
            yield [memoryview(rest)]
            rest = bytearray()
        if len(chunk) >= least:
            yield list(split(chunk, size))
        else:
            rest += chunk
    if rest:
        yield [memoryview(rest)]


def split(chunk: memoryview, size: int) -> Iterator[memoryview]:
    """Cut into as few equal pieces as there can be of at most `size` bytes."""
    count = -(-len(chunk) // size)
    for number in range(count):
        yield chunk[len(chunk) * number // count : len(chunk) * (number + 1) // count]


class Body:
    """Memory as a file, of which botocore reads length and content for the signature without copying it.

    `send_uncopied` then sends the memory itself: read as a file, it would go 16 KiB at a time.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def __len__(self) -> int:
        return len(self._content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`, from the beginning or from the end."""
        self._position = offset + (len(self._content) if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return where reading goes on."""
        return self._position

    def read(self, size: int = -1) -> memoryview:
        """Return the next bytes, in place."""
        end = len(self._content) if size < 0 else self._position + size
        found = self._content[self._position : end]
        self._position += len(found)
        return found

    def slices(self) -> Iterator[memoryview]:
        """Return all of it, for the network."""
        return (self._content[begin : begin + SLICE_BYTES] for begin in range(0, len(self._content), SLICE_BYTES))


def send_uncopied(request: Any, **_: object) -> None:
    """Have a signed request's `Body` sent slice by slice: botocore's event `before-send`."""
    if isinstance(request.body, Body):
        request.body = request.body.slices()
