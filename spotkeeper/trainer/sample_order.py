"""In which order an epoch visits the samples of a dataset: always a function of seed and epoch, and of nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch.utils.data import Sampler

from spotkeeper.trainer import rng
from spotkeeper.trainer.checksum import crc64nvme
from spotkeeper.trainer.loader import refuse_own_generators

Weights = Sequence[float] | torch.Tensor
OrderFunction = Callable[[int, int], Sequence[int] | torch.Tensor]
"""From (seed, epoch) to the indices of that epoch."""


class SampleOrder(ABC):
    """The indices of each epoch."""

    name: str
    """Distinguishes orders that visit other samples, or the same in another sequence."""
    per_epoch: int
    """Number of indices in an epoch, the same for all epochs."""
    may_repeat: bool
    """Whether one epoch may visit a sample twice: then an index alone does not tell the two visits apart."""

    @abstractmethod
    def indices(self, epoch: int) -> torch.Tensor:
        """Return the indices in the order of the epoch."""


class Sequential(SampleOrder):
    """The dataset's own order."""

    name = "sequential"
    may_repeat = False

    def __init__(self, num_samples: int) -> None:
        self.per_epoch = num_samples

    def indices(self, epoch: int) -> torch.Tensor:  # noqa: ARG002  (the same in all)
        """Return 0, 1, 2 and so on."""
        return torch.arange(self.per_epoch)


class Shuffled(SampleOrder):
    """Each sample once, in a new order every epoch."""

    name = "shuffled"
    may_repeat = False

    def __init__(self, num_samples: int, seed: int) -> None:
        self.per_epoch = num_samples
        self._seed = seed

    def indices(self, epoch: int) -> torch.Tensor:
        """Return a permutation."""
        generator = torch.Generator().manual_seed(rng.derive_seed(self._seed, epoch))
        return torch.randperm(self.per_epoch, generator=generator)


class Weighted(SampleOrder):
    """As many draws as there are samples, with replacement, each sample in proportion to its weight."""

    may_repeat = True

    def __init__(self, weights: Weights, num_samples: int, seed: int) -> None:
        values = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
        if values.shape != (num_samples,):
            raise ValueError(
                f"weights must be one number for each of the {num_samples} samples; got shape {list(values.shape)}"
            )
        if not bool(torch.isfinite(values).all()) or bool((values < 0).any()) or float(values.sum()) <= 0:
            raise ValueError("weights must be finite, none below 0, and not all 0")
        self.name = f"weighted {crc64nvme(values.numpy().tobytes())}"
        self.per_epoch = num_samples
        self._seed = seed
        self._last = int(values.nonzero()[-1])
        # Not torch.multinomial: it takes no more than 2**24 samples.
        self._cumulative = values.cumsum(0)

    def indices(self, epoch: int) -> torch.Tensor:
        """Return the draws."""
        generator = torch.Generator().manual_seed(rng.derive_seed(self._seed, epoch))
        points = torch.rand(self.per_epoch, generator=generator, dtype=torch.float64) * self._cumulative[-1]
        # A product that is rounded up to the sum would lie behind the last sample that has a weight.
        return torch.searchsorted(self._cumulative, points, right=True).clamp(max=self._last)


class Given(SampleOrder):
    """What a function of the user's returns for (seed, epoch)."""

    may_repeat = True

    def __init__(self, order: OrderFunction | Sampler[int], num_samples: int, seed: int) -> None:
        if isinstance(order, Sampler) or not callable(order):
            raise ValueError(  # noqa: TRY004  (what cannot be exact is a ValueError, whatever its type)
                f"sampler={type(order).__name__}: the position of a sampler object cannot be resumed exactly. Write a "
                "function of (seed, epoch) that returns the epoch's indices; for RandomSampler use shuffle=True, for "
                "WeightedRandomSampler weights=…, and for DistributedSampler nothing: each process gets its share"
            )
        refuse_own_generators(sampler=order)
        self._order = order
        self._num_samples = num_samples
        self._seed = seed
        first, again = self._call(0), self._call(0)
        if not torch.equal(first, again):
            raise ValueError(
                "sampler returned another order when it was asked for epoch 0 again: it must depend on its arguments "
                "(seed, epoch) alone"
            )
        self.per_epoch = len(first)
        self.name = f"sampler {crc64nvme(first.numpy().tobytes())}"

    def indices(self, epoch: int) -> torch.Tensor:
        """Return what the function returns.

        Raises:
            ValueError: if that is not as long as the first epoch's.
        """
        indices = self._call(epoch)
        if len(indices) != self.per_epoch:
            raise ValueError(
                f"sampler returned {len(indices)} indices for epoch {epoch} and {self.per_epoch} for epoch 0: all "
                "epochs must have the same number, so that the number of a step tells its epoch"
            )
        return indices

    def _call(self, epoch: int) -> torch.Tensor:
        with rng.isolated_cpu():
            rng.seed_cpu(rng.derive_seed(self._seed, epoch))
            indices = torch.as_tensor(self._order(self._seed, epoch), dtype=torch.int64, device="cpu")
        if indices.dim() != 1 or bool((indices < 0).any()) or bool((indices >= self._num_samples).any()):
            raise ValueError(
                f"sampler must return a flat list of indices from 0 to {self._num_samples - 1}; for epoch {epoch} it "
                "returned others"
            )
        return indices.clone()  # what was returned may be changed in place for the next epoch


def choose_order(
    num_samples: int,
    *,
    seed: int,
    shuffle: bool | None,
    weights: Weights | None,
    sampler: OrderFunction | None,
) -> SampleOrder:
    """Return the order that is asked for; without any wish, the samples are shuffled.

    Raises:
        ValueError: if two orders are asked for, or one cannot be exact.
    """
    asked = {"shuffle": shuffle, "weights": weights, "sampler": sampler}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"each of these decides the order of the samples, so give one: {', '.join(given)}")
    if weights is not None:
        return Weighted(weights, num_samples, seed)
    if sampler is not None:
        return Given(sampler, num_samples, seed)
    return Sequential(num_samples) if shuffle is False else Shuffled(num_samples, seed)
