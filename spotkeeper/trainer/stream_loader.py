"""Batches of a dataset that can only be iterated over: a stream.

An epoch is one pass over the stream, and the position is the number of batches that were taken from it. A stream cannot
start in the middle, so a resumed epoch is iterated from its beginning again, and what was consumed is dropped. That
costs the reading of those items (not their collating), and is exact for whatever a dataset keeps from item to item,
such as a buffer that shuffles. Generators are seeded with f(seed, epoch, rank, shard, item) before each item.

Each worker process iterates over the dataset, which shards itself by `torch.utils.data.get_worker_info()`, as torch
asks it to. Batches are taken from the workers in turn; one that has no more is left out from then on.
"""

from collections.abc import Iterator
from typing import Any, Final

from torch.utils.data import IterableDataset, default_collate, get_worker_info

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

_ITERATOR: Final = -1
"""In place of an item's number: the making of the iterator, which may draw as well."""
_COLLATE: Final = -2


class StreamLoader(Loader):
    """Batches in the order in which the dataset yields its items."""

    def __init__(
        self,
        dataset: IterableDataset[Any],
        *,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        drop_last: bool = False,
        collate_fn: Collate | None = None,
        share: Share = WHOLE,
    ) -> None:
        check_sizes(batch_size=batch_size, num_workers=num_workers, share=share)
        refuse_own_generators(dataset=dataset, collate_fn=collate_fn)
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._num_workers = num_workers
        self._drop_last = drop_last
        self._collate = collate_fn or default_collate
        self._share = share
        self._epoch = 0
        self._num_taken = 0

    def batches(self, start: int, count: int) -> Iterator[Any]:  # noqa: ARG002  (a stream's epochs differ in length)
        """Yield `count` batches from the restored position on, epoch after epoch.

        Raises:
            ValueError: if the dataset yields not even one batch in an epoch, or fewer than were taken from it before.
        """
        while count > 0:
            num_seen, num_skipped = 0, self._num_taken
            for batch in self._pass(self._epoch, num_skipped):
                num_seen += 1
                if num_seen <= num_skipped:
                    continue
                self._num_taken = num_seen
                count -= 1
                yield batch
                if count == 0:
                    return
            if num_seen < num_skipped:
                raise ValueError(
                    f"the dataset yielded {num_seen} batches in epoch {self._epoch}, of which the checkpoint counts "
                    f"{num_skipped}: it has changed. Restore it, or start a new run (another SPOTKEEPER_RUN_ID, or an "
                    "empty folder)"
                )
            if num_seen == 0:
                raise ValueError(
                    f"the dataset yielded no batch of {self._batch_size} in epoch {self._epoch}: an epoch is one call "
                    "of its __iter__, which must begin anew each time"
                )
            self._epoch += 1
            self._num_taken = 0

    def position(self) -> dict[str, int]:
        """Return the epoch, and the number of batches that were taken in it."""
        return {"epoch": self._epoch, "num_taken": self._num_taken}

    def restore(self, position: dict[str, int]) -> None:
        """Let `batches` continue at what `position` returned."""
        self._epoch, self._num_taken = position["epoch"], position["num_taken"]

    def fingerprint(self) -> Fingerprint:
        """Return what decides which items come next: the numbers of workers and of processes too."""
        return {
            "batch_size": self._batch_size,
            "order": "stream",
            "seed": self._seed,
            "drop_last": self._drop_last,
            "num_workers": self._num_workers,
            "world_size": self._share.world_size,
        }

    def _pass(self, epoch: int, num_skipped: int) -> Iterator[Any]:
        """Iterate over the stream once; the first `num_skipped` batches may be None."""
        set_epoch = getattr(self._dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
        shards = _Shards(
            self._dataset,
            self._batch_size // self._share.world_size,
            self._drop_last,
            self._collate,
            (self._seed, epoch, self._share.rank),
            num_skipped,
        )
        return in_workers(shards, num_workers=self._num_workers)


class _Shards(IterableDataset[Any]):
    """One pass over the stream, in batches: in a worker process, over its shard."""

    def __init__(
        self,
        dataset: IterableDataset[Any],
        batch_size: int,
        drop_last: bool,  # noqa: FBT001  (positional here only; users name it)
        collate: Collate,
        seeds: tuple[int, ...],
        num_skipped: int,
    ) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._collate = collate
        self._seeds = seeds
        self._num_skipped = num_skipped

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        shard, num_shards = (worker.id, worker.num_workers) if worker else (0, 1)
        # At least so many of those to be skipped are this shard's; where another has ended early they are more, and
        # the loader drops the rest.
        num_skipped = self._num_skipped // num_shards + (shard < self._num_skipped % num_shards)
        for number, items in enumerate(self._item_lists(shard)):
            yield None if number < num_skipped else self._collated(items, shard, number)

    def _item_lists(self, shard: int) -> Iterator[list[Any]]:
        with rng.isolated_cpu():
            rng.seed_cpu(rng.derive_seed(*self._seeds, shard, _ITERATOR))
            stream = iter(self._dataset)
        number = 0
        while True:
            items: list[Any] = []
            with rng.isolated_cpu():
                while len(items) < self._batch_size:
                    rng.seed_cpu(rng.derive_seed(*self._seeds, shard, number))
                    try:
                        items.append(next(stream))
                    except StopIteration:
                        break
                    number += 1
            if len(items) == self._batch_size or (items and not self._drop_last):
                yield items
            if len(items) < self._batch_size:
                return

    def _collated(self, items: list[Any], shard: int, number: int) -> Any:
        with rng.isolated_cpu():
            rng.seed_cpu(rng.derive_seed(*self._seeds, shard, _COLLATE, number))
            return self._collate(items)
