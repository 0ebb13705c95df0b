"""Where checkpoints are kept: the few operations that the commit protocol needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Stat:
    """What a store says about an object without the reader fetching it."""

    bytes: int
    crc64nvme: str | None
    """None when the store holds no such checksum of it."""
    version_id: str | None = None


class StoreRefusedError(OSError):
    """The store answers, and will answer the same every time; the message names what has to be changed."""


class Store(Protocol):
    """Objects by key; this protocol is the whole of what the trainer asks of a store.

    No object is ever overwritten, and none is visible before it is complete and durable. Every method raises
    `OSError` when the store does not answer or has no room, its subclass `StoreRefusedError` when asking again
    is no use, and `get` `FileNotFoundError` when the object is not there: only this one means that a checkpoint is
    damaged.
    """

    def put_if_absent(self, key: str, body: bytes) -> bool:
        """Create the object; return False, and change nothing, if the key is taken."""

    def write(self, key: str, chunks: Iterable[memoryview], total_bytes: int) -> str:
        """Create an object of any size under a key that nothing else will ever use; return its CRC64NVME.

        The checksum is that of what was given, not of what was stored: `head` tells the latter. Chunks are taken
        one at a time, in order and once; the memory of one is read only until the next is taken.
        """

    def get(self, key: str) -> bytes:
        """Return the whole of a small object, such as a manifest."""

    def fetch(self, key: str, total_bytes: int, into: Path | None = None) -> memoryview:
        """Return the whole of an object of any size, in the fastest way there is; nothing of it is verified.

        `total_bytes` is what it should have; what is returned may be shorter or longer. It is read-only, and must not
        be used after the object has been deleted, unless it went `into` a new file of that name, of which what is
        returned is a map: that need not fit into memory.
        """

    def head(self, key: str) -> Stat | None:
        """Return what is stored under the key, or None."""

    def list(self, prefix: str) -> list[str]:
        """Return every key below a prefix that ends in a slash, in lexical order."""

    def delete(self, key: str) -> None:
        """Remove the object, if it is there."""
