"""A verified checkpoint as a state again, each byte copied once: from the checkpoint's file to where it belongs."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from spotkeeper.trainer import safetensors
from spotkeeper.trainer.checkpoint import Checkpoint
from spotkeeper.trainer.rank_state import with_own_part
from spotkeeper.trainer.sharded_tensor import Part, join_parts
from spotkeeper.trainer.state_tree import decode
from spotkeeper.trainer.stateful import Stateful


def restored(
    checkpoint: Checkpoint, objects: Mapping[str, Stateful], *, rank: int = 0, world_size: int = 1
) -> dict[str, Any]:
    """Return the state that this rank of so many goes on with, ready for `objects` to load.

    Parameters and buffers of modules are views of the checkpoint's file, which `load_state_dict` copies from. What an
    optimizer keeps has been copied into the tensors that the optimizer has already; everything else has memory
    of its own, because whoever loads it may keep it.

    Raises:
        ValueError: if its form is one that this version does not know, or only another number of ranks can go on with
            it.
    """
    tensors = safetensors.load(checkpoint.tensors)
    state = {name: decode(part, tensors) for name, part in checkpoint.manifest["state"].items()}
    state = with_own_part(state, checkpoint, rank=rank, world_size=world_size)
    saved = {name: _for_object(part, objects.get(name)) for name, part in state.pop("objects").items()}
    whole: dict[str, Any] = join_parts({**_owned(state), "objects": saved}, objects, checkpoint.key)
    return whole


def _for_object(state: Any, each: Stateful | None) -> Any:
    if isinstance(each, nn.Module) and isinstance(state, OrderedDict):
        known = each.state_dict()
        for name in state:
            if not isinstance(known.get(name), torch.Tensor):
                state[name] = _owned(state[name])  # an extra state, which the module may keep as it is
        return state
    if isinstance(each, Optimizer) and isinstance(state, dict) and "state" in state:
        known = each.state_dict()["state"]
        kept = {
            key: _into(known.get(key), entries) if isinstance(entries, dict) else _owned(entries)
            for key, entries in state["state"].items()
        }
        return {**_owned({key: value for key, value in state.items() if key != "state"}), "state": kept}
    return _owned(state)


def _into(known: Any, saved: dict[str, Any]) -> dict[str, Any]:
    """Copy one parameter's entries into the tensors that the optimizer has of it, where they are alike."""
    current = known if isinstance(known, dict) else {}
    return {name: _copied_into(current.get(name), value) for name, value in saved.items()}


def _copied_into(target: Any, value: Any) -> Any:
    is_alike = (
        isinstance(target, torch.Tensor)
        and isinstance(value, torch.Tensor)
        and (target.shape, target.dtype) == (value.shape, value.dtype)
    )
    return target.copy_(value) if is_alike else _owned(value)


def _owned(value: Any) -> Any:
    """Return the value with memory of its own."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return value.clone()
    if kind is Part:
        return Part(value.local.clone(), value.cut)
    if kind is np.ndarray:
        return value.copy()
    if kind is dict or kind is OrderedDict:
        owned: Any = kind((key, _owned(item)) for key, item in value.items())
        if hasattr(value, "_metadata"):
            owned._metadata = value._metadata  # noqa: SLF001  (torch's own way to keep the layers' versions)
        return owned
    if kind is list or kind is tuple:
        return kind(_owned(item) for item in value)
    return value.copy() if kind is Counter else value
