"""What the training loop asks of a loader: batches from a position on, and that position in a few numbers.

Nothing here draws from the generators that the training itself uses: those continue untouched.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from spotkeeper.trainer.own_generators import find_own_generator

Fingerprint = dict[str, int | bool | str]
Collate = Callable[[list[Any]], Any]


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of every batch this process loads: that of `rank`, of `world_size` processes that train together."""

    rank: int = 0
    world_size: int = 1


WHOLE = Share()


class Loader(ABC):
    """The batches of a dataset, epoch after epoch. Made by `Run.loader`, consumed by `Run.steps`."""

    @abstractmethod
    def batches(self, start: int, count: int) -> Iterator[Any]:
        """Yield `count` batches, beginning after the first `start` of the whole training, epochs included."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """Return what must be the same for a position to mean the same batches."""

    def position(self) -> dict[str, int] | None:
        """Return what a checkpoint has to hold to continue after the last batch that was yielded, beside its number."""
        return None

    def restore(self, position: dict[str, int]) -> None:
        """Let `batches` continue at what `position` returned."""
        raise ValueError(f"{type(self).__name__} goes by the number of a batch alone; the checkpoint has {position}")


def check_sizes(*, batch_size: int, num_workers: int, share: Share) -> None:
    """Refuse sizes that no loader can work with.

    Raises:
        ValueError: naming the argument.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if batch_size % share.world_size:
        raise ValueError(
            f"batch_size counts the samples of all processes together, and must be a multiple of their number, "
            f"{share.world_size}; got {batch_size}"
        )
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 (load in this process) or more; got {num_workers}")


def refuse_own_generators(**parts: object) -> None:
    """Refuse what draws from a generator that nobody seeds for a sample.

    Raises:
        ValueError: naming the generator by the path that leads to it.
    """
    for name, part in parts.items():
        own = find_own_generator(part, name)
        if own is not None:
            raise ValueError(
                f"{own} is a random generator of its own, so a resumed run would draw other numbers from it: draw from "
                "the global generators (random, numpy.random, torch), which are seeded for every sample"
            )


def in_workers(batches: Dataset[Any], *, num_workers: int, numbers: range | None = None) -> Iterator[Any]:
    """Yield what `batches` holds, whole batches already, loaded by so many processes; of an indexed one, `numbers`."""
    return iter(
        DataLoader(
            batches,
            sampler=numbers,
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            # Its own, because building an iterator draws once from the global one otherwise.
            generator=torch.Generator(),
        )
    )


def _as_it_is(batch: Any) -> Any:
    return batch
