"""Which loader fits a dataset: one that goes by index, or one that goes through a stream."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from spotkeeper.trainer.indexed_loader import IndexedLoader
from spotkeeper.trainer.loader import WHOLE, Collate, Loader, Share
from spotkeeper.trainer.sample_order import OrderFunction, Weights
from spotkeeper.trainer.stream_loader import StreamLoader


def make_loader(
    dataset: Dataset[Any] | Iterable[Any],
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
) -> Loader:
    """Return the loader of a dataset; what the arguments mean says `Run.loader`.

    Raises:
        ValueError: if the batches could not be resumed exactly, or an argument is unusable.
    """
    if not isinstance(dataset, IterableDataset) and hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        return IndexedLoader(
            dataset,  # type: ignore[arg-type]  # by what it can do, as torch's DataLoader takes it
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            weights=weights,
            sampler=sampler,
            num_workers=num_workers,
            drop_last=drop_last,
            collate_fn=collate_fn,
            share=share,
        )
    if not hasattr(dataset, "__iter__") or isinstance(dataset, Iterator):
        raise ValueError(
            f"run.loader needs a dataset with __len__ and __getitem__, or one with an __iter__ that begins anew each "
            f"time; got {type(dataset).__name__}"
        )
    if shuffle or weights is not None or sampler is not None:
        raise ValueError(
            f"{type(dataset).__name__} is a stream, whose order is its own: leave shuffle, weights and sampler out. It "
            "may shuffle by itself with the global generators (random, numpy.random, torch), which are seeded"
        )
    return StreamLoader(
        dataset,  # type: ignore[arg-type]  # likewise
        batch_size=batch_size,
        seed=seed,
        num_workers=num_workers,
        drop_last=drop_last,
        collate_fn=collate_fn,
        share=share,
    )
