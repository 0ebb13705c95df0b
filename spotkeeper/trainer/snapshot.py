"""One boundary's state on its way into the arena."""

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import torch

from spotkeeper.trainer.arena import Arena
from spotkeeper.trainer.capture import Capture
from spotkeeper.trainer.layout import Layout, plan, size_bytes
from spotkeeper.trainer.state_tree import Encoder


class VoidError(Exception):
    """Something changed a borrowed tensor before its copy was complete: what was copied is of no boundary."""

    def __init__(self, addresses: set[int]) -> None:
        super().__init__(f"{len(addresses)} tensors changed while they were being copied")
        self.addresses = addresses


class Snapshot:
    """A captured state that becomes the bytes of a safetensors file, in the arena or in chunks of it.

    `copy` runs in a thread of its own while training computes; `join` is what keeps that from changing the state.
    """

    def __init__(self, capture: Capture, arena: Arena) -> None:
        self._capture = capture
        self._arena = arena
        self._tensors: dict[str, torch.Tensor] = {}
        self._large_copied = threading.Event()
        self._copied = threading.Event()
        self.tree: dict[str, Any] = {}
        """The state as JSON, in which tensors are names."""
        self.total_bytes = 0
        self.is_chunked = False

    def copy(self) -> None:
        """Lay the state out and copy it, as far as the arena has room for it.

        Raises:
            ValueError: naming the path of what a checkpoint cannot hold.
            VoidError: if it was changed meanwhile.
        """
        try:
            layout = self._plan()
            if not self.is_chunked:
                self._fill(layout)
                changed = self._capture.changed()
                if changed:
                    raise VoidError(changed)
        finally:
            if not self.is_chunked:
                self.release()

    def wait_for_large(self) -> None:
        """Wait until nothing is left that must not be left for later."""
        if self._capture.at_once:
            self._large_copied.wait()

    def join(self) -> None:
        """Wait until nothing of the state is read any more, so that it may change."""
        self._copied.wait()

    def release(self) -> None:
        """Let training go on, with the state copied or given up."""
        self._large_copied.set()
        self._copied.set()

    def chunks(self) -> Iterator[int]:
        """Fill the arena again and again, and yield how many bytes of it are the next of the file."""
        assert self.is_chunked
        room, filled = self._arena.size_bytes, 0
        for piece in self._pieces():
            begin = 0
            while begin < len(piece):
                count = min(room - filled, len(piece) - begin)
                self._arena.view(filled, filled + count)[:] = piece[begin : begin + count]
                begin, filled = begin + count, filled + count
                if filled == room:
                    yield filled
                    filled = 0
        if filled:
            yield filled

    def _plan(self) -> Layout:
        encoder = Encoder()
        self.tree = {name: encoder.encode(part, name) for name, part in self._capture.tree.items()}
        self._tensors = encoder.tensors
        layout = plan(self._tensors)
        self.total_bytes = layout.total_bytes
        self.is_chunked = self._arena.reserve(layout.total_bytes) < layout.total_bytes
        self._layout = layout
        return layout

    def _fill(self, layout: Layout) -> None:
        self._arena.view(0, len(layout.head))[:] = layout.head
        later = []
        for name, tensor in self._tensors.items():
            if tensor.data_ptr() in self._capture.at_once:
                _copy(tensor, self._arena.address + layout.offsets[name])
            else:
                later.append((name, tensor))
        self._large_copied.set()
        for name, tensor in later:
            _copy(tensor, self._arena.address + layout.offsets[name])

    def _pieces(self) -> Iterator[memoryview]:
        yield memoryview(self._layout.head)
        for name in sorted(self._tensors, key=self._layout.offsets.__getitem__):
            plain = _dense(self._tensors[name])
            # Flat first: a tensor without dimensions has no last one that could be viewed as bytes.
            yield memoryview(plain.reshape(-1).view(torch.uint8).numpy().data)


def _copy(tensor: torch.Tensor, address: int) -> None:
    """Copy the values to the address. The interpreter is not held meanwhile, nor are other threads started."""
    count = size_bytes(tensor)
    if count:
        source = _dense(tensor)
        ctypes.memmove(address, source.data_ptr(), count)


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
