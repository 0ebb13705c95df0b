"""Generators that a dataset keeps for itself: nobody seeds those for a sample, so no restart repeats what they draw."""

import functools
import random
import types
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch

GENERATOR_TYPES: Final = (
    random.Random,
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    torch.Generator,
)
MAX_DEPTH: Final = 7
"""subset -> dataset -> transform -> transforms -> item -> function -> generator"""
MAX_ITEMS: Final = 64
"""Of one container: transforms are few, while a dataset may list millions of samples."""
MAX_OBJECTS: Final = 10_000
OPAQUE_TYPES: Final = (type, types.ModuleType, torch.Tensor, np.ndarray, str, bytes, int, float)


def find_own_generator(root: object, name: str) -> str | None:
    """Return the path of a generator that `root` or what it refers to holds, such as `dataset.rng`, or None.

    It looks through attributes, containers, bound methods, partials and closures, to a bounded depth: what it
    finds is there, but what it does not find may be. The global generators do not count.
    """
    waiting = deque([(name, root, 0)])
    seen = {id(each) for each in _global_generators()}
    while waiting and len(seen) < MAX_OBJECTS:
        path, value, depth = waiting.popleft()
        if id(value) in seen or isinstance(value, OPAQUE_TYPES):
            continue
        seen.add(id(value))
        if isinstance(value, GENERATOR_TYPES):
            return path
        if depth < MAX_DEPTH:
            waiting.extend((path + step, each, depth + 1) for step, each in _parts(value))
    return None


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", value[key]) for key in list(value)[:MAX_ITEMS]]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", each) for index, each in enumerate(value[:MAX_ITEMS])]
    if isinstance(value, types.MethodType):
        return [(".__self__", value.__self__)]
    if isinstance(value, functools.partial):
        return [(".func", value.func), (".args", value.args), (".keywords", value.keywords)]
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        return [(f" (its {name})", cell.cell_contents) for name, cell in cells if _is_filled(cell)]
    return [(f".{name}", each) for name, each in list(getattr(value, "__dict__", {}).items())]


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _global_generators() -> list[object]:
    """Return those that `rng.seed_cpu` seeds; a bound `random.uniform` refers to its generator as well."""
    return [random.random.__self__, np.random.rand.__self__, torch.default_generator]  # type: ignore[attr-defined]
