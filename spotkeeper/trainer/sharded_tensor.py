"""Tensors of which each process holds a part (torch's DTensor, as FSDP2 makes them), stored as that part.

A checkpoint holds each process's part in that process's own object, and says how the whole was cut. Only processes that
cut it in the same way can go on with it: nothing here puts parts together anew.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


@dataclass(frozen=True, slots=True)
class Part:
    """This process's part of a tensor, on its way into a checkpoint or out of it."""

    local: torch.Tensor
    cut: dict[str, Any]
    """What `describe_cut` returned of the whole."""


def is_sharded(value: object) -> TypeGuard["DTensor"]:
    """Tell whether this is a tensor of which each process holds a part."""
    # Importing the module takes a second, and who has not imported it has no such tensor.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def is_cut(each: Any) -> bool:
    """Tell whether the state of an object has, or will have, such tensors; an optimizer makes its own in a step."""
    groups = getattr(each, "param_groups", None) or []
    return _contains_sharded(each.state_dict()) or any(is_sharded(item) for group in groups for item in group["params"])


def _contains_sharded(state: Any) -> bool:
    if isinstance(state, Mapping):
        return any(_contains_sharded(item) for item in state.values())
    if isinstance(state, (list, tuple)):
        return any(_contains_sharded(item) for item in state)
    return is_sharded(state)


def describe_cut(tensor: "DTensor") -> dict[str, Any]:
    """Return, in JSON's terms, what the whole is and how it is cut.

    Raises:
        ValueError: if it is cut in a way that a checkpoint cannot tell.
    """
    from torch.distributed.tensor import Replicate, Shard

    placements: list[int | None] = []
    for placement in tensor.placements:
        if type(placement) not in (Shard, Replicate):
            raise ValueError(
                f"a tensor of shape {list(tensor.shape)} is placed as {placement} on its mesh of devices; a checkpoint "
                "holds tensors that are cut along a dimension (Shard) or the same on all (Replicate)"
            )
        placements.append(placement.dim if isinstance(placement, Shard) else None)
    return {
        "shape": list(tensor.shape),
        "stride": list(tensor.stride()),
        "mesh": list(tensor.device_mesh.shape),
        "placements": placements,
    }


def join_parts(state: Any, objects: Mapping[str, object], source: str) -> Any:
    """Return the state with each part in it made a tensor again, on the mesh of devices that the objects are on.

    Raises:
        ValueError: if no object is on a mesh of that shape.
    """
    meshes = {tuple(tensor.device_mesh.shape): tensor.device_mesh for tensor in _sharded_parameters(objects)}
    return _join(state, meshes, source)


def _join(state: Any, meshes: Mapping[tuple[int, ...], "DeviceMesh"], source: str) -> Any:
    if isinstance(state, Part):
        return _tensor_of(state, meshes, source)
    if isinstance(state, dict):
        for key, item in state.items():
            state[key] = _join(item, meshes, source)  # in place: a module's state dict carries an attribute
        return state
    if isinstance(state, list):
        return [_join(item, meshes, source) for item in state]
    if type(state) is tuple:
        return tuple(_join(item, meshes, source) for item in state)
    return state


def _tensor_of(part: Part, meshes: Mapping[tuple[int, ...], "DeviceMesh"], source: str) -> "DTensor":
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh = meshes.get(tuple(part.cut["mesh"]))
    if mesh is None:
        raise ValueError(
            f"{source} holds tensors that are cut over processes arranged as {part.cut['mesh']}; those of the objects "
            f"now are {[list(shape) for shape in meshes]}: arrange them as before (fully_shard, device mesh), or start "
            "a new run (another SPOTKEEPER_RUN_ID, or an empty folder)"
        )
    return DTensor.from_local(
        part.local,
        mesh,
        [Replicate() if dim is None else Shard(dim) for dim in part.cut["placements"]],
        run_check=False,
        shape=torch.Size(part.cut["shape"]),
        stride=tuple(part.cut["stride"]),
    )


def _sharded_parameters(objects: Mapping[str, object]) -> Iterator["DTensor"]:
    for each in objects.values():
        if isinstance(each, torch.nn.Module):
            yield from (parameter for parameter in each.parameters() if is_sharded(parameter))
