"""Batches whose order and augmentation are functions of counters, so that one integer is the whole position.

The order of an epoch is f(seed, epoch). Python's, numpy's and torch's generators are seeded with
f(seed, epoch, index) before a sample is fetched, so a sample is the same in any worker, after any restart.
Nothing here draws from the generators that the training itself uses: those continue untouched.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from spotkeeper.trainer import rng
from spotkeeper.trainer.own_generators import find_own_generator


class Loader:
    """The batches of a dataset, epoch after epoch. Made by `Run.loader`, consumed by `Run.steps`."""

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        seed: int,
        drop_last: bool,
        collate_fn: Callable[[list[Any]], Any] | None,
    ) -> None:
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise ValueError(
                f"run.loader needs a dataset with __len__ and __getitem__, to start at any sample; got "
                f"{type(dataset).__name__}: wrap a stream into one, or index it"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 (load in this process) or more; got {num_workers}")
        own = find_own_generator(dataset, "dataset") or find_own_generator(collate_fn, "collate_fn")
        if own is not None:
            raise ValueError(
                f"{own} is a random generator of its own, so a resumed run would draw other numbers from it: draw from "
                "the global generators (random, numpy.random, torch), which are seeded for every sample"
            )
        self._num_workers = num_workers
        self._batches = _Batches(dataset, batch_size, shuffle, seed, drop_last, collate_fn or default_collate)
        if len(self) < 1:
            raise ValueError(
                f"the dataset has {self._batches.num_samples} samples, too few for one batch of {batch_size}: "
                "lower batch_size, or leave drop_last off"
            )

    def __len__(self) -> int:
        """Return the number of batches of one epoch."""
        return self._batches.per_epoch

    def batches(self, start: int, count: int) -> Iterator[Any]:
        """Yield `count` batches, beginning after the first `start` of the whole training, epochs included."""
        return iter(
            DataLoader(
                self._batches,
                sampler=range(start, start + count),
                batch_size=None,
                num_workers=self._num_workers,
                collate_fn=_as_it_is,
                # Its own, because building an iterator draws once from the global one otherwise.
                generator=torch.Generator(),
            )
        )

    def fingerprint(self) -> dict[str, int | bool]:
        """Return what must be the same for a position to mean the same batches."""
        batches = self._batches
        return {
            "num_samples": batches.num_samples,
            "batch_size": batches.batch_size,
            "shuffle": batches.shuffle,
            "seed": batches.seed,
            "drop_last": batches.drop_last,
        }


class _Batches(Dataset[Any]):
    """All batches of a training, by number; an epoch is a range of numbers."""

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        shuffle: bool,  # noqa: FBT001  (positional here only; users name it)
        seed: int,
        drop_last: bool,  # noqa: FBT001
        collate: Callable[[list[Any]], Any],
    ) -> None:
        self._dataset = dataset
        self._collate = collate
        self.num_samples = len(dataset)  # type: ignore[arg-type]  # Loader has checked for __len__
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.per_epoch = self.num_samples // batch_size if drop_last else -(-self.num_samples // batch_size)
        self._order: tuple[int, torch.Tensor] | None = None

    def __getitem__(self, number: int) -> Any:
        epoch, batch = divmod(number, self.per_epoch)
        first = batch * self.batch_size
        indices = self._epoch_order(epoch)[first : first + self.batch_size].tolist()
        with rng.isolated_cpu():
            samples = []
            for index in indices:
                rng.seed_cpu(rng.derive_seed(self.seed, epoch, index))
                samples.append(self._dataset[index])
            # A collate function may draw as well (mixing samples); no sample has a negative index.
            rng.seed_cpu(rng.derive_seed(self.seed, epoch, -1 - batch))
            return self._collate(samples)

    def _epoch_order(self, epoch: int) -> torch.Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(rng.derive_seed(self.seed, epoch))
            order = (
                torch.randperm(self.num_samples, generator=generator)
                if self.shuffle
                else torch.arange(self.num_samples)
            )
            self._order = (epoch, order)
        return self._order[1]


def _as_it_is(batch: Any) -> Any:
    return batch
