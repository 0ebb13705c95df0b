"""Batches of a dataset that gives any sample by its index, so that one integer is the whole position.

Python's, numpy's and torch's generators are seeded with f(seed, epoch, index) before a sample is fetched, so a sample
is the same in any worker, in any process that trains with others, after any restart.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from spotkeeper.trainer import rng
from spotkeeper.trainer.loader import (
    WHOLE,
    Collate,
    Fingerprint,
    Loader,
    Share,
    check_sizes,
    in_workers,
    refuse_own_generators,
)
from spotkeeper.trainer.sample_order import OrderFunction, SampleOrder, Shuffled, Weights, choose_order


class IndexedLoader(Loader):
    """Batches in an order that depends on the seed alone; starting in the middle costs nothing."""

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool | None = None,
        weights: Weights | None = None,
        sampler: OrderFunction | None = None,
        num_workers: int = 0,
        drop_last: bool = False,
        collate_fn: Collate | None = None,
        share: Share = WHOLE,
    ) -> None:
        check_sizes(batch_size=batch_size, num_workers=num_workers, share=share)
        refuse_own_generators(dataset=dataset, collate_fn=collate_fn)
        self._num_samples = len(dataset)  # type: ignore[arg-type]  # whoever makes this loader has checked for __len__
        order = choose_order(self._num_samples, seed=seed, shuffle=shuffle, weights=weights, sampler=sampler)
        self._num_workers = num_workers
        self._drop_last = drop_last
        self._batches = _Batches(dataset, order, batch_size, seed, drop_last, collate_fn or default_collate, share)
        if len(self) < 1:
            raise ValueError(
                f"an epoch has {order.per_epoch} samples, too few for one batch of {batch_size}: lower batch_size, or "
                "leave drop_last off"
            )
        remainder = 0 if drop_last else order.per_epoch % batch_size
        if remainder % share.world_size:
            raise ValueError(
                f"the last batch of an epoch has {remainder} samples, which {share.world_size} processes cannot share "
                "equally: set drop_last=True, or another batch_size"
            )

    def __len__(self) -> int:
        """Return the number of batches of one epoch."""
        return self._batches.per_epoch

    def batches(self, start: int, count: int) -> Iterator[Any]:
        """Yield `count` batches, beginning after the first `start` of the whole training, epochs included."""
        return in_workers(self._batches, num_workers=self._num_workers, numbers=range(start, start + count))

    def fingerprint(self) -> Fingerprint:
        """Return what must be the same for a position to mean the same batches: the number of processes need not."""
        batches = self._batches
        return {
            "num_samples": self._num_samples,
            "batch_size": batches.batch_size,
            "shuffle": isinstance(batches.order, Shuffled),
            "order": batches.order.name,
            "seed": batches.seed,
            "drop_last": self._drop_last,
        }


class _Batches(Dataset[Any]):
    """All batches of a training, by number; an epoch is a range of numbers."""

    def __init__(
        self,
        dataset: Dataset[Any],
        order: SampleOrder,
        batch_size: int,
        seed: int,
        drop_last: bool,  # noqa: FBT001  (positional here only; users name it)
        collate: Collate,
        share: Share,
    ) -> None:
        self._dataset = dataset
        self.order = order
        self.batch_size = batch_size
        self.seed = seed
        self._collate = collate
        self._share = share
        self.per_epoch = order.per_epoch // batch_size if drop_last else -(-order.per_epoch // batch_size)
        self._epoch_order: tuple[int, torch.Tensor] | None = None

    def __getitem__(self, number: int) -> Any:
        epoch, batch = divmod(number, self.per_epoch)
        first = batch * self.batch_size
        size = min(self.batch_size, self.order.per_epoch - first) // self._share.world_size
        first += size * self._share.rank
        indices = self._indices(epoch)[first : first + size].tolist()
        with rng.isolated_cpu():
            samples = []
            for place, index in enumerate(indices, first):
                # What is visited twice must not be augmented twice alike.
                visit = (index, place) if self.order.may_repeat else (index,)
                rng.seed_cpu(rng.derive_seed(self.seed, epoch, *visit))
                samples.append(self._dataset[index])
            # A collate function may draw as well (mixing samples); no sample has a negative index.
            of_rank = (self._share.rank,) if self._share.rank else ()
            rng.seed_cpu(rng.derive_seed(self.seed, epoch, -1 - batch, *of_rank))
            return self._collate(samples)

    def _indices(self, epoch: int) -> torch.Tensor:
        if self._epoch_order is None or self._epoch_order[0] != epoch:
            self._epoch_order = (epoch, self.order.indices(epoch))
        return self._epoch_order[1]
