"""Gradients at a step boundary: who accumulates them over several steps has state there that no state dict holds."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from spotkeeper.trainer.stateful import Stateful


def capture(objects: Mapping[str, Stateful]) -> dict[str, Any]:
    """Return the gradients of all parameters that have one: those of modules, and those that optimizers hold."""
    return {name: _parts(each.grad) for name, each in _parameters(objects) if each.grad is not None}


def restore(objects: Mapping[str, Stateful], gradients: Mapping[str, Any]) -> None:
    """Put back what `capture` returned; a parameter that had no gradient has none afterwards."""
    for name, parameter in _parameters(objects):
        stored = gradients.get(name)
        parameter.grad = None if stored is None else _whole(stored, parameter)


def _parameters(objects: Mapping[str, Stateful]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every parameter once, under a name that does not depend on the order of the objects."""
    known: set[int] = set()
    modules = [(name, each) for name, each in sorted(objects.items()) if isinstance(each, torch.nn.Module)]
    others = [(name, each) for name, each in sorted(objects.items()) if not isinstance(each, torch.nn.Module)]
    named = [(f"{name}.{path}", item) for name, each in modules for path, item in each.named_parameters()]
    for name, each in others:
        groups = getattr(each, "param_groups", None) or []
        named += [(f"{name}.{g}.{i}", item) for g, group in enumerate(groups) for i, item in enumerate(group["params"])]
    for name, parameter in named:
        if id(parameter) not in known:
            known.add(id(parameter))
            yield name, parameter


def _parts(gradient: torch.Tensor) -> Any:
    """Return what a checkpoint can hold: embeddings with sparse=True have gradients of rows."""
    if gradient.layout is not torch.sparse_coo:
        return gradient
    # As it is: summing up rows that occur twice could round differently from what the optimizer would do.
    return {
        "indices": gradient._indices(),  # noqa: SLF001  (the public one refuses before that sum)
        "values": gradient._values(),  # noqa: SLF001
        "shape": list(gradient.shape),
        "is_coalesced": gradient.is_coalesced(),
    }


def _whole(stored: Any, parameter: torch.Tensor) -> torch.Tensor:
    if isinstance(stored, torch.Tensor):
        # In the parameter's memory layout, as autograd makes it: a norm over another layout sums in another order.
        return torch.empty_like(parameter, dtype=stored.dtype, requires_grad=False).copy_(stored)
    return torch.sparse_coo_tensor(
        stored["indices"],
        stored["values"],
        stored["shape"],
        device=parameter.device,
        is_coalesced=stored["is_coalesced"],
        check_invariants=True,
    )
