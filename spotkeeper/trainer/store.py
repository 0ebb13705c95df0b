"""Where checkpoints are kept: the few operations that the commit protocol needs."""

from dataclasses import dataclass
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

    def put(self, key: str, body: bytes, *, crc64nvme: str) -> None:
        """Create an object of any size under a key that nothing else will ever use."""

    def get(self, key: str) -> bytes:
        """Return the whole object."""

    def head(self, key: str) -> Stat | None:
        """Return what is stored under the key, or None."""

    def list(self, prefix: str) -> list[str]:
        """Return every key below a prefix that ends in a slash, in lexical order."""

    def delete(self, key: str) -> None:
        """Remove the object, if it is there."""
