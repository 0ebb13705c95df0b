"""What a resumed training optimizes with: the checkpoint's classes, and the checkpoint's learning rate.

Neither shows by itself. The state of another optimizer or scheduler may load without a complaint, and
`load_state_dict` puts the saved learning rate over the program's without a word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, slots=True)
class OverriddenRate:
    """An optimizer whose learning rate the program has changed, in vain: one value for each group that differs."""

    name: str
    checkpoint: tuple[float, ...]
    program: tuple[float, ...]


def classes(objects: Mapping[str, object]) -> dict[str, str]:
    """Return the class of each optimizer and scheduler, without its module: classes move between versions."""
    return {
        name: type(each).__qualname__ for name, each in objects.items() if isinstance(each, (Optimizer, LRScheduler))
    }


def changed_classes(objects: Mapping[str, object], saved: Mapping[str, str]) -> list[str]:
    """Return what differs from the classes of a checkpoint, one text for each object."""
    now = classes(objects)
    return [
        f"{name} was of class {saved[name]} and is of class {now[name]}"
        for name in now
        if saved.get(name, now[name]) != now[name]
    ]


def learning_rates(objects: Mapping[str, object]) -> dict[str, tuple[float, ...]]:
    """Return the learning rates that each optimizer was made with, one for each of its groups."""
    return {
        # A scheduler moves `lr`, and keeps in `initial_lr` what it began with.
        name: tuple(float(group.get("initial_lr", group.get("lr", 0.0))) for group in each.param_groups)
        for name, each in objects.items()
        if isinstance(each, Optimizer)
    }


def overridden_rates(
    program: Mapping[str, tuple[float, ...]], restored: Mapping[str, tuple[float, ...]]
) -> Iterator[OverriddenRate]:
    """Yield the optimizers whose learning rates were others before a checkpoint was restored."""
    for name, rates in program.items():
        pairs = [(after, before) for after, before in zip(restored[name], rates, strict=True) if after != before]
        if pairs:
            checkpoint, given = zip(*pairs, strict=True)
            yield OverriddenRate(name, checkpoint, given)
