"""The state at a step boundary, taken within a fraction of a millisecond while most of its bytes stay where they are.

What may change before the next `optimizer.step` is copied at once: buffers, random number generators, schedulers,
scalers. Parameters, their gradients and the optimizers' tensors, which are nearly all of the bytes, are *borrowed*:
they are copied while the next forward and backward compute, and whoever would change them waits (`Snapshot.join`).
"""

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from spotkeeper.trainer.sharded_tensor import Part, describe_cut, is_sharded
from spotkeeper.trainer.state_tree import PLAIN_TYPES, are_plain
from spotkeeper.trainer.stateful import Stateful

SMALL_BYTES: Final = 256 * 1024
"""Up to here a tensor is cloned; a clone of a large one would be fresh memory, slow to touch and needless."""


class Capture:
    """What `state_dict` and the loop say at one boundary, with the tensors that are still to be copied."""

    def __init__(self, never_borrow: Collection[int] = (), *, borrows: bool = True) -> None:
        """Borrow no tensor whose address is in `never_borrow`: those that were found to change too early.

        With `borrows=False` borrow none: for when training waits for the save anyway.
        """
        self.tree: dict[str, Any] = {}
        self.borrowed: list[tuple[torch.Tensor, int]] = []
        """Tensors whose copy may be made later, with the version (the count of changes) that they have now."""
        self.at_once: dict[int, torch.Tensor] = {}
        """By address: large tensors that must be copied before the boundary is left."""
        self._never_borrow = never_borrow
        self._borrows = borrows
        self._clones: dict[tuple[Any, ...], torch.Tensor] = {}

    def add_objects(self, objects: Mapping[str, Stateful]) -> None:
        """Take the state of modules, optimizers and whatever else the run has."""
        self.tree["objects"] = {name: self._object(each) for name, each in objects.items()}

    def add_loop(self, state: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
        """Take the state of the loop, and gradients, which nothing but accumulation changes in place."""
        self.tree["loop"] = {**self._taken(dict(state), None), "gradients": self._taken(dict(gradients), {})}

    def _object(self, each: Stateful) -> Any:
        state = each.state_dict()
        if isinstance(each, nn.Module):
            # A state dict holds parameters as new tensors over the same memory.
            return self._taken(state, {parameter.data_ptr() for parameter in each.parameters()})
        if isinstance(each, Optimizer) and "state" in state:
            return {key: self._taken(value, {} if key == "state" else None) for key, value in state.items()}
        return self._taken(state, None)

    def _taken(self, value: Any, borrowable: Collection[int] | None) -> Any:
        """Return `value` with containers of its own. `borrowable`: addresses; empty for all, None for no tensor."""
        kind = type(value)
        if kind in PLAIN_TYPES:
            return value
        if isinstance(value, torch.Tensor):
            if is_sharded(value):
                # Never borrowed: what is done to the whole does not show in the version of the part.
                return Part(self._tensor(value.to_local(), None), describe_cut(value))
            return self._tensor(value, borrowable)
        if kind is OrderedDict or kind is dict:
            taken: Any = kind([(key, self._taken(item, borrowable)) for key, item in value.items()])
            if hasattr(value, "_metadata"):
                taken._metadata = value._metadata  # noqa: SLF001  (torch's own way to keep the layers' versions)
            return taken
        if kind is list or kind is tuple:
            if are_plain(value):
                return kind(value)
            return kind([self._taken(item, borrowable) for item in value])
        if kind is np.ndarray:
            return value.copy()
        if kind is Counter:
            return value.copy()
        return value

    def _tensor(self, tensor: torch.Tensor, borrowable: Collection[int] | None) -> torch.Tensor:
        if tensor.layout is not torch.strided or tensor.is_meta:
            return tensor  # refused by its path when the tree is encoded
        address = tensor.data_ptr()
        if self._may_borrow(address, borrowable):
            self.borrowed.append((tensor, tensor._version))  # noqa: SLF001  (autograd's own guard against such changes)
            return tensor
        if tensor.numel() * tensor.element_size() > SMALL_BYTES:
            self.at_once[address] = tensor
            return tensor
        # Two names of one memory stay two names of one memory.
        key = (address, tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key not in self._clones:
            self._clones[key] = tensor.detach().clone()
        return self._clones[key]

    def _may_borrow(self, address: int, borrowable: Collection[int] | None) -> bool:
        if borrowable is None or not self._borrows or address in self._never_borrow:
            return False
        return len(borrowable) == 0 or address in borrowable

    def changed(self) -> set[int]:
        """Return the addresses of borrowed tensors that have changed since the boundary."""
        return {tensor.data_ptr() for tensor, version in self.borrowed if tensor._version != version}  # noqa: SLF001
