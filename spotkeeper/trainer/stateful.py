"""The objects whose state a checkpoint holds, and the check that a checkpoint is of these very objects."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from spotkeeper.trainer.optimization import changed_classes


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint can hold: modules, optimizers, schedulers, scalers, or a class of one's own."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: numbers, text, tensors, numpy arrays, and lists, tuples and dicts of them."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take the state back."""


def check_stateful(objects: Mapping[str, object]) -> None:
    """Refuse what cannot be saved and restored.

    Raises:
        TypeError: naming the argument.
        ValueError: if there is none.
    """
    if not objects:
        raise ValueError("a run without objects has nothing to save: write Run(model=model, opt=optimizer, …)")
    for name, each in objects.items():
        if not isinstance(each, Stateful):
            raise TypeError(
                f"{name}={type(each).__name__} has no state_dict and load_state_dict, so it cannot be saved: "
                "give it both, or leave it out"
            )


def restore_objects(
    objects: Mapping[str, Stateful], states: Mapping[str, Any], classes: Mapping[str, str], source: str
) -> None:
    """Load each object's state, after a check that leaves all of them untouched if one does not fit.

    Args:
        objects: What to load into.
        states: What the checkpoint holds of them.
        classes: Those that its optimizers and schedulers had; checkpoints of old do not tell.
        source: The checkpoint's key.

    Raises:
        ValueError: naming what is missing, left over, of another class or shaped differently, and the checkpoint.
    """
    problems = [f"{name} is in the checkpoint only" for name in states if name not in objects]
    problems += [f"{name} is not in the checkpoint" for name in objects if name not in states]
    problems += changed_classes(objects, classes)
    for name, each in objects.items():
        if name in states and isinstance(each, torch.nn.Module):
            problems += [f"{name}.{problem}" for problem in _differences(each.state_dict(), states[name])]
    if problems:
        raise _mismatch(source, problems)
    for name, each in objects.items():
        try:
            each.load_state_dict(states[name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise _mismatch(source, [f"{name}: {error}"]) from error


def _differences(current: Mapping[str, Any], saved: Mapping[str, Any]) -> list[str]:
    problems = [f"{name} is in the checkpoint only" for name in saved if name not in current]
    problems += [f"{name} is not in the checkpoint" for name in current if name not in saved]
    for name, tensor in current.items():
        stored = saved.get(name)
        if isinstance(tensor, torch.Tensor) and isinstance(stored, torch.Tensor):
            before, now = (stored.shape, stored.dtype), (tensor.shape, tensor.dtype)
            if before != now:
                problems.append(f"{name} was {_describe(stored)} and is {_describe(tensor)}")
    return problems


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _mismatch(source: str, problems: list[str]) -> ValueError:
    shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
    return ValueError(
        f"{source} is a checkpoint of other objects: {shown}. Restore the program that wrote it, or start a new run "
        "(another SPOTKEEPER_RUN_ID, or an empty folder)"
    )
